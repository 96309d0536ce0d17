//! The routes and policies of a service in words, from the view that a caller in its namespace would get. Pure.

use crate::{AppliedPolicy, RouteDestination, ServiceRoute};
use std::collections::{BTreeMap, BTreeSet};
use weft_compile::{Mesh, MeshService, ProxyIdentity, ProxyRole};
use weft_model::{
    Authorization, AuthorizationAction, Backend, Balancing, Cluster, Fault, HttpMatch, HttpRoute, Inbound, ModelValue, MtlsMode, Origin,
    PathMatch, Ppm, Root, RouteAction, SpiffeId, Target, View,
};

/// What a rule without conditions matches.
pub(crate) const ANY_REQUEST: &str = "any request";

/// What a caller in the service's own namespace, without labels, would get for it.
pub(crate) fn client_view(mesh: &Mesh, service: &MeshService) -> View {
    let namespace = service.service.namespace.clone();
    let Ok(identity) = SpiffeId::new(&mesh.settings.trust_domain, &namespace, "default") else {
        return View::default();
    };
    let caller = ProxyIdentity { workload_id: String::new(), namespace, labels: BTreeMap::new(), identity, role: ProxyRole::Sidecar };
    weft_compile::project(mesh, &caller, &BTreeSet::from([Root::Host(service.service.host.to_string())])).view
}

/// The rules for calls to the service, by port, in order of precedence.
pub(crate) fn routes(view: &View, service: &MeshService) -> Vec<ServiceRoute> {
    let mut routes = Vec::new();
    for versioned in view.values.values() {
        match &*versioned.value {
            ModelValue::RouteTable(table) => {
                let weft_model::RouteTableName::Service { host, port } = &table.name else { continue };
                if host == service.service.host.as_str() {
                    routes.extend(table.hosts.iter().flat_map(|h| &h.routes).map(|route| http_route(route, *port)));
                }
            }
            ModelValue::TcpRoutes(table) if table.host == service.service.host.as_str() => {
                routes.extend(table.routes.iter().map(|route| ServiceRoute {
                    name: route.origin.object(),
                    matches: if route.sni.is_empty() { "any connection".into() } else { format!("SNI {}", join(&route.sni, " or ")) },
                    action: "forward".into(),
                    destinations: destinations(&route.targets),
                    origin: route.origin.clone(),
                    port: Some(table.port),
                    timeout_ms: None,
                    retries: None,
                    filters: Vec::new(),
                }));
            }
            _ => {}
        }
    }
    routes
}

fn http_route(route: &HttpRoute, port: u16) -> ServiceRoute {
    // A catch-all path says nothing: a rule that asks no more is one for any request.
    let asks_nothing = |m: &HttpMatch| {
        let any_path = m.path.as_ref().is_none_or(is_root);
        any_path && HttpMatch { path: None, name: String::new(), ignore_path_case: false, ..m.clone() } == HttpMatch::default()
    };
    let catch_all = route.matches.is_empty() || route.matches.iter().any(asks_nothing);
    let matches = if catch_all { ANY_REQUEST.into() } else { weft_compile::describe_matches(&route.matches) };
    let (action, targets) = match &route.action {
        RouteAction::Forward(targets) => ("forward".into(), destinations(targets)),
        RouteAction::Redirect(redirect) => (format!("redirect {}", redirect.status), Vec::new()),
        RouteAction::Respond { status, .. } => (format!("respond {status}"), Vec::new()),
    };
    ServiceRoute {
        name: route.name.clone(),
        matches,
        action,
        destinations: targets,
        origin: route.origin.clone(),
        port: Some(port),
        timeout_ms: route.timeout_ms,
        retries: route.retry.as_ref().map(|retry| retry.attempts),
        filters: filters(route),
    }
}

fn is_root(path: &PathMatch) -> bool {
    matches!(path, PathMatch::Prefix(prefix) | PathMatch::SegmentPrefix(prefix) if prefix == "/")
}

