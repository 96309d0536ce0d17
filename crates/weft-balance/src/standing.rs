//! The standing of endpoints: errors in a row, ejections, health, business. One set for each cluster of a proxy, shared by its
//! workers, so that five failures are five failures whichever worker saw them.
//!
//! The usual case, a good answer of a good endpoint, reads three numbers and writes none. The lock is taken only when something
//! changes: an ejection, a sweep of rates, a new set of endpoints.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use weft_model::{Endpoint, EndpointAddress, OutlierDetection, SpiffeId};

/// Names one endpoint as long as its address stays in the set. Never used twice in one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub(crate) u64);

/// How one attempt ended, as far as the endpoint's standing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// It could not be reached, reset, or did not answer in time.
    Failed,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionChange {
    /// Nothing.
    None,
    /// The endpoint is out until then.
    Ejected {
        /// End of the ejection.
        until: Duration,
    },
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy)]
enum EjectionReason {
    Errors,
    GatewayErrors,
    LocalFailures,
    ErrorRate,
}

/// The standing of one endpoint. Times are milliseconds since the proxy's epoch; 0 is never.
#[derive(Debug, Default)]
pub struct Standing {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// How often it was ejected lately: the nth ejection lasts n times the base.
    ejections: AtomicU32,
    ejected_until_ms: AtomicU64,
    requests: AtomicU32,
    failures: AtomicU32,
    unhealthy: AtomicBool,
    came_ms: AtomicU64,
    busy_until_ms: AtomicU64,
}

pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Standing {
    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        now_ms < self.ejected_until_ms.load(Relaxed)
    }
    /// End of the ejection, while it lasts.
    pub fn ejected_until(&self, now: Duration) -> Option<Duration> {
        let until = self.ejected_until_ms.load(Relaxed);
        (ms(now) < until).then(|| Duration::from_millis(until))
    }
    /// Does it fail its active health check?
    pub fn fails_check(&self) -> bool {
        self.unhealthy.load(Relaxed)
    }
    pub(crate) fn is_busy(&self, now_ms: u64) -> bool {
        now_ms < self.busy_until_ms.load(Relaxed)
    }
    /// Is it to be left alone until then, as it said itself?
    pub fn busy_until(&self, now: Duration) -> Option<Duration> {
        let until = self.busy_until_ms.load(Relaxed);
        (ms(now) < until).then(|| Duration::from_millis(until))
    }
    /// When it came, or came back to health; set once by the first worker that sees it.
    pub(crate) fn came_ms(&self, now_ms: u64) -> u64 {
        match self.came_ms.compare_exchange(0, now_ms.max(1), Relaxed, Relaxed) {
            Ok(_) => now_ms.max(1),
            Err(before) => before,
        }
    }
}

#[derive(Debug, Default)]
struct Members {
    by_key: HashMap<(EndpointAddress, Option<SpiffeId>), (EndpointId, Arc<Standing>)>,
    next_id: u64,
}

/// The standings of one cluster.
#[derive(Debug, Default)]
pub struct Standings {
    /// Changes whenever the set of usable endpoints may have changed.
    version: AtomicU64,
    sweep_at_ms: AtomicU64,
    members: Mutex<Members>,
    /// Ejections that nobody has counted yet, by reason.
    ejections: [AtomicU32; 4],
}

