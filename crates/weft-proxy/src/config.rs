//! What a proxy is told at its start: sockets, identity, where its control plane is. Everything else comes from the control plane.

use crate::{program::Program, telemetry::AccessLog};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// What a proxy stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// One workload.
    #[default]
    Sidecar,
    /// An edge of the mesh.
    Gateway,
}

/// Configuration of one proxy's process side. `Default` gives a sidecar without any socket.
#[derive(Debug, Default)]
pub struct ProxyConfig {
    /// Name until the workload's own is known, e.g. `reviews-v2`.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Worker threads; 0 counts as 1.
    pub workers: usize,
    /// Ports of the program, each with its listeners.
    pub inbound: Vec<InboundSocket>,
    /// Captured connections: one listener per worker, for IPv4 and perhaps for IPv6.
    pub outbound: Vec<Vec<std::net::TcpListener>>,
    /// Without capture: a local port per service port.
    pub explicit: Vec<ExplicitListener>,
    /// Without capture: an HTTP proxy for programs that honour `http_proxy`. One listener per worker.
    pub http_proxy: Vec<std::net::TcpListener>,
    /// Sockets that answer the program's DNS questions.
    pub dns: Option<weft_wire::capture::DnsSockets>,
    /// For a gateway: where its ports are opened.
    pub gateway: Option<GatewayPorts>,
    /// Metrics, configuration and log level over HTTP.
    pub admin: Option<std::net::TcpListener>,
    /// How `PUT /log-level` and the control plane change the log level; `None`: they cannot.
    pub set_log_level: Option<SetLogLevel>,
    /// Access log.
    pub access_log: AccessLog,
    /// OTLP/HTTP collector, e.g. `http://127.0.0.1:4318`.
    pub otlp: Option<String>,
    /// Where certificate, key and last good configuration are kept.
    pub state_dir: PathBuf,
    /// Sockets for a successor, and those of a predecessor.
    pub listening: crate::Listening,
    /// What the proxy may use of memory, files and connections.
    pub overload: crate::OverloadLimits,
    /// Longest wait for the head of a request; `None`: [`crate::limits::HEADER_TIMEOUT`].
    pub header_timeout: Option<Duration>,
    /// How often telemetry is handed over; `None`: [`crate::limits::REPORT_INTERVAL`].
    pub report_interval: Option<Duration>,
}

/// Changes the level of this process's log; the text is a level or a filter such as `info,weft_proxy=debug`.
#[derive(Clone)]
pub struct SetLogLevel(pub std::sync::Arc<LogLevelSetter>);

/// Takes the new level, or says why it cannot.
pub type LogLevelSetter = dyn Fn(&str) -> Result<(), String> + Send + Sync;

impl std::fmt::Debug for SetLogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetLogLevel")
    }
}

/// One port of the program.
#[derive(Debug)]
pub struct InboundSocket {
    /// Port on which the program listens.
    pub workload_port: u16,
    /// Where the mesh connects: one listener per worker, all with the same address.
    pub listeners: Vec<std::net::TcpListener>,
    /// The address that others are told.
    pub advertise: SocketAddr,
    /// What the program speaks there, as far as the one who starts the proxy knows; told to the control plane.
    pub protocol: weft_model::Protocol,
    /// The way to the program.
    pub program: Program,
}

/// A local port that stands for a port of a service.
#[derive(Debug)]
pub struct ExplicitListener {
    /// Host of the service, in any form.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// One listener per worker.
    pub listeners: Vec<std::net::TcpListener>,
}

/// Where a gateway opens the ports that its configuration asks for.
#[derive(Debug, Clone)]
pub struct GatewayPorts {
    /// Address for ports that are not listed.
    pub ip: std::net::IpAddr,
    /// Port as written → where to listen; port 0 lets the system choose.
    pub map: BTreeMap<u16, SocketAddr>,
    /// Added to ports below 1024 that are not listed: an ordinary user cannot open them. 0 for none.
    pub low_port_shift: u16,
}

impl GatewayPorts {
    /// Where `port` is opened.
    pub fn address(&self, port: u16) -> SocketAddr {
        let shift = if port < 1024 { self.low_port_shift } else { 0 };
        self.map.get(&port).copied().unwrap_or_else(|| SocketAddr::new(self.ip, port.saturating_add(shift)))
    }
}