fn destinations(targets: &[Target]) -> Vec<RouteDestination> {
    let sum: u32 = targets.iter().map(|target| target.weight).sum();
    let share = |weight: u32| if sum == 0 { 0.0 } else { f64::from(weight) / f64::from(sum) };
    let one = |target: &Target| match &target.backend {
        Backend::Cluster(name) => RouteDestination {
            host: name.host.clone(),
            share: share(target.weight),
            subset: (!name.subset.is_empty()).then(|| name.subset.clone()),
            port: Some(name.port),
        },
        Backend::Invalid { status, reason } => {
            RouteDestination { host: format!("nowhere ({status}: {reason})"), share: share(target.weight), subset: None, port: None }
        }
    };
    targets.iter().map(one).collect()
}

/// What a rule does beside forwarding.
fn filters(route: &HttpRoute) -> Vec<String> {
    let mut filters = fault(&route.fault);
    if let Some(path) = &route.rewrite.path {
        let to = match path {
            weft_model::PathRewrite::Full(full) => full.clone(),
            weft_model::PathRewrite::Prefix { replacement, .. } => format!("{replacement}…"),
            weft_model::PathRewrite::Regex { substitution, .. } => substitution.clone(),
        };
        filters.push(format!("rewrite path to {to}"));
    }
    if let Some(authority) = &route.rewrite.authority {
        filters.push(format!("rewrite authority to {authority}"));
    }
    for (edits, of) in [(&route.request_headers, "request"), (&route.response_headers, "response")] {
        filters.extend(edits.set.iter().map(|(name, _)| format!("set {of} header {name}")));
        filters.extend(edits.add.iter().map(|(name, _)| format!("add {of} header {name}")));
        filters.extend(edits.remove.iter().map(|name| format!("remove {of} header {name}")));
    }
    filters.extend(route.mirrors.iter().map(|mirror| format!("mirror {} to {}", percent(mirror.share), mirror.cluster.host)));
    filters
}

fn fault(fault: &Fault) -> Vec<String> {
    let delay = fault.delay.as_ref().map(|d| format!("delay {} s for {}", d.delay_ms as f64 / 1000.0, percent(d.share)));
    let abort = fault.abort.as_ref().map(|a| format!("abort {} for {}", a.status, percent(a.share)));
    delay.into_iter().chain(abort).collect()
}

fn percent(share: Ppm) -> String {
    format!("{} %", f64::from(share.0) / 10_000.0)
}

fn join<T: std::fmt::Display>(items: &[T], with: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(with)
}

/// Policies that apply to the workloads of the service, and to calls to it.
pub(crate) fn policies(mesh: &Mesh, service: &MeshService, view: &View) -> Vec<AppliedPolicy> {
    let mut found: BTreeMap<(String, String, String), (AppliedPolicy, BTreeSet<String>)> = BTreeMap::new();
    let mut all_versions = BTreeSet::new();
    for workload in service.workloads.iter().filter_map(|id| mesh.workloads.get(id)).map(|w| &w.registered.workload) {
        let version = workload.canonical_revision().to_owned();
        all_versions.insert(version.clone());
        let own = ProxyIdentity {
            workload_id: workload.id.clone(),
            namespace: workload.namespace.clone(),
            labels: workload.labels.clone(),
            identity: workload.identity.clone(),
            role: ProxyRole::Sidecar,
        };
        let values = weft_compile::project(mesh, &own, &BTreeSet::new()).view.values;
        for policy in values.values().flat_map(|versioned| own_policies(&versioned.value)) {
            let key = (policy.kind.clone(), policy.name.clone(), policy.effect.clone());
            found.entry(key).or_insert_with(|| (policy, BTreeSet::new())).1.insert(version.clone());
        }
    }
    let mut policies: Vec<AppliedPolicy> = Vec::new();
    for (mut policy, versions) in found.into_values() {
        if versions != all_versions {
            policy.versions = versions.into_iter().collect();
        }
        policies.push(policy);
    }
    let clusters = view.values.values().filter_map(|versioned| match &*versioned.value {
        ModelValue::Cluster(cluster) if cluster.name.host == service.service.host.as_str() => destination_rule(cluster),
        _ => None,
    });
    for policy in clusters {
        if !policies.iter().any(|known| (&known.kind, &known.name, &known.effect) == (&policy.kind, &policy.name, &policy.effect)) {
            policies.push(policy);
        }
    }
    policies
}

