//! Concurrency policies: bulkheads, adaptive concurrency, and admission control at the caller.

use super::{
    admission::{Covered, Limited},
    rate_limit::Decisions,
};
use crate::{http::Connection, limits::LIMIT_KEYS_MAX};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use weft_balance::{AdaptiveLimit, AdmissionControl, Answer, Compartments, Full};
use weft_model::{Bulkhead, ConcurrencyPolicy, LimitInput, Origin, write_key};
use weft_std::clock::{self, Instant};
use weft_telemetry::{Registry, RequestRecord, ResponseFlag};

/// A policy with its counts.
#[derive(Debug)]
pub(crate) struct ConcurrencyEntry {
    pub(super) policy: ConcurrencyPolicy,
    counts: Arc<Counts>,
    /// One for each bulkhead, by name.
    bulkheads: Vec<Arc<BulkheadCounts>>,
}

/// What is kept from snapshot to snapshot.
#[derive(Debug)]
struct Counts {
    began: Instant,
    adaptive: OnceLock<Mutex<AdaptiveLimit>>,
    admission: Mutex<AdmissionControl>,
    adaptive_counters: OnceLock<Decisions>,
    admission_counters: OnceLock<Decisions>,
}

#[derive(Debug)]
struct BulkheadCounts {
    name: String,
    places: Mutex<Compartments>,
    counters: OnceLock<Decisions>,
}

/// One place that a request has taken.
pub(crate) enum Place {
    Bulkhead { counts: Arc<BulkheadSeat>, key: String },
    Adaptive(Arc<ConcurrencyEntry>),
    Admission(Arc<ConcurrencyEntry>),
}

/// A bulkhead, as its places know it.
pub(crate) struct BulkheadSeat(Arc<BulkheadCounts>);

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConcurrencyEntry {
    pub(super) fn new(policy: &ConcurrencyPolicy, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(same) = before.filter(|b| b.policy == *policy) {
            return same.clone();
        }
        let counts = || {
            let (adaptive, admission) = (OnceLock::new(), Mutex::default());
            let (adaptive_counters, admission_counters) = (OnceLock::new(), OnceLock::new());
            Arc::new(Counts { began: clock::now(), adaptive, admission, adaptive_counters, admission_counters })
        };
        let bulkhead = |bulkhead: &Bulkhead| {
            let kept = before.into_iter().flat_map(|b| &b.bulkheads).find(|b| b.name == bulkhead.name);
            let places = || Mutex::new(Compartments::new(LIMIT_KEYS_MAX));
            kept.cloned()
                .unwrap_or_else(|| Arc::new(BulkheadCounts { name: bulkhead.name.clone(), places: places(), counters: OnceLock::new() }))
        };
        Arc::new(Self {
            policy: policy.clone(),
            counts: before.map_or_else(counts, |b| b.counts.clone()),
            bulkheads: policy.bulkheads.iter().map(bulkhead).collect(),
        })
    }

    /// Takes the places that a request needs, into `places`.
    pub(super) fn enter(
        self: &Arc<Self>,
        conn: &Connection,
        covered: &Covered<'_>,
        input: &LimitInput<'_>,
        places: &mut Vec<Place>,
    ) -> Result<(), Box<Limited>> {
        let registry = &conn.worker.settings.registry;
        if covered.at_caller(&self.policy.scope) {
            self.admission(conn, registry, places)?;
        }
        if !covered.by(&self.policy.scope) {
            return Ok(());
        }
        self.adaptive(registry, places)?;
        for (bulkhead, counts) in self.policy.bulkheads.iter().zip(&self.bulkheads) {
            if bulkhead.matches(input) {
                self.bulkhead(registry, bulkhead, counts, input, places)?;
            }
        }
        Ok(())
    }

    fn admission(self: &Arc<Self>, conn: &Connection, registry: &Registry, places: &mut Vec<Place>) -> Result<(), Box<Limited>> {
        let Some(settings) = &self.policy.admission else { return Ok(()) };
        let admits = lock(&self.counts.admission).admits(self.counts.began.elapsed(), settings, conn.worker.roll());
        let decisions = self.counts.admission_counters.get_or_init(|| Decisions::new(registry, &self.policy.name, "admission"));
        if decisions.count(admits, self.policy.shadow) {
            let words = format!("shed: too many requests to this destination fail ({})", self.policy.name);
            return Err(shed("denied_by_admission_control", &self.policy.name, words, &settings.origin));
        }
        places.push(Place::Admission(self.clone()));
        Ok(())
    }

    fn adaptive(self: &Arc<Self>, registry: &Registry, places: &mut Vec<Place>) -> Result<(), Box<Limited>> {
        let Some(settings) = &self.policy.adaptive else { return Ok(()) };
        let machine = self.counts.adaptive.get_or_init(|| Mutex::new(AdaptiveLimit::new(self.counts.began.elapsed(), settings)));
        let (free, limit) = {
            let mut machine = lock(machine);
            let free = machine.enter(settings);
            if !free && self.policy.shadow {
                machine.enter_anyway();
            }
            (free, machine.limit(settings))
        };
        let decisions = self.counts.adaptive_counters.get_or_init(|| Decisions::new(registry, &self.policy.name, "adaptive"));
        if decisions.count(free, self.policy.shadow) {
            let words = format!("shed: {limit} requests are under way, and more would only wait ({})", self.policy.name);
            return Err(shed("reached_concurrency_limit", &self.policy.name, words, &settings.origin));
        }
        places.push(Place::Adaptive(self.clone()));
        Ok(())
    }

    fn bulkhead(
        &self,
        registry: &Registry,
        bulkhead: &Bulkhead,
        counts: &Arc<BulkheadCounts>,
        input: &LimitInput<'_>,
        places: &mut Vec<Place>,
    ) -> Result<(), Box<Limited>> {
        let mut key = String::new();
        write_key(&bulkhead.key, input, &mut key);
        let entered = lock(&counts.places).enter(&key, bulkhead.requests);
        if entered == Err(Full::Keys) {
            registry.limit("LIMIT_KEYS_MAX").inc();
        }
        let decisions = counts.counters.get_or_init(|| Decisions::new(registry, &self.policy.name, &bulkhead.name));
        if decisions.count(entered.is_ok(), self.policy.shadow) {
            let words = format!("shed: {} requests are under way in bulkhead {} of {}", bulkhead.requests, bulkhead.name, self.policy.name);
            return Err(shed("bulkhead_full", &format!("{}/{}", self.policy.name, bulkhead.name), words, &bulkhead.origin));
        }
        if entered.is_ok() {
            places.push(Place::Bulkhead { counts: Arc::new(BulkheadSeat(counts.clone())), key });
        }
        Ok(())
    }
}

