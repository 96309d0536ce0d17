//! The rules of the repository that no lint knows, checked in under a second: `cargo xtask tidy`, and as a test of this crate.

mod codes;
mod crates;
mod documents;
mod functions;
mod sources;

use crate::root;
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};

/// Prints what is wrong.
pub(crate) fn main() -> Result<ExitCode> {
    let problems = problems()?;
    problems.iter().for_each(|p| println!("{p}"));
    println!("tidy: {} problems", problems.len());
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All that is wrong, one line each.
pub(crate) fn problems() -> Result<Vec<String>> {
    let files = sources::files(&root());
    let mut problems = crates::check(&metadata()?)?;
    problems.extend(sources::check(&files));
    problems.extend(functions::check(&files)?);
    problems.extend(documents::check(&files)?);
    Ok(problems)
}

/// `cargo metadata` of the workspace alone.
pub(crate) fn metadata() -> Result<serde_json::Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .context("cannot start cargo")?;
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let problems = super::problems().expect("tidy runs");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
