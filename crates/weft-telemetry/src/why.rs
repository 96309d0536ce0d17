//! `weft why`: what happened to one request, told from the records of all proxies that saw it.

mod cause;
mod hops;
mod words;

pub use cause::Cause;

use crate::{Reporter, RequestRecord, flags_text};
use hops::Hop;
use serde::{Deserialize, Serialize};
use weft_model::Origin;

/// Something with a name and the place where it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyObject {
    /// Name of the route, or `namespace/name` of the policy.
    pub name: String,
    /// `VirtualService default/ratings (ratings.yaml:9)`.
    pub text: String,
    /// The same, in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// One hop of the way, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyHop {
    /// Caller.
    pub source: String,
    /// Callee.
    pub destination: String,
    /// Hops above this one.
    pub depth: usize,
    /// Status that the caller got; 0 for none.
    pub status: u16,
    /// Flags, `-` for none.
    pub flags: String,
    /// Length in microseconds.
    pub duration_us: u64,
    /// Over mutual TLS.
    pub mtls: bool,
    /// Number of attempts.
    pub attempts: usize,
    /// Did the caller get an error?
    pub failed: bool,
    /// Is this the hop that the answer is about?
    pub decisive: bool,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// `x-request-id`.
    pub id: String,
    /// Did the outermost caller get an error?
    pub failed: bool,
    /// Status that the outermost caller got.
    pub status: u16,
    /// Kind of the decisive end.
    pub cause: Cause,
    /// What happened.
    pub sentence: String,
    /// The decisive hop: `productpage-v1 → reviews-v2`.
    pub hop: String,
    /// The side of that hop that decided.
    pub side: Reporter,
    /// The route that was taken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<WhyObject>,
    /// The policy that decided there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<WhyObject>,
    /// The endpoint that was tried last there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The certificate that the peer showed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The timer that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Facts behind the sentence, one per line.
    pub evidence: Vec<String>,
    /// The whole way.
    pub hops: Vec<WhyHop>,
}

/// Explains the request that all `records` (of one `x-request-id`) tell of. Without records: says that there are none.
pub fn explain(records: &[RequestRecord]) -> Why {
    let hops = hops::hops(records);
    let Some(first) = hops.first() else {
        return Why {
            sentence: "No proxy has reported this request: the id is wrong, it is older than what is kept, or it was not sampled.".into(),
            fix: Some("Failures are always kept for a while; try `weft why --last`.".into()),
            ..Why::default()
        };
    };
    let at = decisive(&hops);
    let hop = hops.get(at).unwrap_or(first);
    let (cause, record) = hop.verdict();
    let outer = first.outer();
    Why {
        id: outer.id.clone(),
        failed: first.failed(),
        status: outer.status,
        cause,
        sentence: sentence(first, hop, at),
        hop: format!("{} → {}", words::name(&hop.outer().source), words::callee(hop.outer())),
        side: record.reporter,
        route: route(hop),
        policy: record.policy.as_ref().map(|p| WhyObject {
            name: p.policy.clone(),
            text: p.origin.to_string(),
            origin: Some(p.origin.clone()),
        }),
        endpoint: hop.outer().attempts.last().map(|a| a.endpoint.clone()),
        certificate: certificate(hop),
        timer: record.timer.as_ref().map(|t| format!("{} of {} ms, set by {}", t.name, t.limit_ms, t.origin)),
        fix: words::fix(cause, record),
        evidence: evidence(hop),
        hops: hops.iter().enumerate().map(|(i, h)| why_hop(&hops, h, i == at)).collect(),
    }
}

/// Follows the failure from the outermost hop to the deepest one that can explain it.
fn decisive(hops: &[Hop<'_>]) -> usize {
    let mut at = 0;
    while let Some(hop) = hops.get(at) {
        let (cause, _) = hop.verdict();
        if cause.is_local() {
            break;
        }
        let waited = matches!(cause, Cause::RouteTimeout | Cause::PerTryTimeout | Cause::ClientLeft | Cause::FaultDelay);
        let children = hops.iter().enumerate().skip(at + 1).filter(|(_, h)| h.parent == Some(at));
        // A failed answer comes from a failed call; a late one from a slow call or a planted delay.
        let explains = |h: &Hop<'_>| match (hop.failed(), waited) {
            (true, false) => h.failed(),
            (_, true) => h.failed() || h.verdict().0 == Cause::FaultDelay || h.outer().duration_us * 2 > hop.outer().duration_us,
            (false, false) => h.failed() || h.verdict().0 == Cause::FaultDelay,
        };
        match children.filter(|(_, h)| explains(h)).max_by_key(|(_, h)| (h.failed(), h.end_us())) {
            Some((child, _)) => at = child,
            None => break,
        }
    }
    at
}

