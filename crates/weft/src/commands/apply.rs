//! `weft apply -f`: hands resources to the mesh and prints what became of each.

use super::{files, value};
use crate::{cli::Global, output};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// File, folder, or - for standard input. Repeatable.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,
    /// Say what would happen, change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Fails (exit code 1) when a document was refused; what was good is in place all the same.
pub(crate) async fn apply(global: &Global, args: ApplyArgs) -> Result<ExitCode> {
    let answer = send(global, &args.filename, args.dry_run).await?;
    output::print(global.output, &answer, table)?;
    Ok(match failed(&answer) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
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
    value::items(answer, "/results").iter().any(|r| value::text(r, "/action") == "refused")
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
