//! `cargo xtask fuzz`: builds the targets of `fuzz/` with coverage instrumentation and runs each for a while from its kept corpus.

use crate::{root, steps::Step, tidy};
use anyhow::{Context, Result, bail};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Instant,
};

/// What libFuzzer needs of the compiler; all of it is stable.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=16";

/// Runs the targets that are named, or all.
pub(crate) fn main(args: &[String]) -> Result<ExitCode> {
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1));
    let seconds: u64 = after("--seconds").map_or(Ok(60), |s| s.parse()).context("--seconds takes a number")?;
    let keep = args.iter().any(|a| a == "--keep");
    let named: Vec<&str> =
        args.iter().map(String::as_str).filter(|a| !a.starts_with("--") && Some(*a) != after("--seconds").map(String::as_str)).collect();
    let step = run(&named, seconds, keep)?;
    println!("{} passed, {} failed", step.counts.passed, step.counts.failed);
    Ok(if step.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All targets, two at a time.
pub(crate) fn run(named: &[&str], seconds: u64, keep: bool) -> Result<Step> {
    let start = Instant::now();
    let targets: Vec<String> = targets()?.into_iter().filter(|t| named.is_empty() || named.contains(&t.as_str())).collect();
    if targets.is_empty() {
        bail!("no such target: there is a file for each in fuzz/targets");
    }
    eprintln!("── fuzz: {} for {seconds} s each", targets.join(", "));
    let folder = build()?;
    let mut counts = crate::steps::Counts::default();
    for pair in targets.chunks(2) {
        let running: Vec<(&String, Child)> = pair.iter().map(|t| Ok((t, start_one(&folder, t, seconds, keep)?))).collect::<Result<_>>()?;
        for (target, child) in running {
            let output = child.wait_with_output()?;
            let text = String::from_utf8_lossy(&output.stderr);
            let ok = output.status.success();
            eprintln!(
                "{target}: {}",
                text.lines().rev().find(|l| l.contains("DONE") || l.starts_with("Done") || l.contains("ERROR")).unwrap_or("ended").trim()
            );
            if !ok {
                eprintln!("{}", text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            counts.passed += u64::from(ok);
            counts.failed += u64::from(!ok);
        }
    }
    Ok(Step { name: "fuzz", ok: counts.failed == 0, counts, took: start.elapsed() })
}

fn targets() -> Result<Vec<String>> {
    let files = std::fs::read_dir(root().join("fuzz/targets"))?.flatten().map(|f| f.path());
    let mut names: Vec<String> = files.filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; the folder with the programs.
fn build() -> Result<PathBuf> {
    let metadata = tidy::metadata()?;
    let target = Path::new(metadata["target_directory"].as_str().unwrap_or("target")).join("fuzz");
    let version = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc does not name its host")?.to_owned();
    let status = Command::new("cargo")
        .current_dir(root().join("fuzz"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // With a target named, build scripts and macros are left without instrumentation.
        .args(["build", "--release", "--locked", "--bins", "--target", &host])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(target.join(host).join("release"))
}

fn start_one(folder: &Path, target: &str, seconds: u64, keep: bool) -> Result<Child> {
    let fuzz = root().join("fuzz");
    let (corpus, artifacts) = (fuzz.join("corpus").join(target), fuzz.join("artifacts"));
    std::fs::create_dir_all(&corpus)?;
    std::fs::create_dir_all(&artifacts)?;
    // New finds go to the first folder; without `--keep` that is one outside of the tree.
    let scratch = folder.join("finds").join(target);
    std::fs::create_dir_all(&scratch)?;
    let mut command = Command::new(folder.join(target));
    if !keep {
        command.arg(&scratch);
    }
    command
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=16384", "-print_final_stats=0", "-verbosity=1"])
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().with_context(|| format!("cannot start the fuzz target {target}"))
}
