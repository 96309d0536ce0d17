//! A worker: one thread with its own runtime, listeners, pools and counters. Nothing here is shared but the snapshot.

use crate::{
    detection::Detection,
    http::{Http2, Pool},
    shared::Shared,
    snapshot::Snapshot,
    telemetry::{Plan, Telemetry},
    upstream::Upstream,
};
use foldhash::HashMap;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};
use weft_model::{ClusterName, ConnectionLimits};
use weft_std::{
    DrainWatch, Spawner,
    clock::{self, Instant},
};
use weft_telemetry::{Edge, Extras, Metrics, Party, Registry, RequestRecord};

/// Longest time that a connection to the program stays idle, in milliseconds.
const PROGRAM_IDLE_MS: u64 = 3_000;

/// One worker, seen from everything that runs on it.
pub(crate) struct Worker {
    pub shared: Arc<Shared>,
    pub settings: Arc<Settings>,
    pub tasks: Spawner,
    pub drain: DrainWatch,
    /// Pools towards the program, by its port.
    pub programs: RefCell<HashMap<u16, Rc<Pool>>>,
    /// Hosts that the mesh did not know a moment ago.
    pub unknown: RefCell<HashMap<String, Instant>>,
    /// How HTTP/2 is spoken.
    pub http2: Http2,
    /// Ports on which the server speaks first.
    pub detection: Detection,
    /// Connections being served.
    pub connections: Cell<usize>,
    /// Listeners that still accept.
    pub listeners: Cell<usize>,
    config: RefCell<Rc<Config>>,
    telemetry: RefCell<Telemetry>,
    random: RefCell<SmallRng>,
    epoch: Instant,
}

/// What all workers of a proxy are told at their start.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Counters of limits that were hit.
    pub registry: Registry,
    /// Name of the proxy until it knows its workload.
    pub name: String,
    /// How often telemetry is handed over.
    pub report_interval: std::time::Duration,
    /// Longest wait for a request's head.
    pub header_timeout: std::time::Duration,
    /// What is short.
    pub overload: Arc<crate::overload::Overload>,
}

/// The snapshot with this worker's state of its clusters. Held once per request.
pub(crate) struct Config {
    pub snapshot: Arc<Snapshot>,
    pub upstreams: HashMap<ClusterName, Rc<Upstream>>,
    /// The workload that this proxy stands for, as telemetry names it.
    pub own: Rc<Party>,
    /// The same as `x-weft-peer`.
    pub own_header: Option<http::HeaderValue>,
    pub proxy_id: String,
    /// What is asked of telemetry.
    pub plan: Rc<Plan>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, settings: Arc<Settings>, tasks: Spawner, drain: DrainWatch, telemetry: Telemetry) -> Rc<Self> {
        let epoch = shared.epoch;
        let empty = Config::new(shared.snapshot(), &HashMap::default(), epoch, &settings);
        let http2 = Http2::new(&settings);
        Rc::new(Self {
            shared,
            settings,
            http2,
            tasks,
            drain,
            programs: RefCell::default(),
            unknown: RefCell::default(),
            detection: Detection::default(),
            connections: Cell::new(0),
            listeners: Cell::new(0),
            config: RefCell::new(Rc::new(empty)),
            telemetry: RefCell::new(telemetry),
            random: RefCell::new(SmallRng::from_os_rng()),
            epoch,
        })
    }

    /// The configuration of the moment: one pointer comparison, unless a new snapshot was published.
    pub(crate) fn config(&self) -> Rc<Config> {
        let current = self.shared.load();
        let known = self.config.borrow();
        if Arc::ptr_eq(&current, &known.snapshot) {
            return known.clone();
        }
        let next = Rc::new(Config::new(Arc::clone(&current), &known.upstreams, self.epoch, &self.settings));
        drop(known);
        *self.config.borrow_mut() = next.clone();
        next
    }

    /// 64 random bits; not for secrets.
    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().random()
    }
    /// A roll for shares and weights.
    pub(crate) fn roll(&self) -> u32 {
        self.random.borrow_mut().random()
    }

    /// Id of the workload whose proxy this is.
    pub(crate) fn proxy_id(&self) -> String {
        self.config.borrow().proxy_id.clone()
    }

    /// Counts a connection (or a tunnel) until the guard is dropped; a drain waits for it.
    pub(crate) fn count_connection(self: &Rc<Self>) -> Counted {
        self.connections.set(self.connections.get() + 1);
        self.settings.overload.connected();
        Counted(self.clone())
    }

    /// Counts, logs and reports a finished record.
    pub(crate) fn observe(&self, mut record: RequestRecord) {
        let edge = self.metrics(|metrics| metrics.edge_of(&record));
        let plan = self.config.borrow().plan.clone();
        self.finish(&plan, &edge, &mut record, true, |_| None);
    }

    /// The same for a request of a known edge. `fill` adds what is not counted; it is called only if somebody will read the record.
    pub(crate) fn finish(
        &self,
        plan: &Plan,
        edge: &Rc<Edge>,
        record: &mut RequestRecord,
        sampled: bool,
        fill: impl FnOnce(&mut RequestRecord) -> Option<Box<Extras>>,
    ) {
        let roll = if plan.reads(record.reporter) { self.roll() } else { 0 };
        self.telemetry.borrow_mut().finish(plan, edge, record, (roll, sampled), fill);
    }

    /// The metrics, to resolve names and edges.
    pub(crate) fn metrics<T>(&self, with: impl FnOnce(&mut Metrics) -> T) -> T {
        with(self.telemetry.borrow_mut().metrics())
    }

    /// Clusters, pools and ejections, for `/config`.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let (config, now) = (self.config(), clock::now());
        let mut clusters: Vec<(&ClusterName, &Rc<Upstream>)> = config.upstreams.iter().collect();
        clusters.sort_by_key(|(name, _)| *name);
        let clusters: Vec<serde_json::Value> = clusters.into_iter().map(|(_, upstream)| upstream.state(now)).collect();
        serde_json::json!({
            "connections": self.connections.get(), "detected": self.detection.describe(now), "clusters": clusters
        })
    }

    /// About once a second: hands telemetry over, closes idle connections, forgets old answers.
    pub(crate) fn tick(self: &Rc<Self>) {
        let now = clock::now();
        let seconds = u32::try_from(now.saturating_duration_since(self.epoch).as_secs()).unwrap_or(u32::MAX);
        let batches = self.telemetry.borrow_mut().flush(&self.shared.reports, seconds, &self.settings.registry);
        crate::telemetry::export(self, batches);
        self.shared.taps.flush(&self.shared.reports, now);
        let config = self.config();
        #[allow(clippy::iter_over_hash_type, reason = "each is swept by itself")]
        for upstream in config.upstreams.values() {
            upstream.sweep(now);
            for host in upstream.follow_names(&self.shared.names, now) {
                let shared = self.shared.clone();
                self.tasks.spawn_local("name", async move { shared.names.refresh(&host).await });
            }
        }
        crate::health_check::tend(self, &config);
        let programs: Vec<(u16, Rc<Pool>)> = self.programs.borrow().iter().map(|(port, pool)| (*port, pool.clone())).collect();
        for (port, pool) in programs {
            pool.set_limits(&config.program_limits(port));
            pool.sweep(now);
        }
        self.unknown.borrow_mut().retain(|_, until| *until > now);
    }
}

