//! Traffic in numbers for people: rates, ratios, quantiles, and a judgement of health.

use serde::Serialize;
use weft_telemetry::EdgeCounts;

/// Below so many requests nothing is judged.
pub const REQUESTS_TO_JUDGE_MIN: u64 = 10;
/// From this ratio of failures on something is degraded.
const DEGRADED_RATIO: f64 = 0.01;
/// From this ratio of failures on something is failing.
const FAILING_RATIO: f64 = 0.05;

/// Requests in a window.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests (TCP: connections).
    pub requests: u64,
    /// Per second.
    pub rate_per_s: f64,
    /// Failures.
    pub failures: u64,
    /// Refused by policy.
    pub denied: u64,
    /// Failures / requests; 0 without requests.
    pub error_ratio: f64,
    /// Share over mutual TLS; 0 without requests.
    pub mtls_share: f64,
    /// Enough to judge?
    pub enough_data: bool,
    /// Median, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 90th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_us: Option<u64>,
    /// 99th percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Towards the callee.
    pub bytes_received: u64,
    /// Towards the caller.
    pub bytes_sent: u64,
}

/// Judgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthLevel {
    /// No request in the window.
    #[default]
    Idle,
    /// Too few to judge.
    Unknown,
    /// Well.
    Healthy,
    /// 1 % of requests failed or more.
    Degraded,
    /// 5 % or more.
    Failing,
}

impl Traffic {
    /// Of counts over `window_s` seconds.
    pub fn of(counts: &EdgeCounts, window_s: u64) -> Self {
        let share = |part: u64| if counts.requests == 0 { 0.0 } else { part.min(counts.requests) as f64 / counts.requests as f64 };
        // Requests that never arrived had no chance of mutual TLS: they must not make an edge look unprotected.
        let arrived = counts.requests.saturating_sub(counts.unreached).max(counts.mtls);
        let mtls_share = if arrived == 0 { 0.0 } else { counts.mtls as f64 / arrived as f64 };
        Self {
            requests: counts.requests,
            rate_per_s: counts.requests as f64 / window_s.max(1) as f64,
            failures: counts.failures,
            denied: counts.denied,
            error_ratio: share(counts.failures),
            mtls_share,
            enough_data: counts.requests >= REQUESTS_TO_JUDGE_MIN,
            p50_us: counts.latency.quantile_us(0.5),
            p90_us: counts.latency.quantile_us(0.9),
            p99_us: counts.latency.quantile_us(0.99),
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
        }
    }
    /// Judgement.
    pub fn health(&self) -> HealthLevel {
        match self.requests {
            0 => HealthLevel::Idle,
            _ if !self.enough_data => HealthLevel::Unknown,
            _ if self.error_ratio >= FAILING_RATIO => HealthLevel::Failing,
            _ if self.error_ratio >= DEGRADED_RATIO => HealthLevel::Degraded,
            _ => HealthLevel::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_are_not_judged_and_ratios_are_bounded() {
        let of = |requests, failures| Traffic::of(&EdgeCounts { requests, failures, ..EdgeCounts::default() }, 60);
        assert_eq!(of(0, 0).health(), HealthLevel::Idle);
        assert_eq!(of(9, 9).health(), HealthLevel::Unknown);
        assert_eq!(of(1_000, 9).health(), HealthLevel::Healthy);
        assert_eq!(of(1_000, 10).health(), HealthLevel::Degraded);
        assert_eq!(of(1_000, 50).health(), HealthLevel::Failing);
        assert!((of(600, 0).rate_per_s - 10.0).abs() < f64::EPSILON);
        assert!((of(10, 12).error_ratio - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_never_arrived_does_not_look_like_plain_text() {
        let counts = EdgeCounts { requests: 10, failures: 5, unreached: 5, mtls: 5, ..EdgeCounts::default() };
        assert!((Traffic::of(&counts, 60).mtls_share - 1.0).abs() < f64::EPSILON);
    }
}
