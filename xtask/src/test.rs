//! `cargo xtask test`: everything that must hold, cheapest first, ending with a count.

use crate::{
    demo::Demo,
    fuzz, root,
    steps::{self, Step},
    tidy, tools, ui,
};
use anyhow::Result;
use std::process::{Command, ExitCode};

/// How long each fuzz target runs.
const FUZZ_SECONDS: u64 = 60;

/// Runs all steps, or those that are named.
pub(crate) fn test(args: &[String]) -> Result<ExitCode> {
    let install = args.iter().any(|a| a == "--install");
    let named: Vec<&str> = args.iter().map(String::as_str).filter(|a| !a.starts_with("--")).collect();
    let wanted = |name: &str| named.is_empty() || named.contains(&name);
    prepare(install)?;
    let mut done: Vec<Step> = Vec::new();
    if wanted("fmt") {
        done.push(steps::run("fmt", cargo().args(["fmt", "--all", "--check"]))?);
    }
    if wanted("tidy") {
        done.push(steps::check("tidy", &tidy::problems()?));
    }
    // The page first: the program's tests embed it.
    if wanted("ui") || wanted("rust") {
        ui::build()?;
    }
    if wanted("clippy") {
        done.push(steps::run("clippy", cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?);
    }
    if wanted("rust") {
        done.push(rust()?);
    }
    if wanted("instructions") {
        done.extend(instructions()?);
    }
    if wanted("fuzz") {
        done.push(fuzz::run(&[], FUZZ_SECONDS, false)?);
    }
    if wanted("ui") {
        done.extend(page()?);
    }
    Ok(summary(&done))
}

/// Tells, or installs, what the tests need; without it they are skipped, and say so.
fn prepare(install: bool) -> Result<()> {
    let build = [&tools::CC, &tools::CXX, &tools::NODE, &tools::NPM];
    let test = [&tools::CHROMIUM, &tools::NFT, &tools::IP, &tools::CURL, &tools::VALGRIND, &tools::H2LOAD, &tools::PROMTOOL];
    let missing = tools::missing(&[build.as_slice(), test.as_slice()].concat());
    if install {
        return tools::install(&missing);
    }
    tools::tell(&missing);
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root());
    // The corpus of real files lies beside the clone where there is one.
    let corpus = root().join("../shared/corpus");
    if std::env::var_os("WEFT_CORPUS").is_none() && corpus.is_dir() {
        command.env("WEFT_CORPUS", corpus);
    }
    command
}

/// cargo-nextest where it is installed: it runs the tests of all crates side by side and ends what hangs.
fn rust() -> Result<Step> {
    let nextest = Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    match nextest {
        true => steps::run("rust", cargo().args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])),
        false => steps::run("rust", cargo().args(["test", "--workspace", "--lib", "--bins", "--tests", "--locked", "--no-fail-fast"])),
    }
}

/// Instructions per request against the bars of `bench/instructions.txt`.
fn instructions() -> Result<Option<Step>> {
    if !tools::VALGRIND.present() || !tools::H2LOAD.present() {
        eprintln!("── instructions: SKIPPED, valgrind or h2load is missing");
        return Ok(None);
    }
    let built = steps::run("instructions", cargo().args(["build", "--release", "--locked", "-p", "weft-bench"]))?;
    if !built.ok {
        return Ok(Some(built));
    }
    let metadata = tidy::metadata()?;
    let program = format!("{}/release/weft-bench", metadata["target_directory"].as_str().unwrap_or("target"));
    let bar = root().join("bench/instructions.txt");
    Ok(Some(steps::run("instructions", Command::new(program).arg("instructions").arg("--bar").arg(bar))?))
}

/// Type check and browser tests of the page.
fn page() -> Result<Vec<Step>> {
    let ui = root().join("ui");
    let missing = tools::missing(&[&tools::NODE, &tools::NPM]);
    if !ui.join("package.json").exists() || !missing.is_empty() {
        eprintln!("── ui: SKIPPED, Node.js is missing");
        return Ok(vec![]);
    }
    if !tools::CHROMIUM.present() {
        eprintln!("── ui: the browser tests are SKIPPED, chromium is missing");
        return Ok(vec![]);
    }
    ui::dependencies(&ui)?;
    // Against a mock server, and against the program itself, which the Rust tests have just built.
    let metadata = tidy::metadata()?;
    let demo = Demo::start(metadata["target_directory"].as_str().unwrap_or("target"))?;
    let mut npm = Command::new("npm");
    npm.args(["test"]).current_dir(&ui).env("WEFT_URL", &demo.url).env("WEFT_TOKEN", &demo.token);
    Ok(vec![steps::run("ui", &mut npm)?])
}

fn summary(done: &[Step]) -> ExitCode {
    println!();
    for step in done {
        let verdict = if step.ok { "ok" } else { "FAILED" };
        println!("{:<12} {verdict:<7} {:>6.1} s", step.name, step.took.as_secs_f64());
    }
    let failed: u64 = done.iter().map(|s| s.counts.failed).sum();
    println!("{} passed, {failed} failed", done.iter().map(|s| s.counts.passed).sum::<u64>());
    match done.iter().all(|s| s.ok) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
