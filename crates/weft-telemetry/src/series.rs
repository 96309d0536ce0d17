//! Series: one label set with its counts. Written by one worker with plain loads and stores, read by anybody.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// Most series of one proxy, all workers together. Requests of further label sets are counted in series whose parties and service
/// are called [`OTHER`], and in `weft_metrics_series_overflow_total`.
pub const SERIES_MAX: usize = 4_096;
/// A series without a request for this long is dropped; a later request starts it anew.
pub const SERIES_IDLE_S: u32 = 15 * 60;
/// Longest value of a label that a request decides (a custom dimension), in bytes; longer ones are cut.
pub const LABEL_BYTES_MAX: usize = 128;
/// Stands for parties, services and custom dimensions beyond the budget.
pub const OTHER: &str = "other";

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

/// Names of the labels, in the order of [`SeriesLabels`].
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

/// The values of the labels of one series; `grpc` is `grpc_response_status`, empty unless the request was gRPC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesLabels {
    /// One value per name in [`LABEL_NAMES`].
    pub values: [Box<str>; LABEL_NAMES.len()],
    /// `grpc_response_status`.
    pub grpc: Box<str>,
    /// TCP connection: has no `response_code` and other metrics.
    pub tcp: bool,
    /// Custom dimensions, by name.
    pub custom: Box<[(Box<str>, Box<str>)]>,
}

/// Adds with a plain load and store: right because each cell has a single writer.
pub(crate) fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Counts of one label set, written by one worker only.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) requests: AtomicU64,
    /// TCP connections opened.
    pub(crate) opened: AtomicU64,
    pub(crate) duration: Histogram,
    pub(crate) request_bytes: Histogram,
    pub(crate) response_bytes: Histogram,
    pub(crate) request_messages: AtomicU64,
    pub(crate) response_messages: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// In thousandths of the unit.
    pub(crate) sum_milli: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, milli: u64) {
        // Most values are small, and few steps from the start are cheaper than halving.
        let bucket = match HISTOGRAM_BOUNDS_MILLI.iter().take(4).position(|bound| milli <= *bound) {
            Some(bucket) => bucket,
            None => HISTOGRAM_BOUNDS_MILLI.partition_point(|bound| *bound < milli),
        };
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
    /// Requests, or closed connections for TCP.
    pub requests: u64,
    /// TCP connections opened.
    pub opened: u64,
    /// Milliseconds.
    pub duration: HistogramCounts,
    /// Bytes towards the destination (TCP: only the sum is used).
    pub request_bytes: HistogramCounts,
    /// Bytes towards the source.
    pub response_bytes: HistogramCounts,
    /// gRPC messages towards the destination.
    pub request_messages: u64,
    /// gRPC messages towards the source.
    pub response_messages: u64,
}

/// All values of one or more workers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// By label set.
    pub series: BTreeMap<SeriesLabels, SeriesCounts>,
    /// Requests whose label set was one too many.
    pub overflow: u64,
    /// Series that were dropped because nothing used them.
    pub expired: u64,
}

impl HistogramCounts {
    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.sum_milli += other.sum_milli;
    }
}

impl SeriesCounts {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.opened += other.opened;
        self.duration.merge(&other.duration);
        self.request_bytes.merge(&other.request_bytes);
        self.response_bytes.merge(&other.response_bytes);
        self.request_messages += other.request_messages;
        self.response_messages += other.response_messages;
    }
}

impl MetricsSnapshot {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.overflow += other.overflow;
        self.expired += other.expired;
        for (labels, counts) in &other.series {
            self.series.entry(labels.clone()).or_default().merge(counts);
        }
    }
}

/// A label set and its cells.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: SeriesLabels,
    pub(crate) cells: Cells,
    /// Second of the worker's clock in which it was last written.
    pub(crate) used_s: AtomicU32,
    /// Dropped: nobody reads it any more.
    pub(crate) expired: AtomicBool,
}

/// Places for series, shared by the workers of a proxy.
#[derive(Debug, Clone)]
pub struct SeriesBudget(Arc<AtomicUsize>);

impl Default for SeriesBudget {
    fn default() -> Self {
        Self::of(SERIES_MAX)
    }
}

impl SeriesBudget {
    /// With `places`.
    pub fn of(places: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(places)))
    }
    pub(crate) fn take(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
    pub(crate) fn give_back(&self, places: usize) {
        self.0.fetch_add(places, Relaxed);
    }
}

/// What a worker's metrics and their readers share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Locked when a series is made or dropped and when somebody reads; never per request.
    pub(crate) series: Mutex<Vec<Arc<Series>>>,
    pub(crate) overflow: AtomicU64,
    pub(crate) expired: AtomicU64,
}

/// Takes snapshots of one worker's metrics, from any thread.
#[derive(Debug, Clone, Default)]
pub struct MetricsReader {
    pub(crate) shared: Arc<Shared>,
}

impl MetricsReader {
    /// The values now. Cells are read one by one: a histogram may be ahead of its counter by the request that is being counted.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let series = self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut snapshot = MetricsSnapshot {
            series: BTreeMap::new(),
            overflow: self.shared.overflow.load(Relaxed),
            expired: self.shared.expired.load(Relaxed),
        };
        for s in &series {
            snapshot.series.entry(s.labels.clone()).or_default().merge(&s.cells.read());
        }
        snapshot
    }
}

impl Cells {
    fn read(&self) -> SeriesCounts {
        SeriesCounts {
            requests: self.requests.load(Relaxed),
            opened: self.opened.load(Relaxed),
            duration: self.duration.read(),
            request_bytes: self.request_bytes.read(),
            response_bytes: self.response_bytes.read(),
            request_messages: self.request_messages.load(Relaxed),
            response_messages: self.response_messages.load(Relaxed),
        }
    }
}
