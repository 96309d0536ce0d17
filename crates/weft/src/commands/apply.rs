//! `weft apply -f`: hands resources to the mesh and prints what became of each.

use super::{files, value};
use crate::{cli::Global, client::Client, output};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// How often it is looked whether proxies are current.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// File, folder, or - for standard input. Repeatable.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,
    /// Say what would happen, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait until every connected proxy runs the change; 0 does not wait.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    wait: u64,
}

/// Fails (exit code 1) when a document was refused; what was good is in place all the same.
pub(crate) async fn apply(global: &Global, args: ApplyArgs) -> Result<ExitCode> {
    let answer = send(global, &args.filename, args.dry_run).await?;
    output::print(global.output, &answer, table)?;
    let changed = value::items(&answer, "/results").iter().any(|r| !matches!(value::text(r, "/action"), "unchanged" | "refused"));
    if changed && !args.dry_run && args.wait > 0 {
        let effect = in_effect(&global.client()?, value::number(&answer, "/generation"), args.wait).await?;
        if global.output == output::Format::Table {
            output::print_text(&output::dim(&effect))?;
        }
    }
    Ok(match failed(&answer) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Waits until every connected proxy runs `generation`; says how many do.
async fn in_effect(client: &Client, generation: u64, wait_s: u64) -> Result<String> {
    let count = async || -> Result<(usize, usize)> {
        let proxies: Vec<Value> = client.get("proxies").await?;
        let connected: Vec<&Value> = proxies.iter().filter(|p| value::truth(p, "/connected")).collect();
        Ok((connected.iter().filter(|p| value::number(p, "/generation") >= generation).count(), connected.len()))
    };
    let all = async {
        loop {
            match count().await? {
                (current, connected) if current == connected => return Ok::<_, anyhow::Error>((current, connected)),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let (current, connected) = match tokio::time::timeout(Duration::from_secs(wait_s), all).await {
        Ok(counted) => counted?,
        Err(_) => count().await?,
    };
    Ok(match (current, connected) {
        (_, 0) => format!("generation {generation}; no proxy is connected"),
        (current, connected) if current == connected => format!("generation {generation} runs at all {connected} proxies"),
        (current, connected) => {
            format!("generation {generation} runs at {current} of {connected} proxies; `weft proxy status` names the others")
        }
    })
}

/// Applies all files and adds the answers up.
pub(super) async fn send(global: &Global, paths: &[PathBuf], dry_run: bool) -> Result<Value> {
    let client = global.client()?;
    let (mut results, mut diagnostics, mut generation) = (Vec::new(), Vec::new(), 0);
    for manifest in files::read(paths)? {
        let path = format!("apply?source={}&dryRun={dry_run}", files::encode(&manifest.source));
        let answer: Value = client.post(&path, manifest.text.into_bytes()).await?;
        results.extend_from_slice(value::items(&answer, "/results"));
        diagnostics.extend_from_slice(value::items(&answer, "/diagnostics"));
        generation = generation.max(value::number(&answer, "/generation"));
    }
    Ok(json!({ "results": results, "diagnostics": diagnostics, "dryRun": dry_run, "generation": generation }))
}

fn failed(answer: &Value) -> bool {
    // Codes of the 1000s are about the text itself: what cannot be read has no result of its own.
    let unreadable = |d: &Value| value::text(d, "/severity") == "error" && value::text(d, "/code").starts_with("WEFT-1");
    value::items(answer, "/results").iter().any(|r| value::text(r, "/action") == "refused")
        || value::items(answer, "/diagnostics").iter().any(unreadable)
}

pub(super) fn table(answer: &Value) -> String {
    let dry = if value::truth(answer, "/dryRun") { " (dry run)" } else { "" };
    let line = |r: &Value| {
        let name = match value::text(r, "/namespace") {
            "" => value::text(r, "/name").to_owned(),
            namespace => format!("{namespace}/{}", value::text(r, "/name")),
        };
        format!("{} {name} {}{dry}", value::text(r, "/kind"), value::text(r, "/action"))
    };
    let mut lines: Vec<String> = value::items(answer, "/results").iter().map(line).collect();
    let diagnostics = value::diagnostics(value::items(answer, "/diagnostics"));
    if !diagnostics.is_empty() {
        lines.push(diagnostics);
    }
    if lines.is_empty() {
        lines.push("nothing to apply: no resource in what was given".into());
    }
    lines.join("\n")
}
