//! Counting: Istio's standard metrics and the edges of the mesh, per worker and without a lock.
//!
//! Who calls whom hardly changes from one request to the next. A worker therefore resolves an [`Edge`] once per connection or
//! endpoint and keeps it; a request is then counted with a few additions: it copies and hashes no text. The outcome (status, flags)
//! picks one of the few series of the edge.

use crate::{
    EdgeCounts, EdgeKey, MetricsReader, MetricsSnapshot, OTHER, Party, ProtocolKind, Reporter, RequestRecord, ResponseFlag, SERIES_IDLE_S,
    SeriesBudget, SeriesLabels,
    series::{Cells, Series, Shared, add},
};
use foldhash::{HashMap, HashSet};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

/// Most edges that one worker keeps apart; further ones are counted as one between [`OTHER`] and [`OTHER`].
pub const EDGES_MAX: usize = 4_096;

/// Who calls whom, as one side sees it. Its names are shared: two edges of one caller have the same `source`.
#[derive(Debug, Clone)]
pub struct EdgeName {
    /// Side that counts.
    pub reporter: Reporter,
    /// Caller.
    pub source: Rc<Party>,
    /// Callee.
    pub destination: Rc<Party>,
    /// Host that is called.
    pub service: Rc<str>,
    /// What is spoken.
    pub kind: ProtocolKind,
    /// Over mutual TLS?
    pub mtls: bool,
}

impl EdgeName {
    /// Writes the names into a record.
    pub fn write(&self, record: &mut RequestRecord) {
        record.source.clone_from(&self.source);
        record.destination.clone_from(&self.destination);
        record.destination_service.replace_range(.., &self.service);
    }
}

type EdgeId = (Reporter, usize, usize, usize, ProtocolKind, bool);

impl EdgeName {
    /// Names are interned, so that their addresses tell them apart.
    fn id(&self) -> EdgeId {
        let address = |party: &Rc<Party>| Rc::as_ptr(party).addr();
        let service = Rc::as_ptr(&self.service).cast::<u8>().addr();
        (self.reporter, address(&self.source), address(&self.destination), service, self.kind, self.mtls)
    }
}

/// What a request or connection came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome<'a> {
    /// Status; 0 for none.
    pub status: u16,
    /// gRPC status.
    pub grpc_status: Option<u8>,
    /// Flags.
    pub flags: &'a [ResponseFlag],
    /// Length.
    pub duration_us: u64,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// gRPC messages of the request.
    pub request_messages: u64,
    /// gRPC messages of the response.
    pub response_messages: u64,
    /// Was it gRPC?
    pub grpc: bool,
}

impl<'a> Outcome<'a> {
    /// Of a record.
    pub fn of(record: &'a RequestRecord) -> Self {
        Self {
            status: record.status,
            grpc_status: record.grpc_status,
            flags: &record.flags,
            duration_us: record.duration_us,
            bytes_received: record.bytes_received,
            bytes_sent: record.bytes_sent,
            request_messages: record.request_messages,
            response_messages: record.response_messages,
            grpc: record.grpc,
        }
    }
    /// Did it fail, as health is counted: 5xx, a gRPC status of a server's fault, or no answer because of us or the upstream?
    pub fn is_failure(&self) -> bool {
        let left = || self.flags.iter().any(|f| matches!(f, ResponseFlag::DownstreamClosed | ResponseFlag::DownstreamReset));
        let grpc = self.grpc_status.is_some_and(|code| matches!(code, 2 | 4 | 8 | 12 | 13 | 14 | 15));
        self.status >= 500 || grpc || (self.status == 0 && !self.flags.is_empty() && !left())
    }
    /// The parts that pick a series, in one number.
    fn key(&self) -> u64 {
        let grpc = self.grpc_status.filter(|_| self.grpc).map_or(0, |code| u64::from(code) + 1);
        let flags = self.flags.iter().fold(0, |mask, flag| mask | 1 << (*flag as u64));
        u64::from(self.status) | grpc << 16 | flags << 25
    }
}

/// The outcome and the values of the custom dimensions.
type CustomKey = (u64, Vec<String>);

/// An edge with its counts: a worker's own.
#[derive(Debug)]
pub struct Edge {
    name: EdgeName,
    /// The series of each outcome: usually one or two.
    series: RefCell<Vec<(u64, Arc<Series>)>>,
    /// Those with custom dimensions.
    custom: RefCell<HashMap<CustomKey, Arc<Series>>>,
    counts: RefCell<EdgeCounts>,
    reported_s: Cell<u32>,
}

