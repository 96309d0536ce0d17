//! HTTP rules as linked: resolved, but not yet narrowed to the proxy that asks. VirtualService, HTTPRoute and GRPCRoute all become these.

use crate::mesh::{Client, Mesh};
use std::{collections::BTreeMap, sync::Arc};
use weft_model::{
    Backend, ClusterName, HeaderEdits, HttpMatch, HttpRoute, Labels, Mirror, PathMatch, Ppm, Redirect, Rewrite, RouteAction, Target,
    TcpRoute, selects,
};

/// Which proxies a match block is for. Decided per proxy, never per request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MatchScope {
    /// Port that the client addressed.
    pub(crate) port: Option<u16>,
    /// Labels that the caller must have.
    pub(crate) source_labels: Labels,
    /// Namespace that the caller must be in.
    pub(crate) source_namespace: Option<String>,
    /// `mesh` or `ns/name`, one of which must be asking; `None`: whatever the whole VirtualService says.
    pub(crate) gateways: Option<Vec<String>>,
}

/// One alternative of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkedMatch {
    /// For whom.
    pub(crate) scope: MatchScope,
    /// What it asks of a request.
    pub(crate) http: HttpMatch,
}

/// Where a rule sends, as far as it can be known without the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A service in the catalogue.
    Service {
        /// Full host.
        host: String,
        /// Port; `None`: the only one, or the one that was called.
        port: Option<u16>,
        /// Subset, or empty.
        subset: String,
    },
    /// Nowhere.
    Invalid {
        /// Answer.
        status: u16,
        /// Why.
        reason: String,
    },
}

/// A weighted destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkedTarget {
    pub(crate) destination: Destination,
    pub(crate) weight: u32,
    pub(crate) request_headers: HeaderEdits,
    pub(crate) response_headers: HeaderEdits,
    pub(crate) rewrite: Rewrite,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) mirrors: Vec<(Destination, Ppm)>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkedRoute {
    /// All that does not depend on the caller. `matches`, the targets of `action` and `mirrors` are empty here.
    pub(crate) route: HttpRoute,
    /// Alternatives; empty matches all.
    pub(crate) matches: Vec<LinkedMatch>,
    /// Targets, when `route.action` forwards.
    pub(crate) targets: Vec<LinkedTarget>,
    /// Copies.
    pub(crate) mirrors: Vec<(Destination, Ppm)>,
    /// Status for a target that turns out to lead nowhere: 503 (Istio) or 500 (Gateway API).
    pub(crate) unresolved_status: u16,
}

/// A TCP or TLS rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkedTcpRoute {
    /// Without targets.
    pub(crate) route: TcpRoute,
    /// For whom; empty: all.
    pub(crate) scopes: Vec<MatchScope>,
    /// Targets.
    pub(crate) targets: Vec<LinkedTarget>,
}

/// Who asks, through which door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) client: Client<'a>,
    /// Port that was called.
    pub(crate) port: u16,
    /// `ns/name` of the gateway; `mesh` for sidecars.
    pub(crate) door: &'a str,
}

impl MatchScope {
    /// Is the block for this proxy? Source conditions hold for gateways too: a rule for some callers is not opened at the edge.
    pub(crate) fn includes(&self, asker: &Asker<'_>) -> bool {
        self.port.is_none_or(|p| p == asker.port)
            && self.gateways.as_ref().is_none_or(|doors| doors.iter().any(|d| d == asker.door))
            && selects(&self.source_labels, asker.client.labels)
            && self.source_namespace.as_deref().is_none_or(|n| n == asker.client.namespace)
    }
    /// Which condition keeps the block from this proxy, in words.
    pub(crate) fn refusal(&self, asker: &Asker<'_>) -> Option<String> {
        if let Some(port) = self.port.filter(|p| *p != asker.port) {
            return Some(format!("is for port {port}"));
        }
        if let Some(doors) = self.gateways.as_ref().filter(|doors| !doors.iter().any(|d| d == asker.door)) {
            return Some(format!("is for gateways {}", doors.join(", ")));
        }
        if let Some((key, value)) = self.source_labels.iter().find(|(k, v)| asker.client.labels.get(*k) != Some(v)) {
            return Some(format!("is for callers with label {key}={value}"));
        }
        self.source_namespace.as_ref().filter(|n| *n != asker.client.namespace).map(|n| format!("is for callers in namespace {n}"))
    }
}

