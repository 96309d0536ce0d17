//! The command line: what can be asked, and who answers.

use crate::{
    client::{Client, block_on},
    commands, demo, output, run,
    state::StateDir,
    up,
};
use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// Weft: one fabric over every service. `weft up --demo` shows it in ten seconds.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Folder with the mesh's state [default: $XDG_STATE_HOME/weft or ~/.local/state/weft].
    #[arg(long, global = true, env = "WEFT_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Address of the REST API [default: that of the mesh running on the state folder].
    #[arg(long, global = true, env = "WEFT_API", value_name = "ADDRESS:PORT")]
    pub(crate) api: Option<SocketAddr>,
    /// Sign-in token [default: the one in the state folder].
    #[arg(long, global = true, env = "WEFT_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: output::Format,
}

impl Global {
    pub(crate) fn state(&self) -> Result<StateDir> {
        StateDir::locate(self.state_dir.as_deref())
    }
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.state()?, self.api, self.token.clone())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole mesh in one process: store, authority, control plane, gateway, API and page.
    Up(up::UpArgs),
    /// Stop the mesh that runs on the state folder. Its state stays.
    Down,
    /// Run any program inside the mesh: weft run --name reviews --port 9080 -- ./prog
    Run(run::RunArgs),
    /// Apply resources from files, folders or standard input (-).
    Apply(commands::apply::ApplyArgs),
    /// List resources, or show one.
    Get(commands::get::GetArgs),
    /// Delete resources by kind and name, or those in a file.
    Delete(commands::delete::DeleteArgs),
    /// Show what applying files would change.
    Diff(commands::diff::DiffArgs),
    /// One screen: health, proxies and how current they are, configuration.
    Status,
    /// Who talks to whom, how well, how fast, how safely.
    Top(commands::top::TopArgs),
    /// Why a request ended as it did: hop, route, policy, endpoint, timer, and the likely fix.
    Why(commands::why::WhyArgs),
    /// Single requests of a workload while they happen, with their headers; secrets are taken out.
    Tap(commands::tap::TapArgs),
    /// Which rules a request meets, in order of precedence, and which one it takes. Or what a code (WEFT-1203) means.
    Explain(commands::explain::ExplainArgs),
    /// Check the mesh, one line per check.
    Check,
    /// Look into proxies.
    Proxy(commands::proxy::ProxyArgs),
    /// One program of the demo shop on its own, for `weft run`.
    #[command(hide = true)]
    DemoApp(demo::DemoAppArgs),
}

/// Runs the command.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    let global = cli.global;
    let ok = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match cli.command {
        Command::Up(args) => ok(up::up(&global, args)),
        Command::Down => ok(up::down(&global)),
        Command::Run(args) => run::run(&global, args),
        Command::Apply(args) => block_on(commands::apply::apply(&global, args)),
        Command::Get(args) => ok(block_on(commands::get::get(&global, args))),
        Command::Delete(args) => ok(block_on(commands::delete::delete(&global, args))),
        Command::Diff(args) => block_on(commands::diff::diff(&global, args)),
        Command::Status => ok(block_on(commands::status::status(&global))),
        Command::Top(args) => ok(block_on(commands::top::top(&global, args))),
        Command::Why(args) => ok(block_on(commands::why::why(&global, args))),
        Command::Tap(args) => ok(block_on(commands::tap::tap(&global, args))),
        Command::Explain(args) => ok(block_on(commands::explain::explain(&global, args))),
        Command::Check => block_on(commands::check::check(&global)),
        Command::Proxy(args) => ok(block_on(commands::proxy::proxy(&global, args))),
        Command::DemoApp(args) => ok(demo::app(args)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
