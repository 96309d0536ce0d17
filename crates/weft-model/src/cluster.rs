//! Clusters: a service port (or a subset of it) as something to send to, with balancing, limits and ejection.

use crate::{Balancing, Endpoint, HashPolicy, HealthCheck, LocalityPolicy, NameError, Origin, OutlierDetection, Protocol, SlowStart};
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
    /// Time after which an idle HTTP connection is closed, in milliseconds; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Time without a byte after which an opaque connection is closed, in milliseconds; 1 h when not set, 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_idle_timeout_ms: Option<u64>,
    /// Age at which a connection is closed, in milliseconds; requests in flight on it finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_age_ms_max: Option<u64>,
    /// Keep-alive probes of TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Streams on one HTTP/2 connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams_max: Option<u32>,
    /// HTTP/2 pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2_keepalive: Option<Http2Keepalive>,
    /// Which HTTP a plain HTTP port is spoken to in.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub http_version: HttpVersionChoice,
}

/// TCP keep-alive; what is absent is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpKeepalive {
    /// Probes without an answer before the connection is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<u32>,
    /// Idle time before the first, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_s: Option<u64>,
    /// Time between two, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
}

/// HTTP/2 keep-alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http2Keepalive {
    /// Time between two pings, in milliseconds.
    pub interval_ms: u64,
    /// Longest wait for the answer, in milliseconds.
    pub timeout_ms: u64,
}

/// Which HTTP a port declared as HTTP is spoken to in (`h2UpgradePolicy`, `useClientProtocol`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HttpVersionChoice {
    /// As the port declares.
    #[default]
    Declared,
    /// HTTP/2, whatever the caller speaks.
    Upgrade,
    /// What the caller speaks.
    Client,
}

/// Retries as a share of requests, so that they cannot multiply a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Retries in flight may be this share of requests in flight, in percent.
    pub percent: u8,
    /// And this many are always allowed.
    pub concurrency_min: u32,
    /// Requests that began in the last so many milliseconds count too, in flight or not; 0: only those in flight.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub interval_ms: u64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, concurrency_min: 3, interval_ms: 0 }
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
    /// Ordinary TLS, as [`Cluster::origination`] says.
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
    /// What `RING_HASH` and `MAGLEV` hash by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<HashPolicy>,
    /// Preference by place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<LocalityPolicy>,
    /// Warm-up of new endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Where fewer endpoints than this share are usable, all are used, in percent; 0: never.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub panic_percent: u8,
    /// Active health checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
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
    /// With `tls: SIMPLE`: roots, names and the own certificate; absent: the system's roots and the name that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origination: Option<crate::TlsOrigination>,
    /// Each connection begins by saying for whom it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<crate::ProxyProtocol>,
    /// Opaque connections go through a proxy outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<crate::Tunnel>,
    /// How names among the endpoints are used.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub dns: crate::DnsUse,
    /// Which addresses such names may stand for.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub dns_trust: crate::DnsTrust,
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
