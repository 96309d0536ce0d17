//! Builds the page (`ui/`) with Node, only when something changed.

use crate::{root, tools};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, process::Command, time::SystemTime};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Built {
    Fresh,
    Now,
    /// No Node: the program answers with a plain page.
    Without,
}

/// Builds `ui/dist` unless it is newer than all of its sources.
pub(crate) fn build() -> Result<Built> {
    let ui = root().join("ui");
    if !ui.join("package.json").exists() {
        return Ok(Built::Without);
    }
    if fresh(&ui) {
        return Ok(Built::Fresh);
    }
    let missing = tools::missing(&[&tools::NODE, &tools::NPM]);
    if !missing.is_empty() {
        eprintln!("The page is left out: `weft up` serves a plain one.");
        tools::tell(&missing);
        return Ok(Built::Without);
    }
    dependencies(&ui)?;
    npm(&ui, &["run", "build"])?;
    Ok(Built::Now)
}

/// Installs the page's dependencies as locked, unless that was done since the lock file changed.
pub(crate) fn dependencies(ui: &Path) -> Result<()> {
    let lock = modified(&ui.join("package-lock.json"));
    let installed = modified(&ui.join("node_modules/.package-lock.json"));
    match installed >= lock && installed.is_some() {
        true => Ok(()),
        false => npm(ui, &["ci", "--no-audit", "--no-fund"]),
    }
}

fn npm(ui: &Path, args: &[&str]) -> Result<()> {
    eprintln!("── npm {}", args.join(" "));
    let status = Command::new("npm").args(args).current_dir(ui).status().context("cannot start npm")?;
    if !status.success() {
        bail!("`npm {}` failed in {}", args.join(" "), ui.display());
    }
    Ok(())
}

fn fresh(ui: &Path) -> bool {
    let sources = [
        "src",
        "public",
        "index.html",
        "package.json",
        "package-lock.json",
        "vite.config.ts",
        "tsconfig.json",
        "svelte.config.js",
        "../openapi",
    ];
    let newest = sources.iter().filter_map(|s| newest(&ui.join(s))).max();
    let built = modified(&ui.join("dist/index.html"));
    built.is_some() && built >= newest
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}

/// The latest change below `path`.
fn newest(path: &Path) -> Option<SystemTime> {
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    below.filter_map(|entry| newest(&entry.path())).chain(modified(path)).max()
}
