//! Clusters: a service port (or a subset of it) as something to send to, with balancing, limits and ejection.

use crate::{Endpoint, NameError, Origin, Protocol};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The name of a cluster. Written as the field knows it: `outbound|9080|v1|reviews.default.svc.cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName {
    /// Service host.
    pub host: String,
    /// Service port.
    pub port: u16,
    /// Subset; empty for the whole service.
    pub subset: String,
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound|{}|{}|{}", self.port, self.subset, self.host)
    }
}

impl FromStr for ClusterName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || crate::ids_error(format!("{text:?} is not of the form outbound|<port>|<subset>|<host>"));
        match text.split('|').collect::<Vec<_>>().as_slice() {
            ["outbound", port, subset, host] => {
                Ok(Self { host: (*host).into(), port: port.parse().map_err(|_| wrong())?, subset: (*subset).into() })
            }
            _ => Err(wrong()),
        }
    }
}
impl TryFrom<String> for ClusterName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<ClusterName> for String {
    fn from(name: ClusterName) -> String {
        name.to_string()
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Balancing {
    /// The one with fewer requests in flight, of two drawn at random.
    #[default]
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The address that the caller wanted.
    Passthrough,
}

/// Bounds on what is sent to a cluster (DestinationRule `connectionPool`). `None` is the field's own default: no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionLimits {
    /// Connections from one proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Requests waiting for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_requests_max: Option<u32>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<u32>,
    /// Requests on one connection before it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_connection_max: Option<u32>,
    /// Retries in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries_max: Option<u32>,
    /// Time to connect, in milliseconds; 10 s when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
    /// Time after which an idle connection is closed, in milliseconds; 1 h when not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
}

/// Ejection of an endpoint that fails several times in a row (DestinationRule `outlierDetection`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// 5xx answers (and connection failures, which count as 5xx) in a row; 0 turns it off.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 and connection failures in a row; 0 turns it off.
    pub consecutive_gateway_errors: u32,
    /// First ejection, in milliseconds; the nth lasts n times as long.
    pub base_ejection_ms: u64,
    /// How often ejected endpoints are looked at again, in milliseconds.
    pub interval_ms: u64,
    /// Share of endpoints that may be out at once, in percent; at least one endpoint may be.
    pub ejection_percent_max: u8,
    /// Where it was written.
    pub origin: Origin,
}

/// Retries as a share of requests, so that they cannot multiply a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Retries in flight may be this share of requests in flight, in percent.
    pub percent: u8,
    /// And this many are always allowed.
    pub concurrency_min: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, concurrency_min: 3 }
    }
}

/// What TLS the proxy itself speaks to this cluster (DestinationRule `tls`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UpstreamTls {
    /// As each endpoint says: mesh mutual TLS where there is a proxy, else plain.
    #[default]
    Auto,
    /// Plain text, even where there is a proxy.
    Disable,
    /// Mesh mutual TLS, always; an endpoint without a proxy is not used.
    IstioMutual,
    /// TLS with the system's roots.
    Simple,
}

/// Where requests of a route go. Its endpoints are a resource of their own with the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Name.
    pub name: ClusterName,
    /// Protocol of the port.
    #[serde(default)]
    pub protocol: Protocol,
    /// Balancing.
    #[serde(default)]
    pub balancing: Balancing,
    /// Limits.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub limits: ConnectionLimits,
    /// Ejection; absent when nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier: Option<OutlierDetection>,
    /// Retry budget.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// TLS.
    #[serde(default)]
    pub tls: UpstreamTls,
    /// Name that TLS origination sends and checks; empty: the service host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sni: String,
    /// The DestinationRule, or the service itself.
    pub origin: Origin,
}

/// The endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Cluster.
    pub cluster: ClusterName,
    /// Addresses, ordered.
    pub endpoints: Vec<Endpoint>,
}
