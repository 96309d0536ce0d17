//! What kind of end a record tells of.

use crate::{RequestRecord, ResponseFlag as Flag, details};
use serde::{Deserialize, Serialize};

/// The kinds of end that `weft why` tells apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// Answered well.
    #[default]
    Success,
    /// Answered well, and slower because of a planted delay.
    FaultDelay,
    /// A planted abort.
    FaultAbort,
    /// The caller closed first.
    ClientLeft,
    /// A DENY rule (or an ALLOW policy with a matching refusal) said no.
    Denied,
    /// ALLOW policies apply and none matched.
    NotAllowed,
    /// Plain text to a port that asks for mutual TLS.
    PlainTextRefused,
    /// No route matched.
    NoRoute,
    /// The host is not in the mesh.
    UnknownHost,
    /// The route leads to a service or subset that does not exist.
    UnknownDestination,
    /// No endpoint at all.
    NoEndpoints,
    /// Endpoints, but none usable.
    NoHealthyUpstream,
    /// A limit of the destination was reached.
    Overflow,
    /// Rate limited.
    RateLimited,
    /// TLS to the upstream failed.
    UpstreamTls,
    /// Nobody listens there.
    ConnectionRefused,
    /// Connecting took too long.
    ConnectTimeout,
    /// The connection failed in another way.
    ConnectFailure,
    /// The upstream closed or reset.
    Reset,
    /// The route's time-out passed.
    RouteTimeout,
    /// An attempt's time-out passed.
    PerTryTimeout,
    /// All tries were used up.
    RetriesExhausted,
    /// The program's own answer is an error.
    ProgramError,
    /// The route answers by itself, as written.
    DirectResponse,
    /// Headers too large.
    HeadersTooLarge,
    /// The request was not valid HTTP or came too slowly.
    DownstreamProtocol,
    /// The response was not valid HTTP.
    UpstreamProtocol,
    /// The proxy is at a limit of its own.
    Overload,
    /// The rate limit service did not answer.
    RateLimitService,
    /// An external authorization service refused.
    ExternalDenied,
    /// An external authorization service did not answer.
    ExternalUnavailable,
    /// The token was missing, expired, or not valid.
    TokenRefused,
    /// A bulkhead was full.
    BulkheadFull,
    /// The limit that adaptive concurrency learned was reached.
    ConcurrencyLimit,
    /// Admission control shed it.
    AdmissionDenied,
    /// The route's fallback answered for a backend that failed.
    Fallback,
    /// Nothing moved on the stream for too long.
    StreamIdle,
    /// The stream or connection was longer than it may be.
    MaxDuration,
    /// Policy no longer allows the connection.
    Revoked,
    /// The upstream's name could not be resolved.
    DnsFailure,
    /// The record does not tell.
    Unknown,
}

impl Cause {
    /// Is the origin of the failure certainly this hop, so that nothing deeper can explain it?
    pub(super) fn is_local(self) -> bool {
        !matches!(
            self,
            Self::Success
                | Self::FaultDelay
                | Self::ProgramError
                | Self::RouteTimeout
                | Self::PerTryTimeout
                | Self::RetriesExhausted
                | Self::ClientLeft
                | Self::Fallback
                | Self::StreamIdle
                | Self::MaxDuration
                | Self::Unknown
        )
    }

    /// What `record` by itself tells.
    pub(super) fn of(record: &RequestRecord) -> Self {
        let has = |flag| record.flags.contains(&flag);
        let details = record.details.as_str();
        // The order is from the most to the least specific: a refusal is also a 403, a used-up retry is also a failed connection.
        if has(Flag::FaultAbort) {
            return Self::FaultAbort;
        }
        if let Some(cause) = Self::told_by_details(details).or_else(|| Self::refusal(record)) {
            return cause;
        }
        match () {
            () if has(Flag::Fallback) => Self::Fallback,
            () if has(Flag::DownstreamClosed) || has(Flag::DownstreamReset) => Self::ClientLeft,
            () if has(Flag::StreamIdle) => Self::StreamIdle,
            () if has(Flag::UpstreamMaxDuration) || has(Flag::DurationTimeout) => Self::MaxDuration,
            () if has(Flag::DropOverload) => Self::AdmissionDenied,
            () if has(Flag::RateLimitService) => Self::RateLimitService,
            () if has(Flag::DnsFailure) => Self::DnsFailure,
            () if details == details::HOST_NOT_FOUND => Self::UnknownHost,
            () if has(Flag::NoCluster) => Self::UnknownDestination,
            () if has(Flag::NoRoute) => Self::NoRoute,
            () if has(Flag::NoHealthyUpstream) && (details == details::NO_ENDPOINTS) => Self::NoEndpoints,
            () if has(Flag::NoHealthyUpstream) => Self::NoHealthyUpstream,
            () if has(Flag::UpstreamOverflow) => Self::Overflow,
            () if has(Flag::RateLimited) => Self::RateLimited,
            () if has(Flag::Overload) => Self::Overload,
            () if record.status == 431 || details == details::HEADERS_TOO_LARGE => Self::HeadersTooLarge,
            () if has(Flag::DownstreamProtocol) || has(Flag::InvalidHeaders) => Self::DownstreamProtocol,
            () if has(Flag::RetryLimitExceeded) => match Self::upstream(record) {
                // The last answer was an error like those before it.
                Self::Success | Self::ProgramError | Self::DirectResponse | Self::FaultDelay | Self::Unknown => Self::RetriesExhausted,
                cause => cause,
            },
            () => Self::upstream(record),
        }
    }