fn own_policies(value: &ModelValue) -> Vec<AppliedPolicy> {
    match value {
        ModelValue::Authorization(policy) => vec![authorization(policy)],
        ModelValue::RequestAuthentication(policy) => vec![request_authentication(policy)],
        ModelValue::Inbound(inbound) => mutual_tls(inbound),
        _ => Vec::new(),
    }
}

fn authorization(policy: &Authorization) -> AppliedPolicy {
    let action = match policy.action {
        AuthorizationAction::Allow => "ALLOW",
        AuthorizationAction::Deny => "DENY",
        AuthorizationAction::Audit => "AUDIT",
        AuthorizationAction::Custom => "CUSTOM",
    };
    let summary = match (policy.rules.len(), policy.action) {
        (0, AuthorizationAction::Allow) => "nothing is let through".to_owned(),
        (0, AuthorizationAction::Deny) => "nothing is refused".to_owned(),
        (0, AuthorizationAction::Audit) => "nothing is noted".to_owned(),
        (0, AuthorizationAction::Custom) => "nobody is asked".to_owned(),
        (n, _) => format!("{n} rule{}", if n == 1 { "" } else { "s" }),
    };
    let dry_run = if policy.dry_run { ", only watched (dry run)" } else { "" };
    policy_of(&policy.origin, action.to_owned(), format!("{action}: {summary}{dry_run}"), "AuthorizationPolicy", &policy.name)
}

fn request_authentication(policy: &weft_model::RequestAuthentication) -> AppliedPolicy {
    let issuers: Vec<&str> = policy.rules.iter().map(|rule| rule.issuer.as_str()).collect();
    let summary = format!("tokens of {} are checked", issuers.join(", "));
    policy_of(&policy.origin, "TOKEN".to_owned(), summary, "RequestAuthentication", &policy.name)
}

fn mutual_tls(inbound: &Inbound) -> Vec<AppliedPolicy> {
    let mut modes: BTreeMap<&Origin, (MtlsMode, Vec<u16>)> = BTreeMap::new();
    for port in inbound.ports.iter().filter(|port| !port.mtls_origin.is_built_in()) {
        modes.entry(&port.mtls_origin).or_insert((port.mtls, Vec::new())).1.push(port.port);
    }
    if modes.is_empty() && !inbound.default_mtls_origin.is_built_in() {
        modes.insert(&inbound.default_mtls_origin, (inbound.default_mtls, Vec::new()));
    }
    let one = |(origin, (mode, ports)): (&Origin, (MtlsMode, Vec<u16>))| {
        let effect = match mode {
            MtlsMode::Strict => "STRICT",
            MtlsMode::Permissive => "PERMISSIVE",
            MtlsMode::Disable => "DISABLE",
        };
        let on = if ports.is_empty() { "all ports".into() } else { format!("port {}", join(&ports, ", ")) };
        let name = format!("{}/{}", origin.namespace, origin.name);
        policy_of(origin, effect.into(), format!("mutual TLS {effect} on {on}"), "PeerAuthentication", &name)
    };
    modes.into_iter().map(one).collect()
}

fn destination_rule(cluster: &Cluster) -> Option<AppliedPolicy> {
    if cluster.origin.kind != "DestinationRule" {
        return None;
    }
    let mut effects = vec![match cluster.balancing {
        Balancing::LeastRequest => "least request",
        Balancing::RoundRobin => "round robin",
        Balancing::Random => "random",
        Balancing::Passthrough => "pass through",
        Balancing::Ewma => "latency",
        Balancing::RingHash => "ring hash",
        Balancing::Maglev => "maglev",
    }];
    if cluster.outlier.is_some() {
        effects.push("outlier detection");
    }
    if cluster.limits != weft_model::ConnectionLimits::default() {
        effects.push("connection limits");
    }
    let subset = if cluster.name.subset.is_empty() { String::new() } else { format!("subset {}: ", cluster.name.subset) };
    let name = format!("{}/{}", cluster.origin.namespace, cluster.origin.name);
    let effect = effects.join(", ");
    Some(policy_of(&cluster.origin, effect.clone(), format!("{subset}{effect}"), "DestinationRule", &name))
}

fn policy_of(origin: &Origin, effect: String, summary: String, kind: &str, name: &str) -> AppliedPolicy {
    AppliedPolicy { kind: kind.into(), name: name.into(), effect, summary, origin: origin.clone(), versions: Vec::new() }
}
