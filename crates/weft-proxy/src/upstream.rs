//! One cluster on one worker: its balancer, its pools, its counts.

use crate::{
    dial::{Announcement, Dial, DialTls, Outside},
    edges::EdgeCache,
    http::{Pool, Reject},
    limits::{BUSY_DEFAULT, RETRY_AFTER_MAX},
    names::Names,
    snapshot::ClusterEntry,
};
use foldhash::HashMap;
use http::HeaderMap;
use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use weft_balance::{Balancer, EjectionChange, EndpointId, Latency, NoEndpoint, Outcome, Pick, Slot, WorkerRequests};
use weft_model::{Balancing, Endpoint, EndpointTls, HashPolicy, HttpVersionChoice, Protocol, UpstreamTls};
use weft_std::clock::{self, Instant};
use weft_telemetry::Registry;

/// A cluster and everything under way towards it from this worker.
pub(crate) struct Upstream {
    entry: RefCell<Arc<ClusterEntry>>,
    balancer: RefCell<Balancer>,
    /// This worker's requests, for the retry budget.
    requests: Arc<WorkerRequests>,
    pools: RefCell<HashMap<EndpointId, Rc<Chosen>>>,
    freed: Rc<Notify>,
    /// How long answers took to begin, for hedging.
    latency: RefCell<Latency>,
    /// Endpoints whose names have become addresses; empty until then.
    expanded: RefCell<Vec<Endpoint>>,
    /// Zero of the balancer's time.
    epoch: Instant,
    registry: Registry,
}

/// An endpoint with the pool of connections to it.
pub(crate) struct Chosen {
    pub id: EndpointId,
    pub endpoint: Endpoint,
    pub pool: Rc<Pool>,
    /// Who calls it, for telemetry.
    pub edges: EdgeCache,
}

impl Upstream {
    pub(crate) fn new(entry: Arc<ClusterEntry>, epoch: Instant, registry: Registry) -> Rc<Self> {
        let mut balancer = Balancer::default();
        balancer.update(entry.plan.clone());
        Rc::new(Self {
            requests: entry.gate.worker(),
            entry: RefCell::new(entry),
            balancer: RefCell::new(balancer),
            pools: RefCell::default(),
            freed: Rc::default(),
            latency: RefCell::default(),
            expanded: RefCell::default(),
            epoch,
            registry,
        })
    }

    /// Takes over a new form; connections to endpoints that stay are kept.
    pub(crate) fn update(&self, entry: &Arc<ClusterEntry>) {
        if Arc::ptr_eq(&self.entry.borrow(), entry) {
            return;
        }
        let tls_changed = {
            let (before, now) = (&self.entry.borrow().cluster, &entry.cluster);
            (before.tls, &before.sni, &before.origination) != (now.tls, &now.sni, &now.origination)
        };
        *self.entry.borrow_mut() = entry.clone();
        self.expanded.borrow_mut().clear();
        let mut balancer = self.balancer.borrow_mut();
        balancer.update(entry.plan.clone());
        let mut pools = self.pools.borrow_mut();
        pools.retain(|id, _| !tls_changed && balancer.contains(*id));
        #[allow(clippy::iter_over_hash_type, reason = "each is set to the same value")]
        for chosen in pools.values() {
            chosen.pool.set_limits(&entry.cluster.limits);
        }
    }

    /// Follows the addresses of names among the endpoints, and returns the names that are to be asked for again.
    pub(crate) fn follow_names(&self, names: &Names, now: Instant) -> Vec<String> {
        let entry = self.entry.borrow().clone();
        let hosts = entry
            .endpoints
            .iter()
            .filter_map(|e| if let weft_model::EndpointAddress::Name { host, .. } = &e.address { Some(host) } else { None });
        let mut hosts = hosts.peekable();
        if hosts.peek().is_none() {
            return Vec::new();
        }
        let due = hosts.filter(|host| names.is_due(host, now)).cloned().collect();
        let expanded = names.expand(&usable(&entry.cluster, &entry.endpoints), entry.cluster.dns, entry.cluster.dns_trust);
        if *self.expanded.borrow() != expanded {
            let plan = weft_balance::Plan::new(&entry.cluster, expanded.clone(), &entry.place, entry.plan.standings().clone());
            let mut balancer = self.balancer.borrow_mut();
            balancer.update(Arc::new(plan));
            self.pools.borrow_mut().retain(|id, _| balancer.contains(*id));
            *self.expanded.borrow_mut() = expanded;
        }
        due
    }