impl Edge {
    /// Who calls whom.
    pub fn name(&self) -> &EdgeName {
        &self.name
    }
}

/// The metrics of one worker.
#[derive(Debug, Default)]
pub struct Metrics {
    parties: HashSet<Rc<Party>>,
    services: HashSet<Rc<str>>,
    edges: HashMap<EdgeId, Rc<Edge>>,
    shared: Arc<Shared>,
    budget: SeriesBudget,
    now_s: u32,
}

impl Metrics {
    /// The metrics that `reader` reads, with places of `budget`.
    pub fn new(reader: &MetricsReader, budget: SeriesBudget) -> Self {
        Self { shared: reader.shared.clone(), budget, ..Self::default() }
    }
    /// A handle for whoever scrapes.
    pub fn reader(&self) -> MetricsReader {
        MetricsReader { shared: self.shared.clone() }
    }
    /// The values now.
    pub fn snapshot(&self) -> MetricsSnapshot {
        self.reader().snapshot()
    }

    /// The shared form of a party: equal parties are the same.
    pub fn party(&mut self, party: &Party) -> Rc<Party> {
        if let Some(known) = self.parties.get(party) {
            return known.clone();
        }
        let made = Rc::new(party.clone());
        self.parties.insert(made.clone());
        made
    }
    /// The shared form of a service's host.
    pub fn service(&mut self, host: &str) -> Rc<str> {
        if let Some(known) = self.services.get(host) {
            return known.clone();
        }
        let made: Rc<str> = host.into();
        self.services.insert(made.clone());
        made
    }

    /// The edge of `name`, whose parts this worker's [`Metrics::party`] and [`Metrics::service`] have made.
    pub fn edge(&mut self, name: EdgeName) -> Rc<Edge> {
        let id = name.id();
        if let Some(known) = self.edges.get(&id) {
            return known.clone();
        }
        if self.edges.len() >= EDGES_MAX && &*name.service != OTHER {
            return self.other(&name);
        }
        let edge = Edge {
            name,
            series: RefCell::default(),
            custom: RefCell::default(),
            counts: RefCell::default(),
            reported_s: Cell::new(self.now_s),
        };
        let edge = Rc::new(edge);
        self.edges.insert(id, edge.clone());
        edge
    }

    /// The edge of a record.
    pub fn edge_of(&mut self, record: &RequestRecord) -> Rc<Edge> {
        let name = EdgeName {
            reporter: record.reporter,
            source: self.party(&record.source),
            destination: self.party(&record.destination),
            service: self.service(&record.destination_service),
            kind: record.kind(),
            mtls: record.tls.is_some(),
        };
        self.edge(name)
    }

    /// Stands for all edges beyond the budget.
    fn other(&mut self, name: &EdgeName) -> Rc<Edge> {
        let party = self.party(&Party { workload: OTHER.into(), namespace: OTHER.into(), service: OTHER.into(), ..Party::default() });
        let service = self.service(OTHER);
        self.edge(EdgeName { source: party.clone(), destination: party, service, ..name.clone() })
    }

    /// Counts one request or closed connection.
    pub fn observe(&mut self, record: &RequestRecord) {
        let edge = self.edge_of(record);
        self.count(&edge, &Outcome::of(record), &[]);
    }

    /// Counts one request or closed connection; `custom` are the values of its custom dimensions, by name.
    pub fn count(&mut self, edge: &Rc<Edge>, outcome: &Outcome<'_>, custom: &[(Box<str>, String)]) {
        edge.counts.borrow_mut().observe(&edge.name, outcome);
        if let Some(series) = self.series(edge, outcome, custom) {
            series.cells.observe(edge.name.kind, outcome);
        }
    }

    /// Counts a TCP connection that begins.
    pub fn opened(&mut self, edge: &Rc<Edge>) {
        if let Some(series) = self.series(edge, &Outcome::default(), &[]) {
            add(&series.cells.opened, 1);
        }
    }

    fn series(&mut self, edge: &Rc<Edge>, outcome: &Outcome<'_>, custom: &[(Box<str>, String)]) -> Option<Arc<Series>> {
        let key = outcome.key();
        let found = match custom {
            [] => edge.series.borrow().iter().find(|(k, _)| *k == key).map(|(_, s)| s.clone()),
            custom => {
                let values = custom.iter().map(|(_, value)| value.clone()).collect();
                edge.custom.borrow().get(&(key, values)).cloned()
            }
        };
        if let Some(series) = found.filter(|s| !s.expired.load(Relaxed)) {
            series.used_s.store(self.now_s, Relaxed);
            return Some(series);
        }
        self.new_series(edge, outcome, custom)
    }

