//! Limits and retry budgets: how much of something may be under way at once.
//!
//! The counters are shared by the workers of one proxy, since the user's number means the proxy. A bound that is not
//! configured costs nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
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

/// The retry budget of one cluster on one worker: retries may only be a share of what is in flight.
#[derive(Debug, Default)]
pub struct RetryGate {
    requests: u32,
    retries: u32,
}

impl RetryGate {
    /// A request begins.
    pub fn request_started(&mut self) {
        self.requests += 1;
    }
    /// A request is over.
    pub fn request_finished(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }
    /// May a retry begin? If so it counts until [`RetryGate::retry_finished`].
    pub fn try_retry(&mut self, budget: &RetryBudget) -> bool {
        let share = u64::from(self.requests) * u64::from(budget.percent) / 100;
        let allowed = share.max(u64::from(budget.concurrency_min));
        let free = u64::from(self.retries) < allowed;
        self.retries += u32::from(free);
        free
    }
    /// A retry is over.
    pub fn retry_finished(&mut self) {
        self.retries = self.retries.saturating_sub(1);
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
    fn the_budget_is_a_share_with_a_floor() {
        let budget = RetryBudget { percent: 20, concurrency_min: 3 };
        let mut gate = RetryGate::default();
        assert_eq!((0..10).filter(|_| gate.try_retry(&budget)).count(), 3);
        (0..50).for_each(|_| gate.request_started());
        assert_eq!((0..20).filter(|_| gate.try_retry(&budget)).count(), 7);
        gate.retry_finished();
        assert!(gate.try_retry(&budget));
    }
}
