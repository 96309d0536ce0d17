//! The crates and what each depends on are exactly as the table in ARCHITECTURE.md says.

use crate::root;
use anyhow::{Context, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Compares the table with `cargo metadata`. Dependencies of tests alone are free.
pub(super) fn check(metadata: &serde_json::Value) -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let (table, real) = (table(&text), graph(metadata));
    let mut problems = Vec::new();
    for (name, dependencies) in &real {
        match table.get(name) {
            None => problems.push(format!("ARCHITECTURE.md: the crate {name} is not in the table")),
            Some(allowed) if allowed != dependencies => {
                problems.push(format!("ARCHITECTURE.md: {name} depends on [{}], the table says [{}]", join(dependencies), join(allowed)))
            }
            Some(_) => {}
        }
    }
    problems.extend(strangers(metadata));
    problems.extend(table.keys().filter(|n| !real.contains_key(*n)).map(|n| format!("ARCHITECTURE.md: there is no crate {n}")));
    Ok(problems)
}

/// Dependencies that only some crates may have, for the invariants of ARCHITECTURE.md.
const WRAPPERS: [(&str, &[&str]); 5] = [
    ("rustls", &["weft-pki", "weft-wire"]),
    ("tokio-rustls", &["weft-wire"]),
    ("sqlx", &["weft-store"]),
    ("rusqlite", &["weft-store"]),
    ("axum", &["weft-manage"]),
];
/// What the model may depend on: it does no I/O, and knows no runtime and no format but its own.
const MODEL: [&str; 8] = ["http", "ipnet", "regex", "serde", "serde_json", "sha2", "smallvec", "thiserror"];

fn strangers(metadata: &serde_json::Value) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let all = package["dependencies"].as_array().into_iter().flatten().filter(|d| d["kind"].is_null());
        for dependency in all.filter_map(|d| d["name"].as_str()) {
            let forbidden = WRAPPERS.iter().any(|(d, wrappers)| *d == dependency && !wrappers.contains(&name));
            if forbidden || name == "weft-model" && !MODEL.contains(&dependency) {
                problems.push(format!("crates: {name} may not depend on {dependency} (see the invariants in ARCHITECTURE.md)"));
            }
        }
    }
    problems
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// Rows `| level | `crate` | purpose | dependency, dependency |`; `weft-` may be left out of dependencies.
fn table(text: &str) -> Graph {
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [_level, name, _purpose, dependencies] = cells.as_slice() else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`').filter(|n| n.starts_with("weft-") || *n == "xtask")?;
        let full = |d: &str| if d.starts_with("weft") { d.to_owned() } else { format!("weft-{d}") };
        let dependencies = dependencies.split(',').map(str::trim).filter(|d| !matches!(*d, "—" | "")).map(full).collect();
        Some((name.to_owned(), dependencies))
    });
    rows.collect()
}

fn graph(metadata: &serde_json::Value) -> Graph {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let name = |p: &serde_json::Value| p["name"].as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let dependencies = |p: &serde_json::Value| {
        let all = p["dependencies"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|d| d["kind"].is_null()).map(name).filter(|n| ours.contains(n)).collect()
    };
    packages.iter().map(|p| (name(p), dependencies(p))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let graph = table("| level | crate | purpose | may |\n| 1 | `weft-model` | x | std |\n| 0 | `weft-std` | y | — |\n");
        assert_eq!(graph.len(), 2);
        assert_eq!(join(&graph["weft-model"]), "weft-std");
        assert!(graph["weft-std"].is_empty());
    }
}
