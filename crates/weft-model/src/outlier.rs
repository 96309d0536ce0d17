//! Outlier detection: which answers speak against an endpoint, and when it is left alone for a while.

use crate::Origin;
use serde::{Deserialize, Serialize};

/// Ejection of endpoints that fail (DestinationRule `outlierDetection`, BackendPolicy `outlierDetection`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// Errors in a row (5xx, and connection failures unless they are split off); 0 turns it off.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 (and connection failures unless they are split off) in a row; 0 turns it off.
    pub consecutive_gateway_errors: u32,
    /// Connections that failed, were reset or timed out, in a row; only with `split_local_failures`. 0 turns it off.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub consecutive_local_failures: u32,
    /// Are failures of the connection counted by themselves, and not as 5xx?
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub split_local_failures: bool,
    /// Statuses that count as errors instead of 5xx; empty: 5xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_statuses: Vec<u16>,
    /// First ejection, in milliseconds; the nth lasts n times as long.
    pub base_ejection_ms: u64,
    /// No ejection lasts longer, in milliseconds, unless the first does.
    #[serde(default = "ejection_ms_max", skip_serializing_if = "is_ejection_ms_max")]
    pub ejection_ms_max: u64,
    /// How often rates are looked at, and how long an endpoint must do well for one ejection to be forgotten, in milliseconds.
    pub interval_ms: u64,
    /// Share of endpoints that may be out at once, in percent; at least one endpoint may be.
    pub ejection_percent_max: u8,
    /// Ejection by success rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// Ejection by share of failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_percentage: Option<FailurePercentage>,
    /// Where it was written.
    pub origin: Origin,
}

fn ejection_ms_max() -> u64 {
    300_000
}
fn is_ejection_ms_max(ms: &u64) -> bool {
    *ms == ejection_ms_max()
}

/// An endpoint whose success rate is far below that of the others is ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessRate {
    /// Fewest endpoints with enough requests.
    pub hosts_min: u32,
    /// Fewest requests of an endpoint in an interval.
    pub requests_min: u32,
    /// How many standard deviations below the mean is too low, in thousandths.
    pub deviations_milli: u32,
}

/// An endpoint that fails too large a share of its requests is ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePercentage {
    /// Fewest endpoints with enough requests.
    pub hosts_min: u32,
    /// Fewest requests of an endpoint in an interval.
    pub requests_min: u32,
    /// This share of failures is too much, in percent.
    pub percent: u8,
}

/// What one answer says of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign {
    /// Speaks against it in the count of errors; `None`: says nothing there.
    pub error: Option<bool>,
    /// In the count of gateway errors.
    pub gateway: Option<bool>,
    /// In the count of failures of the connection.
    pub local: Option<bool>,
}

impl OutlierDetection {
    /// What is in force where only rates are asked for: no ejection by errors in a row.
    pub fn rates_only(origin: Origin) -> Self {
        Self {
            consecutive_5xx: 0,
            consecutive_gateway_errors: 0,
            consecutive_local_failures: 0,
            split_local_failures: false,
            error_statuses: Vec::new(),
            base_ejection_ms: 30_000,
            ejection_ms_max: ejection_ms_max(),
            interval_ms: 10_000,
            ejection_percent_max: 10,
            success_rate: None,
            failure_percentage: None,
            origin,
        }
    }

    /// What an answer with `status` says; `None` for a connection that failed, was reset or timed out.
    pub fn sign(&self, status: Option<u16>) -> Sign {
        match status {
            Some(status) => {
                let error = match self.error_statuses.is_empty() {
                    true => status >= 500,
                    false => self.error_statuses.contains(&status),
                };
                // Who answers has been reached.
                Sign { error: Some(error), gateway: Some(matches!(status, 502..=504)), local: Some(false) }
            }
            None if self.split_local_failures => Sign { error: None, gateway: None, local: Some(true) },
            None => Sign { error: Some(true), gateway: Some(true), local: Some(true) },
        }
    }

    /// Is so many in a row too many?
    pub fn too_many(&self, errors: u32, gateway: u32, local: u32) -> bool {
        let reached = |limit: u32, count: u32| limit > 0 && count >= limit;
        reached(self.consecutive_5xx, errors)
            || reached(self.consecutive_gateway_errors, gateway)
            || (self.split_local_failures && reached(self.consecutive_local_failures, local))
    }