    #[cold]
    fn new_series(&mut self, edge: &Rc<Edge>, outcome: &Outcome<'_>, custom: &[(Box<str>, String)]) -> Option<Arc<Series>> {
        let folded = &*edge.name.service == OTHER;
        if !folded && !self.budget.take() {
            add(&self.shared.overflow, 1);
            let other = self.other(&edge.name);
            return self.series(&other, outcome, &[]);
        }
        if folded && edge.series.borrow().len() >= OTHER_SERIES_MAX {
            return None;
        }
        let key = outcome.key();
        let series = Arc::new(Series {
            labels: labels(&edge.name, outcome, custom),
            cells: Cells::default(),
            used_s: AtomicU32::new(self.now_s),
            expired: AtomicBool::new(false),
        });
        match custom {
            [] => {
                let mut list = edge.series.borrow_mut();
                list.retain(|(k, _)| *k != key);
                list.push((key, series.clone()));
            }
            custom => drop(edge.custom.borrow_mut().insert((key, custom.iter().map(|(_, v)| v.clone()).collect()), series.clone())),
        }
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).push(series.clone());
        Some(series)
    }

    /// Tells the time, in seconds since any moment, about once a second.
    pub fn tick(&mut self, now_s: u32) {
        let minute = self.now_s / 60 != now_s / 60;
        self.now_s = now_s;
        if minute {
            self.sweep();
        }
    }

    /// Drops what nothing has used for long.
    fn sweep(&mut self) {
        let now = self.now_s;
        let idle = |s: &Series| now.saturating_sub(s.used_s.load(Relaxed)) > SERIES_IDLE_S;
        let mut dropped = 0;
        self.shared.series.lock().unwrap_or_else(PoisonError::into_inner).retain(|s| {
            let drop = idle(s);
            if drop {
                s.expired.store(true, Relaxed);
                dropped += usize::from(s.labels.values[SERVICE_LABEL].as_ref() != OTHER);
                add(&self.shared.expired, 1);
            }
            !drop
        });
        self.budget.give_back(dropped);
        self.edges.retain(|_, edge| {
            edge.series.borrow_mut().retain(|(_, s)| !s.expired.load(Relaxed));
            edge.custom.borrow_mut().retain(|_, s| !s.expired.load(Relaxed));
            let in_use = Rc::strong_count(edge) > 1 || edge.counts.borrow().requests > 0;
            in_use || !edge.series.borrow().is_empty() || !edge.custom.borrow().is_empty()
        });
        self.parties.retain(|party| Rc::strong_count(party) > 1);
        self.services.retain(|service| Rc::strong_count(service) > 1);
    }

    /// What the edges counted since the last call.
    pub fn take_edges(&mut self) -> Vec<(EdgeKey, EdgeCounts)> {
        let mut taken = Vec::new();
        #[allow(clippy::iter_over_hash_type, reason = "sorted below")]
        for edge in self.edges.values().filter(|e| e.counts.borrow().requests > 0) {
            edge.reported_s.set(self.now_s);
            taken.push((EdgeKey::from(&edge.name), edge.counts.take()));
        }
        taken.sort_by(|(a, _), (b, _)| a.cmp(b));
        taken
    }
}

/// The key of an outcome has room for so many flags.
const _: () = assert!(ResponseFlag::ALL.len() <= 39);

/// Most outcomes of the edge that stands for the others.
const OTHER_SERIES_MAX: usize = 256;
/// Place of `destination_service` among the labels.
const SERVICE_LABEL: usize = 14;

impl Cells {
    fn observe(&self, kind: ProtocolKind, outcome: &Outcome<'_>) {
        add(&self.requests, 1);
        if kind == ProtocolKind::Tcp {
            add(&self.request_bytes.sum_milli, outcome.bytes_received.saturating_mul(1_000));
            add(&self.response_bytes.sum_milli, outcome.bytes_sent.saturating_mul(1_000));
            return;
        }
        self.duration.observe(outcome.duration_us);
        self.request_bytes.observe(outcome.bytes_received.saturating_mul(1_000));
        self.response_bytes.observe(outcome.bytes_sent.saturating_mul(1_000));
        if kind == ProtocolKind::Grpc {
            add(&self.request_messages, outcome.request_messages);
            add(&self.response_messages, outcome.response_messages);
        }
    }
}

