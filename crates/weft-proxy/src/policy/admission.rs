//! Admission: rate limits and concurrency policies, applied to a request after authorization and before anything is sent.
//!
//! What is counted belongs to the whole proxy, since the user's number means the proxy: the counts are shared by the workers, and
//! carried from snapshot to snapshot. Without a policy a snapshot has no [`Admission`], and a request pays for one look at that.

use super::{
    concurrency::{ConcurrencyEntry, Place},
    rate_limit::RateEntry,
};
use crate::{
    http::{Connection, Exchange, Reject, Scope, Target, request_head},
    snapshot::Snapshot,
    worker::Config,
};
use http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER, request::Parts};
use std::{rc::Rc, sync::Arc, time::Duration};
use weft_model::{ConcurrencyPolicy, HttpRoute, LimitInput, Origin, PolicyScope, RateLimit};
use weft_telemetry::ResponseFlag;

/// The policies of one snapshot with their counts.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(super) rates: Vec<Arc<RateEntry>>,
    pub(super) concurrency: Vec<Arc<ConcurrencyEntry>>,
}

impl Admission {
    /// Takes a rate limit in, with the counts of `previous` where its limits are still the same.
    pub(crate) fn rate_limit(&mut self, policy: &RateLimit, previous: Option<&Snapshot>) {
        let before = previous.and_then(|p| p.admission.as_ref()).and_then(|a| a.rates.iter().find(|e| e.policy.name == policy.name));
        self.rates.push(RateEntry::new(policy, before));
    }
    /// The same for a concurrency policy.
    pub(crate) fn concurrency(&mut self, policy: &ConcurrencyPolicy, previous: Option<&Snapshot>) {
        let before = previous.and_then(|p| p.admission.as_ref()).and_then(|a| a.concurrency.iter().find(|e| e.policy.name == policy.name));
        self.concurrency.push(ConcurrencyEntry::new(policy, before));
    }
    /// `None` when there is nothing to do for any request.
    pub(crate) fn some(self) -> Option<Arc<Self>> {
        (!self.rates.is_empty() || !self.concurrency.is_empty()).then(|| Arc::new(self))
    }
}

/// What a request is, for the scopes of policies.
#[derive(Clone, Copy)]
pub(crate) struct Covered<'a> {
    /// Port, for a request to the proxy's own workload or into its gateway.
    pub own: Option<u16>,
    /// The rule that it takes.
    pub route: Option<&'a HttpRoute>,
    /// The service that it calls.
    pub service: Option<&'a weft_model::Service>,
}

impl Covered<'_> {
    pub(super) fn by(&self, scope: &PolicyScope) -> bool {
        self.own.is_some_and(|port| scope.covers_own(port)) || self.route.is_some_and(|route| scope.covers_route(route))
    }
    /// The same for what is decided at the caller.
    pub(super) fn at_caller(&self, scope: &PolicyScope) -> bool {
        self.route.is_some_and(|route| scope.covers_route(route) || self.own.is_some_and(|port| scope.covers_own(port)))
            || self.service.is_some_and(|service| scope.services.iter().any(|host| host == service.host.as_str()))
    }
}

/// Why a request was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limited {
    /// 429 or 503.
    pub status: u16,
    /// For gRPC.
    pub grpc_status: u8,
    /// Envoy's flag.
    pub flag: ResponseFlag,
    /// For the log.
    pub details: String,
    /// For the caller.
    pub words: String,
    /// Where the limit was written.
    pub origin: Origin,
    /// When to come again.
    pub retry_after: Option<Duration>,
    /// How the limit stands.
    pub standing: Option<Standing>,
}

/// How a limit stands, as the `x-ratelimit-` headers tell it (draft-ietf-httpapi-ratelimit-headers-03, as Envoy).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub limit: u32,
    pub window_s: u64,
    pub remaining: u32,
    pub reset: Duration,
}

impl Standing {
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let limit = format!("{}, {};w={}", self.limit, self.limit, self.window_s);
        headers.insert(HeaderName::from_static("x-ratelimit-limit"), HeaderValue::try_from(limit).unwrap_or(HeaderValue::from_static("")));
        headers.insert(HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(self.remaining));
        headers.insert(HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(seconds(self.reset)));
    }
}

impl Limited {
    /// The headers of the refusal.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if let Some(standing) = &self.standing {
            standing.write(headers);
        }
        if let Some(after) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(after).max(1)));
        }
    }
}

/// Whole seconds, rounded up: whoever waits so long waits long enough.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Places that a request has taken, until its exchange ends.
#[derive(Default)]
pub(crate) struct Admitted {
    pub(super) places: Vec<Place>,
}

impl Admitted {
    /// The exchange is over: `latency` until its answer began, or until it was given up.
    pub(crate) fn end(self, record: &weft_telemetry::RequestRecord, latency: Duration) {
        for place in self.places {
            place.end(record, latency);
        }
    }
}

/// Admits a request or says why not. The caller has seen that there are policies.
pub(crate) async fn admit(
    conn: &Rc<Connection>,
    config: &Config,
    admission: &Admission,
    covered: Covered<'_>,
    parts: &Parts,
    target: &Target,
    exchange: &mut Exchange,
) -> Result<(), Reject> {
    let head = request_head(conn, parts, target, &target.host);
    let caller = match &conn.scope {
        Scope::Outbound { .. } => config.snapshot.inbound.as_ref().map(|i| &i.workload.identity),
        Scope::Inbound { .. } | Scope::Gateway { .. } => conn.peer.as_ref().map(|peer| &peer.id),
    };
    let route = covered.route.map(|r| r.name.as_str()).unwrap_or_default();
    let input = LimitInput { head: &head, caller, remote: conn.peer_address.ip(), route };
    let mut admitted = Admitted::default();
    // Places first: a request that finds none should not use up a token.
    for entry in &admission.concurrency {
        let taken = entry.enter(conn, &covered, &input, &mut admitted.places);
        if let Err(limited) = taken {
            admitted.end(&exchange.record, Duration::ZERO);
            return Err(Reject::Limited(limited));
        }
    }
    for entry in &admission.rates {
        if covered.by(&entry.policy.scope)
            && let Err(limited) = entry.take(conn, config, &input, &mut exchange.standing).await
        {
            admitted.end(&exchange.record, Duration::ZERO);
            return Err(Reject::Limited(limited));
        }
    }
    if !admitted.places.is_empty() {
        exchange.places = Some(admitted);
    }
    Ok(())
}
