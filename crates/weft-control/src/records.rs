//! Records: the last requests worth keeping, by id and by filter.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use weft_telemetry::RequestRecord;

/// Most records kept.
pub(crate) const RECORDS_MAX: usize = 10_000;

/// A filter by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFilter {
    /// `503`.
    Exact(u16),
    /// `5xx`: the first digit.
    Class(u16),
    /// `failed`: counted as a failure, also TCP and gRPC.
    Failed,
    /// `denied`: refused by policy.
    Denied,
}

impl std::str::FromStr for StatusFilter {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let class = text.strip_suffix("xx").filter(|digit| digit.len() == 1);
        match (text, class) {
            ("failed", _) => Ok(Self::Failed),
            ("denied", _) => Ok(Self::Denied),
            (_, Some(digit)) => digit.parse().map(Self::Class).map_err(|_| wrong(text)),
            (_, None) => text.parse().ok().filter(|code| (100..600).contains(code)).map(Self::Exact).ok_or_else(|| wrong(text)),
        }
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?} is not a status: write 503, 5xx, failed or denied")
}

impl StatusFilter {
    fn matches(self, record: &RequestRecord) -> bool {
        match self {
            Self::Exact(code) => record.status == code,
            Self::Class(class) => record.status / 100 == class,
            Self::Failed => record.is_failure(),
            Self::Denied => record.policy.as_ref().is_some_and(|policy| !policy.allowed),
        }
    }
}

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// By status.
    pub status: Option<StatusFilter>,
    /// By service at either end: `reviews`, `default/reviews` or a host.
    pub service: Option<String>,
    /// By method.
    pub method: Option<String>,
    /// By a part of the path.
    pub path: Option<String>,
    /// Most records; 0 for 100.
    pub limit: usize,
}

impl RecordFilter {
    fn matches(&self, record: &RequestRecord) -> bool {
        self.status.is_none_or(|status| status.matches(record))
            && self.service.as_deref().is_none_or(|service| concerns(record, service))
            && self.method.as_deref().is_none_or(|method| record.method.eq_ignore_ascii_case(method))
            && self.path.as_deref().is_none_or(|path| record.path.contains(path))
    }
}

/// Is `service` an end of the hop?
fn concerns(record: &RequestRecord, service: &str) -> bool {
    let (namespace, name) = service.split_once('/').map_or((None, service), |(namespace, name)| (Some(namespace), name));
    let is = |party: &weft_telemetry::Party| party.service == name && namespace.is_none_or(|n| party.namespace == n);
    let by_host = || match namespace {
        Some(namespace) => record.destination_service.starts_with(&format!("{name}.{namespace}.")),
        None => record.destination_service == name || record.destination_service.starts_with(&format!("{name}.")),
    };
    is(&record.source) || is(&record.destination) || by_host()
}

/// The ring and its index.
#[derive(Debug, Default)]
pub(crate) struct Records {
    ring: VecDeque<Arc<RequestRecord>>,
    /// Number of the first record in `ring`; numbers only grow.
    first: u64,
    by_id: HashMap<String, Vec<u64>>,
}

impl Records {
    pub(crate) fn add(&mut self, record: RequestRecord) {
        if self.ring.len() >= RECORDS_MAX {
            self.drop_oldest();
        }
        let number = self.first + self.ring.len() as u64;
        self.by_id.entry(record.id.clone()).or_default().push(number);
        self.ring.push_back(Arc::new(record));
    }

    fn drop_oldest(&mut self) {
        let Some(old) = self.ring.pop_front() else { return };
        if let Some(numbers) = self.by_id.get_mut(&old.id) {
            numbers.retain(|number| *number != self.first);
            if numbers.is_empty() {
                self.by_id.remove(&old.id);
            }
        }
        self.first += 1;
    }

    /// All records of one request, on all hops, in the order in which they started.
    pub(crate) fn find(&self, id: &str) -> Vec<Arc<RequestRecord>> {
        let numbers = self.by_id.get(id).map(Vec::as_slice).unwrap_or_default();
        let at = |number: &u64| usize::try_from(number - self.first).ok().and_then(|i| self.ring.get(i)).cloned();
        let mut records: Vec<_> = numbers.iter().filter_map(at).collect();
        records.sort_by_key(|record| (record.start_unix_ms, record.reporter));
        records
    }

    /// The newest that match, newest first.
    pub(crate) fn list(&self, filter: &RecordFilter) -> Vec<Arc<RequestRecord>> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit.min(RECORDS_MAX) };
        let mut found: Vec<_> = self.ring.iter().rev().filter(|record| filter.matches(record)).take(limit).cloned().collect();
        found.sort_by_key(|record| std::cmp::Reverse(record.start_unix_ms));
        found
    }

    /// The newest that failed or were denied.
    pub(crate) fn bad(&self, records_max: usize) -> Vec<Arc<RequestRecord>> {
        let is_bad = |record: &&Arc<RequestRecord>| StatusFilter::Failed.matches(record) || StatusFilter::Denied.matches(record);
        self.ring.iter().rev().filter(is_bad).take(records_max).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, status: u16, start_unix_ms: u64) -> RequestRecord {
        RequestRecord { id: id.into(), status, start_unix_ms, ..RequestRecord::default() }
    }

    #[test]
    fn the_ring_is_bounded_and_its_index_follows() {
        let mut records = Records::default();
        for i in 0..RECORDS_MAX as u64 + 10 {
            records.add(record(&format!("r{}", i / 2), 200, i));
        }
        assert_eq!(records.len(), RECORDS_MAX);
        assert!(records.find("r4").is_empty(), "pushed out");
        assert_eq!(records.find("r5").len(), 2);
        assert_eq!(records.find("r5004").iter().map(|r| r.start_unix_ms).collect::<Vec<_>>(), [10_008, 10_009]);
        assert_eq!(records.by_id.len(), RECORDS_MAX / 2);
    }

    #[test]
    fn filters() {
        let mut records = Records::default();
        records.add(record("a", 200, 1));
        records.add(record("b", 503, 2));
        records.add(record("c", 404, 3));
        let ids = |filter: RecordFilter| records.list(&filter).iter().map(|r| r.id.clone()).collect::<Vec<_>>();
        let status = |text: &str| RecordFilter { status: Some(text.parse().expect(text)), ..RecordFilter::default() };
        assert_eq!(ids(RecordFilter::default()), ["c", "b", "a"]);
        assert_eq!(ids(status("5xx")), ["b"]);
        assert_eq!(ids(status("404")), ["c"]);
        assert_eq!(ids(status("failed")), ["b"]);
        assert_eq!(ids(RecordFilter { limit: 1, ..RecordFilter::default() }), ["c"]);
        for bad in ["", "xx", "5x", "axx", "1000", "ok"] {
            assert!(bad.parse::<StatusFilter>().is_err(), "{bad}");
        }
    }
}
