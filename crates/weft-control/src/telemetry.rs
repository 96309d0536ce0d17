//! What proxies report: edges and records, in memory and bounded. The page needs no Prometheus.

use crate::{
    edges::{EdgeSum, Edges},
    records::{RecordFilter, Records},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weft_telemetry::{Report, RequestRecord};

/// A cloneable handle: sessions write, the API reads.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    edges: Edges,
    records: Records,
    records_dropped: u64,
    requests_total: u64,
}

impl Telemetry {
    /// Takes a report of one proxy.
    pub fn report(&self, report: Report, now_ms: u64) {
        let mut inner = self.lock();
        for (key, counts) in &report.edges {
            inner.edges.add(key, counts, now_ms / 1000);
            inner.requests_total += counts.requests;
        }
        for record in report.records {
            inner.records.add(record);
        }
        inner.records_dropped += report.records_dropped;
    }

    /// Forgets what is too old. Call it about once a second.
    pub fn age(&self, now_ms: u64) {
        self.lock().edges.age(now_ms / 1000);
    }

    /// The edges of the last `window_s` seconds.
    pub fn edges(&self, now_ms: u64, window_s: u64) -> Vec<EdgeSum> {
        self.lock().edges.sums(now_ms / 1000, window_s)
    }

    /// The newest records that match.
    pub fn records(&self, filter: &RecordFilter) -> Vec<Arc<RequestRecord>> {
        self.lock().records.list(filter)
    }

    /// The newest failed or denied records.
    pub(crate) fn bad_records(&self, records_max: usize) -> Vec<Arc<RequestRecord>> {
        self.lock().records.bad(records_max)
    }

    /// All records of one request.
    pub fn record(&self, id: &str) -> Vec<Arc<RequestRecord>> {
        self.lock().records.find(id)
    }

    /// `(records kept, records left out by the proxies, counts of edges that found no room)`.
    pub fn totals(&self) -> (usize, u64, u64) {
        let inner = self.lock();
        (inner.records.len(), inner.records_dropped, inner.edges.dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the rings whole, so a poisoned lock is still good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
