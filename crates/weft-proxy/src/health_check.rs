//! Active health checks: one task per cluster, on whichever worker claims it first; what it finds, all workers know.
//!
//! The questions go the way of requests: over the pool of the endpoint, so over mutual TLS to a mesh endpoint and through its proxy
//! to the program. A task ends when its cluster goes, when its policy does, or when nobody has called the cluster for a while; the
//! next call starts it again.

use crate::{
    http::{Head, HttpVersion, ask},
    limits::HEALTH_CHECK_UNUSED,
    upstream::{Chosen, Upstream},
    worker::{Config, Worker},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use weft_balance::{Checker, EndpointId, Verdict};
use weft_model::{ClusterName, HealthCheck, HttpProbe, Probe, Protocol, grpc_check_request, grpc_says_serving};
use weft_pki::Alpn;

/// What the workers share about the checks of one cluster.
#[derive(Debug, Default)]
pub struct Checks {
    claimed: AtomicBool,
    /// Second (from 1) of the last call of the cluster; 0: none was noted yet.
    used_s: AtomicU64,
    /// The last answer of each endpoint, for people.
    last: Mutex<BTreeMap<EndpointId, String>>,
}

impl Checks {
    /// Notes that the cluster is in use.
    pub(crate) fn used(&self, now: Duration) {
        let now_s = now.as_secs() + 1;
        if self.used_s.load(Relaxed) != now_s {
            self.used_s.store(now_s, Relaxed);
        }
    }

    fn unused(&self, now: Duration) -> bool {
        let used_s = match self.used_s.load(Relaxed) {
            // It is in the configuration because somebody wants it.
            0 => {
                self.used(now);
                return false;
            }
            used_s => used_s,
        };
        now.as_secs() + 1 > used_s + HEALTH_CHECK_UNUSED.as_secs()
    }

    /// The last answer of an endpoint.
    pub(crate) fn last(&self, id: EndpointId) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn note(&self, id: EndpointId, words: &str) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(id, words.to_owned());
    }
}

/// The right to run the checks of a cluster; given back when dropped.
struct Claim(Arc<Checks>);

impl Claim {
    fn take(checks: &Arc<Checks>) -> Option<Self> {
        let free = checks.claimed.compare_exchange(false, true, Relaxed, Relaxed).is_ok();
        free.then(|| Self(checks.clone()))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Relaxed);
    }
}

/// Starts the checks that are wanted and that no worker runs. Called about once a second.
pub(crate) fn tend(worker: &Rc<Worker>, config: &Config) {
    #[allow(clippy::iter_over_hash_type, reason = "each is looked at by itself")]
    for (name, upstream) in &config.upstreams {
        let entry = upstream.entry();
        if entry.cluster.health_check.is_none() || entry.checks.unused(upstream.now()) {
            continue;
        }
        if let Some(claim) = Claim::take(&entry.checks) {
            let (of, name) = (worker.clone(), name.clone());
            worker.tasks.spawn_local("health checks", async move { watch(of, name, claim).await });
        }
    }
}

/// Runs the checks of a cluster until they are no longer wanted.
async fn watch(worker: Rc<Worker>, name: ClusterName, claim: Claim) {
    let mut checker = Checker::default();
    let (answers, mut answered) = mpsc::channel::<(EndpointId, Result<(), String>)>(64);
    let mut published = worker.shared.generation();
    loop {
        let config = worker.config();
        let Some(upstream) = config.upstreams.get(&name) else { return };
        let entry = upstream.entry();
        let now = upstream.now();
        let policy = match &entry.cluster.health_check {
            Some(policy) if !claim.0.unused(now) => policy.clone(),
            _ => {
                // Nobody watches any more: nobody is known to be ill.
                entry.plan.hosts().iter().for_each(|host| entry.plan.standings().checked(&host.standing, true, now));
                return;
            }
        };
        let ids: Vec<EndpointId> = entry.plan.hosts().iter().map(|host| host.id).collect();
        checker.follow(&ids, &policy, now, || worker.roll());
        for id in checker.due(now) {
            let Some(chosen) = upstream.chosen(id) else { continue };
            let (worker, upstream, policy, answers) = (worker.clone(), upstream.clone(), policy.clone(), answers.clone());
            worker.tasks.clone().spawn_local("health check", async move {
                let answer = question(&worker, &upstream, &chosen, &policy).await;
                answers.send((id, answer)).await.ok();
            });
        }
        let wait = checker.next_due().map_or(Duration::from_millis(policy.interval_ms), |due| due.saturating_sub(now));
        // Held over the wait, they would keep a cluster alive that is gone.
        drop((config, entry));
        tokio::select! {
            Some((id, answer)) = answered.recv() => settle(&worker, &name, &mut checker, &policy, id, answer),
            () = tokio::time::sleep(wait) => {}
            _ = published.changed() => {}
        }
    }
}