    /// The cluster as configured.
    pub(crate) fn entry(&self) -> Arc<ClusterEntry> {
        self.entry.borrow().clone()
    }

    /// What holds a request at an endpoint. Looked at for each request, hence without a count of the entry.
    pub(crate) fn with_hash<T>(&self, of: impl FnOnce(&HashPolicy) -> T) -> Option<T> {
        self.entry.borrow().plan.hash().map(of)
    }

    /// What its port speaks, or is spoken to in.
    pub(crate) fn protocol(&self) -> Protocol {
        let entry = self.entry.borrow();
        match (entry.cluster.protocol, entry.cluster.limits.http_version) {
            (Protocol::Http, HttpVersionChoice::Upgrade) => Protocol::Http2,
            (Protocol::Http | Protocol::Http2, HttpVersionChoice::Client) => Protocol::Auto,
            (declared, _) => declared,
        }
    }

    /// Is it spoken to in what its callers speak, even at the edge?
    pub(crate) fn follows_client(&self) -> bool {
        self.entry.borrow().cluster.limits.http_version == HttpVersionChoice::Client
    }

    /// Time since the proxy's epoch.
    pub(crate) fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.epoch)
    }

    /// The endpoint with this id and its pool, if it is still there.
    pub(crate) fn chosen(self: &Rc<Self>, id: EndpointId) -> Option<Rc<Chosen>> {
        let plan = self.entry.borrow().plan.clone();
        let host = plan.hosts().iter().find(|host| host.id == id)?;
        Some(self.pooled(id, &host.endpoint))
    }

    fn pooled(self: &Rc<Self>, id: EndpointId, endpoint: &Endpoint) -> Rc<Chosen> {
        if let Some(chosen) = self.pools.borrow().get(&id) {
            return chosen.clone();
        }
        let chosen = self.open(id, endpoint);
        self.pools.borrow_mut().insert(id, chosen.clone());
        chosen
    }

    /// Is it spoken to over the mesh?
    pub(crate) fn is_mesh(&self) -> bool {
        let entry = self.entry.borrow();
        let mesh = matches!(entry.cluster.tls, UpstreamTls::Auto | UpstreamTls::IstioMutual);
        mesh && entry.endpoints.iter().any(|e| e.tls == EndpointTls::Mesh)
    }

    /// The next endpoint.
    pub(crate) fn pick(self: &Rc<Self>, now: Instant, rolls: (u32, u32), tried: &[EndpointId]) -> Result<Rc<Chosen>, Reject> {
        self.pick_by(now, rolls, tried, &[], None)
    }

    /// As `pick`, for a request with this hash that leaves the localities of `left`.
    pub(crate) fn pick_by(
        self: &Rc<Self>,
        now: Instant,
        rolls: (u32, u32),
        tried: &[EndpointId],
        left: &[EndpointId],
        hash: Option<u64>,
    ) -> Result<Rc<Chosen>, Reject> {
        let mut balancer = self.balancer.borrow_mut();
        let now = now.saturating_duration_since(self.epoch);
        {
            let entry = self.entry.borrow();
            if entry.cluster.health_check.is_some() {
                entry.checks.used(now);
            }
        }
        match balancer.pick(&Pick { now, rolls, tried, left, hash }) {
            Ok((id, endpoint)) => Ok(self.pooled(id, endpoint)),
            Err(why) => {
                let reason = match why {
                    NoEndpoint::Empty => "the service has no endpoint",
                    NoEndpoint::Unhealthy => "no endpoint of the service is healthy",
                    NoEndpoint::FailsCheck => "all endpoints of the service fail their active health check",
                    NoEndpoint::Ejected => "all endpoints of the service are ejected after errors in a row",
                };
                let cluster = &self.entry.borrow().cluster;
                let by = match why {
                    NoEndpoint::Ejected => balancer.outlier().map(|o| &o.origin),
                    NoEndpoint::FailsCheck => cluster.health_check.as_ref().map(|check| &check.origin),
                    NoEndpoint::Empty | NoEndpoint::Unhealthy => None,
                };
                let cause = by.unwrap_or(&cluster.origin).clone();
                Err(Reject::NoEndpoint { reason, cause: Some(Box::new(cause)) })
            }
        }
    }

    /// How an endpoint is spoken to.
    fn tls_for(&self, endpoint: &Endpoint) -> DialTls {
        let entry = self.entry.borrow();
        match (entry.cluster.tls, &endpoint.identity) {
            (UpstreamTls::Auto | UpstreamTls::IstioMutual, Some(identity)) if endpoint.tls == EndpointTls::Mesh => {
                DialTls::Mesh(identity.clone())
            }
            (UpstreamTls::Simple, _) => {
                let name = if entry.cluster.sni.is_empty() { &entry.cluster.name.host } else { &entry.cluster.sni };
                let origination = entry.cluster.origination.clone().unwrap_or_default();
                DialTls::Outside(Rc::new(Outside { name: name.clone(), origination }))
            }
            (UpstreamTls::Auto | UpstreamTls::IstioMutual | UpstreamTls::Disable, _) => DialTls::None,
        }
    }

    fn open(self: &Rc<Self>, id: EndpointId, endpoint: &Endpoint) -> Rc<Chosen> {
        let tls = self.tls_for(endpoint);
        let trust = self.entry.borrow().cluster.dns_trust;
        let dial = Dial::Endpoint { address: endpoint.address.clone(), tls, trust, announce: None };
        self.with_pool(id, endpoint.clone(), dial)
    }

    /// `chosen` for one connection of a client: with connections of its own where the endpoint is told whose they are, and towards
    /// the address that was called where the service has none of its own.
    pub(crate) fn for_client(self: &Rc<Self>, chosen: Rc<Chosen>, from: SocketAddr, to: SocketAddr) -> Rc<Chosen> {
        let (proxy_protocol, original) = {
            let entry = self.entry.borrow();
            let original = entry.endpoints.is_empty() && entry.cluster.balancing == weft_model::Balancing::Passthrough && is_real(to);
            (entry.cluster.proxy_protocol, original)
        };
        let trust = self.entry.borrow().cluster.dns_trust;
        if proxy_protocol.is_none() && !original {
            return chosen;
        }
        let mut endpoint = chosen.endpoint.clone();
        if original {
            endpoint.address = weft_model::EndpointAddress::Socket(to);
        }
        let announce = proxy_protocol.map(|version| Announcement { version, from, to });
        let dial = Dial::Endpoint { address: endpoint.address.clone(), tls: self.tls_for(&endpoint), trust, announce };
        self.with_pool(chosen.id, endpoint, dial)
    }

    fn with_pool(self: &Rc<Self>, id: EndpointId, endpoint: Endpoint, dial: Dial) -> Rc<Chosen> {
        let entry = self.entry.borrow();
        let siblings: Weak<Self> = Rc::downgrade(self);
        let make_room = move || siblings.upgrade().is_some_and(|upstream| upstream.close_one_idle());
        let pool = Pool::new(dial, entry.cluster.limits.clone(), entry.counters.clone(), self.freed.clone(), Box::new(make_room));
        Rc::new(Chosen { id, endpoint, pool, edges: EdgeCache::default() })
    }

    fn close_one_idle(&self) -> bool {
        // Borrowed already while a pick is under way: then there is nothing to close for it.
        let Ok(pools) = self.pools.try_borrow() else { return false };
        pools.values().any(|chosen| chosen.pool.close_one_idle())
    }

    /// Counts a request towards `chosen` until the guard is dropped.
    pub(crate) fn in_flight(self: &Rc<Self>, chosen: &Chosen) -> InFlight {
        self.balancer.borrow_mut().started(chosen.id);
        InFlight { upstream: self.clone(), id: chosen.id }
    }

    /// A place among the cluster's requests.
    pub(crate) fn admit(self: &Rc<Self>) -> Result<Admitted, Reject> {
        let entry = self.entry.borrow();
        let slot = entry.counters.request(&entry.cluster.limits);
        let slot = slot.map_err(|what| Reject::Overflow { what, cause: Box::new(entry.cluster.origin.clone()) })?;
        self.requests.started_at(&entry.cluster.retry_budget, || clock::now().saturating_duration_since(self.epoch));
        Ok(Admitted { upstream: self.clone(), retries: 0, retry: None, _slot: slot })
    }

    /// Notes how long an answer took to begin.
    pub(crate) fn note_latency(&self, took: Duration) {
        self.latency.borrow_mut().note(took);
    }

    /// The time within which `percent` of the answers began; `None` until enough were seen.
    pub(crate) fn latency(&self, percent: u8) -> Option<Duration> {
        self.latency.borrow().quantile(percent)
    }

    /// Tells the balancer how an attempt ended.
    pub(crate) fn observed(&self, id: EndpointId, outcome: Outcome, now: Instant) -> EjectionChange {
        let change = self.balancer.borrow_mut().observed(id, outcome, now.saturating_duration_since(self.epoch));
        if change != EjectionChange::None {
            tracing::info!(cluster = %self.entry.borrow().cluster.name, ?change, "an endpoint failed several times in a row");
            self.count_ejections();
        }
        change
    }

    /// The endpoint's answer has begun: tells the balancer its status, its latency, and whether the endpoint asks to be left alone.
    pub(crate) fn answered(&self, id: EndpointId, status: u16, headers: &HeaderMap, started: Instant) {
        let now = clock::now();
        self.observed(id, Outcome::Status(status), now);
        if self.entry.borrow().cluster.balancing != Balancing::Ewma {
            return;
        }
        let since = now.saturating_duration_since(self.epoch);
        let mut balancer = self.balancer.borrow_mut();
        balancer.measured(id, now.saturating_duration_since(started), since);
        if let Some(rest) = busy_for(status, headers) {
            balancer.busy(id, since + rest);
        }
    }

    fn count_ejections(&self) {
        const HELP: &str = "Endpoints that outlier detection took out, by reason.";
        let entry = self.entry.borrow();
        for (reason, count) in entry.plan.standings().take_ejections().into_iter().filter(|(_, count)| *count > 0) {
            let labels = [("cluster", &*entry.cluster.name.to_string()), ("reason", reason)];
            self.registry.counter("weft_endpoint_ejections_total", HELP, &labels).add(count.into());
        }
    }

    /// Closes what is idle for too long, and counts the ejections for rates, which no single answer causes.
    pub(crate) fn sweep(&self, now: Instant) {
        self.count_ejections();
        let pools: Vec<Rc<Chosen>> = self.pools.borrow().values().cloned().collect();
        pools.iter().for_each(|chosen| chosen.pool.sweep(now));
    }

    /// Its state, for `/config`.
    pub(crate) fn state(&self, now: Instant) -> serde_json::Value {
        let now = now.saturating_duration_since(self.epoch);
        let endpoints: Vec<serde_json::Value> = self
            .balancer
            .borrow()
            .states(now)
            .map(|s| {
                let pool = self.pools.borrow().values().find(|c| c.endpoint.address == s.address).map(|c| c.pool.size());
                serde_json::json!({
                    "address": s.address.to_string(), "inFlight": s.in_flight, "healthy": s.healthy,
                    "ejectedForMs": s.ejected_until.map(|until| until.saturating_sub(now).as_millis() as u64),
                    "busyForMs": s.busy_until.map(|until| until.saturating_sub(now).as_millis() as u64),
                    "failsHealthCheck": s.fails_check, "lastHealthCheck": self.entry.borrow().checks.last(s.id), "priority": s.priority, "latencyUs": s.latency_us,
                    "idleHttp1": pool.map_or(0, |p| p.0), "http2": pool.map_or(0, |p| p.1),
                })
            })
            .collect();
        serde_json::json!({ "cluster": self.entry.borrow().cluster.name.to_string(), "endpoints": endpoints })
    }
}

