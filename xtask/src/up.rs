//! `cargo xtask up`: from a fresh clone to the moving picture.

use crate::{root, tools, ui};
use anyhow::{Context, Result, bail};
use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// Builds the page and the program, then becomes `weft up`.
pub(crate) fn up(args: &[String]) -> Result<ExitCode> {
    let missing = tools::missing(&[&tools::CC]);
    if !missing.is_empty() {
        tools::tell(&missing);
        bail!("the program cannot be built without a C compiler");
    }
    let capture = tools::missing(&[&tools::NFT, &tools::IP]);
    if !capture.is_empty() {
        eprintln!("`weft run` will use explicit local ports instead of capturing all traffic:");
        tools::tell(&capture);
    }
    ui::build()?;
    let (release, mut rest): (Vec<&str>, Vec<&str>) = args.iter().map(String::as_str).partition(|a| *a == "--release");
    if rest.is_empty() {
        rest.push("--demo");
    }
    // The `ci` profile is optimised and builds in half the time of `release`, which links the whole program at once.
    let profile = if release.is_empty() { "ci" } else { "release" };
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(["run", "--profile", profile, "-p", "weft-mesh", "--bin", "weft", "--", "up"]).args(rest);
    // Signals go to the program directly: this process is replaced by it.
    Err(command.exec()).context("cannot start cargo")
}
