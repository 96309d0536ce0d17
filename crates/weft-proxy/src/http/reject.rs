//! Why a request is answered here and not by its upstream, grouped by who is to blame.

use http::StatusCode;
use weft_balance::Overflow;
use weft_model::Origin;
use weft_telemetry::{PolicyDecision, ResponseFlag, Timer, details};

/// One reason. Each carries what the access log and `weft why` need; `finish` alone makes an answer of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reject {
    // The client.
    /// Not a request that can be understood in one way only.
    BadRequest(&'static str),
    /// The mesh has no destination of this name.
    UnknownHost(String),
    /// No rule takes the request.
    NoRoute(String),
    /// The connection was made for another listener's host (RFC 9110, section 15.5.20).
    Misdirected(String),
    /// The load balancer in front does not say whose connection it is.
    ProxyProtocol(String),

    // Policy.
    /// A token that is there is not good.
    Unauthenticated(Box<PolicyDecision>),
    /// Authorization refused it.
    Denied(Box<PolicyDecision>),
    /// A service that was asked refused it, or gave no answer.
    External(Box<crate::policy::Refusal>),
    /// A planned fault.
    FaultAbort { status: u16, grpc_status: Option<u8>, origin: Box<Origin> },

    /// A rate or concurrency limit.
    Limited(Box<crate::policy::Limited>),
    /// The client's certificate is not accepted any more.
    ClientCertificate(String),
    /// A policy that came while the connection was open refuses it.
    PolicyChanged(Box<PolicyDecision>),
    /// An opaque connection has lived as long as it may.
    LivedLongest { limit_ms: u64, cause: Box<Origin> },

    // Configuration.
    /// The route leads nowhere, as the compiler has said.
    InvalidBackend { status: u16, reason: String },
    /// The route names a cluster that is not there.
    NoCluster(String),

    // Upstream.
    /// No endpoint can be used.
    NoEndpoint { reason: &'static str, cause: Option<Box<Origin>> },
    /// A limit is reached.
    Overflow { what: Overflow, cause: Box<Origin> },
    /// No connection.
    Connect(String),
    /// The name of the upstream stands for no address that may be used.
    Dns(String),
    /// No trusted connection.
    Tls(String),
    /// The upstream went away before its answer.
    Reset(String),
    /// It broke the protocol.
    Protocol(String),
    /// A timer ended it.
    Timeout { timer: Box<Timer>, per_try: bool },
    /// Nothing moved for too long.
    Idle(Box<Timer>),

    // Us.
    /// Going away, or overloaded.
    Overload(&'static str),
}

impl Reject {
    /// Status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        let code = match self {
            Self::BadRequest(_) | Self::ProxyProtocol(_) => 400,
            Self::Misdirected(_) => 421,
            Self::ClientCertificate(_) | Self::PolicyChanged(_) => 403,
            Self::LivedLongest { .. } => 408,
            Self::UnknownHost(_) => 502,
            Self::NoRoute(_) => 404,
            Self::Unauthenticated(_) => 401,
            Self::Denied(_) => 403,
            Self::External(refusal) => refusal.status,
            Self::Limited(limited) => limited.status,
            Self::FaultAbort { status, .. } | Self::InvalidBackend { status, .. } => *status,
            Self::NoCluster(_)
            | Self::NoEndpoint { .. }
            | Self::Overflow { .. }
            | Self::Connect(_)
            | Self::Dns(_)
            | Self::Tls(_)
            | Self::Reset(_)
            | Self::Overload(_) => 503,
            Self::Protocol(_) => 502,
            Self::Timeout { .. } | Self::Idle(_) => 504,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Envoy's flag.
    pub(crate) fn flag(&self) -> Option<ResponseFlag> {
        Some(match self {
            Self::BadRequest(_) | Self::ProxyProtocol(_) => ResponseFlag::DownstreamProtocol,
            Self::ClientCertificate(_) | Self::PolicyChanged(_) => ResponseFlag::Unauthorized,
            Self::LivedLongest { .. } => ResponseFlag::DurationTimeout,
            Self::UnknownHost(_) | Self::Misdirected(_) | Self::NoRoute(_) => ResponseFlag::NoRoute,
            Self::Unauthenticated(_) | Self::Denied(_) | Self::External(_) => ResponseFlag::Unauthorized,
            Self::Limited(limited) => limited.flag,
            Self::FaultAbort { .. } => ResponseFlag::FaultAbort,
            Self::InvalidBackend { .. } | Self::NoCluster(_) => ResponseFlag::NoCluster,
            Self::NoEndpoint { .. } => ResponseFlag::NoHealthyUpstream,
            Self::Overflow { .. } => ResponseFlag::UpstreamOverflow,
            Self::Connect(_) => ResponseFlag::UpstreamConnectionFailure,
            Self::Dns(_) => ResponseFlag::DnsFailure,
            Self::Tls(_) => ResponseFlag::UpstreamTls,
            Self::Reset(_) => ResponseFlag::UpstreamClosed,
            Self::Protocol(_) => ResponseFlag::UpstreamProtocol,
            Self::Timeout { .. } => ResponseFlag::UpstreamTimeout,
            Self::Idle(_) => ResponseFlag::StreamIdle,
            Self::Overload(_) => ResponseFlag::Overload,
        })
    }

    /// Envoy's `response_code_details`.
    pub(crate) fn details(&self) -> String {
        match self {
            Self::BadRequest(_) => details::DOWNSTREAM_PROTOCOL.into(),
            Self::ProxyProtocol(_) => details::PROXY_PROTOCOL.into(),
            Self::Misdirected(_) => details::MISDIRECTED.into(),
            Self::ClientCertificate(_) => details::CLIENT_CERTIFICATE.into(),
            Self::PolicyChanged(_) => details::REVOKED.into(),
            Self::LivedLongest { .. } => details::MAX_DURATION.into(),
            Self::UnknownHost(_) => details::HOST_NOT_FOUND.into(),
            Self::NoRoute(_) => details::ROUTE_NOT_FOUND.into(),
            Self::Unauthenticated(decision) => format!("{}{{{}}}", details::JWT_DENIED, decision.reason.replace(' ', "_")),
            Self::External(refusal) => refusal.details.into(),
            Self::Denied(decision) if decision.reason.starts_with("no ALLOW") => details::NOT_ALLOWED.into(),
            Self::Denied(decision) => format!("{}[{}]", details::DENIED, decision.policy),
            Self::Limited(limited) => limited.details.clone(),
            Self::FaultAbort { .. } => details::FAULT_ABORT.into(),
            Self::InvalidBackend { .. } | Self::NoCluster(_) => details::CLUSTER_NOT_FOUND.into(),
            Self::NoEndpoint { reason, .. } if reason.starts_with("the service has no") => details::NO_ENDPOINTS.into(),
            Self::NoEndpoint { .. } => details::NO_HEALTHY_UPSTREAM.into(),
            Self::Overflow { .. } => details::OVERFLOW.into(),
            Self::Connect(_) => details::CONNECT_FAILURE.into(),
            Self::Dns(_) => details::DNS_FAILURE.into(),
            Self::Tls(_) => details::TLS_FAILURE.into(),
            Self::Reset(_) => details::UPSTREAM_CLOSED.into(),
            Self::Protocol(_) => details::UPSTREAM_PROTOCOL.into(),
            Self::Timeout { per_try: true, .. } => details::PER_TRY_TIMEOUT.into(),
            Self::Timeout { .. } => details::RESPONSE_TIMEOUT.into(),
            Self::Idle(_) => details::STREAM_IDLE.into(),
            Self::Overload(_) => details::OVERLOAD.into(),
        }
    }

    /// In words, for the body. Names no address inside the mesh.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::BadRequest(why) => (*why).into(),
            Self::UnknownHost(host) => format!("no route: the mesh does not route {host}"),
            Self::Misdirected(host) => format!("this connection was made for another host than {host}: make a new one"),
            Self::ProxyProtocol(why) => why.clone(),
            Self::PolicyChanged(decision) => format!("access taken back: {} ({})", decision.reason, decision.policy),
            Self::LivedLongest { limit_ms, .. } => format!("the connection has lived for {limit_ms} ms, as long as it may"),
            Self::ClientCertificate(why) => format!("the client certificate is not accepted any more: {why}"),
            Self::NoRoute(host) => format!("no route: no rule for {host} takes this request"),
            Self::External(refusal) => format!("access denied: {} ({})", refusal.decision.reason, refusal.decision.policy),
            Self::Unauthenticated(decision) => format!("not authenticated: {} ({})", decision.reason, decision.policy),
            Self::Denied(decision) => format!("access denied: {} ({})", decision.reason, decision.policy),
            Self::Limited(limited) => limited.words.clone(),
            Self::FaultAbort { .. } => "fault filter abort".into(),
            Self::InvalidBackend { reason, .. } => reason.clone(),
            Self::NoCluster(name) => format!("the route's destination {name} does not exist"),
            Self::NoEndpoint { reason, .. } => (*reason).into(),
            Self::Overflow { what, .. } => format!("too much is under way: {} is reached", what.field()),
            Self::Connect(why) => format!("the upstream cannot be reached: {why}"),
            Self::Dns(why) => format!("the upstream cannot be found: {why}"),
            Self::Tls(why) => format!("no trusted connection to the upstream: {why}"),
            Self::Reset(why) => format!("the upstream closed the connection before it answered: {why}"),
            Self::Protocol(why) => format!("the upstream's answer cannot be understood: {why}"),
            Self::Timeout { timer, .. } | Self::Idle(timer) => {
                format!("the upstream did not answer in time: {} of {} ms", timer.name, timer.limit_ms)
            }
            Self::Overload(why) => (*why).into(),
        }
    }

    /// The object that caused it, beyond route, policy and timer.
    pub(crate) fn cause(&self) -> Option<Origin> {
        match self {
            Self::FaultAbort { origin, .. } => Some((**origin).clone()),
            Self::Limited(limited) => Some(limited.origin.clone()),
            Self::NoEndpoint { cause, .. } => cause.as_deref().cloned(),
            Self::Overflow { cause, .. } | Self::LivedLongest { cause, .. } => Some((**cause).clone()),
            Self::PolicyChanged(decision) => Some(decision.origin.clone()),
            _ => None,
        }
    }

    /// gRPC status for a gRPC request (grpc.io: HTTP to gRPC status mapping).
    pub(crate) fn grpc_status(&self) -> u8 {
        match self {
            Self::FaultAbort { grpc_status: Some(code), .. } => *code,
            Self::Timeout { .. } | Self::Idle(_) => 4,
            Self::Limited(limited) => limited.grpc_status,
            _ => match self.status().as_u16() {
                400 => 13,
                401 => 16,
                403 => 7,
                404 => 12,
                429 | 502..=504 => 14,
                _ => 2,
            },
        }
    }
}

#[cfg(test)]
mod tests;
