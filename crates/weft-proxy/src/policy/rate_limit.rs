//! Rate limits: whose token is taken where, and what a refusal says.

use super::admission::{Limited, Standing};
use crate::{http::Connection, limits::LIMIT_KEYS_MAX, worker::Config};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use weft_balance::{Buckets, Taken};
use weft_model::{Counted, LimitHeaders, LimitInput, LimitRate, LimitRule, RateLimit};
use weft_std::clock::{self, Instant};
use weft_telemetry::{Counter, Registry, ResponseFlag};

/// A policy with the counts of its limits.
#[derive(Debug)]
pub(crate) struct RateEntry {
    pub(super) policy: RateLimit,
    states: Vec<Arc<LimitState>>,
}

/// The counts of one limit; shared by the workers and by snapshots that follow each other.
#[derive(Debug)]
pub(super) struct LimitState {
    rule: LimitRule,
    began: Instant,
    buckets: Mutex<Buckets>,
    counters: OnceLock<Decisions>,
}

/// Counters of what was decided, resolved at the first use.
#[derive(Debug)]
pub(super) struct Decisions {
    pub(super) allowed: Counter,
    pub(super) refused: Counter,
    pub(super) shadow: Counter,
}

impl Decisions {
    /// Of one part of a policy.
    pub(super) fn new(registry: &Registry, policy: &str, part: &str) -> Self {
        const HELP: &str = "Requests that a limit allowed, refused, or would have refused if it were not in shadow mode.";
        let counter = |decision: &str| {
            registry.counter("weft_limit_decisions_total", HELP, &[("policy", policy), ("limit", part), ("decision", decision)])
        };
        Self { allowed: counter("allowed"), refused: counter("refused"), shadow: counter("shadow") }
    }
    /// Counts a decision; the answer says whether the request must be refused.
    pub(super) fn count(&self, allowed: bool, shadow: bool) -> bool {
        match (allowed, shadow) {
            (true, _) => self.allowed.inc(),
            (false, true) => self.shadow.inc(),
            (false, false) => self.refused.inc(),
        }
        !allowed && !shadow
    }
}

impl RateEntry {
    pub(super) fn new(policy: &RateLimit, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(same) = before.filter(|b| b.policy == *policy) {
            return same.clone();
        }
        let state = |rule: &LimitRule| {
            let kept = before.into_iter().flat_map(|b| &b.states).find(|state| state.rule == *rule);
            kept.cloned().unwrap_or_else(|| Arc::new(LimitState::new(rule)))
        };
        Arc::new(Self { policy: policy.clone(), states: policy.limits.iter().map(state).collect() })
    }

    /// Takes a token of each limit that matches.
    pub(super) async fn take(
        &self,
        conn: &Connection,
        _config: &Config,
        input: &LimitInput<'_>,
        standing: &mut Option<Standing>,
    ) -> Result<(), Box<Limited>> {
        for state in self.states.iter().filter(|state| state.rule.matches(input)) {
            let registry = &conn.worker.settings.registry;
            let decided = match &state.rule.counted {
                Counted::Local(rate) => Some((state.take_local(rate, input, registry), *rate)),
                Counted::Global(_) | Counted::Service(_) => None,
            };
            let Some((taken, rate)) = decided else { continue };
            let now =
                Standing { limit: rate.requests, window_s: (rate.per_ms / 1000).max(1), remaining: taken.remaining, reset: taken.reset };
            let decisions = state.counters.get_or_init(|| Decisions::new(registry, &self.policy.name, &state.rule.name));
            if decisions.count(taken.allowed, self.policy.shadow) {
                return Err(self.refusal(&state.rule, now));
            }
            // The tightest of several limits is told.
            if self.policy.headers == LimitHeaders::Always && standing.is_none_or(|known| known.remaining > now.remaining) {
                *standing = Some(now);
            }
        }
        Ok(())
    }

    fn refusal(&self, rule: &LimitRule, standing: Standing) -> Box<Limited> {
        let per = Duration::from_secs(standing.window_s);
        Box::new(Limited {
            status: 429,
            grpc_status: 8,
            flag: ResponseFlag::RateLimited,
            details: format!("request_rate_limited[{}]", self.policy.limit_name(rule)),
            words: format!("rate limited: {} of {} allows {} requests in {per:?}", rule.name, self.policy.name, standing.limit),
            origin: rule.origin.clone(),
            retry_after: Some(standing.reset),
            standing: (self.policy.headers != LimitHeaders::Never).then_some(standing),
        })
    }
}

impl LimitState {
    fn new(rule: &LimitRule) -> Self {
        let buckets = Mutex::new(Buckets::new(LIMIT_KEYS_MAX));
        Self { rule: rule.clone(), began: clock::now(), buckets, counters: OnceLock::new() }
    }

    fn take_local(&self, rate: &LimitRate, input: &LimitInput<'_>, registry: &Registry) -> Taken {
        let mut key = String::new();
        self.rule.write_key(input, &mut key);
        let now = self.began.elapsed();
        let taken = self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(now, rate, &key);
        if taken.forgot {
            registry.limit("LIMIT_KEYS_MAX").inc();
        }
        taken
    }
}
