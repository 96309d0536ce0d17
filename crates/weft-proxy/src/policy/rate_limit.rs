//! Rate limits: whose token is taken where, and what a refusal says.

use super::{
    admission::{Limited, Standing},
    rate_limit_service,
};
use crate::{http::Connection, limits::LIMIT_KEYS_MAX, worker::Config};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use weft_balance::{Buckets, Taken};
use weft_model::{Counted, LimitHeaders, LimitInput, LimitRate, LimitRule, LimitService, RateLimit};
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
        config: &Config,
        input: &LimitInput<'_>,
        standing: &mut Option<Standing>,
    ) -> Result<(), Box<Limited>> {
        for state in self.states.iter().filter(|state| state.rule.matches(input)) {
            let registry = &conn.worker.settings.registry;
            let (allowed, now) = match &state.rule.counted {
                Counted::Local(rate) => {
                    let taken = state.take_local(rate, input, registry);
                    (taken.allowed, Some(standing_of(rate, taken.remaining, taken.reset)))
                }
                Counted::Global(rate) => {
                    let mut key = String::new();
                    state.rule.write_key(input, &mut key);
                    let taken = conn.worker.shared.leases.take(&self.policy.limit_name(&state.rule), rate, &key).await;
                    (taken.is_ok(), Some(standing_of(rate, taken.unwrap_or(0), taken.err().unwrap_or_default())))
                }
                Counted::Service(service) => match self.ask(conn, config, service, state, input).await? {
                    Some(said) => said,
                    None => continue,
                },
            };
            let decisions = state.counters.get_or_init(|| Decisions::new(registry, &self.policy.name, &state.rule.name));
            if decisions.count(allowed, self.policy.shadow) {
                return Err(self.refusal(&state.rule, now));
            }
            let Some(now) = now else { continue };
            // The tightest of several limits is told.
            if self.policy.headers == LimitHeaders::Always && standing.is_none_or(|known| known.remaining > now.remaining) {
                *standing = Some(now);
            }
        }
        Ok(())
    }

    /// What a service of the user's says; `None` where the limit does not hold.
    async fn ask(
        &self,
        conn: &Connection,
        config: &Config,
        service: &LimitService,
        state: &LimitState,
        input: &LimitInput<'_>,
    ) -> Result<Option<(bool, Option<Standing>)>, Box<Limited>> {
        let Some(descriptor) = state.rule.descriptor(input) else { return Ok(None) };
        let failed = match rate_limit_service::ask(&conn.worker, config, service, descriptor).await {
            Ok(said) => return Ok(Some(said)),
            Err(why) => why,
        };
        const HELP: &str = "Questions that a rate limit service did not answer.";
        let labels = [("policy", self.policy.name.as_str()), ("limit", state.rule.name.as_str())];
        conn.worker.settings.registry.counter("weft_rate_limit_service_errors_total", HELP, &labels).inc();
        tracing::debug!(limit = self.policy.limit_name(&state.rule), reason = failed, "a rate limit service could not be asked");
        if !service.fail_closed || self.policy.shadow {
            return Ok(None);
        }
        Err(Box::new(Limited {
            status: 500,
            grpc_status: 14,
            flag: ResponseFlag::RateLimited,
            details: format!("rate_limiter_error[{}]", self.policy.limit_name(&state.rule)),
            words: failed,
            origin: state.rule.origin.clone(),
            retry_after: None,
            standing: None,
        }))
    }

    fn refusal(&self, rule: &LimitRule, standing: Option<Standing>) -> Box<Limited> {
        let allows = standing
            .filter(|s| s.window_s > 0)
            .map_or_else(String::new, |s| format!(" allows {} requests in {:?}", s.limit, Duration::from_secs(s.window_s)));
        Box::new(Limited {
            status: 429,
            grpc_status: 8,
            flag: ResponseFlag::RateLimited,
            details: format!("request_rate_limited[{}]", self.policy.limit_name(rule)),
            words: format!("rate limited: {} of {}{allows}", rule.name, self.policy.name),
            origin: rule.origin.clone(),
            retry_after: standing.map(|s| s.reset),
            standing: standing.filter(|_| self.policy.headers != LimitHeaders::Never),
        })
    }
}

fn standing_of(rate: &LimitRate, remaining: u32, reset: Duration) -> Standing {
    Standing { limit: rate.requests, window_s: (rate.per_ms / 1000).max(1), remaining, reset }
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