fn shed(details: &str, name: &str, words: String, origin: &Origin) -> Box<Limited> {
    Box::new(Limited {
        status: 503,
        grpc_status: 14,
        flag: ResponseFlag::Overload,
        details: format!("{details}[{name}]"),
        words,
        origin: origin.clone(),
        retry_after: None,
        standing: None,
    })
}

impl Place {
    /// The request is over.
    pub(super) fn end(self, record: &RequestRecord, latency: Duration) {
        match self {
            Self::Bulkhead { counts, key } => lock(&counts.0.places).leave(&key),
            Self::Adaptive(entry) => {
                let (Some(settings), Some(machine)) = (&entry.policy.adaptive, entry.counts.adaptive.get()) else { return };
                lock(machine).leave(entry.counts.began.elapsed(), settings, answer(record, latency));
            }
            Self::Admission(entry) => {
                let Some(settings) = &entry.policy.admission else { return };
                // Whoever left before the answer says nothing about it; nor does what was refused at this proxy.
                if record.status != 0 {
                    lock(&entry.counts.admission).ended(entry.counts.began.elapsed(), settings, !record.is_failure());
                }
            }
        }
    }
}

/// What the end of an exchange says about the load of whom it called.
fn answer(record: &RequestRecord, latency: Duration) -> Answer {
    match () {
        // Refused before it was sent.
        () if latency.is_zero() => Answer::Unknown,
        () if matches!(record.status, 503 | 504) || record.flags.contains(&ResponseFlag::UpstreamTimeout) => Answer::Overloaded,
        () if record.status >= 500 => Answer::Unknown,
        // A caller that left waited at least so long.
        () => Answer::After(latency),
    }
}
