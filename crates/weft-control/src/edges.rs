//! Edges over time: per edge a ring of buckets, and the sum over a window with both sides' counts made one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weft_telemetry::{EdgeCounts, EdgeKey, Latency, Party, Reporter};

/// How far back edges go, in seconds.
pub(crate) const KEPT_S: u64 = 600;
/// Buckets are one second wide for so long; then they are folded into [`COARSE_S`].
const FINE_S: u64 = 90;
/// Width of older buckets, in seconds.
const COARSE_S: u64 = 10;
/// Most edges; with the above about 50 kB each at worst.
pub(crate) const EDGES_MAX: usize = 2_000;

/// Counts of one edge by time.
#[derive(Debug, Default)]
struct Ring {
    coarse: VecDeque<(u64, EdgeCounts)>,
    fine: VecDeque<(u64, EdgeCounts)>,
}

impl Ring {
    fn add(&mut self, second: u64, counts: &EdgeCounts) {
        match self.fine.back_mut() {
            Some((at, bucket)) if *at >= second => bucket.merge(counts),
            _ => self.fine.push_back((second, counts.clone())),
        }
    }
    /// Folds old buckets; true when nothing is left.
    fn age(&mut self, now_s: u64) -> bool {
        while let Some((at, counts)) = self.fine.pop_front_if(|(at, _)| *at + FINE_S < now_s) {
            let slot = at / COARSE_S * COARSE_S;
            match self.coarse.back_mut() {
                Some((last, bucket)) if *last >= slot => bucket.merge(&counts),
                _ => self.coarse.push_back((slot, counts)),
            }
        }
        while self.coarse.pop_front_if(|(at, _)| *at + KEPT_S < now_s).is_some() {}
        self.fine.is_empty() && self.coarse.is_empty()
    }
    fn sum(&self, from_s: u64) -> EdgeCounts {
        let mut sum = EdgeCounts::default();
        self.coarse.iter().chain(&self.fine).filter(|(at, _)| *at >= from_s).for_each(|(_, counts)| sum.merge(counts));
        sum
    }
}

/// All edges.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    rings: BTreeMap<EdgeKey, Ring>,
    /// Counts that found no room.
    pub(crate) dropped: u64,
}

/// One end of an edge in the graph: a version of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeNode {
    /// Namespace; empty outside the mesh.
    pub namespace: String,
    /// Canonical service, or the host of an external one; empty: unknown.
    pub service: String,
    /// Canonical revision; empty when the call never got so far.
    pub version: String,
}

/// What happened between two nodes in the window, both sides' views made one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeSum {
    /// Caller.
    pub source: EdgeNode,
    /// Callee.
    pub destination: EdgeNode,
    /// Host that was called, as the callee or caller knows it.
    pub host: String,
    /// `http`, `grpc` or `tcp`.
    pub protocol: String,
    /// Counts. `unreached` and `unseen_failures` are contained in `requests` and `failures`.
    pub counts: EdgeCounts,
    /// Identities that the caller proved.
    pub source_principals: BTreeSet<String>,
    /// Identities that the callee proved.
    pub destination_principals: BTreeSet<String>,
}

impl Edges {
    pub(crate) fn add(&mut self, key: &EdgeKey, counts: &EdgeCounts, now_s: u64) {
        if let Some(ring) = self.rings.get_mut(key) {
            ring.add(now_s, counts);
        } else if self.rings.len() < EDGES_MAX {
            self.rings.entry(key.clone()).or_default().add(now_s, counts);
        } else {
            self.dropped += counts.requests;
        }
    }

    /// Forgets what is too old.
    pub(crate) fn age(&mut self, now_s: u64) {
        self.rings.retain(|_, ring| !ring.age(now_s));
    }

    /// The last `window_s` seconds.
    pub(crate) fn sums(&self, now_s: u64, window_s: u64) -> Vec<EdgeSum> {
        let from_s = now_s.saturating_sub(window_s.clamp(1, KEPT_S));
        let recent = self.rings.iter().map(|(key, ring)| (key, ring.sum(from_s))).filter(|(_, counts)| counts.requests > 0);
        merge_sides(recent)
    }
}

/// The two views of one edge.
#[derive(Default)]
struct Sides {
    sum: EdgeSum,
    source: EdgeCounts,
    destination: EdgeCounts,
}

