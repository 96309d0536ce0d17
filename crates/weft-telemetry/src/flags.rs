//! Response flags: Envoy's two-to-four letter codes, which the field reads in access logs.

use serde::{Deserialize, Serialize};

/// Why a response is not simply the upstream's. Serialised as Envoy's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResponseFlag {
    /// No healthy upstream endpoint.
    #[serde(rename = "UH")]
    NoHealthyUpstream,
    /// Upstream connection failure.
    #[serde(rename = "UF")]
    UpstreamConnectionFailure,
    /// Circuit breaker: a limit of the cluster was reached.
    #[serde(rename = "UO")]
    UpstreamOverflow,
    /// No route.
    #[serde(rename = "NR")]
    NoRoute,
    /// No cluster: the route's destination does not exist.
    #[serde(rename = "NC")]
    NoCluster,
    /// Retries used up.
    #[serde(rename = "URX")]
    RetryLimitExceeded,
    /// Upstream request time-out.
    #[serde(rename = "UT")]
    UpstreamTimeout,
    /// Downstream closed first.
    #[serde(rename = "DC")]
    DownstreamClosed,
    /// Upstream closed the connection.
    #[serde(rename = "UC")]
    UpstreamClosed,
    /// Upstream reset the stream.
    #[serde(rename = "UR")]
    UpstreamReset,
    /// Fault injected: abort.
    #[serde(rename = "FI")]
    FaultAbort,
    /// Fault injected: delay.
    #[serde(rename = "DI")]
    FaultDelay,
    /// Rate limited.
    #[serde(rename = "RL")]
    RateLimited,
    /// Refused by authorization (Envoy: UAEX for external authorization; RBAC has details only).
    #[serde(rename = "UAEX")]
    Unauthorized,
    /// Downstream protocol error.
    #[serde(rename = "DPE")]
    DownstreamProtocol,
    /// Upstream protocol error.
    #[serde(rename = "UPE")]
    UpstreamProtocol,
    /// Overload: shed.
    #[serde(rename = "OM")]
    Overload,
    /// Upstream TLS: handshake failed or wrong identity (Weft's own; Envoy writes UF with a transport failure reason).
    #[serde(rename = "UTLS")]
    UpstreamTls,
}

impl ResponseFlag {
    /// The code, as in an access log.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamOverflow => "UO",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::RetryLimitExceeded => "URX",
            Self::UpstreamTimeout => "UT",
            Self::DownstreamClosed => "DC",
            Self::UpstreamClosed => "UC",
            Self::UpstreamReset => "UR",
            Self::FaultAbort => "FI",
            Self::FaultDelay => "DI",
            Self::RateLimited => "RL",
            Self::Unauthorized => "UAEX",
            Self::DownstreamProtocol => "DPE",
            Self::UpstreamProtocol => "UPE",
            Self::Overload => "OM",
            Self::UpstreamTls => "UTLS",
        }
    }
}
