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
    // The capture agent must unshare its namespaces while the process has one thread, so it comes before everything else.
    let mut args = std::env::args();
    if args.nth(1).as_deref() == Some(run::AGENT_COMMAND) {
        return run::agent(args.next().as_deref());
    }
    // `weft top | head` ends quietly, as other tools do.
    let cli = cli::Cli::parse();
    match cli::dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}
