//! Retries: when a failed attempt may be sent again, and how often.

use serde::{Deserialize, Serialize};

/// Conditions under which an attempt is tried again: Envoy's `retryOn` names and the codes of Gateway API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryOn {
    /// The connection could not be made: nothing was sent.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub connect_failure: bool,
    /// HTTP/2 `REFUSED_STREAM`: the peer says that it did not process the request.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub refused_stream: bool,
    /// The upstream closed or reset before response headers.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub reset: bool,
    /// As `reset`, only when the request had not been sent.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub reset_before_request: bool,
    /// 502, 503, 504.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub gateway_error: bool,
    /// Any 5xx, a reset or a connect failure.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub five_xx: bool,
    /// 409.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub retriable_4xx: bool,
    /// These status codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// These gRPC status codes (in headers-only responses).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grpc_status: Vec<u8>,
}

/// How an attempt failed, as far as the retry decision is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptFailure {
    /// No connection.
    Connect,
    /// REFUSED_STREAM.
    Refused,
    /// Closed or reset after the request (or part of it) was written.
    Reset,
    /// Closed or reset before a byte of the request was written.
    ResetBeforeRequest,
    /// The per-try time-out passed.
    Timeout,
    /// A response with this status, and its gRPC status when it has one.
    Response {
        /// HTTP status.
        status: u16,
        /// `grpc-status` of a headers-only response.
        grpc_status: Option<u8>,
    },
}

impl AttemptFailure {
    /// Is it certain that the upstream did not act on the request?
    pub fn provably_unsent(self) -> bool {
        matches!(self, Self::Connect | Self::Refused | Self::ResetBeforeRequest)
    }
}

impl RetryOn {
    /// Istio's default policy: connect-failure, refused-stream, unavailable, cancelled.
    pub fn istio_default() -> Self {
        Self { connect_failure: true, refused_stream: true, grpc_status: vec![14, 1], ..Self::default() }
    }
    /// Does the policy ask for another attempt after `failure`? (Budget, attempts and safety are decided elsewhere.)
    pub fn covers(&self, failure: AttemptFailure) -> bool {
        match failure {
            AttemptFailure::Connect => self.connect_failure || self.reset || self.gateway_error || self.five_xx,
            AttemptFailure::Refused => self.refused_stream || self.reset || self.five_xx,
            AttemptFailure::ResetBeforeRequest => self.reset_before_request || self.reset || self.five_xx,
            AttemptFailure::Reset => self.reset || self.five_xx,
            AttemptFailure::Timeout => self.gateway_error || self.five_xx || self.status.contains(&504),
            AttemptFailure::Response { status, grpc_status } => {
                grpc_status.is_some_and(|code| self.grpc_status.contains(&code))
                    || self.status.contains(&status)
                    || (self.five_xx && (500..600).contains(&status))
                    || (self.gateway_error && (502..=504).contains(&status))
                    || (self.retriable_4xx && status == 409)
            }
        }
    }
}

/// A route's retry policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts after the first; 0 turns retries off.
    pub attempts: u32,
    /// Longest time for one attempt, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u64>,
    /// When.
    pub on: RetryOn,
    /// First back-off, in milliseconds; doubles per attempt, with full jitter, up to ten times itself.
    #[serde(default = "default_backoff_ms")]
    pub backoff_ms: u64,
}

fn default_backoff_ms() -> u64 {
    25
}

impl Retry {
    /// What applies where nothing is written: two further attempts on failures that are provably unsent.
    pub fn built_in() -> Self {
        Self { attempts: 2, per_try_timeout_ms: None, on: RetryOn::istio_default(), backoff_ms: default_backoff_ms() }
    }
}

/// May a request with this method be sent again when it is not certain that the first was not processed?
///
/// RFC 9110 §9.2.2: the idempotent methods. POST and PATCH are repeated only when provably unsent or when the user's policy names the status.
pub fn is_idempotent(method: &http::Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_conditions() {
        let default = RetryOn::istio_default();
        assert!(default.covers(AttemptFailure::Connect));
        assert!(!default.covers(AttemptFailure::Reset));
        assert!(!default.covers(AttemptFailure::Response { status: 503, grpc_status: None }));
        assert!(default.covers(AttemptFailure::Response { status: 200, grpc_status: Some(14) }));
        let five = RetryOn { five_xx: true, ..RetryOn::default() };
        assert!(five.covers(AttemptFailure::Reset) && five.covers(AttemptFailure::Response { status: 500, grpc_status: None }));
    }
}
