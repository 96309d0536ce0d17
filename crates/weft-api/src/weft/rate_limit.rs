//! `RateLimit`: how many requests per time, told apart by whatever the user names.

use super::{Key, TargetReference};
use crate::{gateway_api::HttpRouteMatch, istio::WorkloadSelector, read::Spanned};
use std::time::Duration;

object! {
    /// `weft.dev/v1alpha1 RateLimit`: requests beyond a rate are refused with 429 (`RESOURCE_EXHAUSTED` for gRPC).
    pub struct RateLimit {
        /// Objects that it is attached to; in place of a selector.
        target_refs: Vec<Spanned<TargetReference>> = "targetRefs",
        /// Workloads of the namespace; absent, without targets: all of them.
        selector: Option<WorkloadSelector> = "selector",
        /// Counts and reports what it would refuse, and refuses nothing.
        shadow: bool = "shadow",
        /// Which answers tell the caller how things stand; absent: `Refused`.
        headers: Option<LimitHeaders> = "headers",
        /// The limits; each request must pass all that match it.
        limits: Vec<Spanned<LimitRule>> = "limits",
    }
}

choice! {
    /// Which answers get `x-ratelimit-limit`, `-remaining` and `-reset`.
    pub enum LimitHeaders {
        /// All that a limit looked at.
        Always = "Always",
        /// Those that a limit refused.
        Refused = "Refused",
        /// None.
        Never = "Never",
    }
}

object! {
    /// One limit: which requests, told apart by what, and how many. Exactly one of `local`, `global` and `service`.
    pub struct LimitRule {
        /// Name in metrics and explanations; absent: its place in the list.
        name: Option<String> = "name",
        /// Alternatives, as in an HTTPRoute; empty: every request.
        matches: Vec<Spanned<HttpRouteMatch>> = "matches",
        /// What requests are told apart by; empty: all count together.
        key: Key = "key",
        /// Counted by each proxy for itself.
        local: Option<Spanned<LimitRate>> = "local",
        /// Counted over all proxies.
        global: Option<Spanned<LimitRate>> = "global",
        /// Decided by a service that speaks Envoy's rate limit protocol.
        service: Option<Spanned<LimitService>> = "service",
    }
}

object! {
    /// How many requests in which time.
    pub struct LimitRate {
        /// Requests.
        requests: u32 = "requests",
        /// In this time.
        per: Duration = "per",
        /// How many may come at once; absent: as many as `requests`. Not for global limits.
        burst: Option<u32> = "burst",
    }
}

object! {
    /// A service that speaks `envoy.service.ratelimit.v3`.
    pub struct LimitService {
        /// Its host, as a service of the mesh or a ServiceEntry.
        host: String = "host",
        /// Its port.
        port: u16 = "port",
        /// The domain that its configuration is for.
        domain: String = "domain",
        /// Longest wait for its decision; absent: 20ms, as Envoy.
        timeout: Option<Duration> = "timeout",
        /// What happens when it cannot be asked; absent: `Allow`, as Envoy.
        on_failure: Option<OnFailure> = "onFailure",
    }
}

choice! {
    /// What happens when a service cannot be asked.
    pub enum OnFailure {
        /// The request goes on.
        Allow = "Allow",
        /// It is refused.
        Deny = "Deny",
    }
}
