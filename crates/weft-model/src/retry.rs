//! Retries: when a failed attempt may be sent again, how often, and after how long.

use http::HeaderMap;
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
    /// An answer with `x-envoy-ratelimited`.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub rate_limited: bool,
    /// These status codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// These gRPC status codes (in headers-only responses).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grpc_status: Vec<u8>,
    /// An answer with any of these headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
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
        /// Does it carry a header that the policy names ([`RetryOn::marks`])?
        marked: bool,
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
            AttemptFailure::Response { status, grpc_status, marked } => {
                marked
                    || grpc_status.is_some_and(|code| self.grpc_status.contains(&code))
                    || self.status.contains(&status)
                    || (self.five_xx && (500..600).contains(&status))
                    || (self.gateway_error && (502..=504).contains(&status))
                    || (self.retriable_4xx && status == 409)
            }
        }
    }
    /// Did the user name this very answer? Then even a request that may have been processed goes again.
    pub fn names(&self, failure: AttemptFailure) -> bool {
        match failure {
            AttemptFailure::Response { status, grpc_status, marked } => {
                marked || self.status.contains(&status) || grpc_status.is_some_and(|code| self.grpc_status.contains(&code))
            }
            AttemptFailure::Connect
            | AttemptFailure::Refused
            | AttemptFailure::Reset
            | AttemptFailure::ResetBeforeRequest
            | AttemptFailure::Timeout => false,
        }
    }
    /// Does an answer carry a header that asks for a retry?
    pub fn marks(&self, response: &HeaderMap) -> bool {
        (self.rate_limited && response.contains_key("x-envoy-ratelimited"))
            || self.headers.iter().any(|name| response.contains_key(name.as_str()))
    }
    /// Can it ask for a request again after it went out? Otherwise no copy of it needs to be kept.
    pub fn resends(&self, http2: bool) -> bool {
        let on_answer = self.retriable_4xx || self.rate_limited || !self.status.is_empty() || !self.headers.is_empty();
        self.reset || self.gateway_error || self.five_xx || on_answer || (http2 && (self.refused_stream || !self.grpc_status.is_empty()))
    }
}

/// Where an upstream says when it wants to be asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ResetFormat {
    /// Seconds from now.
    Seconds,
    /// A Unix time in seconds.
    UnixTime,
}

/// Back-off as the upstream asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitedBackoff {
    /// Headers that say it, in order of preference.
    pub headers: Vec<(String, ResetFormat)>,
    /// A longer wait than this is not waited: the answer stands, in milliseconds.
    pub max_ms: u64,
}

impl RateLimitedBackoff {
    /// `retry-after`, then `x-ratelimit-reset`, in seconds.
    pub fn usual(max_ms: u64) -> Self {
        let headers = ["retry-after", "x-ratelimit-reset"].map(|name| (name.to_owned(), ResetFormat::Seconds));
        Self { headers: headers.into(), max_ms }
    }
    /// The wait that an answer asks for, in milliseconds; `None` when it asks for none that can be read.
    pub fn wait_ms(&self, response: &HeaderMap, now_unix_s: u64) -> Option<u64> {
        self.headers.iter().find_map(|(name, format)| {
            let number: u64 = response.get(name.as_str())?.to_str().ok()?.trim().parse().ok()?;
            let seconds = match format {
                ResetFormat::Seconds => number,
                ResetFormat::UnixTime => number.saturating_sub(now_unix_s),
            };
            Some(seconds.saturating_mul(1000))
        })
    }
}

/// A route's retry policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts after the first; 0 turns retries off.
    pub attempts: u32,
    /// Longest time for one attempt until its answer begins, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u64>,
    /// When.
    pub on: RetryOn,
    /// First back-off, in milliseconds; doubles per attempt, with full jitter.
    #[serde(default = "default_backoff_ms")]
    pub backoff_ms: u64,
    /// Longest back-off, in milliseconds; ten times the first where nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u64>,
    /// Wait as the upstream asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limited_backoff: Option<RateLimitedBackoff>,
    /// May an attempt go to an endpoint that failed already, although others are left?
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub repeat_hosts: bool,
    /// May an attempt leave the locality that the first was balanced to?
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub remote_localities: bool,
    /// Tell the upstream the number of the attempt in `x-envoy-attempt-count`.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub count_header: bool,
}

fn default_backoff_ms() -> u64 {
    25
}

