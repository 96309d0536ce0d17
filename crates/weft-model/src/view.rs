//! The view: what one proxy needs, as named values with content hashes. This is what travels.

use crate::{
    Authorization, Cluster, ClusterName, ConcurrencyPolicy, Endpoints, GatewayListeners, Inbound, ProxySettings, RateLimit,
    RequestAuthentication, RouteTable, RouteTableName, Service, TcpRoute, Telemetry,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

/// One value of a view. The variants are the resource types of the native protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value")]
#[allow(clippy::large_enum_variant, reason = "a value of a view is behind an Arc")]
pub enum ModelValue {
    /// The workload itself.
    Inbound(Inbound),
    /// A policy that applies to it.
    Authorization(Authorization),
    /// Tokens that it believes.
    RequestAuthentication(RequestAuthentication),
    /// Settings of the mesh, where they differ from the default.
    Settings(ProxySettings),
    /// A gateway's listeners.
    GatewayListeners(GatewayListeners),
    /// A service that it calls.
    Service(Service),
    /// Rules of a port.
    RouteTable(RouteTable),
    /// Rules of an opaque port of a service.
    TcpRoutes(TcpRoutes),
    /// A destination.
    Cluster(Cluster),
    /// Its endpoints.
    Endpoints(Endpoints),
    /// What it tells of its traffic.
    Telemetry(Box<Telemetry>),
    /// Rates that its requests must keep to.
    RateLimit(RateLimit),
    /// How much may be under way at once.
    Concurrency(ConcurrencyPolicy),
}

/// All TCP rules of one service port, first match wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoutes {
    /// Service host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Entries.
    pub routes: Vec<TcpRoute>,
}

impl TcpRoutes {
    /// The entry for a connection.
    pub fn find(&self, connection: &crate::ConnectionHead<'_>) -> Option<&TcpRoute> {
        self.routes.iter().find(|r| r.matches(connection))
    }
}

impl ModelValue {
    /// The stable name of this value in a view.
    pub fn name(&self) -> ResourceName {
        match self {
            Self::Inbound(_) => ResourceName::Inbound,
            Self::Authorization(a) => ResourceName::Authorization(a.name.clone()),
            Self::RequestAuthentication(a) => ResourceName::RequestAuthentication(a.name.clone()),
            Self::Settings(_) => ResourceName::Settings,
            Self::GatewayListeners(_) => ResourceName::GatewayListeners,
            Self::Service(s) => ResourceName::Service(s.host.to_string()),
            Self::RouteTable(t) => ResourceName::RouteTable(t.name.clone()),
            Self::TcpRoutes(t) => ResourceName::TcpRoutes { host: t.host.clone(), port: t.port },
            Self::Cluster(c) => ResourceName::Cluster(c.name.clone()),
            Self::Endpoints(e) => ResourceName::Endpoints(e.cluster.clone()),
            Self::Telemetry(_) => ResourceName::Telemetry,
            Self::RateLimit(r) => ResourceName::RateLimit(r.name.clone()),
            Self::Concurrency(c) => ResourceName::Concurrency(c.name.clone()),
        }
    }
    /// Content hash: the first 8 bytes of SHA-256 over the JSON form, as 16 hex digits. It is the resource's version on the wire.
    pub fn version(&self) -> String {
        // Serialising our own types cannot fail: no maps with non-string keys, no failing Serialize.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(&json).iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

/// The name of a value in a view: its type and its key. Text form `type/key`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ResourceName {
    /// `inbound`.
    Inbound,
    /// `authorization/<ns>/<name>`.
    Authorization(String),
    /// `request-authentication/<ns>/<name>`.
    RequestAuthentication(String),
    /// `settings`.
    Settings,
    /// `gateway-listeners`.
    GatewayListeners,
    /// `service/<host>`.
    Service(String),
    /// `routes/<table>`.
    RouteTable(RouteTableName),
    /// `tcp-routes/<host>/<port>`.
    TcpRoutes {
        /// Host.
        host: String,
        /// Port.
        port: u16,
    },
    /// `cluster/<name>`.
    Cluster(ClusterName),
    /// `endpoints/<name>`.
    Endpoints(ClusterName),
    /// `telemetry`.
    Telemetry,
    /// `rate-limit/<ns>/<name>`.
    RateLimit(String),
    /// `concurrency/<ns>/<name>`.
    Concurrency(String),
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbound => f.write_str("inbound"),
            Self::Authorization(name) => write!(f, "authorization/{name}"),
            Self::RequestAuthentication(name) => write!(f, "request-authentication/{name}"),
            Self::Settings => f.write_str("settings"),
            Self::GatewayListeners => f.write_str("gateway-listeners"),
            Self::Service(host) => write!(f, "service/{host}"),
            Self::RouteTable(name) => write!(f, "routes/{name}"),
            Self::TcpRoutes { host, port } => write!(f, "tcp-routes/{host}/{port}"),
            Self::Cluster(name) => write!(f, "cluster/{name}"),
            Self::Endpoints(name) => write!(f, "endpoints/{name}"),
            Self::Telemetry => f.write_str("telemetry"),
            Self::RateLimit(name) => write!(f, "rate-limit/{name}"),
            Self::Concurrency(name) => write!(f, "concurrency/{name}"),
        }
    }
}