/// A connection in the worker's count.
pub(crate) struct Counted(Rc<Worker>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.settings.overload.disconnected();
    }
}

impl Config {
    /// Limits towards the program. Idle connections are closed early: many servers close theirs after five seconds, and a request
    /// that meets such a close cannot be sent again.
    pub(crate) fn program_limits(&self, port: u16) -> ConnectionLimits {
        let ports = self.snapshot.inbound.as_ref().map(|i| i.ports.as_slice()).unwrap_or_default();
        let declared = ports.iter().find(|p| p.port == port).map(|p| p.limits.clone()).unwrap_or_default();
        ConnectionLimits { idle_timeout_ms: declared.idle_timeout_ms.or(Some(PROGRAM_IDLE_MS)), ..declared }
    }

    fn new(snapshot: Arc<Snapshot>, known: &HashMap<ClusterName, Rc<Upstream>>, epoch: Instant, settings: &Settings) -> Self {
        let name = settings.name.as_str();
        let mut upstreams = HashMap::default();
        for entry in snapshot.clusters() {
            let upstream = match known.get(&entry.cluster.name) {
                Some(upstream) => {
                    upstream.update(entry);
                    upstream.clone()
                }
                None => Upstream::new(entry.clone(), epoch, settings.registry.clone()),
            };
            upstreams.insert(entry.cluster.name.clone(), upstream);
        }
        let workload = snapshot.inbound.as_ref().map(|i| &i.workload);
        let own = workload.map_or_else(
            || Party { workload: name.into(), ..Party::default() },
            |w| Party {
                workload: w.name.clone(),
                namespace: w.namespace.clone(),
                service: w.canonical_service().into(),
                version: w.canonical_revision().into(),
                principal: w.identity.to_string(),
            },
        );
        let proxy_id = workload.map_or_else(|| name.to_owned(), |w| w.id.clone());
        let own_header = crate::http::peer_value(&own);
        let plan = Rc::new(Plan::new(&snapshot.telemetry, workload.map(|w| w.labels.clone()).unwrap_or_default()));
        Self { snapshot, upstreams, own: Rc::new(own), own_header, proxy_id, plan }
    }
}
