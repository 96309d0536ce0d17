//! Aggregation in the proxy: records become edge counts and a bounded choice of records for the control plane.

use crate::{EdgeCounts, EdgeKey, Report, RequestRecord, ResponseFlag};
use foldhash::fast::RandomState;
use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
};

/// Bounds of what one report may hold.
#[derive(Debug, Clone, Copy)]
pub struct ReportLimits {
    /// Most edges; records of further ones are counted as dropped.
    pub edges_max: usize,
    /// Most failures and denials kept per report.
    pub failures_max: usize,
    /// Most successes kept per report; the latest win.
    pub successes_max: usize,
}

impl Default for ReportLimits {
    fn default() -> Self {
        Self { edges_max: 2_048, failures_max: 200, successes_max: 50 }
    }
}

/// Collects between two reports.
#[derive(Debug, Default)]
pub struct EdgeAggregator {
    limits: ReportLimits,
    hasher: RandomState,
    /// Where in `edges` a record's edge is, by hash: the key's texts are copied once per edge and report, not per request.
    index: HashMap<u64, Vec<usize>, RandomState>,
    edges: Vec<(EdgeKey, EdgeCounts)>,
    failures: Vec<RequestRecord>,
    successes: VecDeque<RequestRecord>,
    dropped: u64,
}

impl EdgeAggregator {
    /// With other bounds than the default's.
    pub fn new(limits: ReportLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Counts `record`, and keeps a copy if it is worth it. `observe_owned` saves the copy.
    pub fn observe(&mut self, record: &RequestRecord) {
        self.count(record);
        if self.wants(record) {
            self.keep(record.clone());
        }
    }

    /// Counts `record` and takes it.
    pub fn observe_owned(&mut self, record: RequestRecord) {
        self.count(&record);
        if self.wants(&record) {
            self.keep(record);
        }
    }

    /// What came together since the last call.
    pub fn take(&mut self) -> Report {
        let mut records = std::mem::take(&mut self.failures);
        records.extend(std::mem::take(&mut self.successes));
        records.sort_by_key(|r| r.start_unix_ms);
        self.index.clear();
        Report { edges: std::mem::take(&mut self.edges), records, records_dropped: std::mem::take(&mut self.dropped), tapped: Vec::new() }
    }

    /// Nothing to report?
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty() && self.failures.is_empty() && self.successes.is_empty()
    }

    fn count(&mut self, record: &RequestRecord) {
        let r = record;
        let hash = self.hasher.hash_one((r.reporter, &r.source, &r.destination, &r.destination_service, r.kind()));
        let known = self.index.get(&hash).and_then(|at| at.iter().find(|i| self.edges.get(**i).is_some_and(|(k, _)| k.is_of(record))));
        if let Some((_, counts)) = known.copied().and_then(|i| self.edges.get_mut(i)) {
            counts.observe_record(record);
        } else if self.edges.len() < self.limits.edges_max {
            let mut counts = EdgeCounts::default();
            counts.observe_record(record);
            self.index.entry(hash).or_default().push(self.edges.len());
            self.edges.push((EdgeKey::of(record), counts));
        }
    }

    /// Failures until full; of the successes the first half of the room at once, then one in 64 in place of the oldest, so that
    /// a busy proxy copies few records.
    ///
    /// Only status, flags, attempts and start of `record` need be there yet. True: complete it and hand it to
    /// [`EdgeAggregator::keep`].
    pub fn wants(&mut self, record: &RequestRecord) -> bool {
        if is_notable(record) {
            let room = self.failures.len() < self.limits.failures_max;
            self.dropped += u64::from(!room);
            return room;
        }
        let room = self.successes.len() < self.limits.successes_max / 2 || record.start_unix_ms.is_multiple_of(64);
        self.dropped += u64::from(!room);
        room && self.limits.successes_max > 0
    }

    /// Keeps a record that [`EdgeAggregator::wants`] wanted.
    pub fn keep(&mut self, record: RequestRecord) {
        if is_notable(&record) {
            self.failures.push(record);
            return;
        }
        if self.successes.len() >= self.limits.successes_max {
            self.successes.pop_front();
            self.dropped += 1;
        }
        self.successes.push_back(record);
    }
}

/// Worth keeping whatever the load: failed, refused, retried, or marked by a flag.
fn is_notable(record: &RequestRecord) -> bool {
    record.is_failure() || record.status >= 400 || record.flags.iter().any(|f| *f != ResponseFlag::Hedged) || record.attempts.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16, at: u64) -> RequestRecord {
        RequestRecord { status, start_unix_ms: at, ..RequestRecord::default() }
    }

    #[test]
    fn failures_are_kept_and_successes_sampled() {
        let mut aggregator = EdgeAggregator::new(ReportLimits { edges_max: 4, failures_max: 3, successes_max: 4 });
        (0..100).for_each(|i| aggregator.observe(&record(200, i)));
        (0..5).for_each(|i| aggregator.observe_owned(record(503, 200 + i)));
        let report = aggregator.take();
        assert_eq!(report.records.iter().filter(|r| r.status == 503).count(), 3);
        let successes = report.records.iter().filter(|r| r.status == 200).count();
        assert!((2..=4).contains(&successes), "{successes}");
        assert_eq!(report.records.len() as u64 + report.records_dropped, 105);
        assert_eq!(report.edges.iter().map(|(_, c)| (c.requests, c.failures)).collect::<Vec<_>>(), [(105, 5)]);
        assert!(aggregator.is_empty() && aggregator.take() == Report::default());
    }

    #[test]
    fn edges_are_bounded() {
        let mut aggregator = EdgeAggregator::new(ReportLimits { edges_max: 4, ..ReportLimits::default() });
        for i in 0..10 {
            aggregator.observe(&RequestRecord { destination_service: format!("s{i}"), ..record(200, 1) });
        }
        assert_eq!(aggregator.take().edges.len(), 4);
    }
}
