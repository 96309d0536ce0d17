//! Workloads: running instances with an identity, and the endpoints through which they are reached.

use crate::{MtlsMode, Origin, Protocol, SpiffeId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};

/// Labels of a workload or a selector.
pub type Labels = BTreeMap<String, String>;

/// Does `selector` choose something with `labels`? An empty selector chooses all.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A running instance: what the catalogue knows and what telemetry names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Unique in the mesh, e.g. `default/reviews-v2-1f3a`.
    pub id: String,
    /// Istio's workload name (the owner, e.g. the deployment): `reviews-v2`.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Identity that its proxy proves.
    pub identity: SpiffeId,
    /// Labels; `app` and `version` feed the canonical service and revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Locality as `region/zone/subzone`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// Where it was declared or who registered it.
    pub origin: Origin,
}

impl Workload {
    /// Istio's canonical service: `service.istio.io/canonical-name`, `app.kubernetes.io/name`, `app`, then the workload name.
    pub fn canonical_service(&self) -> &str {
        ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]
            .iter()
            .find_map(|key| self.labels.get(*key))
            .map_or(self.name.as_str(), String::as_str)
    }
    /// Istio's canonical revision: `service.istio.io/canonical-revision`, `app.kubernetes.io/version`, `version`, then `latest`.
    pub fn canonical_revision(&self) -> &str {
        ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]
            .iter()
            .find_map(|key| self.labels.get(*key))
            .map_or("latest", String::as_str)
    }
}

/// How the endpoint is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointTls {
    /// A Weft proxy answers: mutual TLS with `Endpoint::identity` proved.
    Mesh,
    /// Plain text: no proxy there.
    #[default]
    None,
}

/// One address of a service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where to connect. A name is resolved by the proxy (ServiceEntry with DNS resolution).
    pub address: EndpointAddress,
    /// The workload behind it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Workload name for telemetry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload_name: String,
    /// Namespace of that workload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Version label for telemetry and the UI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Identity it must prove when `tls` is `Mesh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SpiffeId>,
    /// How it is spoken to.
    #[serde(default)]
    pub tls: EndpointTls,
    /// Port of the workload behind a mesh proxy: told to that proxy, which may serve several (in SNI/HBONE terms, the target port).
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub target_port: u16,
    /// Relative weight; 1 unless declared.
    #[serde(default = "one")]
    pub weight: u32,
    /// Locality as `region/zone/subzone`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// The labels that the cluster's locality policy looks at.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// False when its health check fails: kept in the list for the UI, not used.
    #[serde(default = "yes")]
    pub healthy: bool,
}

fn one() -> u32 {
    1
}
fn yes() -> bool {
    true
}

/// A socket address or a name with a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EndpointAddress {
    /// An IP and port.
    Socket(SocketAddr),
    /// `host:port`, resolved by the proxy.
    Name {
        /// DNS name.
        host: String,
        /// Port.
        port: u16,
    },
    /// A socket of the proxy's own machine: an absolute path, or `@name` for the abstract kind.
    Unix {
        /// Path.
        path: String,
    },
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

/// What a proxy must know about the workload that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// The workload itself.
    pub workload: Workload,
    /// How many workloads of its kind (canonical service) run in each zone (`region/zone`), itself included; for zone-aware balancing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub zones: BTreeMap<String, u32>,
    /// Its ports, each with the mutual TLS mode that applies.
    pub ports: Vec<InboundPort>,
    /// Mode for a port that is not listed.
    pub default_mtls: MtlsMode,
    /// Where `default_mtls` was written.
    pub default_mtls_origin: Origin,
}

/// One port on which the workload listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundPort {
    /// Port of the program.
    pub port: u16,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Mutual TLS mode.
    pub mtls: MtlsMode,
    /// The PeerAuthentication (and line) that set it.
    pub mtls_origin: Origin,
    /// The service host that this port serves, for telemetry; empty when none selects the workload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Connection and request bounds towards the program (DestinationRule connectionPool applies here too).
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub limits: crate::ConnectionLimits,
}

impl Inbound {
    /// The mode and its origin for `port`.
    pub fn mtls(&self, port: u16) -> (MtlsMode, &Origin) {
        match self.ports.iter().find(|p| p.port == port) {
            Some(p) => (p.mtls, &p.mtls_origin),
            None => (self.default_mtls, &self.default_mtls_origin),
        }
    }
}
