//! Limits and retry budgets: how much of something may be under way at once.
//!
//! The counters are shared by the workers of one proxy, since the user's number means the proxy. A bound that is not
//! configured costs nothing.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{self, Relaxed},
        },
    },
    time::Duration,
};
use weft_model::{ConnectionLimits, RetryBudget};

/// What is under way towards one cluster.
#[derive(Debug, Default)]
pub struct Counters {
    connections: Arc<AtomicU32>,
    pending: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    retries: Arc<AtomicU32>,
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// `connections_max`.
    Connections,
    /// `pending_requests_max`.
    Pending,
    /// `requests_max`.
    Requests,
    /// `retries_max`, or the retry budget.
    Retries,
}

impl Overflow {
    /// The field of `DestinationRule.trafficPolicy.connectionPool` that set the bound.
    pub fn field(self) -> &'static str {
        match self {
            Self::Connections => "connectionPool.tcp.maxConnections",
            Self::Pending => "connectionPool.http.http1MaxPendingRequests",
            Self::Requests => "connectionPool.http.http2MaxRequests",
            Self::Retries => "connectionPool.http.maxRetries",
        }
    }
}

/// One counted place. Dropping it gives it back.
#[derive(Debug, Default)]
pub struct Slot(Option<Arc<AtomicU32>>);

impl Slot {
    fn take(counter: &Arc<AtomicU32>, max: Option<u32>, what: Overflow) -> Result<Self, Overflow> {
        let Some(max) = max else { return Ok(Self(None)) };
        let taken = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        taken.map(|_| Self(Some(counter.clone()))).map_err(|_| what)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Counters {
    /// A place for a connection.
    ///
    /// # Errors
    /// When the bound is reached; as for the others.
    pub fn connection(&self, limits: &ConnectionLimits) -> Result<Slot, Overflow> {
        Slot::take(&self.connections, limits.connections_max, Overflow::Connections)
    }
    /// A place to wait for a connection.
    ///
    /// # Errors
    /// When the bound is reached.
    pub fn pending(&self, limits: &ConnectionLimits) -> Result<Slot, Overflow> {
        Slot::take(&self.pending, limits.pending_requests_max, Overflow::Pending)
    }
    /// A place for a request in flight.
    ///
    /// # Errors
    /// When the bound is reached.
    pub fn request(&self, limits: &ConnectionLimits) -> Result<Slot, Overflow> {
        Slot::take(&self.requests, limits.requests_max, Overflow::Requests)
    }
    /// A place for a retry in flight.
    ///
    /// # Errors
    /// When the bound is reached.
    pub fn retry(&self, limits: &ConnectionLimits) -> Result<Slot, Overflow> {
        Slot::take(&self.retries, limits.retries_max, Overflow::Retries)
    }
}

/// The retry budget of one cluster: retries may only be a share of what is in flight in the whole proxy.
///
/// Each worker counts its requests in a place of its own; only a retry, which is rare, adds them up.
#[derive(Debug, Default)]
pub struct RetryGate {
    workers: Mutex<Vec<Weak<WorkerRequests>>>,
    retries: AtomicU32,
}

/// The requests of one worker. One thread writes, others read.
#[derive(Debug, Default)]
pub struct WorkerRequests {
    in_flight: AtomicU32,
    /// Requests that began in the present and in the last window, and when the present one began.
    begun: AtomicU32,
    begun_before: AtomicU32,
    window_ms: AtomicU64,
}

impl WorkerRequests {
    /// A request begins.
    pub fn started(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).wrapping_add(1), Relaxed);
    }
    /// As `started`, where the budget looks back: `now` is looked at only then.
    pub fn started_at(&self, budget: &RetryBudget, now: impl FnOnce() -> Duration) {
        self.started();
        if budget.interval_ms > 0 {
            self.turn_window(budget.interval_ms, now());
            self.begun.store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }
    /// A request is over.
    pub fn finished(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
    }
    fn turn_window(&self, length_ms: u64, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let age = now_ms.saturating_sub(self.window_ms.load(Relaxed));
        if age >= length_ms {
            self.begun_before.store(if age < 2 * length_ms { self.begun.load(Relaxed) } else { 0 }, Relaxed);
            self.begun.store(0, Relaxed);
            self.window_ms.store(now_ms - now_ms % length_ms, Relaxed);
        }
    }
    /// Requests that count: those in flight, or those that began in the last interval, whichever are more.
    fn counted(&self, budget: &RetryBudget, now: Duration) -> u64 {
        let in_flight = u64::from(self.in_flight.load(Relaxed));
        if budget.interval_ms == 0 {
            return in_flight;
        }
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let age = now_ms.saturating_sub(self.window_ms.load(Relaxed));
        let (present, last) = (u64::from(self.begun.load(Relaxed)), u64::from(self.begun_before.load(Relaxed)));
        // The part of the last window that the interval still reaches back to.
        let reach = |n: u64, age: u64| n * budget.interval_ms.saturating_sub(age) / budget.interval_ms;
        let begun = match age < budget.interval_ms {
            true => present + reach(last, age),
            false => reach(present, age - budget.interval_ms),
        };
        in_flight.max(begun)
    }
}

impl RetryGate {
    /// The count of one more worker.
    pub fn worker(&self) -> Arc<WorkerRequests> {
        let worker = Arc::new(WorkerRequests::default());
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|known| known.strong_count() > 0);
        workers.push(Arc::downgrade(&worker));
        worker
    }
    /// May a retry begin? If so it counts until [`RetryGate::retry_finished`].
    pub fn try_retry(&self, budget: &RetryBudget, now: Duration) -> bool {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let requests: u64 = workers.iter().filter_map(Weak::upgrade).map(|worker| worker.counted(budget, now)).sum();
        let allowed = (requests * u64::from(budget.percent) / 100).max(u64::from(budget.concurrency_min));
        let taken = self.retries.fetch_update(Relaxed, Relaxed, |n| (u64::from(n) < allowed).then_some(n + 1));
        taken.is_ok()
    }
    /// A retry is over.
    pub fn retry_finished(&self) {
        self.retries.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let limits = ConnectionLimits { connections_max: Some(1), ..Default::default() };
        let counters = Counters::default();
        let first = counters.connection(&limits).expect("free");
        assert_eq!(counters.connection(&limits).err(), Some(Overflow::Connections));
        drop(first);
        assert!(counters.connection(&limits).is_ok());
        assert!((0..100).all(|_| counters.request(&limits).is_ok()));
    }

