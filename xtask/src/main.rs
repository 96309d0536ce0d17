//! The repository's own tool: `cargo xtask <command>`. Plain Rust and few dependencies, so that it is built in seconds.

mod bench;
mod demo;
mod fuzz;
mod generate;
#[cfg(feature = "generate")]
mod proto;
mod steps;
mod test;
mod tidy;
mod tools;
mod ui;
mod up;

use anyhow::{Result, bail};
use std::{path::PathBuf, process::ExitCode};

const USAGE: &str = "\
cargo xtask <command>

  up [--release] [ARGS]   build the page and the program, then `weft up --demo` (or `weft up ARGS`)
  test [--install] [STEP] format, lints, tidy, tests, and the page's tests; ends with a count.
                          --install fetches what is missing with apt-get (as root); STEP is one of
                          fmt, clippy, tidy, rust, instructions, fuzz, ui
  tidy                    check the rules of the repository (UPDATE=1 rewrites the ratchet)
  generate                write the generated sources again (protobuf, API client, schemas)
  bench load [ARGS]       load test beside the direct path and the proxies that are installed
  fuzz [TARGET] [--seconds N] [--keep]
                          run the fuzz targets from their kept corpus, a minute each
  ui                      build the page only
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = args.split_first() else {
        eprint!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    match command.as_str() {
        "up" => up::up(rest),
        "test" => test::test(rest),
        "tidy" => tidy::main(),
        "generate" => generate::generate(),
        "bench" => bench::bench(rest),
        "fuzz" => fuzz::main(rest),
        "ui" => ui::build().map(|_| ExitCode::SUCCESS),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no command `{other}`\n\n{USAGE}"),
    }
}

/// The repository's root folder.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}
