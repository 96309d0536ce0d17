//! Istio's standard metrics, counted per worker without a lock.
//!
//! A worker owns one [`Metrics`] and calls [`Metrics::observe`] for every record. The label set of a record is found by hashing
//! the record's own fields, so that no text is copied once a series exists. The cells are atomics with a single writer: plain
//! loads and stores. Anybody with a [`MetricsReader`] can take a [`MetricsSnapshot`] at any time and add up those of all workers.

use crate::{ProtocolKind, Reporter, RequestRecord};
use foldhash::fast::RandomState;
use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Most series that one worker keeps; records of further label sets are counted in `weft_metrics_series_overflow_total` only.
pub const SERIES_MAX: usize = 8_192;

/// Upper bounds of Istio's default histogram buckets (milliseconds, and for sizes bytes), in thousandths.
pub const HISTOGRAM_BOUNDS_MILLI: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
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
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

const BUCKETS: usize = HISTOGRAM_BOUNDS_MILLI.len() + 1;

/// Names of the labels, in the order of [`Labels`].
pub const LABEL_NAMES: [&str; 24] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "response_code",
];

/// The values of the standard labels of one series; `grpc` is `grpc_response_status`, empty unless the request was gRPC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    /// One value per name in [`LABEL_NAMES`].
    pub values: [Box<str>; LABEL_NAMES.len()],
    /// `grpc_response_status`.
    pub grpc: Box<str>,
    /// TCP connection: has no `response_code` and other metrics.
    pub tcp: bool,
}

/// Counts of one label set, written by one worker only.
#[derive(Debug, Default)]
struct Cells {
    requests: AtomicU64,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// In thousandths of the unit.
    sum_milli: AtomicU64,
}

/// Adds with a plain load and store: right because each cell has a single writer.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

impl Histogram {
    fn observe(&self, milli: u64) {
        let bucket = HISTOGRAM_BOUNDS_MILLI.partition_point(|bound| *bound < milli);
        if let Some(cell) = self.buckets.get(bucket) {
            add(cell, 1);
        }
        add(&self.sum_milli, milli);
    }
    fn read(&self) -> HistogramCounts {
        HistogramCounts { buckets: std::array::from_fn(|i| self.buckets[i].load(Relaxed)), sum_milli: self.sum_milli.load(Relaxed) }
    }
}

/// A histogram's values at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramCounts {
    /// One count per bound (not cumulative), and one for what is above all.
    pub buckets: [u64; BUCKETS],
    /// Sum in thousandths of the unit.
    pub sum_milli: u64,
}

/// Values of one label set at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesCounts {
    /// Requests, or connections for TCP.
    pub requests: u64,
    /// Milliseconds.
    pub duration: HistogramCounts,
    /// Bytes towards the destination (TCP: only the sum is used).
    pub request_bytes: HistogramCounts,
    /// Bytes towards the source.
    pub response_bytes: HistogramCounts,
}

/// All values of one or more workers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// By label set.
    pub series: BTreeMap<Labels, SeriesCounts>,
    /// Records whose label set was one too many.
    pub overflow: u64,
}

impl HistogramCounts {
    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.sum_milli += other.sum_milli;
    }
}

impl MetricsSnapshot {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.overflow += other.overflow;
        for (labels, counts) in &other.series {
            let mine = self.series.entry(labels.clone()).or_default();
            mine.requests += counts.requests;
            mine.duration.merge(&counts.duration);
            mine.request_bytes.merge(&counts.request_bytes);
            mine.response_bytes.merge(&counts.response_bytes);
        }
    }
}

#[derive(Debug)]
struct Series {
    key: SeriesKey,
    labels: Labels,
    cells: Cells,
}

#[derive(Debug, Default)]
struct Shared {
    /// Locked when a series is made and when somebody reads; never per request.
    series: Mutex<Vec<Arc<Series>>>,
    overflow: AtomicU64,
}

/// Takes snapshots of one worker's metrics, from any thread.
#[derive(Debug, Clone)]
pub struct MetricsReader {
    shared: Arc<Shared>,
}

impl MetricsReader {
    /// The values now. Cells are read one by one: a histogram may be ahead of its counter by the request that is being counted.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let series = self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |s: &Arc<Series>| {
            let c = &s.cells;
            let counts = SeriesCounts {
                requests: c.requests.load(Relaxed),
                duration: c.duration.read(),
                request_bytes: c.request_bytes.read(),
                response_bytes: c.response_bytes.read(),
            };
            (s.labels.clone(), counts)
        };
        MetricsSnapshot { series: series.iter().map(read).collect(), overflow: self.shared.overflow.load(Relaxed) }
    }
}

/// The metrics of one worker.
#[derive(Debug, Default)]
pub struct Metrics {
    hasher: RandomState,
    /// Series by hash of their key; more than one only after a collision.
    index: HashMap<u64, Vec<Arc<Series>>, RandomState>,
    count: usize,
    shared: Arc<Shared>,
}

impl Metrics {
    /// A handle for whoever scrapes.
    pub fn reader(&self) -> MetricsReader {
        MetricsReader { shared: self.shared.clone() }
    }
    /// The values now.
    pub fn snapshot(&self) -> MetricsSnapshot {
        self.reader().snapshot()
    }