/// For how long an answer asks to be left alone.
fn busy_for(status: u16, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    let seconds = headers.get(http::header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    seconds.or((status == 429).then_some(BUSY_DEFAULT)).map(|rest| rest.min(RETRY_AFTER_MAX))
}

/// Endpoints that the cluster's TLS setting allows.
pub(crate) fn usable(cluster: &weft_model::Cluster, endpoints: &[Endpoint]) -> Vec<Endpoint> {
    let mesh_only = cluster.tls == UpstreamTls::IstioMutual;
    // A mesh endpoint without an identity was refused by the snapshot already; it must never be spoken to in plain text.
    if endpoints.is_empty() && cluster.balancing == weft_model::Balancing::Passthrough {
        return vec![by_name(&cluster.name)];
    }
    let provable = |e: &&Endpoint| e.tls != EndpointTls::Mesh || e.identity.is_some();
    endpoints.iter().filter(provable).filter(|e| !mesh_only || e.tls == EndpointTls::Mesh).cloned().collect()
}

/// An address that something outside may have: none of this machine, and none that the mesh's DNS made up.
fn is_real(address: SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_unspecified() && v4.octets()[..2] != [240, 240],
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unspecified(),
    }
}

/// A service that declares no endpoints and no resolution is called by its name.
fn by_name(name: &weft_model::ClusterName) -> Endpoint {
    Endpoint {
        address: weft_model::EndpointAddress::Name { host: name.host.clone(), port: name.port },
        workload: String::new(),
        workload_name: String::new(),
        namespace: String::new(),
        version: String::new(),
        identity: None,
        tls: EndpointTls::None,
        target_port: name.port,
        weight: 1,
        locality: String::new(),
        labels: weft_model::Labels::new(),
        healthy: true,
    }
}

