//! The `weft` program: the mesh on one machine, its proxies, and the command line over it.

mod cli;
mod client;
mod commands;
mod demo;
mod output;
mod run;
mod state;
mod up;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The capture agent enters its namespaces while the process has one thread, so it comes before everything else.
    if let Some(code) = weft_wire::capture::run_if_agent() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let cli = cli::Cli::parse();
    match cli::dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