    #[test]
    fn the_budget_is_a_share_of_all_workers_with_a_floor() {
        let budget = RetryBudget::default();
        let gate = RetryGate::default();
        let (one, other) = (gate.worker(), gate.worker());
        let granted = |n: u32| (0..n).filter(|_| gate.try_retry(&budget, Duration::ZERO)).count();
        assert_eq!(granted(10), 3);
        (0..25).for_each(|_| one.started());
        (0..25).for_each(|_| other.started());
        assert_eq!(granted(20), 7);
        gate.retry_finished();
        assert_eq!(granted(2), 1);
        drop(other);
        gate.retry_finished();
        assert_eq!(granted(1), 0, "a worker that is gone has no requests");
    }

    #[test]
    fn a_budget_may_look_back() {
        let budget = RetryBudget { percent: 50, concurrency_min: 0, interval_ms: 1_000 };
        let gate = RetryGate::default();
        let worker = gate.worker();
        let at = Duration::from_millis;
        for _ in 0..10 {
            worker.started_at(&budget, || at(5_000));
            worker.finished();
        }
        assert!((0..5).all(|_| gate.try_retry(&budget, at(5_500))) && !gate.try_retry(&budget, at(5_500)));
        (0..5).for_each(|_| gate.retry_finished());
        assert!((0..2).all(|_| gate.try_retry(&budget, at(6_500))) && !gate.try_retry(&budget, at(6_500)), "half of them have passed");
        (0..2).for_each(|_| gate.retry_finished());
        assert!(!gate.try_retry(&budget, at(8_000)));
    }

    #[test]
    fn the_bounds_hold_for_the_whole_proxy() {
        let limits = ConnectionLimits { retries_max: Some(2), requests_max: Some(1), pending_requests_max: Some(1), ..Default::default() };
        let counters = Arc::new(Counters::default());
        let elsewhere = counters.clone();
        let held = std::thread::spawn(move || (elsewhere.retry(&limits), elsewhere.request(&limits), limits)).join().expect("no panic");
        let limits = &held.2;
        let second = counters.retry(limits);
        assert!(second.is_ok() && counters.retry(limits).err() == Some(Overflow::Retries));
        assert_eq!(counters.request(limits).err(), Some(Overflow::Requests));
        let waiting = counters.pending(limits).expect("free");
        assert_eq!(counters.pending(limits).err(), Some(Overflow::Pending));
        drop((held.0, waiting));
        assert!(counters.retry(limits).is_ok() && counters.pending(limits).is_ok());
    }
}
