//! Where no namespace can be made: the program stays on this machine's network and is told where to find each service.

use crate::client::Client;
use anyhow::{Context, Result};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::ExitStatus,
};
use weft_proxy::ExplicitListener;

/// One listener per service port, and an HTTP forward proxy for programs that know `HTTP_PROXY`.
pub(crate) struct LocalPorts {
    services: Vec<(String, u16, TcpListener)>,
    proxy: TcpListener,
}

impl LocalPorts {
    /// Opens a port for every service that the mesh knows now.
    pub(crate) async fn prepare(client: &Client) -> Result<Self> {
        let known: Vec<serde_json::Value> = client.get("services").await?;
        let mut services = Vec::new();
        for service in &known {
            let host = service["host"].as_str().unwrap_or_default();
            for port in service["ports"].as_array().into_iter().flatten().filter_map(|p| p["number"].as_u64()) {
                services.push((host.to_owned(), u16::try_from(port)?, listener()?));
            }
        }
        Ok(Self { services, proxy: listener()? })
    }

    pub(crate) fn listeners(&self) -> Result<Vec<ExplicitListener>> {
        let one = |(host, port, listener): &(String, u16, TcpListener)| {
            Ok(ExplicitListener { host: host.clone(), port: *port, listeners: vec![listener.try_clone()?] })
        };
        self.services.iter().map(one).collect()
    }
    pub(crate) fn http_proxy(&self) -> Result<TcpListener> {
        self.proxy.try_clone().context("out of file descriptors")
    }

    /// What the program is told: `WEFT_REVIEWS_9080=127.0.0.1:40001` for the service `reviews`, and `HTTP_PROXY`.
    fn environment(&self) -> Result<Vec<(String, String)>> {
        let mut variables = Vec::new();
        for (host, port, listener) in &self.services {
            let short = host.split('.').next().unwrap_or(host);
            let name: String = short.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            variables.push((format!("WEFT_{name}_{port}"), listener.local_addr()?.to_string()));
        }
        let proxy: SocketAddr = self.proxy.local_addr()?;
        for name in ["HTTP_PROXY", "http_proxy"] {
            variables.push((name.into(), format!("http://{proxy}")));
        }
        for name in ["NO_PROXY", "no_proxy"] {
            variables.push((name.into(), "127.0.0.1,localhost".into()));
        }
        Ok(variables)
    }

    /// Runs the program to its end. Signals that reach this process go on to it.
    pub(super) async fn run(&self, program: &[String], signals: &mut super::Signals) -> Result<ExitStatus> {
        let (name, arguments) = program.split_first().context("no program given")?;
        let environment = self.environment()?;
        for (variable, value) in &environment {
            eprintln!("weft: {variable}={value}");
        }
        let mut child = match tokio::process::Command::new(name).args(arguments).envs(environment).kill_on_drop(true).spawn() {
            Ok(child) => child,
            Err(error) => return Ok(super::cannot_start(name, &error)),
        };
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw);
        let forward = signals.forward(|signal| {
            if let (Some(pid), Ok(signal)) = (pid, nix::sys::signal::Signal::try_from(signal)) {
                let _ = nix::sys::signal::kill(pid, signal);
            }
        });
        tokio::select! {
            status = child.wait() => Ok(status?),
            never = forward => match never {},
        }
    }
}

fn listener() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("loopback has no free port")
}