impl Retry {
    /// What applies where nothing is written: two further attempts on failures that are provably unsent.
    pub fn built_in() -> Self {
        Self {
            attempts: 2,
            per_try_timeout_ms: None,
            on: RetryOn::istio_default(),
            backoff_ms: default_backoff_ms(),
            backoff_max_ms: None,
            rate_limited_backoff: None,
            repeat_hosts: false,
            remote_localities: false,
            count_header: false,
        }
    }
    /// Must a copy of the request be kept, so that it can go again after it was sent?
    pub fn resends(&self, http2: bool) -> bool {
        self.on.resends(http2) || self.per_try_timeout_ms.is_some()
    }
    /// May an attempt that failed like this be followed by another (of a request with this method), as far as safety is concerned?
    ///
    /// Never twice what may have been processed, unless it is idempotent, or the user named this very answer.
    pub fn is_safe(&self, failure: AttemptFailure, method: &http::Method) -> bool {
        failure.provably_unsent() || self.on.names(failure) || is_idempotent(method)
    }
    /// The wait before attempt number `failures` + 1, in microseconds: doubles, bounded, with full jitter (`roll` is uniform over
    /// `0..=u32::MAX`).
    pub fn backoff_us(&self, failures: u32, roll: u32) -> u64 {
        let max = self.backoff_max_ms.unwrap_or(self.backoff_ms.saturating_mul(10));
        let longest = self.backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(max);
        u64::try_from((u128::from(longest) * 1000 * u128::from(roll)) >> 32).unwrap_or(u64::MAX)
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

    fn answer(status: u16, grpc_status: Option<u8>) -> AttemptFailure {
        AttemptFailure::Response { status, grpc_status, marked: false }
    }

    #[test]
    fn retry_conditions() {
        let default = RetryOn::istio_default();
        assert!(default.covers(AttemptFailure::Connect));
        assert!(!default.covers(AttemptFailure::Reset));
        assert!(!default.covers(answer(503, None)));
        assert!(default.covers(answer(200, Some(14))));
        let five = RetryOn { five_xx: true, ..RetryOn::default() };
        assert!(five.covers(AttemptFailure::Reset) && five.covers(answer(500, None)));
        let four = RetryOn { retriable_4xx: true, ..RetryOn::default() };
        assert!(four.covers(answer(409, None)) && !four.covers(answer(404, None)));
    }

    #[test]
    fn headers_that_ask_for_a_retry() {
        let on = RetryOn { rate_limited: true, headers: vec!["x-again".into()], ..RetryOn::default() };
        let with = |name: &'static str| HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static("1"))]);
        assert!(on.marks(&with("x-envoy-ratelimited")) && on.marks(&with("x-again")) && !on.marks(&with("x-other")));
        assert!(on.covers(AttemptFailure::Response { status: 200, grpc_status: None, marked: true }));
        assert!(on.resends(false));
    }

    #[test]
    fn a_post_goes_twice_only_when_unsent_or_named() {
        let retry = Retry { on: RetryOn { five_xx: true, status: vec![429], ..RetryOn::default() }, ..Retry::built_in() };
        let safe = |failure| retry.is_safe(failure, &http::Method::POST);
        assert!(safe(AttemptFailure::Connect) && safe(AttemptFailure::Refused) && safe(answer(429, None)));
        assert!(!safe(AttemptFailure::Reset) && !safe(AttemptFailure::Timeout) && !safe(answer(503, None)));
        assert!(retry.is_safe(AttemptFailure::Reset, &http::Method::GET));
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let retry = Retry { backoff_ms: 10, ..Retry::built_in() };
        let longest = |failures| retry.backoff_us(failures, u32::MAX).div_ceil(1000);
        assert_eq!([1, 2, 3, 4, 5, 9].map(longest), [10, 20, 40, 80, 100, 100]);
        assert_eq!(retry.backoff_us(3, 0), 0);
        let bounded = Retry { backoff_max_ms: Some(15), ..retry };
        assert_eq!(bounded.backoff_us(2, u32::MAX).div_ceil(1000), 15);
    }

    #[test]
    fn the_upstream_says_when() {
        let usual = RateLimitedBackoff::usual(5000);
        let map = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
        };
        assert_eq!(usual.wait_ms(&map("retry-after", "2"), 0), Some(2000));
        assert_eq!(usual.wait_ms(&map("x-ratelimit-reset", "1"), 0), Some(1000));
        assert_eq!(usual.wait_ms(&map("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), 0), None);
        let unix = RateLimitedBackoff { headers: vec![("x-reset".into(), ResetFormat::UnixTime)], max_ms: 0 };
        assert_eq!(unix.wait_ms(&map("x-reset", "103"), 100), Some(3000));
        assert_eq!(unix.wait_ms(&map("x-reset", "99"), 100), Some(0));
    }
}