impl Standings {
    fn lock(&self) -> MutexGuard<'_, Members> {
        // A panic while the lock was held left counts that are still counts.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// The ids and standings of `endpoints`, in their order. Those that stay (by address and identity) keep theirs, the others are
    /// forgotten.
    pub(crate) fn enrol(&self, endpoints: &[Endpoint]) -> Vec<(EndpointId, Arc<Standing>)> {
        let mut members = self.lock();
        let mut before = std::mem::take(&mut members.by_key);
        let mut enrolled = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let key = (endpoint.address.clone(), endpoint.identity.clone());
            let member = match before.remove(&key) {
                Some(member) => member,
                // The same address twice in one set is one endpoint.
                None => members.by_key.get(&key).cloned().unwrap_or_else(|| {
                    members.next_id += 1;
                    (EndpointId(members.next_id), Arc::default())
                }),
            };
            members.by_key.insert(key, member.clone());
            enrolled.push(member);
        }
        self.version.fetch_add(1, Relaxed);
        enrolled
    }

    /// Notes how an attempt ended. May eject the endpoint.
    pub fn observe(&self, policy: &OutlierDetection, standing: &Standing, outcome: Outcome, now: Duration) -> EjectionChange {
        let sign = policy.sign(match outcome {
            Outcome::Status(status) => Some(status),
            Outcome::Failed => None,
        });
        if policy.counts_rates() {
            standing.requests.fetch_add(1, Relaxed);
            if sign.error == Some(true) || sign.local == Some(true) {
                standing.failures.fetch_add(1, Relaxed);
            }
            self.sweep(policy, now);
        }
        let count = |counter: &AtomicU32, bad: Option<bool>| match bad {
            Some(true) => counter.fetch_add(1, Relaxed) + 1,
            None => counter.load(Relaxed),
            Some(false) => {
                if counter.load(Relaxed) != 0 {
                    counter.store(0, Relaxed);
                }
                0
            }
        };
        let errors = count(&standing.errors, sign.error);
        let gateway = count(&standing.gateway_errors, sign.gateway);
        let local = count(&standing.local_failures, sign.local);
        // An endpoint that is already out stays out, whatever comes in late.
        if !policy.too_many(errors, gateway, local) || standing.is_ejected(ms(now)) {
            return EjectionChange::None;
        }
        let reason = match () {
            () if policy.too_many(0, gateway, 0) => EjectionReason::GatewayErrors,
            () if policy.too_many(errors, 0, 0) => EjectionReason::Errors,
            () => EjectionReason::LocalFailures,
        };
        self.eject(&self.lock(), policy, standing, reason, now)
    }

    /// Ejects if there is room for one more.
    fn eject(
        &self,
        members: &Members,
        policy: &OutlierDetection,
        standing: &Standing,
        reason: EjectionReason,
        now: Duration,
    ) -> EjectionChange {
        let now_ms = ms(now);
        let total = members.by_key.len();
        let out = members.by_key.values().filter(|(_, s)| s.is_ejected(now_ms)).count();
        // At least one may be out, however small the share (Envoy's rule).
        let room = out == 0 || (out + 1) * 100 <= total * usize::from(policy.ejection_percent_max);
        if !room || standing.is_ejected(now_ms) {
            return EjectionChange::None;
        }
        // Good conduct is rewarded as in Envoy: for each interval without trouble since the last ejection, one is forgotten.
        let before = standing.ejected_until_ms.load(Relaxed);
        let step = policy.interval_ms.max(policy.base_ejection_ms).max(1);
        let forgotten = if before == 0 { 0 } else { now_ms.saturating_sub(before) / step };
        let nth = standing.ejections.load(Relaxed).saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX)).saturating_add(1);
        standing.ejections.store(nth, Relaxed);
        let until = now_ms.saturating_add(policy.ejection_ms(nth));
        standing.ejected_until_ms.store(until, Relaxed);
        for counter in [&standing.errors, &standing.gateway_errors, &standing.local_failures] {
            counter.store(0, Relaxed);
        }
        self.version.fetch_add(1, Relaxed);
        self.ejections[reason as usize].fetch_add(1, Relaxed);
        EjectionChange::Ejected { until: Duration::from_millis(until) }
    }

    /// How many endpoints were ejected since the last call, by reason. Who takes them counts them.
    pub fn take_ejections(&self) -> [(&'static str, u32); 4] {
        let names = ["consecutive_5xx", "consecutive_gateway_errors", "consecutive_local_failures", "error_rate"];
        std::array::from_fn(|at| (names[at], self.ejections[at].swap(0, Relaxed)))
    }

    /// Looks at the rates, once an interval, whoever comes first. Returns how many endpoints it ejected.
    pub fn sweep(&self, policy: &OutlierDetection, now: Duration) -> usize {
        let now_ms = ms(now);
        let due = self.sweep_at_ms.load(Relaxed);
        if now_ms < due || !policy.counts_rates() {
            return 0;
        }
        let next = now_ms + policy.interval_ms.max(1);
        if self.sweep_at_ms.compare_exchange(due, next, Relaxed, Relaxed).is_err() || due == 0 {
            return 0;
        }
        let members = self.lock();
        let mut standings: Vec<(EndpointId, &Arc<Standing>)> = members.by_key.values().map(|(id, s)| (*id, s)).collect();
        standings.sort_by_key(|(id, _)| *id);
        let counts: Vec<(u32, u32)> = standings.iter().map(|(_, s)| (s.requests.swap(0, Relaxed), s.failures.swap(0, Relaxed))).collect();
        let bad = policy.bad_rates(&counts).into_iter().filter_map(|i| standings.get(i));
        bad.filter(|(_, s)| self.eject(&members, policy, s, EjectionReason::ErrorRate, now) != EjectionChange::None).count()
    }

    /// The endpoint says that it is busy: left alone until then, as far as the algorithm looks at it.
    pub fn busy(&self, standing: &Standing, until: Duration) {
        standing.busy_until_ms.fetch_max(ms(until), Relaxed);
    }

    /// The verdict of the active health check. An endpoint that comes back is warmed up again.
    pub fn checked(&self, standing: &Standing, healthy: bool, now: Duration) {
        if standing.unhealthy.swap(!healthy, Relaxed) == healthy {
            if healthy {
                standing.came_ms.store(ms(now).max(1), Relaxed);
            }
            self.version.fetch_add(1, Relaxed);
        }
    }
}