impl FromStr for ResourceName {
    type Err = crate::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || crate::ids_error(format!("{text:?} is not the name of a resource"));
        match text.split_once('/').unwrap_or((text, "")) {
            ("inbound", "") => Ok(Self::Inbound),
            ("gateway-listeners", "") => Ok(Self::GatewayListeners),
            ("telemetry", "") => Ok(Self::Telemetry),
            ("settings", "") => Ok(Self::Settings),
            ("request-authentication", name) if !name.is_empty() => Ok(Self::RequestAuthentication(name.into())),
            ("authorization", name) if !name.is_empty() => Ok(Self::Authorization(name.into())),
            ("service", host) if !host.is_empty() => Ok(Self::Service(host.into())),
            ("routes", name) => name.parse().map(Self::RouteTable),
            ("tcp-routes", key) => {
                let (host, port) = key.split_once('/').ok_or_else(wrong)?;
                Ok(Self::TcpRoutes { host: host.into(), port: port.parse().map_err(|_| wrong())? })
            }
            ("cluster", name) => name.parse().map(Self::Cluster),
            ("endpoints", name) => name.parse().map(Self::Endpoints),
            ("rate-limit", name) if !name.is_empty() => Ok(Self::RateLimit(name.into())),
            ("concurrency", name) if !name.is_empty() => Ok(Self::Concurrency(name.into())),
            _ => Err(wrong()),
        }
    }
}
impl TryFrom<String> for ResourceName {
    type Error = crate::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
impl From<ResourceName> for String {
    fn from(name: ResourceName) -> String {
        name.to_string()
    }
}

/// What a proxy subscribes to. The control plane answers with the closure of each root: a service comes with its routes,
/// their clusters and endpoints, so that a cold call costs one round trip.
///
/// `Own` (its inbound side, its policies, its gateway listeners with all that they route to) is implied for every proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Root {
    /// Whatever belongs to the proxy itself.
    Own,
    /// A host or virtual address that its program calls, in any of the forms that the program may use (`reviews`,
    /// `reviews.default`, the full name, an IP literal). The control plane resolves it in the proxy's namespace.
    Host(String),
}

/// What became of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RootState {
    /// It is this host of the mesh, whose values are in the view. For `Root::Own` the host is empty.
    Resolved(String),
    /// The mesh knows no such host.
    Unknown,
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Host(host) => write!(f, "host/{host}"),
        }
    }
}

impl FromStr for Root {
    type Err = crate::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None if text == "own" => Ok(Self::Own),
            Some(("host", host)) if !host.is_empty() && host.len() <= crate::limits::HOSTNAME_BYTES_MAX => Ok(Self::Host(host.into())),
            _ => Err(crate::ids_error(format!("{text:?} is not a root: own or host/<name>"))),
        }
    }
}

/// A projected view: values by name, each with its version. Values are shared between proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The values.
    pub values: BTreeMap<ResourceName, Versioned>,
}

/// A value and its content hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Content hash.
    pub version: String,
    /// Value.
    pub value: Arc<ModelValue>,
}

impl View {
    /// Adds a value under its own name.
    pub fn insert(&mut self, value: ModelValue) {
        let versioned = Versioned { version: value.version(), value: Arc::new(value) };
        self.values.insert(versioned.value.name(), versioned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for text in [
            "inbound",
            "gateway-listeners",
            "telemetry",
            "authorization/default/allow",
            "request-authentication/default/jwt",
            "settings",
            "service/reviews.default.svc.cluster.local",
            "routes/mesh/reviews.default.svc.cluster.local/9080",
            "routes/gateway/80",
            "tcp-routes/db.default.svc.cluster.local/5432",
            "cluster/outbound|9080|v1|reviews.default.svc.cluster.local",
            "endpoints/outbound|9080||reviews.default.svc.cluster.local",
            "rate-limit/default/slow",
            "concurrency/default/narrow",
        ] {
            assert_eq!(text.parse::<ResourceName>().expect(text).to_string(), text);
        }
        assert!("cluster/x".parse::<ResourceName>().is_err());
        for text in ["own", "host/reviews", "host/240.240.0.1"] {
            assert_eq!(text.parse::<Root>().expect(text).to_string(), text);
        }
        assert!("host/".parse::<Root>().is_err());
    }
}
