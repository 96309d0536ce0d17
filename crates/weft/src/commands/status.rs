//! `weft status`: health, proxies and how current they are, configuration, on one screen.

use super::value;
use crate::{cli::Global, output};
use anyhow::Result;
use serde_json::{Value, json};

pub(crate) async fn status(global: &Global) -> Result<()> {
    let client = global.client()?;
    let health: Value = client.get("health").await?;
    let proxies: Value = client.get("proxies").await?;
    let diagnostics: Value = client.get("diagnostics").await?;
    let answer = json!({ "health": health, "proxies": proxies, "diagnostics": diagnostics["diagnostics"] });
    output::print(global.output, &answer, table)
}

fn table(answer: &Value) -> String {
    let generation = value::number(answer, "/health/generation");
    let health = format!("{} {}", output::bold(value::text(answer, "/health/status")), value::text(answer, "/health/sentence"));
    let counts = |field: &str| value::number(answer, &format!("/health/counts/{field}"));
    let summary = format!(
        "generation {generation} · {} services · {} workloads · {}/{} proxies connected · {} errors, {} warnings in the configuration",
        counts("services"),
        counts("workloads"),
        counts("proxiesConnected"),
        counts("proxies"),
        counts("errors"),
        counts("warnings"),
    );
    let proxies = value::items(answer, "/proxies");
    let mut parts = vec![health, summary];
    if !proxies.is_empty() {
        parts.push(format!("\n{}", proxy_table(proxies, generation)));
    }
    let serious: Vec<Value> =
        value::items(answer, "/diagnostics").iter().filter(|d| value::text(d, "/severity") != "info").cloned().collect();
    if !serious.is_empty() {
        parts.push(format!("\n{}", value::diagnostics(&serious)));
    }
    parts.join("\n")
}

/// All proxies, a row each; `generation` is the newest.
pub(super) fn proxy_table(proxies: &[Value], generation: u64) -> String {
    let rows: Vec<Vec<String>> = proxies.iter().map(|p| proxy_row(p, generation)).collect();
    output::table(&["PROXY", "ROLE", "STATE", "GENERATION", "RESOURCES", "IDENTITY"], &rows)
}

/// One proxy: `current`, how far behind, or what it refused.
fn proxy_row(proxy: &Value, generation: u64) -> Vec<String> {
    let resources = proxy["resources"].as_object();
    let nacked = resources.into_iter().flatten().find(|(_, r)| r.get("nack").is_some_and(|n| !n.is_null()));
    let runs = value::number(proxy, "/generation");
    let state = match (value::truth(proxy, "/connected"), nacked) {
        (false, _) => "disconnected".into(),
        (true, Some((name, r))) => format!("refused {name} {}: {}", value::text(r, "/nack/field"), value::text(r, "/nack/message")),
        (true, None) if runs >= generation => "current".into(),
        (true, None) => format!("{} behind", generation - runs),
    };
    vec![
        value::text(proxy, "/id").into(),
        value::text(proxy, "/role").into(),
        state,
        runs.to_string(),
        resources.map_or(0, serde_json::Map::len).to_string(),
        value::text(proxy, "/identity").into(),
    ]
}
