//! `weft diff -f`: what applying would change, line by line.

use super::{files, value};
use crate::{cli::Global, output};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// File, folder, or - for standard input. Repeatable.
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,
}

/// Exit code 0: nothing would change; 1: something would (as diff and kubectl do).
pub(crate) async fn diff(global: &Global, args: DiffArgs) -> Result<ExitCode> {
    let client = global.client()?;
    let mut changes = Vec::new();
    let mut diagnostics = Vec::new();
    for manifest in files::read(&args.filename)? {
        let path = format!("apply?source={}&dryRun=true", files::encode(&manifest.source));
        let answer: Value = client.post(&path, manifest.text.clone().into_bytes()).await?;
        diagnostics.extend_from_slice(value::items(&answer, "/diagnostics"));
        for document in weft_api::parse(&manifest.text, &manifest.source).documents {
            let (kind, name) = (&document.meta.kind, &document.meta.name);
            let namespace = if document.meta.namespace.is_empty() { "-" } else { &document.meta.namespace };
            let path = format!("resources/{}/{}/{}", files::encode(kind), files::encode(namespace), files::encode(name));
            let now = client.get::<Value>(&path).await.map(|d| value::text(&d, "/yaml").to_owned()).unwrap_or_default();
            let (now, new) = (now.trim().to_owned() + "\n", document.raw.trim().to_owned() + "\n");
            if now != new {
                changes.push(json!({ "kind": kind, "namespace": namespace, "name": name, "diff": unified(&now, &new) }));
            }
        }
    }
    let changed = !changes.is_empty();
    let answer = json!({ "changes": changes, "diagnostics": diagnostics });
    output::print(global.output, &answer, |a| {
        let one = |c: &Value| {
            format!("{} {}/{}\n{}", value::text(c, "/kind"), value::text(c, "/namespace"), value::text(c, "/name"), value::text(c, "/diff"))
        };
        let mut text: Vec<String> = value::items(a, "/changes").iter().map(one).collect();
        text.push(value::diagnostics(value::items(a, "/diagnostics")));
        if !changed {
            text.push("no difference".into());
        }
        text.join("\n")
    })?;
    Ok(if changed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn unified(now: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(if now.trim().is_empty() { "" } else { now }, new);
    let sign = |tag| match tag {
        ChangeTag::Delete => "-",
        ChangeTag::Insert => "+",
        ChangeTag::Equal => " ",
    };
    diff.iter_all_changes().map(|c| format!("{}{}", sign(c.tag()), c.value())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_by_line() {
        assert_eq!(unified("a\nb\n", "a\nc\n"), " a\n-b\n+c\n");
        assert_eq!(unified("\n", "a\n"), "+a\n");
    }
}