impl Destination {
    /// The cluster for this caller, or why there is none.
    pub(crate) fn backend(&self, mesh: &Mesh, asker: &Asker<'_>, unresolved_status: u16) -> Backend {
        let (host, port, subset) = match self {
            Self::Invalid { status, reason } => return Backend::Invalid { status: *status, reason: reason.clone() },
            Self::Service { host, port, subset } => (host, *port, subset),
        };
        let invalid = |reason: String| Backend::Invalid { status: unresolved_status, reason };
        let Some(service) = mesh.service_or_wildcard(host, asker.client.namespace) else {
            return invalid(format!("service {host} is not visible in namespace {}", asker.client.namespace));
        };
        let Some(port) = port.or(service.only_port()).or(service.port(asker.port).map(|p| p.number)) else {
            return invalid(format!("service {host} has several ports and the route names none"));
        };
        if service.port(port).is_none() {
            return invalid(format!("service {host} has no port {port}"));
        }
        let rule = mesh.destination_rules.find(mesh, &asker.client, &service);
        if !subset.is_empty() && !rule.is_some_and(|r| r.subsets.contains_key(subset)) {
            return invalid(format!("no DestinationRule defines subset {subset} of {host} for this caller"));
        }
        Backend::Cluster(ClusterName { host: service.service.host.to_string(), port, subset: subset.clone() })
    }
}

impl LinkedTarget {
    pub(crate) fn plain(destination: Destination, weight: u32) -> Self {
        Self {
            destination,
            weight,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: Rewrite::default(),
            redirect: None,
            mirrors: Vec::new(),
        }
    }
    pub(crate) fn for_asker(&self, mesh: &Mesh, asker: &Asker<'_>, unresolved_status: u16) -> Target {
        Target {
            backend: self.destination.backend(mesh, asker, unresolved_status),
            weight: self.weight,
            request_headers: self.request_headers.clone(),
            response_headers: self.response_headers.clone(),
            rewrite: self.rewrite.clone(),
            redirect: self.redirect.clone(),
            mirrors: mirrors(&self.mirrors, mesh, asker, unresolved_status),
        }
    }
}

/// The copies that lead somewhere.
fn mirrors(list: &[(Destination, Ppm)], mesh: &Mesh, asker: &Asker<'_>, unresolved_status: u16) -> Vec<Mirror> {
    let one = |(to, share): &(Destination, Ppm)| match to.backend(mesh, asker, unresolved_status) {
        Backend::Cluster(cluster) => Some(Mirror { cluster, share: *share }),
        Backend::Invalid { .. } => None,
    };
    list.iter().filter_map(one).collect()
}

impl LinkedRoute {
    /// The rule as this proxy runs it; `None` when it is not for this proxy.
    pub(crate) fn for_asker(&self, mesh: &Mesh, asker: &Asker<'_>) -> Option<HttpRoute> {
        self.for_asker_at(mesh, asker, None)
    }
    /// The same in the table of the service `called`; in a gateway's, that of all its targets counts.
    pub(crate) fn for_asker_at(&self, mesh: &Mesh, asker: &Asker<'_>, called: Option<&str>) -> Option<HttpRoute> {
        let matches: Vec<HttpMatch> = self.matches.iter().filter(|m| m.scope.includes(asker)).map(|m| m.http.clone()).collect();
        if matches.is_empty() && !self.matches.is_empty() {
            return None;
        }
        let mut route = self.route.clone();
        // A block that asked only about the caller now asks nothing: the rule matches all.
        route.matches = if matches.iter().any(asks_nothing) { Vec::new() } else { matches };
        if let RouteAction::Forward(targets) = &mut route.action {
            *targets = self.targets.iter().map(|t| t.for_asker(mesh, asker, self.unresolved_status)).collect();
        }
        route.mirrors = mirrors(&self.mirrors, mesh, asker, self.unresolved_status);
        let of_targets = if called.is_none() { crate::route_policy::only_service(&route) } else { None };
        mesh.apply_route_policies(&mut route, called.or(of_targets.as_deref()), asker);
        Some(route)
    }
    /// Does it match every request of its host?
    pub(crate) fn catches_all(&self) -> bool {
        self.matches.is_empty()
            || self.matches.iter().any(|m| {
                m.scope == MatchScope::default()
                    && HttpMatch { path: None, name: String::new(), ..m.http.clone() } == HttpMatch::default()
                    && matches!(&m.http.path, None | Some(PathMatch::Prefix(_)))
                    && m.http.path.as_ref().is_none_or(|p| matches!(p, PathMatch::Prefix(text) if text == "/"))
            })
    }
}

