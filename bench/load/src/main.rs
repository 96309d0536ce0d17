//! The load test: a client and a server with different pairs of proxies between them, all on one core, in one run.
//!
//! What counts is the CPU time of both proxies together per request. Throughput on a shared core only ranks.

mod certificates;
mod client;
mod instructions;
mod origin;
mod pair;
mod paths;
mod peers;
mod procfs;
mod report;
mod scenario;
mod weft;

/// The allocator of `weft`, so that its proxies behave here as they do there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use anyhow::{Context, Result, bail};
use std::{collections::BTreeMap, process::ExitCode};

const USAGE: &str = "\
weft-bench load [--weft PATH] [--data DIR] [--rounds N] [--seconds N] [--rate N] [--only direct,weft,pair,nginx,haproxy,envoy]
                [--envoy PATH] [--quick]
weft-bench paths [--data DIR] [--rounds N] [--only hop,grpc-hop,grpc,tcp,handshake,idle] [--subjects pair,envoy,haproxy,nginx] [--envoy PATH]
weft-bench instructions [--bar FILE]
weft-bench origin [--listen ADDRESS:PORT] [--protocol HTTP|GRPC|TCP]
weft-bench proxy --side server|client|alone --next ADDRESS:PORT --folder DIR [--protocol HTTP|GRPC|TCP]
weft-bench client --target ADDRESS:PORT [--host NAME] [--connections N] [--seconds N] [--warmup N] [--rate N] [--roots FILE]
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else { bail!("{USAGE}") };
    let options = Options::parse(rest)?;
    match command.as_str() {
        "load" => scenario::load(&options),
        "instructions" => instructions::instructions(&options),
        "paths" => paths::paths(&options),
        "origin" => origin::run(options.text("listen").unwrap_or("127.0.0.1:0"), options.text("protocol").unwrap_or("HTTP")),
        "proxy" => {
            let next = options.text("next").context("--next")?.parse()?;
            pair::run(
                options.text("side").context("--side")?,
                next,
                options.text("folder").context("--folder")?.as_ref(),
                options.text("protocol").unwrap_or("HTTP"),
            )
        }
        "client" => {
            let result = client::run(&client::Plan::from_options(&options)?)?;
            println!("{}", serde_json::to_string(&result)?);
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

/// `--name value` and `--flag`.
pub(crate) struct Options(BTreeMap<String, String>);

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = BTreeMap::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let name = arg.strip_prefix("--").with_context(|| format!("{arg:?} is not an option\n{USAGE}"))?;
            let value = if name == "quick" { String::new() } else { rest.next().with_context(|| format!("{arg} wants a value"))?.clone() };
            options.insert(name.to_owned(), value);
        }
        Ok(Self(options))
    }
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64> {
        self.text(name).map_or(Ok(default), |t| t.parse().with_context(|| format!("--{name} wants a number")))
    }
}