/// A request counted at an endpoint.
pub(crate) struct InFlight {
    upstream: Rc<Upstream>,
    id: EndpointId,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.balancer.borrow_mut().finished(self.id);
    }
}

/// A request counted at its cluster, with its retries.
pub(crate) struct Admitted {
    upstream: Rc<Upstream>,
    retries: u32,
    retry: Option<Slot>,
    _slot: Slot,
}

impl Admitted {
    /// May the request be tried once more, as far as budget and limits go?
    pub(crate) fn try_retry(&mut self) -> bool {
        let entry = self.upstream.entry.borrow();
        if self.retries == 0 {
            // One request counts as one retry in flight, however often it is tried.
            match entry.counters.retry(&entry.cluster.limits) {
                Ok(slot) => self.retry = Some(slot),
                Err(_) => return false,
            }
            let now = clock::now().saturating_duration_since(self.upstream.epoch);
            if !entry.gate.try_retry(&entry.cluster.retry_budget, now) {
                self.retry = None;
                return false;
            }
        }
        self.retries += 1;
        true
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.upstream.requests.finished();
        if self.retries > 0 {
            self.upstream.entry.borrow().gate.retry_finished();
        }
    }
}

/// Milliseconds as a duration, where given.
pub(crate) fn millis(ms: Option<u64>) -> Option<Duration> {
    ms.map(Duration::from_millis)
}
