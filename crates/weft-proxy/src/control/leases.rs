//! Tokens of global rate limits, between the request path, which spends them, and the control client, which gets them.

use crate::limits::{LEASE_WAIT, LIMIT_KEYS_MAX};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use weft_balance::{LeaseGrant, LeaseHolder, Leased, Patience};
use weft_model::LimitRate;
use weft_proto::v1;
use weft_std::clock::{self, Instant};

/// The tokens of one proxy.
#[derive(Debug)]
pub struct Leases {
    holder: Mutex<LeaseHolder>,
    began: Instant,
    /// A question came up.
    asked: Notify,
    /// Counts answers.
    answered: watch::Sender<u64>,
}

impl Leases {
    /// Without tokens.
    pub(crate) fn new() -> Self {
        let holder = Mutex::new(LeaseHolder::new(LIMIT_KEYS_MAX));
        Self { holder, began: clock::now(), asked: Notify::new(), answered: watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, LeaseHolder> {
        // Every critical section leaves the holder whole, so a poisoned lock is still good.
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token; waits a moment for the control plane when there is none here. Tokens left, or until when there is none.
    ///
    /// # Errors
    /// When there is none: after which time there may be.
    pub async fn take(&self, limit: &str, rate: &LimitRate, key: &str) -> Result<u32, Duration> {
        let mut answers = self.answered.subscribe();
        let deadline = clock::now() + LEASE_WAIT;
        let mut patience = Patience::First;
        loop {
            let (leased, ask) = {
                let mut holder = self.lock();
                (holder.take(self.began.elapsed(), limit, rate, key, patience), holder.has_question())
            };
            if ask {
                self.asked.notify_one();
            }
            patience = match leased {
                Leased::Granted { remaining } => return Ok(remaining),
                Leased::Refused { reset } => return Err(reset),
                Leased::Wait if patience == Patience::Last => return Err(LEASE_WAIT),
                Leased::Wait => match tokio::time::timeout_at(deadline, answers.changed()).await {
                    Ok(_) => Patience::Again,
                    Err(_) => Patience::Last,
                },
            };
        }
    }

    /// Waits for a question, or until an old one has to be asked again.
    pub(crate) async fn question(&self) {
        let again = self.lock().next_timeout(Duration::ZERO);
        match again {
            Some(pause) => drop(tokio::time::timeout(pause, self.asked.notified()).await),
            None => self.asked.notified().await,
        }
    }

    /// What to ask the control plane now.
    pub(crate) fn wants(&self) -> Vec<v1::LeaseWant> {
        let asks = self.lock().asks(self.began.elapsed());
        let wire = |ask: weft_balance::LeaseAsk| v1::LeaseWant {
            limit: ask.limit,
            key: ask.key,
            want: ask.want,
            demand: ask.demand,
            returned: ask.returned,
            window: ask.window,
        };
        asks.into_iter().take(weft_xds::limits::LEASES_MAX).map(wire).collect()
    }

    /// What it answered.
    pub(crate) fn granted(&self, grants: Vec<v1::LeaseGrant>) {
        let now = self.began.elapsed();
        let mut holder = self.lock();
        for grant in grants {
            let v1::LeaseGrant { limit, key, tokens, window, left_ms, wait_ms, share } = grant;
            holder.granted(now, &LeaseGrant { limit, key, tokens, window, left_ms, wait_ms, share });
        }
        drop(holder);
        self.answered.send_modify(|count| *count += 1);
    }

    /// The stream to the control plane came or went.
    pub(crate) fn connected(&self, connected: bool) {
        let mut holder = self.lock();
        holder.connected(connected);
        holder.reset();
        drop(holder);
        self.answered.send_modify(|count| *count += 1);
        self.asked.notify_one();
    }

    /// Only these limits are left.
    pub(crate) fn retain(&self, known: impl Fn(&str) -> bool) {
        self.lock().retain(known);
    }
}