/// No condition left?
fn asks_nothing(m: &HttpMatch) -> bool {
    *m == HttpMatch { name: m.name.clone(), ignore_path_case: m.ignore_path_case, ..HttpMatch::default() } && m.name.is_empty()
}

impl LinkedTcpRoute {
    /// The rule as this proxy runs it.
    pub(crate) fn for_asker(&self, mesh: &Mesh, asker: &Asker<'_>) -> Option<TcpRoute> {
        if !self.scopes.is_empty() && !self.scopes.iter().any(|s| s.includes(asker)) {
            return None;
        }
        let targets = self.targets.iter().map(|t| t.for_asker(mesh, asker, 503)).collect();
        Some(TcpRoute { targets, ..self.route.clone() })
    }
}

/// Rules that Gateway API routes attach to services (GAMMA), by service host.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceRoutes {
    pub(crate) by_host: BTreeMap<String, Vec<AttachedRoute>>,
}

/// One attachment.
#[derive(Debug, Clone)]
pub(crate) struct AttachedRoute {
    /// Port of the service; `None`: all.
    pub(crate) port: Option<u16>,
    /// A consumer route: for callers of this namespace only. `None`: the producer's, for all.
    pub(crate) consumer: Option<String>,
    /// Its rules, one match each.
    pub(crate) rules: Vec<RankedRoute>,
}

/// A rule with its precedence.
#[derive(Debug, Clone)]
pub(crate) struct RankedRoute {
    /// Smaller goes first.
    pub(crate) rank: Rank,
    /// The rule.
    pub(crate) route: Arc<LinkedRoute>,
}

/// How a gRPC match on the method alone begins: any service.
pub(crate) const ANY_GRPC_SERVICE: &str = "/(?:[^/]+)/";

/// Precedence of a Gateway API match: exact path, regular expression, longest prefix; method; number of headers; number of query
/// parameters; older route; name; place in the route. Smaller goes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    path: (u8, usize),
    method: bool,
    headers: usize,
    query: usize,
    age: usize,
    place: (usize, usize),
}

impl Rank {
    /// `age` is the route's place among all documents, `place` that of the rule and the match inside it.
    pub(crate) fn new(m: &HttpMatch, age: usize, place: (usize, usize)) -> Self {
        let path = match &m.path {
            // gRPC by method alone: no character of the service matches, so that any service goes before it.
            Some(PathMatch::Regex(pattern)) if pattern.as_str().starts_with(ANY_GRPC_SERVICE) => (2, usize::MAX - 1),
            Some(PathMatch::Exact(text)) => (0, usize::MAX - text.len()),
            Some(PathMatch::Regex(pattern)) => (1, usize::MAX - pattern.as_str().len()),
            Some(PathMatch::SegmentPrefix(text) | PathMatch::Prefix(text)) => (2, usize::MAX - text.trim_end_matches('/').len()),
            None => (2, usize::MAX),
        };
        Self { path, method: m.method.is_none(), headers: usize::MAX - m.headers.len(), query: usize::MAX - m.query.len(), age, place }
    }
}

impl ServiceRoutes {
    /// The rules for callers of `client` to a port, in order; empty when no route is attached. A consumer's routes take the place of
    /// the producer's for its namespace.
    pub(crate) fn find(&self, host: &str, port: u16, client: &Client<'_>) -> Vec<Arc<LinkedRoute>> {
        let attached = || self.by_host.get(host).into_iter().flatten().filter(|a| a.port.is_none_or(|p| p == port));
        let of = |consumer: Option<&str>| attached().filter(|a| a.consumer.as_deref() == consumer).flat_map(|a| &a.rules).collect();
        let mut rules: Vec<&RankedRoute> = of(Some(client.namespace));
        if rules.is_empty() {
            rules = of(None);
        }
        rules.sort_by(|a, b| a.rank.cmp(&b.rank));
        rules.into_iter().map(|r| r.route.clone()).collect()
    }
}
