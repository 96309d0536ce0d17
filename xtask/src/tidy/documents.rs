//! Documents and code agree: diagnostic codes and metrics are documented, links lead somewhere.

use super::{codes, sources::File};
use crate::root;
use anyhow::{Context, Result};
use std::{collections::BTreeSet, fs, path::Path};

const DIAGNOSTICS: &str = "docs/book/src/diagnostics.md";
const METRICS: &str = "docs/book/src/metrics.md";

/// Everything that a document should say and does not.
pub(super) fn check(files: &[File]) -> Result<Vec<String>> {
    let chapter = codes::chapter(files);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(DIAGNOSTICS), &chapter).context(DIAGNOSTICS)?;
        return Ok(vec![]);
    }
    let document = |path: &str| files.iter().find(|f| f.path == path).map_or("", |f| f.text.as_str());
    let mut problems = Vec::new();
    let sources = || files.iter().filter(|f| f.is_rust() && f.path.starts_with("crates/") && !f.is_test());
    for code in sources().flat_map(|f| words(f.code(), "WEFT-", |c| c.is_ascii_digit(), 4)).collect::<BTreeSet<_>>() {
        if !chapter.contains(&code) {
            problems.push(format!("{code} is in no table of codes: write code(\"{code}\", title, explanation) beside its constructor"));
        }
    }
    if document(DIAGNOSTICS) != chapter {
        problems.push(format!("{DIAGNOSTICS}: is not what the tables of codes say: run `UPDATE=1 cargo xtask tidy`"));
    }
    let name = |c: char| c.is_ascii_lowercase() || c == '_';
    let metrics = sources().flat_map(|f| words(f.code(), "\"weft_", name, 1).into_iter().chain(words(f.code(), "\"istio_", name, 1)));
    for metric in metrics.map(|m| m.trim_matches('"').to_owned()).collect::<BTreeSet<_>>() {
        let documented = document(METRICS).contains(&metric);
        let exported = ["_total", "_milliseconds", "_bytes", "_open", "_generation", "_seconds"].iter().any(|e| metric.ends_with(e));
        if exported && !documented {
            problems.push(format!("{METRICS}: {metric} is not explained"));
        }
    }
    problems.extend(files.iter().filter(|f| f.path.ends_with(".md")).flat_map(broken_links));
    Ok(problems)
}

/// All `prefix` followed by at least `least` characters of `more`.
fn words(text: &str, prefix: &str, more: impl Fn(char) -> bool, least: usize) -> Vec<String> {
    let found = text.match_indices(prefix).filter_map(|(at, _)| {
        let tail: String = text[at + prefix.len()..].chars().take_while(|c| more(*c)).collect();
        (tail.len() >= least).then(|| format!("{prefix}{tail}"))
    });
    found.collect()
}

/// Relative links `](target)` that lead nowhere.
fn broken_links(file: &File) -> Vec<String> {
    let folder = root().join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
    let targets = file.text.match_indices("](").filter_map(|(at, _)| file.text[at + 2..].split([')', '\n']).next());
    let broken = targets
        .filter(|t| !t.contains("://") && !t.starts_with('#') && !t.starts_with("mailto:") && !t.contains(' '))
        .filter(|t| !folder.join(t.split('#').next().unwrap_or_default()).exists());
    broken.map(|t| format!("{}: the link to {t} leads nowhere", file.path)).collect()
}
