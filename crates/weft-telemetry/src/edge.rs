//! Edges: who called whom, how often, how well, how fast, how safely. Made from records, merged by addition.

use crate::{EdgeName, Outcome, Party, Reporter, RequestRecord, ResponseFlag};
use serde::{Deserialize, Serialize};

/// Upper bounds of the latency buckets, in microseconds; the last bucket is open. Istio's milliseconds, with finer steps below 10 ms.
pub const LATENCY_BOUNDS_US: [u64; 22] = [
    250,
    500,
    1_000,
    2_000,
    3_000,
    5_000,
    7_500,
    10_000,
    15_000,
    25_000,
    50_000,
    75_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// Counts of latencies per bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// One count per bound, and one for what is above all.
    pub counts: Vec<u64>,
    /// Sum, in microseconds.
    pub sum_us: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: vec![0; LATENCY_BOUNDS_US.len() + 1], sum_us: 0 }
    }
}

impl Latency {
    /// Adds one observation.
    pub fn observe(&mut self, us: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(us);
    }
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
    /// The `q` quantile (0–1) in microseconds, linear within its bucket; `None` without observations.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let total = self.count();
        let rank = (q.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut before = 0;
        for (i, count) in self.counts.iter().enumerate() {
            if before + count >= rank && *count > 0 {
                let low = if i == 0 { 0 } else { LATENCY_BOUNDS_US[i - 1] };
                let high = LATENCY_BOUNDS_US.get(i).copied().unwrap_or(low * 2);
                return Some(low + (high - low) * (rank - before) / count);
            }
            before += count;
        }
        None
    }
}

/// Identifies an edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeKey {
    /// Side that counted. The two sides of one edge are kept apart and never added.
    pub reporter: Reporter,
    /// Caller.
    pub source: Party,
    /// Callee: its version tells the subset.
    pub destination: Party,
    /// Host that was called.
    pub destination_service: String,
    /// `http`, `grpc` or `tcp`.
    pub protocol: String,
}

/// What happened on an edge in a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCounts {
    /// Requests (TCP: connections).
    pub requests: u64,
    /// Of these, failed.
    pub failures: u64,
    /// Of these, refused by policy (401, 403).
    pub denied: u64,
    /// Of these, over mutual TLS.
    pub mtls: u64,
    /// Source side only: of the requests, those that never reached the callee's proxy, which therefore cannot have counted them.
    #[serde(default)]
    pub unreached: u64,
    /// Source side only: of the failures, those that the callee's proxy cannot have counted as failures (also time-outs).
    #[serde(default)]
    pub unseen_failures: u64,
    /// Bytes towards the callee.
    pub bytes_received: u64,
    /// Bytes towards the caller.
    pub bytes_sent: u64,
    /// Latencies.
    pub latency: Latency,
}

impl EdgeCounts {
    /// Adds one record.
    pub fn observe_record(&mut self, record: &RequestRecord) {
        self.add(record.reporter, record.tls.is_some(), &Outcome::of(record));
    }
    /// Adds one request of an edge.
    pub(crate) fn observe(&mut self, name: &EdgeName, outcome: &Outcome<'_>) {
        self.add(name.reporter, name.mtls, outcome);
    }
    fn add(&mut self, reporter: Reporter, mtls: bool, outcome: &Outcome<'_>) {
        self.requests += 1;
        self.mtls += u64::from(mtls);
        self.bytes_received += outcome.bytes_received;
        self.bytes_sent += outcome.bytes_sent;
        self.latency.observe(outcome.duration_us);
        if outcome.status >= 400 || !outcome.flags.is_empty() || outcome.grpc_status.is_some() {
            self.add_failure(reporter, outcome);
        }
    }
    fn add_failure(&mut self, reporter: Reporter, outcome: &Outcome<'_>) {
        let (source, failed) = (reporter == Reporter::Source, outcome.is_failure());
        self.failures += u64::from(failed);
        self.denied += u64::from(matches!(outcome.status, 401 | 403));
        let unreached = source && (failed || outcome.flags.contains(&ResponseFlag::FaultAbort)) && never_arrived(outcome.flags);
        let timed_out = source && outcome.flags.contains(&ResponseFlag::UpstreamTimeout);
        self.unreached += u64::from(unreached);
        self.unseen_failures += u64::from(failed && (unreached || timed_out));
    }
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.denied += other.denied;
        self.mtls += other.mtls;
        self.unreached += other.unreached;
        self.unseen_failures += other.unseen_failures;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.latency.merge(&other.latency);
    }
}

