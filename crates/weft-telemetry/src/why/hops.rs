//! Puts the records of one request in order: which belong to the same hop, and which hop called which.

use super::Cause;
use crate::{Party, Reporter, RequestRecord};

/// One call from a workload to a service, as its two sides saw it.
#[derive(Debug)]
pub(super) struct Hop<'a> {
    /// The caller's side.
    pub(super) source: Option<&'a RequestRecord>,
    /// The callee's side: more than one after retries, in order.
    pub(super) destinations: Vec<&'a RequestRecord>,
    /// Index of the hop whose callee made this call.
    pub(super) parent: Option<usize>,
}

impl<'a> Hop<'a> {
    /// What the caller saw; the callee's view when the caller has no proxy.
    pub(super) fn outer(&self) -> &'a RequestRecord {
        self.source.or(self.destinations.last().copied()).expect("a hop is made from a record")
    }
    /// The record of the side that decided, and what it tells.
    ///
    /// The callee's side is nearer to the cause; the caller's counts when it stopped before the callee could answer.
    pub(super) fn verdict(&self) -> (Cause, &'a RequestRecord) {
        let outer = self.outer();
        let outer_cause = Cause::of(outer);
        let Some(inner) = self.destinations.last().copied() else { return (outer_cause, outer) };
        let inner_cause = Cause::of(inner);
        match (outer_cause, inner_cause) {
            (outer_cause, _) if outer_cause.is_local() && outer_cause != Cause::Reset => (outer_cause, outer),
            (Cause::RouteTimeout | Cause::PerTryTimeout, Cause::ClientLeft | Cause::Success | Cause::ProgramError) => (outer_cause, outer),
            (_, Cause::Success) => (outer_cause, outer),
            (_, inner_cause) => (inner_cause, inner),
        }
    }
    /// Did the caller get an error?
    pub(super) fn failed(&self) -> bool {
        let outer = self.outer();
        outer.is_failure() || outer.status >= 400 || (outer.status == 0 && outer.protocol != "tcp")
    }
    /// End, in microseconds since 1970.
    pub(super) fn end_us(&self) -> u64 {
        let outer = self.outer();
        outer.start_unix_ms.saturating_mul(1_000).saturating_add(outer.duration_us)
    }
}

/// Are these the same, as far as both are known?
fn same(a: &Party, b: &Party) -> bool {
    let equal = |x: &str, y: &str| x.is_empty() || y.is_empty() || x == y;
    let named = |p: &Party| !(p.workload.is_empty() && p.service.is_empty());
    named(a) && named(b) && equal(&a.workload, &b.workload) && equal(&a.service, &b.service) && equal(&a.namespace, &b.namespace)
}

/// Hops in the order in which they began; a caller before what it called.
pub(super) fn hops(records: &[RequestRecord]) -> Vec<Hop<'_>> {
    let mut sorted: Vec<&RequestRecord> = records.iter().collect();
    sorted.sort_by_key(|r| (r.start_unix_ms, std::cmp::Reverse(r.duration_us)));
    let mut hops: Vec<Hop<'_>> = Vec::new();
    let (callers, callees): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|r| r.reporter == Reporter::Source);
    hops.extend(callers.into_iter().map(|source| Hop { source: Some(source), destinations: vec![], parent: None }));
    for callee in callees {
        match hop_of(&hops, callee).and_then(|at| hops.get_mut(at)) {
            Some(hop) => hop.destinations.push(callee),
            None => hops.push(Hop { source: None, destinations: vec![callee], parent: None }),
        }
    }
    hops.sort_by_key(|h| (h.outer().start_unix_ms, std::cmp::Reverse(h.outer().duration_us)));
    let parents: Vec<Option<usize>> = (0..hops.len()).map(|at| parent_of(&hops, at)).collect();
    hops.iter_mut().zip(parents).for_each(|(hop, parent)| hop.parent = parent);
    hops
}

/// The hop that `callee` is the other side of: by span when the caller's span is known, else by who called whom.
fn hop_of(hops: &[Hop<'_>], callee: &RequestRecord) -> Option<usize> {
    let by_span = |h: &Hop<'_>| h.source.is_some_and(|s| !s.span_id.is_empty() && s.span_id == callee.parent_span_id);
    let by_name = |h: &Hop<'_>| {
        h.source.is_some_and(|s| {
            let service = same(&s.destination, &callee.destination) || (s.destination_service == callee.destination_service);
            service && (same(&s.source, &callee.source) || callee.source == Party::default())
        })
    };
    let free = |h: &Hop<'_>| h.source.is_some_and(|s| h.destinations.len() < s.attempts.len().max(1));
    let position = |test: &dyn Fn(&Hop<'_>) -> bool| hops.iter().position(test);
    position(&by_span).or_else(|| position(&|h| by_name(h) && free(h))).or_else(|| position(&by_name))
}

/// The latest hop that began before and whose callee is this hop's caller.
fn parent_of(hops: &[Hop<'_>], at: usize) -> Option<usize> {
    let caller = &hops.get(at)?.outer().source;
    hops.iter().take(at).rposition(|h| {
        let outer = h.outer();
        same(&outer.destination, caller) || h.destinations.iter().any(|d| same(&d.destination, caller))
    })
}
