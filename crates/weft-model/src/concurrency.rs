//! How much may be under way at once: bulkheads, adaptive concurrency, and admission by success rate.

use crate::{HttpMatch, KeyPart, LimitInput, Origin, PolicyScope};
use serde::{Deserialize, Serialize};

/// A policy with its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyPolicy {
    /// `<namespace>/<name>`.
    pub name: String,
    /// What it covers at the proxy that has this value.
    pub scope: PolicyScope,
    /// Counts and reports, refuses nothing.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub shadow: bool,
    /// Separate places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bulkheads: Vec<Bulkhead>,
    /// A limit that follows latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Adaptive>,
    /// Shedding by success rate, at the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// Where it was written.
    pub origin: Origin,
}

/// Places for requests, so many for each value of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulkhead {
    /// Name; unique in its policy.
    pub name: String,
    /// Alternatives; empty matches all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What requests are told apart by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<KeyPart>,
    /// Places for one value.
    pub requests: u32,
    /// Where it was written.
    pub origin: Origin,
}

impl Bulkhead {
    /// Does the request need a place?
    pub fn matches(&self, input: &LimitInput<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|m| m.matches(input.head))
    }
}

/// How an adaptive limit is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adaptive {
    /// Least limit; at least 1.
    pub requests_min: u32,
    /// Largest limit.
    pub requests_max: u32,
    /// By what.
    pub by: AdaptiveBy,
    /// Where it was written.
    pub origin: Origin,
}

/// What an adaptive limit follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AdaptiveBy {
    /// The best latency, in relation to the present one.
    Gradient {
        /// How much slower is still fine, in percent.
        tolerance_percent: u32,
    },
    /// A latency that is still fine, in milliseconds.
    Aimd {
        /// The latency.
        latency_ms: u64,
    },
}

/// Shedding by success rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Wanted share of successes, in parts per million.
    pub success_ppm: u32,
    /// Exponent's inverse, in thousandths: 1000 is linear.
    pub aggression_milli: u32,
    /// Time over which successes are counted.
    pub window_ms: u64,
    /// Largest share that is shed, in parts per million.
    pub rejection_max_ppm: u32,
    /// Below this rate nothing is shed.
    pub requests_per_second_min: u32,
    /// Where it was written.
    pub origin: Origin,
}