/// The flags as one text, `-` for none.
pub fn flags_text(flags: &[ResponseFlag]) -> String {
    match flags {
        [] => "-".into(),
        flags => flags.iter().map(|f| f.code()).collect::<Vec<_>>().join(","),
    }
}

/// Name and namespace of the service, from its host: `reviews.default.svc…` is `reviews` in `default`; another host is its own name.
fn service_name_and_namespace(name: &EdgeName) -> (&str, &str) {
    let host = &*name.service;
    match host.split_once('.').and_then(|(name, rest)| Some((name, rest.split_once(".svc")?.0))) {
        Some((name, namespace)) if !namespace.contains('.') => (name, namespace),
        _ => (host, name.destination.namespace.as_str()),
    }
}

fn labels(name: &EdgeName, outcome: &Outcome<'_>, custom: &[(Box<str>, String)]) -> SeriesLabels {
    let known = |text: &str| -> Box<str> { if text.is_empty() { "unknown".into() } else { text.into() } };
    let (source, destination) = (&name.source, &name.destination);
    let (service, service_namespace) = service_name_and_namespace(name);
    // As Istio: the caller's side does not know what the callee enforces.
    let security = match (name.reporter, name.mtls) {
        (Reporter::Source, _) => "unknown",
        (Reporter::Destination, true) => "mutual_tls",
        (Reporter::Destination, false) => "none",
    };
    let reporter = match name.reporter {
        Reporter::Source => "source",
        Reporter::Destination => "destination",
    };
    let tcp = name.kind == ProtocolKind::Tcp;
    let grpc = outcome.grpc_status.filter(|_| outcome.grpc).map(|code| code.to_string()).unwrap_or_default();
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
        known(&name.service),
        known(&destination.service),
        known(&destination.version),
        known(service),
        known(service_namespace),
        known(""),
        name.kind.name().into(),
        flags_text(outcome.flags).into(),
        security.into(),
        outcome.status.to_string().into(),
    ];
    let custom = custom.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    SeriesLabels { values, grpc: grpc.into(), tcp, custom }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(service: &str) -> RequestRecord {
        RequestRecord { status: 200, protocol: "HTTP/1.1".into(), destination_service: service.into(), ..RequestRecord::default() }
    }

    #[test]
    fn beyond_the_budget_series_are_folded_and_counted() {
        let mut metrics = Metrics::new(&MetricsReader::default(), SeriesBudget::of(3));
        (0..10).for_each(|i| metrics.observe(&record(&format!("host-{i}"))));
        let snapshot = metrics.snapshot();
        let of = |service: &str| {
            let found = snapshot.series.iter().find(|(l, _)| &*l.values[SERVICE_LABEL] == service);
            found.map(|(_, c)| c.requests)
        };
        assert_eq!((snapshot.series.len(), of("host-2"), of("host-3"), of(OTHER)), (4, Some(1), None, Some(7)));
        assert_eq!(snapshot.overflow, 7);
        // The known ones are still counted apart, and no request is lost.
        metrics.observe(&record("host-1"));
        assert_eq!(metrics.snapshot().series.values().map(|c| c.requests).sum::<u64>(), 11);
    }

    #[test]
    fn idle_series_expire_and_start_anew() {
        let mut metrics = Metrics::new(&MetricsReader::default(), SeriesBudget::of(2));
        let edge = metrics.edge_of(&record("a"));
        metrics.count(&edge, &Outcome { status: 200, ..Outcome::default() }, &[]);
        metrics.observe(&record("b"));
        metrics.take_edges();
        metrics.tick(SERIES_IDLE_S);
        metrics.observe(&record("b"));
        metrics.tick(SERIES_IDLE_S + 120);
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.series.len(), snapshot.expired), (1, 1));
        // Its place is free again, and who kept the handle counts on.
        metrics.count(&edge, &Outcome { status: 200, ..Outcome::default() }, &[]);
        assert_eq!((metrics.snapshot().series.len(), metrics.snapshot().overflow), (2, 0));
    }

    #[test]
    fn edges_count_once_per_side_and_are_taken() {
        let mut metrics = Metrics::default();
        (0..3).for_each(|_| metrics.observe(&record("a")));
        metrics.observe(&RequestRecord { status: 503, ..record("a") });
        let taken = metrics.take_edges();
        assert_eq!(taken.iter().map(|(k, c)| (k.destination_service.as_str(), c.requests, c.failures)).collect::<Vec<_>>(), [("a", 4, 1)]);
        assert!(metrics.take_edges().is_empty());
    }
}
