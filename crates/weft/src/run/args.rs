//! What `weft run` is asked.

use clap::{Args, ValueEnum};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr, str::FromStr};
use weft_model::Protocol;

/// Put any program into the mesh: identity, inbound and outbound capture, health.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Name of the workload; also the `app` label and the service account unless given.
    #[arg(long)]
    pub(crate) name: String,
    /// Version label.
    #[arg(long, default_value = "v1")]
    pub(crate) version: String,
    /// Namespace.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Service account [default: the name].
    #[arg(long)]
    pub(crate) service_account: Option<String>,
    /// Port on which the program listens, with what it speaks if you know: 9080, 9080/http, 5432/tcp, 50051/grpc. Repeatable.
    #[arg(long = "port", value_name = "PORT[/PROTOCOL]")]
    pub(crate) ports: Vec<PortArg>,
    /// Further label. Repeatable.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    /// How the program's traffic reaches the proxy.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) capture: CaptureArg,
    /// Address on which the proxy listens for other proxies.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub(crate) listen: IpAddr,
    /// Where other proxies reach this one, when that is not where it listens: one per --port, in the same order.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) advertise: Vec<std::net::SocketAddr>,
    /// Threads of the proxy.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) workers: u8,
    /// Log level of the proxy.
    #[arg(long, default_value = "warn", env = "WEFT_LOG")]
    pub(crate) log: String,
    /// Write the access log (JSON lines) to this file; `-` is standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<std::path::PathBuf>,
    /// Address of the proxy's admin endpoint: metrics, configuration, readiness.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub(crate) admin: std::net::SocketAddr,
    /// How long open requests may take to end when the program has ended, e.g. 5s, 500ms.
    #[arg(long, default_value = "5s", env = "WEFT_TERMINATION_DRAIN_DURATION", value_name = "DURATION", value_parser = crate::up::duration)]
    pub(crate) drain_duration: std::time::Duration,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<String>,
}

/// How traffic is captured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaptureArg {
    /// A namespace of its own where that works, else local ports, said plainly.
    #[default]
    Auto,
    /// A namespace of its own, or fail.
    Namespace,
    /// Local ports: the program is told where to find each service.
    Ports,
}

/// A port and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PortArg {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

impl FromStr for PortArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, ""));
        let port = number.parse().ok().filter(|p| *p > 0).ok_or_else(|| format!("{number:?} is not a port (1–65535)"))?;
        let protocol = match protocol {
            "" | "auto" => Protocol::Auto,
            name => Protocol::from_name(name).ok_or_else(|| format!("{name:?} is not http, http2, grpc, tcp, tls or auto"))?,
        };
        Ok(Self { port, protocol })
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("{text:?} is not key=value")),
    }
}

impl RunArgs {
    /// All labels: `app` and `version`, then what was given.
    pub(crate) fn all_labels(&self) -> BTreeMap<String, String> {
        let own = [("app".to_owned(), self.name.clone()), ("version".to_owned(), self.version.clone())];
        own.into_iter().chain(self.labels.iter().cloned()).collect()
    }
    pub(crate) fn account(&self) -> &str {
        self.service_account.as_deref().unwrap_or(&self.name)
    }
    /// Istio's workload name: the deployment that would hold it.
    pub(crate) fn workload_name(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_labels_parse_or_say_why_not() {
        assert_eq!("9080".parse(), Ok(PortArg { port: 9080, protocol: Protocol::Auto }));
        assert_eq!("5432/tcp".parse(), Ok(PortArg { port: 5432, protocol: Protocol::Tcp }));
        assert!("0".parse::<PortArg>().is_err() && "70000".parse::<PortArg>().is_err());
        assert!("80/quic".parse::<PortArg>().expect_err("unknown").contains("quic"));
        assert!(key_value("=x").is_err());
    }
}
