//! `weft explain`: the rules that a request meets, in order of precedence; or what a diagnostic code means.

use super::value;
use crate::{cli::Global, output};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A URL (http://reviews:9080/reviews/0), or a diagnostic code (WEFT-1203).
    what: String,
    /// Method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// Header as name:value. Repeatable.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
    headers: Vec<String>,
    /// Namespace of the caller.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Label of the caller as key=value. Repeatable.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// As a request that comes in at this gateway (its port comes from the URL).
    #[arg(long)]
    gateway: Option<String>,
}

pub(crate) async fn explain(global: &Global, args: ExplainArgs) -> Result<()> {
    if args.what.to_ascii_uppercase().starts_with("WEFT-") {
        return code(&args.what.to_ascii_uppercase());
    }
    let rest = args
        .what
        .strip_prefix("http://")
        .context("give an http:// URL, e.g. http://reviews:9080/reviews/0, or a code such as WEFT-1203")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port: u16 = authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).unwrap_or(80);
    let request = json!({
        "sourceNamespace": args.namespace, "sourceLabels": pairs(&args.labels, '=')?, "gateway": args.gateway,
        "authority": authority, "port": port, "method": args.method, "path": format!("/{path}"), "headers": pairs(&args.headers, ':')?,
    });
    let answer: Value = global.client()?.post("explain", serde_json::to_vec(&request)?).await?;
    output::print(global.output, &answer, table)
}

fn code(code: &str) -> Result<()> {
    let known =
        weft_api::diag::CODES.iter().chain(weft_compile::diag::CODES).chain(weft_control::diag::CODES).find(|entry| entry.code == code);
    let entry = known.with_context(|| format!("{code} is not a code of this version"))?;
    output::print_text(&format!("{} {}\n{}", output::bold(entry.code), entry.title, entry.explanation))
}

fn pairs(texts: &[String], separator: char) -> Result<Map<String, Value>> {
    let mut map = Map::new();
    for text in texts {
        let Some((name, value)) = text.split_once(separator) else { bail!("{text:?} is not name{separator}value") };
        map.insert(name.trim().into(), value.trim().into());
    }
    Ok(map)
}

fn table(answer: &Value) -> String {
    let mut parts = vec![output::bold(value::text(answer, "/sentence"))];
    let rules: Vec<Vec<String>> = value::items(answer, "/rules")
        .iter()
        .enumerate()
        .map(|(i, r)| {
            let outcome = match value::text(r, "/outcome") {
                "selected" => "→ taken",
                "shadowed" => "shadowed",
                _ => "no match",
            };
            let texts = [value::text(r, "/match"), value::text(r, "/reason")].map(str::to_owned);
            let [matches, reason] = texts;
            vec![(i + 1).to_string(), outcome.into(), value::text(r, "/name").into(), matches, reason, value::place(&r["origin"])]
        })
        .collect();
    if !rules.is_empty() {
        parts.push(format!("\n{}", output::table(&["#", "OUTCOME", "ROUTE", "MATCH", "WHY", "FROM"], &rules)));
    }
    let destination = |d: &Value| {
        let subset = if value::text(d, "/subset").is_empty() { String::new() } else { format!(" subset {}", value::text(d, "/subset")) };
        format!("  {:>6}  {}:{}{subset}", value::percent(value::real(d, "/share")), value::text(d, "/host"), value::number(d, "/port"))
    };
    section(&mut parts, "goes to", value::items(answer, "/destinations").iter().map(destination));
    let endpoint = |e: &Value| {
        let health = if value::truth(e, "/healthy") { "healthy" } else { "not healthy" };
        format!("  {}  {}  {health}  {}", value::text(e, "/address"), value::text(e, "/workloadName"), value::text(e, "/identity"))
    };
    section(&mut parts, "endpoints", value::items(answer, "/endpoints").iter().map(endpoint));
    let policy = |p: &Value| {
        format!(
            "  {} {}  {}  {}",
            value::text(p, "/action"),
            value::text(p, "/name"),
            value::text(p, "/reason"),
            value::place(&p["origin"])
        )
    };
    section(&mut parts, "policies at the destination", value::items(answer, "/policies").iter().map(policy));
    parts.join("\n")
}

fn section(parts: &mut Vec<String>, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        parts.push(format!("\n{title}\n{}", lines.join("\n")));
    }
}