    /// Counts one request or closed connection.
    pub fn observe(&mut self, record: &RequestRecord) {
        let hash = self.hasher.hash_one(RecordKey(record));
        if let Some(series) = self.index.get(&hash).and_then(|list| list.iter().find(|s| s.key.matches(record))) {
            return series.cells.observe(record);
        }
        if self.count >= SERIES_MAX {
            return add(&self.shared.overflow, 1);
        }
        let series = Arc::new(Series { key: SeriesKey::of(record), labels: labels_of(record), cells: Cells::default() });
        series.cells.observe(record);
        self.count += 1;
        self.index.entry(hash).or_default().push(series.clone());
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).push(series);
    }
}

impl Cells {
    fn observe(&self, record: &RequestRecord) {
        add(&self.requests, 1);
        if record.kind() == ProtocolKind::Tcp {
            add(&self.request_bytes.sum_milli, record.bytes_received.saturating_mul(1_000));
            add(&self.response_bytes.sum_milli, record.bytes_sent.saturating_mul(1_000));
            return;
        }
        self.duration.observe(record.duration_us);
        self.request_bytes.observe(record.bytes_received.saturating_mul(1_000));
        self.response_bytes.observe(record.bytes_sent.saturating_mul(1_000));
    }
}

/// The parts of a record that make its label set, hashed in place.
struct RecordKey<'a>(&'a RequestRecord);

impl Hash for RecordKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let r = self.0;
        (r.reporter, r.status, r.grpc_status, r.kind(), r.tls.is_some()).hash(state);
        r.flags.hash(state);
        r.destination_service.hash(state);
        for party in [&r.source, &r.destination] {
            party.workload.hash(state);
            party.version.hash(state);
            party.namespace.hash(state);
            party.service.hash(state);
            party.principal.hash(state);
        }
    }
}

/// An owned copy of what [`RecordKey`] hashes, to tell collisions apart.
#[derive(Debug)]
struct SeriesKey(RequestRecord);

impl SeriesKey {
    fn of(r: &RequestRecord) -> Self {
        Self(RequestRecord {
            reporter: r.reporter,
            status: r.status,
            grpc: r.grpc,
            grpc_status: r.grpc_status,
            protocol: r.protocol.clone(),
            tls: r.tls.clone(),
            flags: r.flags.clone(),
            destination_service: r.destination_service.clone(),
            source: r.source.clone(),
            destination: r.destination.clone(),
            ..RequestRecord::default()
        })
    }
    fn matches(&self, r: &RequestRecord) -> bool {
        let k = &self.0;
        (k.reporter, k.status, k.grpc_status, k.kind(), k.tls.is_some()) == (r.reporter, r.status, r.grpc_status, r.kind(), r.tls.is_some())
            && k.flags == r.flags
            && k.destination_service == r.destination_service
            && k.source == r.source
            && k.destination == r.destination
    }
}

/// The flags as one text, `-` for none.
pub fn flags_text(record: &RequestRecord) -> String {
    match record.flags.as_slice() {
        [] => "-".into(),
        flags => flags.iter().map(|f| f.code()).collect::<Vec<_>>().join(","),
    }
}

/// Name and namespace of the service, from its host: `reviews.default.svc…` is `reviews` in `default`; another host is its own name.
fn service_name_and_namespace(record: &RequestRecord) -> (&str, &str) {
    let host = record.destination_service.as_str();
    match host.split_once('.').and_then(|(name, rest)| Some((name, rest.split_once(".svc")?.0))) {
        Some((name, namespace)) if !namespace.contains('.') => (name, namespace),
        _ => (host, record.destination.namespace.as_str()),
    }
}

fn labels_of(record: &RequestRecord) -> Labels {
    let known = |text: &str| -> Box<str> { if text.is_empty() { "unknown".into() } else { text.into() } };
    let (source, destination) = (&record.source, &record.destination);
    let (service, service_namespace) = service_name_and_namespace(record);
    // As Istio: the caller's side does not know what the callee enforces.
    let security = match (record.reporter, &record.tls) {
        (Reporter::Source, _) => "unknown",
        (Reporter::Destination, Some(_)) => "mutual_tls",
        (Reporter::Destination, None) => "none",
    };
    let reporter = match record.reporter {
        Reporter::Source => "source",
        Reporter::Destination => "destination",
    };
    let tcp = record.kind() == ProtocolKind::Tcp;
    let grpc = match (record.grpc, record.grpc_status) {
        (true, Some(code)) => code.to_string(),
        _ => String::new(),
    };
    let values = [
        reporter.into(),
        known(&source.workload),
        known(&source.service),
        known(&source.version),
        known(&source.namespace),
        known(&source.principal),
        known(&source.service),
        known(&source.version),
        known(""),
        known(&destination.workload),
        known(&destination.namespace),
        known(&destination.principal),
        known(&destination.service),
        known(&destination.version),
        known(&record.destination_service),
        known(&destination.service),
        known(&destination.version),
        known(service),
        known(service_namespace),
        known(""),
        record.kind().name().into(),
        flags_text(record).into(),
        security.into(),
        record.status.to_string().into(),
    ];
    Labels { values, grpc: grpc.into(), tcp }
}
