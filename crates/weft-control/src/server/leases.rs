//! Tokens of global rate limits: who may have which, and the accounts of all.
//!
//! The accounts are in memory only. After a restart a window may be granted twice, once by each life of the control plane.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use weft_balance::{LeaseAsk, LeaseBook};
use weft_compile::Mesh;
use weft_model::{ResourceName, limits::LIMIT_KEY_BYTES_MAX};
use weft_proto::v1;
use weft_std::clock::{self, Instant};
use weft_xds::ResourceState;

/// The accounts.
pub(crate) struct Leases {
    book: Mutex<LeaseBook>,
    began: Instant,
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self { book: Mutex::default(), began: clock::now() }
    }

    /// Answers what a proxy asks. It gets tokens only of limits that its own view holds: no workload can use up another's.
    pub(crate) fn answer(
        &self,
        now: Instant,
        proxy: &str,
        view: &BTreeMap<ResourceName, ResourceState>,
        mesh: &Mesh,
        wants: Vec<v1::LeaseWant>,
    ) -> Vec<v1::LeaseGrant> {
        let now = now.saturating_duration_since(self.began);
        // Every critical section leaves the accounts whole, so a poisoned lock is still good.
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let mut grants = Vec::with_capacity(wants.len());
        for want in wants {
            let policy = want.limit.rsplit_once('/').map(|(policy, _)| ResourceName::RateLimit(policy.into()));
            let holds = policy.is_some_and(|name| view.contains_key(&name)) && want.key.len() <= LIMIT_KEY_BYTES_MAX;
            let Some(rate) = mesh.global_limit(&want.limit).filter(|_| holds) else { continue };
            let v1::LeaseWant { limit, key, want, demand, returned, window } = want;
            let granted = book.ask(now, proxy, rate, &LeaseAsk { limit, key, want, demand, returned, window });
            grants.push(v1::LeaseGrant {
                limit: granted.limit,
                key: granted.key,
                tokens: granted.tokens,
                window: granted.window,
                left_ms: granted.left_ms,
                wait_ms: granted.wait_ms,
                share: granted.share,
            });
        }
        book.retain(|limit| mesh.global_limit(limit).is_some());
        grants
    }
}