    /// Length of the nth ejection (from 1), in milliseconds.
    pub fn ejection_ms(&self, nth: u32) -> u64 {
        self.base_ejection_ms.saturating_mul(u64::from(nth)).min(self.ejection_ms_max.max(self.base_ejection_ms))
    }

    /// Does it need rates?
    pub fn counts_rates(&self) -> bool {
        self.success_rate.is_some() || self.failure_percentage.is_some()
    }

    /// Indices of the endpoints whose `(requests, failures)` of the last interval are too bad, the worst first.
    pub fn bad_rates(&self, counts: &[(u32, u32)]) -> Vec<usize> {
        let mut bad: Vec<(usize, f64)> = Vec::new();
        let rate = |(requests, failures): (u32, u32)| f64::from(requests - failures.min(requests)) / f64::from(requests);
        let enough = |least: u32| counts.iter().enumerate().filter(move |(_, c)| c.0 >= least.max(1)).map(|(i, c)| (i, rate(*c)));
        if let Some(policy) = &self.success_rate {
            let rates: Vec<(usize, f64)> = enough(policy.requests_min).collect();
            if rates.len() >= policy.hosts_min.max(2) as usize {
                let mean = rates.iter().map(|(_, r)| r).sum::<f64>() / rates.len() as f64;
                let variance = rates.iter().map(|(_, r)| (r - mean).powi(2)).sum::<f64>() / rates.len() as f64;
                let bar = mean - variance.sqrt() * f64::from(policy.deviations_milli) / 1000.0;
                bad.extend(rates.into_iter().filter(|(_, r)| *r < bar));
            }
        }
        if let Some(policy) = &self.failure_percentage {
            let rates: Vec<(usize, f64)> = enough(policy.requests_min).collect();
            if rates.len() >= policy.hosts_min as usize {
                let bar = 1.0 - f64::from(policy.percent) / 100.0;
                bad.extend(rates.into_iter().filter(|(_, r)| *r <= bar));
            }
        }
        bad.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        bad.dedup_by_key(|(index, _)| *index);
        bad.into_iter().map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> OutlierDetection {
        OutlierDetection { consecutive_5xx: 5, ..OutlierDetection::rates_only(Origin::built_in("o")) }
    }

    #[test]
    fn what_counts_as_an_error() {
        let plain = policy();
        assert_eq!(plain.sign(Some(500)), Sign { error: Some(true), gateway: Some(false), local: Some(false) });
        assert_eq!(plain.sign(None), Sign { error: Some(true), gateway: Some(true), local: Some(true) });
        let split = OutlierDetection { split_local_failures: true, ..policy() };
        assert_eq!(split.sign(None), Sign { error: None, gateway: None, local: Some(true) });
        let listed = OutlierDetection { error_statuses: vec![429], ..policy() };
        assert_eq!((listed.sign(Some(500)).error, listed.sign(Some(429)).error), (Some(false), Some(true)));
        assert!(!plain.too_many(4, 9, 9) && plain.too_many(5, 0, 0));
    }

    #[test]
    fn ejections_grow_up_to_the_longest() {
        let p = OutlierDetection { base_ejection_ms: 100_000, ..policy() };
        assert_eq!((p.ejection_ms(1), p.ejection_ms(2), p.ejection_ms(9)), (100_000, 200_000, 300_000));
    }

    #[test]
    fn rates_find_who_is_far_from_the_others() {
        let success = SuccessRate { hosts_min: 5, requests_min: 100, deviations_milli: 1900 };
        let p = OutlierDetection { success_rate: Some(success), ..policy() };
        let mut counts = vec![(100, 1); 6];
        counts[3] = (100, 40);
        assert_eq!(p.bad_rates(&counts), [3]);
        assert!(p.bad_rates(&counts[..4]).is_empty(), "too few endpoints to compare");
        let failure = FailurePercentage { hosts_min: 1, requests_min: 50, percent: 40 };
        let p = OutlierDetection { failure_percentage: Some(failure), ..policy() };
        assert_eq!(p.bad_rates(&[(100, 40), (49, 49), (100, 39), (60, 60)]), [3, 0]);
    }
}
