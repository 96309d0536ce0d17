//! `weft why`: how a request ended, where, because of what, and what to do.

use super::{files, value};
use crate::{cli::Global, output};
use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// Time after its end by which all proxies have reported a request, in milliseconds.
const REPORTED_MS: u64 = 2_000;

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Request id: the x-request-id header of the answer.
    id: Option<String>,
    /// The last request that failed or was refused; with --status, the last with that status.
    #[arg(long, conflicts_with = "id")]
    last: bool,
    /// 503, 5xx, 4xx, …
    #[arg(long, requires = "last")]
    status: Option<String>,
    /// Only requests to this service.
    #[arg(long, requires = "last")]
    service: Option<String>,
}

pub(crate) async fn why(global: &Global, args: WhyArgs) -> Result<()> {
    let client = global.client()?;
    let path = match (&args.id, args.last) {
        (Some(id), _) => format!("requests/{}", files::encode(id)),
        (None, true) => format!(
            "requests/last?status={}&service={}",
            files::encode(args.status.as_deref().unwrap_or("failed")),
            files::encode(args.service.as_deref().unwrap_or_default())
        ),
        (None, false) => bail!("which request? give its x-request-id, or --last"),
    };
    let mut detail: Value = client.get(&path).await?;
    // The other hops' proxies report about once a second: a fresh request is told when they have.
    let end_ms =
        value::items(&detail, "/records").iter().map(|r| value::number(r, "/startUnixMs") + value::number(r, "/durationUs") / 1_000).max();
    let missing_ms = end_ms.unwrap_or_default().saturating_add(REPORTED_MS).saturating_sub(weft_std::clock::unix_ms());
    if (1..=REPORTED_MS).contains(&missing_ms) {
        tokio::time::sleep(Duration::from_millis(missing_ms)).await;
        detail = client.get(&format!("requests/{}", files::encode(value::text(&detail, "/why/id")))).await?;
    }
    output::print(global.output, &detail, table)
}

fn table(detail: &Value) -> String {
    let why = &detail["why"];
    let first = value::items(detail, "/records").first().cloned().unwrap_or_default();
    let mut lines = vec![
        output::bold(value::text(why, "/sentence")),
        output::dim(&format!(
            "{} {} {} · id {}",
            value::text(&first, "/method"),
            value::text(&first, "/authority"),
            value::text(&first, "/path"),
            value::text(why, "/id")
        )),
        String::new(),
    ];
    lines.extend(value::items(why, "/hops").iter().map(hop));
    lines.push(String::new());
    let object = |o: &Value| match (value::text(o, "/text"), o.get("origin")) {
        ("", _) => String::new(),
        (text, Some(origin)) if origin.is_object() && !text.contains(&value::origin(origin)) => {
            format!("{text}\n{:14}{}", "", value::origin(origin))
        }
        (text, _) => text.to_owned(),
    };
    let facts = [
        ("hop", format!("{}, {} side", value::text(why, "/hop"), value::text(why, "/side"))),
        ("route", object(&why["route"])),
        ("policy", object(&why["policy"])),
        ("endpoint", value::text(why, "/endpoint").into()),
        ("certificate", value::text(why, "/certificate").into()),
        ("timer", value::text(why, "/timer").into()),
    ];
    lines.extend(facts.iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("  {name:<12}{text}")));
    lines.extend(value::items(why, "/evidence").iter().filter_map(Value::as_str).map(|e| format!("  - {e}")));
    if !value::text(why, "/fix").is_empty() {
        lines.push(format!("\n{} {}", output::bold("fix:"), value::text(why, "/fix")));
    }
    lines.join("\n")
}

fn hop(hop: &Value) -> String {
    let indent = "  ".repeat(usize::try_from(value::number(hop, "/depth")).unwrap_or_default().min(16));
    let mark = output::mark(if value::truth(hop, "/failed") { "failed" } else { "ok" });
    let flags = match value::text(hop, "/flags") {
        "" | "-" => String::new(),
        flags => format!(" {flags}"),
    };
    let lock = if value::truth(hop, "/mtls") { "mTLS" } else { "plain text" };
    let here = if value::truth(hop, "/decisive") { "  ← here" } else { "" };
    format!(
        "  {mark} {indent}{} → {}  {}{flags}  {}  {lock}{here}",
        value::text(hop, "/source"),
        value::text(hop, "/destination"),
        value::number(hop, "/status"),
        output::duration(value::number(hop, "/durationUs")),
    )
}