/// Did the caller's proxy answer by itself, so that the callee's never saw the request?
fn never_arrived(flags: &[ResponseFlag]) -> bool {
    use ResponseFlag as F;
    let local = |flag: &F| {
        let no_peer = matches!(flag, F::NoHealthyUpstream | F::UpstreamConnectionFailure | F::NoRoute | F::NoCluster | F::UpstreamTls);
        let refused = matches!(flag, F::RateLimited | F::RateLimitService | F::Overload | F::DropOverload | F::DnsFailure);
        no_peer || refused || matches!(flag, F::UpstreamOverflow | F::FaultAbort)
    };
    flags.iter().any(local)
}

impl EdgeKey {
    /// Does `record` belong to this edge?
    pub(crate) fn is_of(&self, record: &RequestRecord) -> bool {
        self.reporter == record.reporter
            && self.destination_service == record.destination_service
            && self.protocol == record.kind().name()
            && self.source == record.source
            && self.destination == record.destination
    }
    /// The edge that a record belongs to.
    pub fn of(record: &RequestRecord) -> Self {
        Self {
            reporter: record.reporter,
            source: record.source.clone(),
            destination: record.destination.clone(),
            destination_service: record.destination_service.clone(),
            protocol: record.kind().name().into(),
        }
    }
}

impl From<&EdgeName> for EdgeKey {
    fn from(name: &EdgeName) -> Self {
        Self {
            reporter: name.reporter,
            source: (*name.source).clone(),
            destination: (*name.destination).clone(),
            destination_service: (*name.service).to_owned(),
            protocol: name.kind.name().into(),
        }
    }
}

/// What a proxy sends to the control plane about once a second. JSON on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Counts since the last report.
    pub edges: Vec<(EdgeKey, EdgeCounts)>,
    /// Records worth keeping: every failure and denial, and a sample of the rest, bounded per second.
    pub records: Vec<RequestRecord>,
    /// Records left out because of the bound.
    pub records_dropped: u64,
    /// What taps show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tapped: Vec<crate::Tapped>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_fall_into_their_bucket() {
        let mut latency = Latency::default();
        (0..99).for_each(|_| latency.observe(900));
        latency.observe(40_000);
        assert!((500..=1_000).contains(&latency.quantile_us(0.5).expect("has data")));
        assert!((25_000..=50_000).contains(&latency.quantile_us(1.0).expect("has data")));
        assert_eq!(Latency::default().quantile_us(0.5), None);
    }

    #[test]
    fn what_the_callee_cannot_have_counted_is_kept_apart() {
        let count = |reporter, status, flags: &[ResponseFlag]| {
            let mut counts = EdgeCounts::default();
            counts.observe_record(&RequestRecord { reporter, status, flags: flags.to_vec(), ..RequestRecord::default() });
            (counts.failures, counts.unreached, counts.unseen_failures)
        };
        assert_eq!(count(Reporter::Source, 503, &[ResponseFlag::UpstreamConnectionFailure]), (1, 1, 1));
        assert_eq!(count(Reporter::Source, 504, &[ResponseFlag::UpstreamTimeout]), (1, 0, 1));
        assert_eq!(count(Reporter::Source, 418, &[ResponseFlag::FaultAbort]), (0, 1, 0));
        assert_eq!(count(Reporter::Source, 503, &[]), (1, 0, 0), "the callee's own 503");
        assert_eq!(count(Reporter::Source, 200, &[ResponseFlag::UpstreamConnectionFailure]), (0, 0, 0), "a retry helped");
        assert_eq!(count(Reporter::Destination, 503, &[ResponseFlag::UpstreamConnectionFailure]), (1, 0, 0));
    }
}
