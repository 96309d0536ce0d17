//! Rate limits: which requests count, told apart by what, and how many may pass.

use crate::{ClusterName, HttpMatch, KeyPart, LimitInput, Origin, PolicyScope, write_key};
use serde::{Deserialize, Serialize};

/// A policy with its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// `<namespace>/<name>`.
    pub name: String,
    /// What it covers at the proxy that has this value.
    pub scope: PolicyScope,
    /// Counts and reports, refuses nothing.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub shadow: bool,
    /// Which answers tell how things stand.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub headers: LimitHeaders,
    /// The limits; a request must pass all that match it.
    pub limits: Vec<LimitRule>,
    /// Where it was written.
    pub origin: Origin,
}

/// Which answers get the `x-ratelimit-` headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitHeaders {
    /// Those that a limit refused.
    #[default]
    Refused,
    /// All that a limit looked at.
    Always,
    /// None.
    Never,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRule {
    /// Name; unique in its policy.
    pub name: String,
    /// Alternatives; empty matches all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What requests are told apart by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<KeyPart>,
    /// Who counts.
    pub counted: Counted,
    /// Where it was written.
    pub origin: Origin,
}

/// Who counts, and up to how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Counted {
    /// Each proxy for itself.
    Local(LimitRate),
    /// All proxies together, by leases of the control plane.
    Global(LimitRate),
    /// A service that speaks Envoy's protocol.
    Service(LimitService),
}

/// Requests per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitRate {
    /// Requests; at least 1.
    pub requests: u32,
    /// In so many milliseconds; at least 1.
    pub per_ms: u64,
    /// At once; at least 1.
    pub burst: u32,
}

/// Where Envoy's protocol is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitService {
    /// The service.
    pub cluster: ClusterName,
    /// Its configuration's domain.
    pub domain: String,
    /// Longest wait.
    pub timeout_ms: u64,
    /// Refuse when it cannot be asked.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub fail_closed: bool,
}

impl LimitRule {
    /// Does the request count?
    pub fn matches(&self, input: &LimitInput<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|m| m.matches(input.head))
    }
    /// The key under which it counts.
    pub fn write_key(&self, input: &LimitInput<'_>, out: &mut String) {
        write_key(&self.key, input, out);
    }
    /// The entries of a descriptor of Envoy's protocol; `None` when the request lacks one: then, as with Envoy, the limit does not hold.
    pub fn descriptor<'a>(&'a self, input: &LimitInput<'a>) -> Option<Vec<(String, String)>> {
        self.key.iter().map(|part| Some((part.descriptor.clone(), part.by.of(input)?.into_owned()))).collect()
    }
}

impl RateLimit {
    /// Name of a limit in all of the mesh: `<namespace>/<name>/<limit>`.
    pub fn limit_name(&self, rule: &LimitRule) -> String {
        format!("{}/{}", self.name, rule.name)
    }
}
