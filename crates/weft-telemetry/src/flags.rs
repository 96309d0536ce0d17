//! Response flags: Envoy's two-to-five letter codes, which the field reads in access logs.

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
    /// Circuit breaker, bulkhead or adaptive concurrency: a limit of the destination was reached; the details say which.
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
    /// Rate limited, locally or by a service; the details say which.
    #[serde(rename = "RL")]
    RateLimited,
    /// Refused by authorization, by an external authorization service, or for its token; the details say which.
    #[serde(rename = "UAEX")]
    Unauthorized,
    /// Downstream protocol error.
    #[serde(rename = "DPE")]
    DownstreamProtocol,
    /// Upstream protocol error.
    #[serde(rename = "UPE")]
    UpstreamProtocol,
    /// Overload: shed by this proxy to stay within its own limits.
    #[serde(rename = "OM")]
    Overload,
    /// Upstream TLS: handshake failed or wrong identity (Weft's own; Envoy writes UF with a transport failure reason).
    #[serde(rename = "UTLS")]
    UpstreamTls,
    /// The rate limit service did not answer, and the limit fails closed.
    #[serde(rename = "RLSE")]
    RateLimitService,
    /// Nothing moved on the stream for its idle time-out.
    #[serde(rename = "SI")]
    StreamIdle,
    /// The stream was longer than the route's largest duration.
    #[serde(rename = "UMSDR")]
    UpstreamMaxDuration,
    /// The connection was longer than its largest duration, or what allowed it was withdrawn.
    #[serde(rename = "DT")]
    DurationTimeout,
    /// The stream was reset here.
    #[serde(rename = "LR")]
    LocalReset,
    /// The caller reset the stream.
    #[serde(rename = "DR")]
    DownstreamReset,
    /// The workload's own health check fails.
    #[serde(rename = "LH")]
    FailedHealthCheck,
    /// The upstream's name could not be resolved.
    #[serde(rename = "DF")]
    DnsFailure,
    /// Admission control: shed because the destination fails too often.
    #[serde(rename = "DO")]
    DropOverload,
    /// An `x-envoy-*` header of the request is not valid.
    #[serde(rename = "IH")]
    InvalidHeaders,
    /// The route's fallback answered in place of a backend that failed (Weft's own).
    #[serde(rename = "FB")]
    Fallback,
    /// A second attempt was sent before the first was answered (Weft's own).
    #[serde(rename = "HG")]
    Hedged,
}

impl ResponseFlag {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::NoHealthyUpstream,
        Self::UpstreamConnectionFailure,
        Self::UpstreamOverflow,
        Self::NoRoute,
        Self::NoCluster,
        Self::RetryLimitExceeded,
        Self::UpstreamTimeout,
        Self::DownstreamClosed,
        Self::UpstreamClosed,
        Self::UpstreamReset,
        Self::FaultAbort,
        Self::FaultDelay,
        Self::RateLimited,
        Self::Unauthorized,
        Self::DownstreamProtocol,
        Self::UpstreamProtocol,
        Self::Overload,
        Self::UpstreamTls,
        Self::RateLimitService,
        Self::StreamIdle,
        Self::UpstreamMaxDuration,
        Self::DurationTimeout,
        Self::LocalReset,
        Self::DownstreamReset,
        Self::FailedHealthCheck,
        Self::DnsFailure,
        Self::DropOverload,
        Self::InvalidHeaders,
        Self::Fallback,
        Self::Hedged,
    ];

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
            Self::RateLimitService => "RLSE",
            Self::StreamIdle => "SI",
            Self::UpstreamMaxDuration => "UMSDR",
            Self::DurationTimeout => "DT",
            Self::LocalReset => "LR",
            Self::DownstreamReset => "DR",
            Self::FailedHealthCheck => "LH",
            Self::DnsFailure => "DF",
            Self::DropOverload => "DO",
            Self::InvalidHeaders => "IH",
            Self::Fallback => "FB",
            Self::Hedged => "HG",
        }
    }

    /// Does it tell of something that happened on the way, and not of a failure?
    pub fn is_note(self) -> bool {
        matches!(self, Self::FaultDelay | Self::Hedged | Self::Fallback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_is_serialised_and_differ() {
        let codes: std::collections::BTreeSet<&str> = ResponseFlag::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(codes.len(), ResponseFlag::ALL.len());
        for flag in ResponseFlag::ALL {
            assert_eq!(serde_json::to_value(flag).expect("serialises"), flag.code());
        }
    }
}