/// Makes one edge of the two sides' counts, which are never simply added.
///
/// The callee's proxy is believed where there is one; the caller's proxy adds what never arrived there, and alone speaks for
/// callees without a proxy. Latency is the caller's where known: it is what the caller felt, injected delays included.
fn merge_sides<'a>(counts: impl Iterator<Item = (&'a EdgeKey, EdgeCounts)>) -> Vec<EdgeSum> {
    let counts: Vec<(&EdgeKey, EdgeCounts)> = counts.collect();
    let told: BTreeSet<(&str, EdgeNode)> = counts
        .iter()
        .filter(|(key, _)| key.reporter == Reporter::Source)
        .map(|(key, _)| (key.source.principal.as_str(), destination_node(key)))
        .collect();
    let mut edges: BTreeMap<(EdgeNode, EdgeNode, &str), Sides> = BTreeMap::new();
    for (key, counts) in &counts {
        let destination = destination_node(key);
        let nameless = key.reporter == Reporter::Destination && is_nameless(&key.source);
        if nameless && !key.source.principal.is_empty() && told.contains(&(key.source.principal.as_str(), destination.clone())) {
            // Opaque TCP tells the callee an identity but no name: the caller's own report has both, so this one is left out.
            continue;
        }
        let source = party_node(&key.source);
        let sides = edges.entry((source.clone(), destination.clone(), key.protocol.as_str())).or_default();
        sides.sum.source = source;
        sides.sum.destination = destination;
        sides.sum.protocol.clone_from(&key.protocol);
        if sides.sum.host.is_empty() {
            sides.sum.host.clone_from(&key.destination_service);
        }
        keep_principal(&mut sides.sum.source_principals, &key.source);
        keep_principal(&mut sides.sum.destination_principals, &key.destination);
        match key.reporter {
            Reporter::Source => sides.source.merge(counts),
            Reporter::Destination => sides.destination.merge(counts),
        }
    }
    edges.into_values().map(Sides::into_sum).collect()
}

impl Sides {
    fn into_sum(mut self) -> EdgeSum {
        self.sum.counts = if self.destination.requests == 0 {
            self.source
        } else {
            let mut counts = self.destination;
            counts.requests += self.source.unreached;
            counts.failures += self.source.unseen_failures;
            counts.unreached = self.source.unreached;
            counts.unseen_failures = self.source.unseen_failures;
            if self.source.latency.count() > 0 {
                counts.latency = self.source.latency;
            }
            counts
        };
        self.sum
    }
}

/// Merges sums, for a coarser view. Only counts that were made one before may be added so.
pub(crate) fn add_sums<'a>(sums: impl IntoIterator<Item = &'a EdgeSum>) -> EdgeCounts {
    sums.into_iter().fold(EdgeCounts { latency: Latency::default(), ..EdgeCounts::default() }, |mut total, sum| {
        total.merge(&sum.counts);
        total
    })
}

fn is_nameless(party: &Party) -> bool {
    party.service.is_empty() && party.workload.is_empty()
}

fn keep_principal(principals: &mut BTreeSet<String>, party: &Party) {
    if !party.principal.is_empty() {
        principals.insert(party.principal.clone());
    }
}

/// A party as a node: by its service, else by the account of its identity (`default` says nothing), else by its workload.
pub(crate) fn party_node(party: &Party) -> EdgeNode {
    let (namespace, account) = principal_parts(&party.principal).unwrap_or_default();
    let account = if account == "default" { "" } else { account };
    let names = [party.service.as_str(), account, party.workload.as_str()];
    let service = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    let namespace = if party.namespace.is_empty() { namespace } else { &party.namespace };
    EdgeNode { namespace: namespace.into(), service: service.into(), version: party.version.clone() }
}

/// Namespace and account of `spiffe://<trust-domain>/ns/<namespace>/sa/<account>`.
fn principal_parts(principal: &str) -> Option<(&str, &str)> {
    let (_, rest) = principal.split_once("/ns/")?;
    rest.split_once("/sa/")
}

