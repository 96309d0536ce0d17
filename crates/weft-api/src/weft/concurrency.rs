//! `ConcurrencyPolicy`: how much may be under way at once, and what is shed when a service cannot keep up.

use super::{Key, TargetReference};
use crate::{gateway_api::HttpRouteMatch, istio::WorkloadSelector, read::Spanned};
use std::time::Duration;

object! {
    /// `weft.dev/v1alpha1 ConcurrencyPolicy`: bulkheads, adaptive concurrency and admission control.
    pub struct ConcurrencyPolicy {
        /// Objects that it is attached to; in place of a selector.
        target_refs: Vec<Spanned<TargetReference>> = "targetRefs",
        /// Workloads of the namespace; absent, without targets: all of them.
        selector: Option<WorkloadSelector> = "selector",
        /// Counts and reports what it would refuse, and refuses nothing.
        shadow: bool = "shadow",
        /// Separate places for callers, routes or tenants, so that none can take those of the others.
        bulkheads: Vec<Spanned<Bulkhead>> = "bulkheads",
        /// A limit that follows latency.
        adaptive: Option<Spanned<Adaptive>> = "adaptive",
        /// Sheds a share of the requests at the caller while many fail.
        admission: Option<Spanned<Admission>> = "admission",
    }
}

object! {
    /// Places for requests, so many for each value of the key.
    pub struct Bulkhead {
        /// Name in metrics and explanations; absent: its place in the list.
        name: Option<String> = "name",
        /// Alternatives, as in an HTTPRoute; empty: every request.
        matches: Vec<Spanned<HttpRouteMatch>> = "matches",
        /// What requests are told apart by; empty: all share the places.
        key: Key = "key",
        /// Requests under way at once for one value of the key, at one proxy.
        requests: u32 = "requests",
    }
}

object! {
    /// How the limit of requests under way follows the latency of the answers.
    pub struct Adaptive {
        /// How; absent: `Gradient`.
        algorithm: Option<AdaptiveAlgorithm> = "algorithm",
        /// Least limit; absent: 3.
        min_requests: Option<u32> = "minRequests",
        /// Largest limit; absent: 1000.
        max_requests: Option<u32> = "maxRequests",
        /// For `Aimd`: answers slower than this mean overload.
        latency: Option<Duration> = "latency",
        /// For `Gradient`: how much slower than the best time is still fine, in percent of it; absent: 50.
        tolerance_percent: Option<u32> = "tolerancePercent",
    }
}

choice! {
    /// How an adaptive limit is found.
    pub enum AdaptiveAlgorithm {
        /// By the ratio of the best latency to the present one.
        Gradient = "Gradient",
        /// One more while answers are fast enough, a tenth less when they are not.
        Aimd = "Aimd",
    }
}

object! {
    /// Shedding by success rate, as Envoy's admission control does.
    pub struct Admission {
        /// Below this share of successes, in percent, requests are shed; absent: 95.
        success_rate: Option<f64> = "successRate",
        /// How steeply: 1 is linear; absent: 1.
        aggression: Option<f64> = "aggression",
        /// Successes are counted over this time; absent: 30s.
        window: Option<Duration> = "window",
        /// Largest share that is shed, in percent; absent: 80.
        max_rejection: Option<f64> = "maxRejection",
        /// Below this rate nothing is shed; absent: 5 requests per second.
        requests_per_second: Option<u32> = "requestsPerSecond",
    }
}
