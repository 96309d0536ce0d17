//! Services: a host, its virtual addresses and its ports.

use crate::{Hostname, Origin};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a port speaks, as declared; `Auto` is detected on each connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.x, upgradable to HTTP/2 by ALPN only.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC: HTTP/2 plus status trailers.
    Grpc,
    /// TLS that the mesh does not terminate.
    Tls,
    /// HTTP inside TLS that the mesh does not terminate (outbound) or does (gateways).
    Https,
    /// Opaque bytes.
    Tcp,
    /// Datagrams: known, not proxied yet.
    Udp,
    /// Not declared: the proxy looks at the first bytes.
    #[default]
    Auto,
}

impl Protocol {
    /// HTTP of any version, in the clear, so that requests can be seen?
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
    /// Kubernetes/Istio protocol selection: `appProtocol`, then the port name's prefix, then well-known ports, then detection.
    ///
    /// Server-first protocols (MySQL, SMTP, …) on their well-known ports are `Tcp`, since nothing can be detected on them.
    pub fn select(app_protocol: Option<&str>, port_name: &str, port: u16, transport: &str) -> Self {
        if transport.eq_ignore_ascii_case("UDP") {
            return Self::Udp;
        }
        let prefix = port_name.split('-').next().unwrap_or_default();
        let named = app_protocol
            .and_then(Self::from_name)
            .or_else(|| if port_name.to_ascii_lowercase().starts_with("grpc-web") { Some(Self::Http) } else { Self::from_name(prefix) });
        match (named, port) {
            (Some(protocol), _) => protocol,
            (None, 25 | 53 | 3306 | 27017) => Self::Tcp,
            (None, _) => Self::Auto,
        }
    }
    /// A protocol by one of the names that Kubernetes (`appProtocol`) and Istio (port names, `protocol`) use.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" | "grpc-web" => Self::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "tls" => Self::Tls,
            "https" | "kubernetes.io/wss" => Self::Https,
            "tcp" | "mongo" | "mysql" | "redis" | "postgres" => Self::Tcp,
            "udp" => Self::Udp,
            _ => return None,
        })
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The number callers use.
    pub number: u16,
    /// Its name; empty when unnamed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Is the service part of the mesh?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Location {
    /// Its workloads have identities.
    #[default]
    Internal,
    /// Outside: no mesh identity, no mesh TLS.
    External,
}

/// A service as a caller sees it: the root of what a proxy subscribes to.
///
/// Routes, clusters and endpoints point to it by host and port; none is listed here, so that a change to one changes one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The fully qualified host, e.g. `reviews.default.svc.cluster.local`.
    pub host: Hostname,
    /// Namespace that owns it.
    pub namespace: String,
    /// Short name, e.g. `reviews`: Istio's `destination_service_name`.
    pub name: String,
    /// Other names by which the subscribing workload may call it, e.g. `reviews`, `reviews.default`, `reviews.default.svc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Hostname>,
    /// Virtual addresses. The mesh's DNS answers with them, and captured connections to them find the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// In the mesh or outside.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub location: Location,
    /// The object that declares it.
    pub origin: Origin,
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_selection_order() {
        let select = |app: Option<&str>, name: &str, port| Protocol::select(app, name, port, "TCP");
        assert_eq!(select(Some("grpc"), "http-x", 80), Protocol::Grpc);
        assert_eq!(select(None, "http-metrics", 80), Protocol::Http);
        assert_eq!(select(None, "grpc-web", 80), Protocol::Http);
        assert_eq!(select(None, "", 3306), Protocol::Tcp);
        assert_eq!(select(None, "foo", 80), Protocol::Auto);
    }
}
