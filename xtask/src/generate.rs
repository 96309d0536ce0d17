//! `cargo xtask generate`: writes generated sources again. They are checked in, so that a build needs no generator.

use crate::{root, ui};
use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};

/// Runs every generator that exists.
pub(crate) fn generate() -> Result<ExitCode> {
    protobuf()?;
    let ui_folder = root().join("ui");
    if ui_folder.join("package.json").exists() {
        ui::dependencies(&ui_folder)?;
        run(Command::new("npm").args(["run", "--if-present", "generate"]).current_dir(&ui_folder))?;
    }
    // The golden files and the schemas are written by the tests that check them.
    run(Command::new("cargo").args(["test", "-q", "-p", "weft-test"]).env("UPDATE", "1").current_dir(root()))?;
    Ok(ExitCode::SUCCESS)
}

/// The generator's dependencies are many, so they are behind a feature of this crate.
#[cfg(feature = "generate")]
fn protobuf() -> Result<()> {
    crate::proto::generate(&root())
}

#[cfg(not(feature = "generate"))]
fn protobuf() -> Result<()> {
    run(Command::new("cargo").args(["run", "-q", "-p", "xtask", "--features", "generate", "--", "generate"]).current_dir(root()))?;
    // The inner run has done everything.
    std::process::exit(0)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}