    /// Details that name one cause, whatever the flag.
    fn told_by_details(text: &str) -> Option<Self> {
        // The policy and its part may follow in brackets.
        Some(match text.split('[').next().unwrap_or_default() {
            details::LOCAL_RATE_LIMITED | details::RATE_LIMITED => Self::RateLimited,
            details::RATE_LIMITER_ERROR => Self::RateLimitService,
            details::EXT_AUTHZ_DENIED => Self::ExternalDenied,
            details::EXT_AUTHZ_ERROR => Self::ExternalUnavailable,
            details::BULKHEAD_FULL => Self::BulkheadFull,
            details::CONCURRENCY_LIMIT => Self::ConcurrencyLimit,
            details::ADMISSION_DENIED => Self::AdmissionDenied,
            details::FALLBACK => Self::Fallback,
            details::STREAM_IDLE => Self::StreamIdle,
            details::MAX_DURATION => Self::MaxDuration,
            details::REVOKED => Self::Revoked,
            details::DNS_FAILURE => Self::DnsFailure,
            text if text.starts_with(details::JWT_DENIED) => Self::TokenRefused,
            _ => return None,
        })
    }

    /// Refused by authorization or by the mutual TLS mode.
    fn refusal(record: &RequestRecord) -> Option<Self> {
        let details = record.details.as_str();
        let refused = record.policy.as_ref().filter(|p| !p.allowed);
        let reason = refused.map(|p| p.reason.to_ascii_lowercase()).unwrap_or_default();
        match () {
            () if details == details::PLAIN_TEXT_REFUSED || reason.contains("plain") => Some(Self::PlainTextRefused),
            () if details == details::NOT_ALLOWED || reason.contains("no allow") => Some(Self::NotAllowed),
            () if refused.is_some() || details.starts_with(details::DENIED) || record.flags.contains(&Flag::Unauthorized) => {
                Some(Self::Denied)
            }
            () => None,
        }
    }

    /// Ends that come from the way to the upstream, or from its answer.
    fn upstream(record: &RequestRecord) -> Self {
        let has = |flag| record.flags.contains(&flag);
        let outcome = record.attempts.last().map(|a| a.outcome.to_ascii_lowercase()).unwrap_or_default();
        let timer = record.timer.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
        match () {
            () if has(Flag::UpstreamTls) || (has(Flag::UpstreamConnectionFailure) && outcome.starts_with("tls")) => Self::UpstreamTls,
            () if has(Flag::UpstreamTimeout) && timer.contains("per-try") => Self::PerTryTimeout,
            () if has(Flag::UpstreamTimeout) => Self::RouteTimeout,
            () if has(Flag::UpstreamProtocol) => Self::UpstreamProtocol,
            () if has(Flag::UpstreamConnectionFailure) && outcome.contains("refused") => Self::ConnectionRefused,
            () if has(Flag::UpstreamConnectionFailure) && (timer.contains("connect") || outcome.contains("time")) => Self::ConnectTimeout,
            () if has(Flag::UpstreamConnectionFailure) => Self::ConnectFailure,
            () if has(Flag::UpstreamClosed) || has(Flag::UpstreamReset) || has(Flag::LocalReset) => Self::Reset,
            () => Self::answer(record),
        }
    }

    /// No flag of ours: it is an answer, by the program or by the route.
    fn answer(record: &RequestRecord) -> Self {
        let error = record.status >= 400 || record.is_failure();
        match () {
            () if !error && record.flags.contains(&Flag::FaultDelay) => Self::FaultDelay,
            () if !error => Self::Success,
            () if record.details == details::DIRECT_RESPONSE => Self::DirectResponse,
            () if record.details == details::VIA_UPSTREAM || !record.attempts.is_empty() => Self::ProgramError,
            () if record.details.is_empty() => Self::ProgramError,
            () => Self::Unknown,
        }
    }
}