/// The decisive hop's sentence, and what the outermost caller saw of it.
fn sentence(first: &Hop<'_>, hop: &Hop<'_>, at: usize) -> String {
    let (cause, record) = hop.verdict();
    let mut inner = words::sentence(cause, record);
    let outer = first.outer();
    if cause != Cause::RetriesExhausted && cause.is_local() && record.attempts.len() > 1 {
        inner.push_str(&format!(" It was tried {} times.", record.attempts.len()));
    }
    match (at, first.failed()) {
        (0, _) => inner,
        (_, true) => format!("{inner} {} got {} because of it.", words::name(&outer.source), status(outer)),
        (_, false) if hop.failed() => format!("{inner} {} coped: its caller got {}.", words::callee(outer), status(outer)),
        (_, false) => inner,
    }
}

fn status(r: &RequestRecord) -> String {
    match r.status {
        0 => "no answer".into(),
        status => status.to_string(),
    }
}

/// Routes are chosen at the caller's side.
fn route(hop: &Hop<'_>) -> Option<WhyObject> {
    let record = hop.outer();
    let origin = record.route_origin.as_ref();
    let known = origin.is_some() || !record.route.is_empty();
    known.then(|| WhyObject {
        name: record.route.clone(),
        text: origin.map(ToString::to_string).unwrap_or_default(),
        origin: origin.cloned(),
    })
}

/// What the caller knows of the callee's certificate, else the other way round.
fn certificate(hop: &Hop<'_>) -> Option<String> {
    let tls = hop.source.and_then(|r| r.tls.as_ref()).or(hop.destinations.last().and_then(|r| r.tls.as_ref()))?;
    let mut until = String::new();
    crate::access_log::write_time(&mut until, u64::try_from(tls.peer_not_after_unix_s).unwrap_or(0).saturating_mul(1_000));
    Some(format!("{}, valid until {until} ({}, {})", tls.peer, tls.version, tls.group))
}

fn why_hop(hops: &[Hop<'_>], hop: &Hop<'_>, decisive: bool) -> WhyHop {
    let outer = hop.outer();
    let parents = std::iter::successors(hop.parent, |at| hops.get(*at).and_then(|h| h.parent));
    WhyHop {
        source: words::name(&outer.source),
        destination: words::callee(outer),
        depth: parents.take(hops.len()).count(),
        status: outer.status,
        flags: flags_text(&outer.flags),
        duration_us: outer.duration_us,
        mtls: outer.tls.is_some(),
        attempts: outer.attempts.len(),
        failed: hop.failed(),
        decisive,
    }
}

/// The facts of the decisive hop, each side's named.
fn evidence(hop: &Hop<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for record in hop.source.into_iter().chain(hop.destinations.iter().copied()) {
        let side = match record.reporter {
            Reporter::Source => format!("caller's proxy ({})", words::name(&record.source)),
            Reporter::Destination => format!("callee's proxy ({})", words::name(&record.destination)),
        };
        side_evidence(record, &side, &mut lines);
    }
    lines
}

fn side_evidence(r: &RequestRecord, side: &str, lines: &mut Vec<String>) {
    let details = if r.details.is_empty() { String::new() } else { format!(", {}", r.details) };
    lines.push(
        format!("{side}: {} {} → {}{details}, flags {}, {} ms", r.method, r.path, status(r), flags_text(&r.flags), r.duration_us / 1_000)
            .replace(":  ", ": "),
    );
    if let Some(origin) = &r.route_origin {
        lines.push(format!("{side}: route {} from {origin}", if r.route.is_empty() { "(unnamed)" } else { &r.route }));
    }
    if let Some(p) = &r.policy {
        let verdict = if p.allowed { "allowed" } else { "refused" };
        lines.push(format!("{side}: policy {} {verdict} ({}), {}", p.policy, p.reason, p.origin));
    }
    if let Some(p) = &r.shadow {
        let verdict = if p.allowed { "would have allowed" } else { "would have refused" };
        lines.push(format!("{side}: policy {} {verdict} ({}), {}", p.policy, p.reason, p.origin));
    }
    lines.extend(r.audited.iter().map(|p| format!("{side}: policy {} noted it ({}), {}", p.policy, p.reason, p.origin)));
    if let Some(cause) = &r.cause {
        lines.push(format!("{side}: set by {cause}"));
    }
    for (i, a) in r.attempts.iter().enumerate() {
        let workload = if a.workload.is_empty() { String::new() } else { format!(" ({})", a.workload) };
        lines.push(format!("{side}: attempt {} at {}{workload}: {} after {} ms", i + 1, a.endpoint, a.outcome, a.duration_us / 1_000));
    }
    if let Some(t) = &r.timer {
        lines.push(format!("{side}: {} of {} ms, set by {}", t.name, t.limit_ms, t.origin));
    }
    match &r.tls {
        Some(tls) => lines.push(format!("{side}: {} with {}, peer {}", tls.version, tls.group, tls.peer)),
        None => lines.push(format!("{side}: plain text")),
    }
}

#[cfg(test)]
mod tests;
