//! Runs programs, shows their output as it comes, and reads the counts of test runners from it.

use anyhow::{Context, Result};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Tests counted in a runner's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// How a step ended.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    pub(crate) counts: Counts,
    pub(crate) took: Duration,
}

/// Runs `command`, passing its output through; a step without tests of its own counts as one.
pub(crate) fn run(name: &'static str, command: &mut Command) -> Result<Step> {
    eprintln!("── {name}: {}", shown(command));
    let start = Instant::now();
    let (status, mut counts) = pass_through(command).with_context(|| format!("cannot start {}", shown(command)))?;
    let ok = status.success();
    if counts == Counts::default() || (!ok && counts.failed == 0) {
        counts.passed += u64::from(ok);
        counts.failed += u64::from(!ok);
    }
    Ok(Step { name, ok, counts, took: start.elapsed() })
}

/// A step that is not a program.
pub(crate) fn check(name: &'static str, problems: &[String]) -> Step {
    eprintln!("── {name}");
    problems.iter().for_each(|p| eprintln!("{p}"));
    let ok = problems.is_empty();
    Step { name, ok, counts: Counts { passed: u64::from(ok), failed: u64::from(!ok) }, took: Duration::ZERO }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn pass_through(command: &mut Command) -> Result<(ExitStatus, Counts)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, err) = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let counts = thread::scope(|scope| {
        let errors = scope.spawn(|| tee(err, std::io::stderr()));
        let output = tee(out, std::io::stdout());
        let errors = errors.join().unwrap_or_default();
        Counts { passed: output.passed + errors.passed, failed: output.failed + errors.failed }
    });
    Ok((child.wait()?, counts))
}

/// Copies line by line and counts.
fn tee(from: impl Read, mut to: impl Write) -> Counts {
    let mut counts = Counts::default();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // A closed pipe further down is no reason to stop the tests.
        let _closed = writeln!(to, "{line}");
        if let Some(found) = count(&line) {
            counts.passed += found.passed;
            counts.failed += found.failed;
        }
    }
    counts
}

/// Reads one line of `cargo test`, nextest, `node --test`, vitest or a plain `N passed, N failed`.
fn count(line: &str) -> Option<Counts> {
    let line = line.trim();
    let before = |word: &str| {
        let at = line.find(word)?;
        line.get(..at)?.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let node = |word: &str| line.strip_prefix(word).and_then(|n| n.trim().parse::<u64>().ok());
    if let Some(passed) = node("# pass ").or_else(|| node("ℹ pass ")) {
        return Some(Counts { passed, failed: 0 });
    }
    if let Some(failed) = node("# fail ").or_else(|| node("ℹ fail ")) {
        return Some(Counts { passed: 0, failed });
    }
    let summary = line.starts_with("test result:")
        || line.starts_with("Summary [")
        || line.starts_with("Tests  ")
        || line.starts_with(|c: char| c.is_ascii_digit()) && (line.contains(" passed,") || line.ends_with(" passed"));
    if !summary {
        return None;
    }
    Some(Counts { passed: before(" passed")?, failed: before(" failed").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_are_understood() {
        let counts = |passed, failed| Some(Counts { passed, failed });
        assert_eq!(count("test result: ok. 13 passed; 0 failed; 0 ignored; 0 measured"), counts(13, 0));
        assert_eq!(count("test result: FAILED. 1 passed; 2 failed; 0 ignored"), counts(1, 2));
        assert_eq!(count("     Summary [   0.1s] 5 tests run: 4 passed, 1 failed, 0 skipped"), counts(4, 1));
        assert_eq!(count("# pass 7"), counts(7, 0));
        assert_eq!(count("ℹ fail 2"), counts(0, 2));
        assert_eq!(count("12 passed, 1 failed"), counts(12, 1));
        assert_eq!(count("the request passed, then failed"), None);
    }
}
