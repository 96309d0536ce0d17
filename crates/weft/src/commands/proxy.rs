//! `weft proxy`: what a proxy runs, how current it is, how much it logs.

use super::{files, status, value};
use crate::{cli::Global, output};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(subcommand)]
    command: ProxyCommand,
}

#[derive(Debug, Subcommand)]
enum ProxyCommand {
    /// All proxies: generation, what they acknowledged, what they refused.
    Status,
    /// What a proxy runs, each row with the object that it comes from.
    Config {
        /// Proxy: its id, or the workload's name.
        proxy: String,
        /// Only resources whose name contains this, e.g. routes, cluster, reviews.
        filter: Option<String>,
    },
    /// Set how much a proxy logs: error, warn, info, debug, trace.
    LogLevel {
        /// Proxy: its id, or the workload's name.
        proxy: String,
        /// Level.
        level: String,
    },
}

pub(crate) async fn proxy(global: &Global, args: ProxyArgs) -> Result<()> {
    let client = global.client()?;
    let proxies: Vec<Value> = client.get("proxies").await?;
    match args.command {
        ProxyCommand::Status => {
            let health: Value = client.get("health").await?;
            let generation = value::number(&health, "/generation");
            output::print(global.output, &proxies, |p| status::proxy_table(p, generation))
        }
        ProxyCommand::Config { proxy, filter } => {
            let answer: Value = client.get(&format!("proxies/{}/config", files::encode(find(&proxies, &proxy)?))).await?;
            output::print(global.output, &answer, |a| config(a, filter.as_deref()))
        }
        ProxyCommand::LogLevel { proxy, level } => {
            let path = format!("proxies/{}/log-level", files::encode(find(&proxies, &proxy)?));
            let answer: Value = client.put(&path, serde_json::to_vec(&json!({ "level": level }))?).await?;
            output::print(global.output, &answer, |a| format!("{proxy} logs at level {}", value::text(a, "/level")))
        }
    }
}

/// The id of the one proxy that `name` means.
fn find<'a>(proxies: &'a [Value], name: &str) -> Result<&'a str> {
    let ids: Vec<&str> = proxies
        .iter()
        .filter(|p| value::text(p, "/id") == name || value::text(p, "/workload") == name)
        .map(|p| value::text(p, "/id"))
        .collect();
    match ids.as_slice() {
        [id] => Ok(id),
        [] => bail!("no proxy is called {name}\n  fix: `weft proxy status` lists them"),
        many => bail!("{name} has {} proxies: name one of {}", many.len(), many.join(", ")),
    }
}

fn config(answer: &Value, filter: Option<&str>) -> String {
    let values = answer["values"].as_object();
    let rows: Vec<Vec<String>> = values
        .into_iter()
        .flatten()
        .filter(|(name, _)| filter.is_none_or(|f| name.contains(f)))
        .map(|(name, v)| {
            let inner = v.pointer("/value/value").or_else(|| v.get("value")).unwrap_or(v);
            vec![name.clone(), value::text(v, "/version").into(), summary(inner), value::place(&inner["origin"])]
        })
        .collect();
    format!("generation {}\n\n{}", value::number(answer, "/generation"), output::table(&["RESOURCE", "VERSION", "WHAT", "FROM"], &rows))
}

/// One line about a resource: what it holds, in numbers.
fn summary(value: &Value) -> String {
    let count = |field: &str| value.get(field).and_then(Value::as_array).map(Vec::len);
    let parts = [
        ("endpoints", "endpoint"),
        ("hosts", "host"),
        ("ports", "port"),
        ("rules", "rule"),
        ("listeners", "listener"),
        ("routes", "route"),
    ];
    let known = parts.iter().filter_map(|(field, noun)| count(field).map(|n| format!("{n} {noun}{}", if n == 1 { "" } else { "s" })));
    known.collect::<Vec<_>>().join(", ")
}
