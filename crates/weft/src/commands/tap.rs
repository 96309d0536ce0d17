//! `weft tap`: single exchanges of a workload while they happen.

use super::{files, value};
use crate::{
    cli::Global,
    output::{self, Format},
};
use anyhow::Result;
use clap::Args;
use serde_json::Value;

#[derive(Debug, Args)]
pub(crate) struct TapArgs {
    /// Workload: its name, or the id of one instance.
    workload: String,
    /// Only exchanges of which this is true, e.g. "response.code >= 500 && request.method == 'POST'".
    #[arg(long, default_value = "", hide_default_value = true)]
    filter: String,
    /// Most exchanges.
    #[arg(long, default_value_t = 100, value_name = "N")]
    max: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    duration: u32,
}

pub(crate) async fn tap(global: &Global, args: TapArgs) -> Result<()> {
    let (workload, filter) = (files::encode(&args.workload), files::encode(&args.filter));
    let path = format!("tap?workload={workload}&filter={filter}&max={}&duration={}", args.max, args.duration);
    let format = global.output;
    let each = |kind: &str, data: Value| match (kind, format) {
        ("exchange", Format::Table) => output::print_text(&exchange(&data)),
        // One line each, so that a program can read while it goes on.
        ("exchange", Format::Json) => output::print_text(&data.to_string()),
        ("exchange", Format::Yaml) => output::print_text(&format!("---\n{}", serde_saphyr::to_string(&data)?)),
        ("begin", Format::Table) => {
            let proxies: Vec<&str> = data["proxies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            output::print_text(&output::dim(&format!("tapping {} for {} s", proxies.join(", "), args.duration)))
        }
        _ => Ok(()),
    };
    global.client()?.events(&path, each).await
}

/// A line about the exchange, and the headers of both heads below it.
fn exchange(data: &Value) -> String {
    let text = |pointer| value::text(data, pointer);
    let side = if text("/record/reporter") == "destination" { "in" } else { "out" };
    let mut lines = vec![format!(
        "{side:<3} {} {}{} {} {}",
        output::bold(text("/record/method")),
        text("/record/authority"),
        text("/record/path"),
        value::number(data, "/record/status"),
        output::duration(value::number(data, "/record/durationUs")),
    )];
    for (mark, headers) in [(">", &data["request"]["headers"]), ("<", &data["response"]["headers"])] {
        let pairs = headers.as_array().into_iter().flatten();
        lines.extend(pairs.map(|pair| format!("  {mark} {}: {}", value::text(pair, "/0"), value::text(pair, "/1"))));
    }
    lines.join("\n")
}
