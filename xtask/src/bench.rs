//! `cargo xtask bench load`: builds the program and the load tool in release form, and measures.

use crate::root;
use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};

/// Runs the benchmark that is named first.
pub(crate) fn bench(args: &[String]) -> Result<ExitCode> {
    let Some((name, rest)) = args.split_first() else { bail!("which benchmark? There is `load`") };
    if name != "load" {
        bail!("no benchmark `{name}`: there is `load`");
    }
    let build = Command::new("cargo")
        .current_dir(root())
        .args(["build", "--release", "-p", "weft-mesh", "-p", "weft-bench", "--bin", "weft", "--bin", "weft-bench"])
        .status()
        .context("cannot start cargo")?;
    if !build.success() {
        bail!("the build failed");
    }
    let metadata = crate::tidy::metadata()?;
    let target = metadata["target_directory"].as_str().unwrap_or("target").to_owned();
    let status = Command::new(format!("{target}/release/weft-bench"))
        .current_dir(root())
        .args(["load", "--weft", &format!("{target}/release/weft"), "--data", "bench/data"])
        .args(rest)
        .status()
        .context("cannot start weft-bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