/// Takes an answer in.
fn settle(worker: &Worker, name: &ClusterName, checker: &mut Checker, policy: &HealthCheck, id: EndpointId, answer: Result<(), String>) {
    let config = worker.config();
    let Some(upstream) = config.upstreams.get(name) else { return };
    let (entry, now) = (upstream.entry(), upstream.now());
    let good = answer.is_ok();
    let result = if good { "good" } else { "bad" };
    let help = "Active health checks, by result.";
    worker.settings.registry.counter("weft_health_checks_total", help, &[("result", result)]).inc();
    let words = answer.err().unwrap_or_else(|| "ok".to_owned());
    entry.checks.note(id, &words);
    let verdict = checker.answered(id, good, policy, now, worker.roll());
    let host = entry.plan.hosts().iter().find(|host| host.id == id);
    if let (Some(verdict), Some(host)) = (verdict, host) {
        tracing::info!(cluster = %name, endpoint = %host.endpoint.address, ?verdict, answer = words, "an endpoint's health changed");
        entry.plan.standings().checked(&host.standing, verdict == Verdict::Healthy, now);
        let ill = entry.plan.hosts().iter().filter(|host| host.standing.fails_check()).count();
        let help = "Endpoints that fail their active health check, by cluster.";
        let gauge = worker.settings.registry.gauge("weft_endpoints_unhealthy", help, &[("cluster", &name.to_string())]);
        gauge.set(i64::try_from(ill).unwrap_or(i64::MAX));
    }
}

/// One question and its answer.
async fn question(worker: &Rc<Worker>, upstream: &Rc<Upstream>, chosen: &Rc<Chosen>, policy: &HealthCheck) -> Result<(), String> {
    let limit = Duration::from_millis(policy.timeout_ms);
    let asked = async {
        match &policy.probe {
            Probe::Tcp => {
                let _slot = chosen.pool.tcp_slot().map_err(|what| format!("overflow: {}", what.field()))?;
                chosen.pool.connect(worker, Alpn::WeftTcp).await.map(drop).map_err(|why| format!("{why:?}"))
            }
            Probe::Http(probe) => http_question(worker, upstream, chosen, probe).await,
            Probe::Grpc(service) => grpc_question(worker, upstream, chosen, service).await,
        }
    };
    // Boxed: a check is rare and its state large.
    match tokio::time::timeout(limit, Box::pin(asked)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} ms", policy.timeout_ms)),
    }
}

async fn http_question(worker: &Rc<Worker>, upstream: &Rc<Upstream>, chosen: &Chosen, probe: &HttpProbe) -> Result<(), String> {
    let version = match upstream.protocol() {
        Protocol::Http2 | Protocol::Grpc => HttpVersion::Two,
        _ => HttpVersion::One,
    };
    let host = if probe.host.is_empty() { upstream.entry().cluster.name.host.clone() } else { probe.host.clone() };
    let mut head = head(Method::GET, &probe.path, &host)?;
    for (name, value) in &probe.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            head.headers.append(name, value);
        }
    }
    let (status, _) = ask(worker, &chosen.pool, version, head, None).await?;
    if probe.accepts(status) { Ok(()) } else { Err(format!("status {status}")) }
}

async fn grpc_question(worker: &Rc<Worker>, upstream: &Rc<Upstream>, chosen: &Chosen, service: &str) -> Result<(), String> {
    let mut head = head(Method::POST, "/grpc.health.v1.Health/Check", &upstream.entry().cluster.name.host)?;
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let body = Bytes::from(grpc_check_request(service));
    let (status, body) = ask(worker, &chosen.pool, HttpVersion::Two, head, Some(body)).await?;
    if status == 200 && grpc_says_serving(&body) { Ok(()) } else { Err(format!("not serving (status {status})")) }
}

fn head(method: Method, path: &str, host: &str) -> Result<Box<Head>, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("weft-health-check"));
    Ok(Box::new(Head {
        method,
        path: path.parse().map_err(|_| format!("{path:?} is not a path"))?,
        authority: HeaderValue::from_str(host).map_err(|_| format!("{host:?} is not a host"))?,
        scheme: http::uri::Scheme::HTTP,
        headers,
        upgrade: None,
    }))
}
