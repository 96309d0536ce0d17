//! `RoutePolicy`: what routes of either API cannot say: fallback, hedging, idle time-outs, the rest of retries, cookies.

use super::TargetReference;
use crate::gateway_api::{BackendObjectReference, HttpHeader};
use crate::istio::StringMatch;
use crate::read::Spanned;
use std::{collections::BTreeMap, time::Duration};

object! {
    /// `weft.dev/v1alpha1 RoutePolicy`: more of what the rules of some routes do. What it says wins over the route's own.
    pub struct RoutePolicy {
        /// Routes (or rules of them, by `sectionName`), or Services whose callers it is for; in the policy's namespace.
        target_refs: Vec<Spanned<TargetReference>> = "targetRefs",
        /// Further conditions on requests.
        matches: Option<RoutePolicyMatch> = "match",
        /// Time limits.
        timeouts: Option<Spanned<RoutePolicyTimeouts>> = "timeouts",
        /// Retries.
        retry: Option<Spanned<RoutePolicyRetry>> = "retry",
        /// A second attempt beside a slow one.
        hedging: Option<Spanned<RoutePolicyHedging>> = "hedging",
        /// What takes over when the backend fails.
        fallback: Option<Spanned<RoutePolicyFallback>> = "fallback",
    }
}

object! {
    /// Further conditions: all must hold, or the request does not take the rule.
    pub struct RoutePolicyMatch {
        /// Cookies by name; `{}` asks only that there is one.
        cookies: BTreeMap<String, StringMatch> = "cookies",
    }
}

object! {
    /// Time limits; zero: none.
    pub struct RoutePolicyTimeouts {
        /// For the whole exchange.
        request: Option<Duration> = "request",
        /// For one attempt until its answer begins.
        backend_request: Option<Duration> = "backendRequest",
        /// In which nothing comes from the upstream.
        idle: Option<Duration> = "idle",
        /// Longest time that a gRPC caller may ask for.
        max_grpc: Option<Duration> = "maxGrpc",
    }
}

object! {
    /// Retries. What is absent stays as the route says.
    pub struct RoutePolicyRetry {
        /// How many retries; 0 turns them off.
        attempts: Option<u32> = "attempts",
        /// Envoy's and gRPC's conditions, and status codes.
        on: Vec<String> = "on",
        /// Headers of an answer that ask for a retry, for the condition `retriable-headers`.
        retriable_headers: Vec<String> = "retriableHeaders",
        /// First wait.
        backoff: Option<Duration> = "backoff",
        /// Longest wait; absent: ten times the first.
        max_backoff: Option<Duration> = "maxBackoff",
        /// Wait as long as the upstream asks for.
        retry_after: Option<Spanned<RetryAfter>> = "retryAfter",
        /// Avoid endpoints that failed already; absent: true.
        avoid_previous_hosts: Option<bool> = "avoidPreviousHosts",
        /// Tell the upstream the number of the attempt in `x-envoy-attempt-count`?
        attempt_count_header: Option<bool> = "attemptCountHeader",
    }
}

object! {
    /// How long an upstream may make callers wait.
    pub struct RetryAfter {
        /// An answer that asks for more is final.
        max: Duration = "max",
        /// Headers that say it; absent: `retry-after` and `x-ratelimit-reset` in seconds.
        headers: Vec<RetryAfterHeader> = "headers",
    }
}

object! {
    /// A header that says how long to wait.
    pub struct RetryAfterHeader {
        /// Name.
        name: String = "name",
        /// Form; absent: `Seconds`.
        format: Option<RetryAfterFormat> = "format",
    }
}

choice! {
    /// How a header says when to ask again.
    pub enum RetryAfterFormat {
        /// Seconds from now.
        Seconds = "Seconds",
        /// Seconds since 1970.
        UnixTimestamp = "UnixTimestamp",
    }
}

object! {
    /// A second attempt beside a slow one, for requests with an idempotent method.
    pub struct RoutePolicyHedging {
        /// Wait before it.
        delay: Duration = "delay",
        /// Instead, once enough answers were seen: the time within which this share of them came, in percent.
        percentile: Option<u32> = "percentile",
        /// Further attempts; absent: 1.
        attempts: Option<u32> = "attempts",
    }
}

object! {
    /// What takes over when the backend fails: one of `backendRef` and `response`.
    pub struct RoutePolicyFallback {
        /// Failures; absent: all but answers. Numbers are status codes.
        on: Vec<String> = "on",
        /// Another backend.
        backend_ref: Option<Spanned<BackendObjectReference>> = "backendRef",
        /// A fixed answer.
        response: Option<Spanned<FallbackResponse>> = "response",
    }
}

object! {
    /// A fixed answer.
    pub struct FallbackResponse {
        /// Status.
        status: u16 = "status",
        /// Body.
        body: Option<String> = "body",
        /// Headers; absent: `content-type: text/plain`.
        headers: Vec<HttpHeader> = "headers",
    }
}