/// The callee: as it is known, else by the host that was called.
pub(crate) fn destination_node(key: &EdgeKey) -> EdgeNode {
    if !is_nameless(&key.destination) {
        return party_node(&key.destination);
    }
    let host = key.destination_service.as_str();
    match host.split('.').collect::<Vec<_>>().as_slice() {
        [name, namespace, "svc", ..] => EdgeNode { namespace: (*namespace).into(), service: (*name).into(), version: String::new() },
        _ => EdgeNode { namespace: String::new(), service: host.into(), version: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(service: &str, version: &str) -> Party {
        let principal = format!("spiffe://cluster.local/ns/default/sa/{service}");
        Party {
            workload: format!("{service}-{version}"),
            namespace: "default".into(),
            service: service.into(),
            version: version.into(),
            principal,
        }
    }
    fn key(reporter: Reporter, destination: Party) -> EdgeKey {
        let destination_service = "ratings.default.svc.cluster.local".into();
        EdgeKey { reporter, source: party("reviews", "v2"), destination, destination_service, protocol: "http".into() }
    }
    fn counts(requests: u64, failures: u64, unreached: u64, unseen_failures: u64) -> EdgeCounts {
        let mut latency = Latency::default();
        (0..requests).for_each(|_| latency.observe(1_000));
        EdgeCounts { requests, failures, unreached, unseen_failures, latency, ..EdgeCounts::default() }
    }
    /// `(destination version, requests, failures)` of the only source.
    fn check(reports: &[(EdgeKey, EdgeCounts)], expected: &[(&str, u64, u64)]) {
        let mut edges = Edges::default();
        reports.iter().for_each(|(key, counts)| edges.add(key, counts, 1_000));
        let sums = edges.sums(1_001, 60);
        let seen: Vec<_> = sums.iter().map(|s| (s.destination.version.as_str(), s.counts.requests, s.counts.failures)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn two_sides_of_one_edge_are_one_edge() {
        let v1 = || party("ratings", "v1");
        check(
            &[(key(Reporter::Source, v1()), counts(10, 2, 0, 0)), (key(Reporter::Destination, v1()), counts(10, 2, 0, 0))],
            &[("v1", 10, 2)],
        );
    }

    #[test]
    fn failures_that_never_arrived_come_from_the_source() {
        let v1 = || party("ratings", "v1");
        // Ten calls: seven arrived (one of them timed out for the caller), three found the connection refused.
        let reports = [(key(Reporter::Source, v1()), counts(10, 4, 3, 4)), (key(Reporter::Destination, v1()), counts(7, 0, 0, 0))];
        check(&reports, &[("v1", 10, 4)]);
        // No endpoint at all: the version is not known, the service is.
        check(&[(key(Reporter::Source, Party::default()), counts(5, 5, 5, 5))], &[("", 5, 5)]);
    }

    #[test]
    fn a_callee_without_proxy_is_counted_by_its_callers() {
        check(&[(key(Reporter::Source, party("ratings", "v1")), counts(4, 1, 0, 0))], &[("v1", 4, 1)]);
    }

    #[test]
    fn opaque_callers_are_not_counted_twice() {
        let v1 = || party("ratings", "v1");
        let unnamed = Party { principal: "spiffe://cluster.local/ns/default/sa/reviews".into(), ..Party::default() };
        let seen_by_callee = EdgeKey { source: unnamed, ..key(Reporter::Destination, v1()) };
        check(&[(key(Reporter::Source, v1()), counts(3, 0, 0, 0)), (seen_by_callee.clone(), counts(3, 0, 0, 0))], &[("v1", 3, 0)]);
        let mut alone = Edges::default();
        alone.add(&seen_by_callee, &counts(3, 0, 0, 0), 1_000);
        assert_eq!(
            alone.sums(1_001, 60)[0].source,
            EdgeNode { namespace: "default".into(), service: "reviews".into(), version: String::new() }
        );
    }

    #[test]
    fn windows_end_and_old_buckets_are_folded_and_dropped() {
        let mut edges = Edges::default();
        let key = key(Reporter::Destination, party("ratings", "v1"));
        for second in 0..1_000 {
            edges.add(&key, &counts(1, 0, 0, 0), 10_000 + second);
            edges.age(10_000 + second);
        }
        let requests = |window| edges.sums(11_000, window)[0].counts.requests;
        assert_eq!(requests(10), 10);
        assert_eq!(requests(60), 60);
        assert!((590..=610).contains(&requests(600)), "{}", requests(600));
        let ring = edges.rings.values().next().expect("one edge");
        assert!(ring.fine.len() as u64 <= FINE_S + 1 && ring.coarse.len() as u64 <= KEPT_S / COARSE_S + 1);
        edges.age(20_000);
        assert!(edges.rings.is_empty());
    }

    #[test]
    fn edges_are_bounded() {
        let mut edges = Edges::default();
        for i in 0..EDGES_MAX + 5 {
            edges.add(&key(Reporter::Destination, party("ratings", &format!("v{i}"))), &counts(1, 0, 0, 0), 1);
        }
        assert_eq!((edges.rings.len(), edges.dropped), (EDGES_MAX, 5));
    }
}
