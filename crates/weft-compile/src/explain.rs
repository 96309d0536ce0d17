//! Why a request would go where it goes: every rule in order with the reason that it wins or loses, then the policies at the
//! destination. The same evaluators decide here as in the proxy.

use crate::{
    authorization::Protected,
    gateway::LinkedGateway,
    http_rules::{Asker, LinkedRoute},
    match_text::{describe_matches, refusal},
    mesh::{Client, Mesh, MeshService},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weft_model::{
    Authorization, AuthorizationAction, AuthorizationInput, Backend, ClusterName, Endpoint, EndpointTls, HttpRoute, Labels, MtlsMode,
    Origin, RequestHead, RouteAction, SpiffeId, Target, Verdict, authorize, host_of,
};

/// A request that might be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExplainRequest {
    /// Namespace of the caller; empty: `default`.
    pub source_namespace: String,
    /// Labels of the caller.
    pub source_labels: Labels,
    /// `namespace/name` of the gateway that it comes in at, in place of a caller.
    pub gateway: Option<String>,
    /// Authority, e.g. `reviews:9080`.
    pub authority: String,
    /// Port; absent: that of the authority, else 80.
    pub port: Option<u16>,
    /// Method; empty: GET.
    pub method: String,
    /// Path, perhaps with a query; empty: `/`.
    pub path: String,
    /// Headers.
    pub headers: BTreeMap<String, String>,
}

/// What would happen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// In one sentence.
    pub sentence: String,
    /// Rules, in order of precedence.
    pub rules: Vec<ExplainedRule>,
    /// Where the rule that is taken leads.
    pub destinations: Vec<ExplainedDestination>,
    /// Endpoints behind these.
    pub endpoints: Vec<ExplainedEndpoint>,
    /// Policies at the destination.
    pub policies: Vec<ExplainedPolicy>,
    /// Would the destination let it through?
    pub allowed: bool,
    /// The service that was called, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Mutual TLS mode at the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MtlsMode>,
    /// Who set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls_origin: Option<Origin>,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleOutcome {
    /// The request takes it.
    Selected,
    /// It would match, but another is before it.
    Shadowed,
    /// It does not match.
    NoMatch,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// Route name.
    pub name: String,
    /// What it asks.
    #[serde(rename = "match")]
    pub matches: String,
    /// What became of it.
    pub outcome: RuleOutcome,
    /// Why.
    pub reason: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainedDestination {
    /// Host, or why there is none.
    pub host: String,
    /// Share of the requests, 0 to 1.
    pub share: f64,
    /// Subset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedEndpoint {
    /// Address.
    pub address: String,
    /// Service port that it serves.
    pub port: u16,
    /// Workload id.
    pub workload: String,
    /// Workload name.
    pub workload_name: String,
    /// Version.
    pub version: String,
    /// Healthy?
    pub healthy: bool,
    /// How it is spoken to.
    pub tls: EndpointTls,
    /// Identity it must prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SpiffeId>,
}

/// A policy at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPolicy {
    /// `namespace/name`.
    pub name: String,
    /// ALLOW or DENY.
    pub action: AuthorizationAction,
    /// Does one of its rules match?
    pub matched: bool,
    /// In words.
    pub reason: String,
    /// The rule that matches, else the policy.
    pub origin: Origin,
}

/// Explains one request.
pub fn explain(mesh: &Mesh, request: &ExplainRequest) -> Explanation {
    let headers = header_map(&request.headers);
    let (path, query) = match request.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request.path.as_str(), None),
    };
    let host = host_of(&request.authority);
    let head = RequestHead {
        method: if request.method.is_empty() { "GET" } else { &request.method },
        scheme: "http",
        authority: &request.authority,
        host: &host,
        path: if path.is_empty() { "/" } else { path },
        query,
        headers: &headers,
        claims: None,
    };
    let given = request.authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok());
    let port = request.port.or(given).unwrap_or(80);
    let namespace = if request.source_namespace.is_empty() { "default" } else { &request.source_namespace };
    match &request.gateway {
        Some(name) => at_gateway(mesh, name, port, &head),
        None => {
            let client = Client { namespace, labels: &request.source_labels, gateway: false };
            in_mesh(mesh, &client, port, &head)
        }
    }
}

fn header_map(headers: &BTreeMap<String, String>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            map.append(name, value);
        }
    }
    map
}

/// A call from a sidecar.
fn in_mesh(mesh: &Mesh, client: &Client<'_>, port: u16, head: &RequestHead<'_>) -> Explanation {
    let Some(service) = mesh.resolve(head.host, client.namespace) else {
        let sentence =
            format!("{} is no service that namespace {} can see; the call leaves the mesh as it is.", head.host, client.namespace);
        return Explanation { sentence, allowed: true, ..Explanation::default() };
    };
    let host = service.service.host.to_string();
    if service.port(port).is_none() {
        let ports: Vec<String> = service.service.ports.iter().map(|p| p.number.to_string()).collect();
        let sentence = format!("Service {host} has no port {port}; it has {}.", ports.join(", "));
        return Explanation { sentence, host: Some(host), ..Explanation::default() };
    }
    let asker = Asker { client: *client, port, door: "mesh" };
    let ruling = mesh.virtual_services.for_service(&host, client).cloned();
    let attached = mesh.service_routes.find(&host, port, client);
    let own: &[Arc<LinkedRoute>] = match &ruling {
        Some(vs) if vs.http.iter().any(|r| r.for_asker(mesh, &asker).is_some()) => &vs.http,
        _ => &attached,
    };
    let table = mesh.route_table(client, &service, port);
    let effective: Vec<Arc<HttpRoute>> = table.hosts.into_iter().flat_map(|h| h.routes).collect();
    let (mut rules, taken) = judge(mesh, &asker, own, &effective, head);
    // Rules of younger VirtualServices and of attached routes that lost the host as a whole.
    for loser in mesh.virtual_services.all_for(&host).into_iter().filter(|vs| ruling.as_ref().is_some_and(|r| !Arc::ptr_eq(r, vs))) {
        let winner = ruling.as_ref().map(|r| r.origin.object()).unwrap_or_default();
        rules.extend(lost(&loser.http, &format!("{winner} rules the host")));
    }
    if let Some(vs) = ruling.as_ref().filter(|vs| std::ptr::eq(own, vs.http.as_slice())) {
        rules.extend(lost(&attached, &format!("{} rules the host, and goes before routes attached to the Service", vs.origin.object())));
    }
    let mut explanation = Explanation { rules, host: Some(host), ..Explanation::default() };
    outcome(mesh, client, &mut explanation, taken.as_deref(), head, source_identity(mesh, client));
    explanation
}

/// A request from outside.
fn at_gateway(mesh: &Mesh, name: &str, port: u16, head: &RequestHead<'_>) -> Explanation {
    let Some(gateway) = mesh.gateways.iter().find(|g| g.key() == name || g.name == name) else {
        return Explanation { sentence: format!("There is no gateway {name}."), ..Explanation::default() };
    };
    let labels = gateway_labels(gateway);
    let client = Client { namespace: &gateway.namespace, labels: &labels, gateway: true };
    let door = gateway.key();
    let asker = Asker { client, port, door: &door };
    let hosts = gateway.listeners.iter().filter(|l| l.port == port).flat_map(|l| &l.virtual_hosts);
    let Some(ruling) = hosts.filter(|h| h.host.matches(head.host)).max_by_key(|h| h.host.specificity()) else {
        let what = if gateway.listeners.iter().any(|l| l.port == port) { "no route for that host" } else { "no listener on that port" };
        let sentence = format!("Gateway {door} has {what} ({}:{port}): 404.", head.host);
        return Explanation { sentence, host: Some(head.host.into()), ..Explanation::default() };
    };
    let effective: Vec<Arc<HttpRoute>> = ruling.routes.iter().filter_map(|r| r.for_asker(mesh, &asker)).map(Arc::new).collect();
    let (rules, taken) = judge(mesh, &asker, &ruling.routes, &effective, head);
    let mut explanation = Explanation { rules, host: Some(ruling.host.to_string()), ..Explanation::default() };
    outcome(mesh, &client, &mut explanation, taken.as_deref(), head, source_identity(mesh, &client));
    explanation
}

fn gateway_labels(gateway: &LinkedGateway) -> Labels {
    match &gateway.served_by {
        crate::gateway::ServedBy::Selector(labels) => labels.clone(),
        crate::gateway::ServedBy::Name { .. } => [(crate::GATEWAY_NAME_LABEL.to_owned(), gateway.name.clone())].into(),
    }
}

/// Goes through the rules in order.
fn judge(
    mesh: &Mesh,
    asker: &Asker<'_>,
    linked: &[Arc<LinkedRoute>],
    effective: &[Arc<HttpRoute>],
    head: &RequestHead<'_>,
) -> (Vec<ExplainedRule>, Option<Arc<HttpRoute>>) {
    let mut rules = Vec::new();
    let mut taken: Option<Arc<HttpRoute>> = None;
    let mut add = |route: Arc<HttpRoute>, outside: Option<String>, matches: String| {
        let (outcome, reason) = match (outside, route.matches(head), &taken) {
            (Some(why), ..) => (RuleOutcome::NoMatch, why),
            (None, false, _) => (RuleOutcome::NoMatch, why_not(&route, head)),
            (None, true, Some(first)) => (RuleOutcome::Shadowed, format!("would match, but {} is before it", first.name)),
            (None, true, None) if !is_route(&route.origin) => (RuleOutcome::Selected, "no rule is written for the host".into()),
            (None, true, None) => (RuleOutcome::Selected, "the first rule that matches".into()),
        };
        if outcome == RuleOutcome::Selected {
            taken = Some(route.clone());
        }
        rules.push(ExplainedRule { name: route.name.clone(), matches, outcome, reason, origin: route.origin.clone() });
    };
    for rule in linked {
        let all: Vec<_> = rule.matches.iter().map(|m| m.http.clone()).collect();
        match rule.for_asker(mesh, asker) {
            Some(route) => add(Arc::new(route), None, describe_matches(&all)),
            None => {
                let why = rule.matches.iter().find_map(|m| m.scope.refusal(asker)).unwrap_or_else(|| "is not for this caller".into());
                add(Arc::new(rule.route.clone()), Some(why), describe_matches(&all));
            }
        }
    }
    // What applies beside the linked rules is the default route.
    for route in effective.iter().filter(|e| !linked.iter().any(|l| l.route.origin == e.origin && l.route.name == e.name)) {
        add(route.clone(), None, describe_matches(&route.matches));
    }
    (rules, taken)
}

/// Did a user write the rule, or is it the default of the service?
fn is_route(origin: &Origin) -> bool {
    matches!(origin.kind.as_str(), "VirtualService" | "HTTPRoute" | "GRPCRoute")
}

fn why_not(route: &HttpRoute, head: &RequestHead<'_>) -> String {
    let reasons: Vec<String> = route.matches.iter().filter_map(|m| refusal(m, head)).collect();
    reasons.join("; or ")
}

fn lost(rules: &[Arc<LinkedRoute>], why: &str) -> Vec<ExplainedRule> {
    let rule = |r: &Arc<LinkedRoute>| ExplainedRule {
        name: r.route.name.clone(),
        matches: describe_matches(&r.matches.iter().map(|m| m.http.clone()).collect::<Vec<_>>()),
        outcome: RuleOutcome::Shadowed,
        reason: why.to_owned(),
        origin: r.route.origin.clone(),
    };
    rules.iter().map(rule).collect()
}

/// Identity of the caller: that of a workload with its labels, else the default account of its namespace.
fn source_identity(mesh: &Mesh, client: &Client<'_>) -> Option<SpiffeId> {
    let running = mesh.all_workloads().find(|w| w.namespace == client.namespace && weft_model::selects(client.labels, &w.labels));
    let running = running.filter(|_| !client.labels.is_empty()).map(|w| w.identity.clone());
    running.or_else(|| SpiffeId::new(&mesh.settings.trust_domain, client.namespace, "default").ok())
}

/// Fills in what follows from the rule that is taken.
fn outcome(
    mesh: &Mesh,
    client: &Client<'_>,
    explanation: &mut Explanation,
    taken: Option<&HttpRoute>,
    head: &RequestHead<'_>,
    peer: Option<SpiffeId>,
) {
    let Some(route) = taken else {
        explanation.sentence = format!("No rule matches {} {}: 404.", head.method, head.path);
        return;
    };
    let by = &route.origin;
    match &route.action {
        RouteAction::Redirect(redirect) => {
            explanation.sentence = format!("{} answers with a redirect ({}).", by, redirect.status);
            explanation.allowed = true;
        }
        RouteAction::Respond { status, .. } => {
            explanation.sentence = format!("{by} answers {status} itself.");
            explanation.allowed = true;
        }
        RouteAction::Forward(targets) => {
            destinations(mesh, client, explanation, targets);
            let path = route.rewrite.path.as_ref().map_or_else(|| head.path.to_owned(), |p| p.apply(head.path).unwrap_or_default());
            let there = RequestHead { path: &path, ..*head };
            policies(mesh, explanation, &there, peer.as_ref());
            let shares: Vec<String> = explanation.destinations.iter().filter(|d| d.share > 0.0).map(shown).collect();
            let verdict = if explanation.allowed { "" } else { " The destination would refuse it (403)." };
            explanation.sentence = match shares.is_empty() {
                true => format!("{by} leads nowhere: 503."),
                false if !is_route(by) => format!("No rule is written for the host: it goes to {}.{verdict}", shares.join(", ")),
                false => format!("{by} sends it to {}.{verdict}", shares.join(", ")),
            };
        }
    }
}

/// `reviews.default.svc.cluster.local:9080 subset v1 (90 %)`.
fn shown(d: &ExplainedDestination) -> String {
    let port = d.port.map(|p| format!(":{p}")).unwrap_or_default();
    let subset = d.subset.as_ref().map(|s| format!(" subset {s}")).unwrap_or_default();
    let share = if d.share < 1.0 { format!(" ({} %)", (d.share * 1000.0).round() / 10.0) } else { String::new() };
    format!("{}{port}{subset}{share}", d.host)
}

fn destinations(mesh: &Mesh, client: &Client<'_>, explanation: &mut Explanation, targets: &[Target]) {
    let sum: u64 = targets.iter().map(|t| u64::from(t.weight)).sum();
    for target in targets {
        let share = if sum == 0 { 0.0 } else { f64::from(target.weight) / sum as f64 };
        match &target.backend {
            Backend::Invalid { status, reason } => {
                let host = format!("nowhere ({status}: {reason})");
                explanation.destinations.push(ExplainedDestination { host, share, subset: None, port: None });
            }
            Backend::Cluster(name) => {
                explanation.destinations.push(ExplainedDestination {
                    host: name.host.clone(),
                    share,
                    subset: (!name.subset.is_empty()).then(|| name.subset.clone()),
                    port: Some(name.port),
                });
                explanation.endpoints.extend(endpoints(mesh, client, name));
            }
        }
    }
}

fn endpoints(mesh: &Mesh, client: &Client<'_>, name: &ClusterName) -> Vec<ExplainedEndpoint> {
    let shown = |e: Endpoint| ExplainedEndpoint {
        address: e.address.to_string(),
        port: name.port,
        workload: e.workload,
        workload_name: e.workload_name,
        version: e.version,
        healthy: e.healthy,
        tls: e.tls,
        identity: e.identity,
    };
    mesh.cluster(client, name).map(|(_, e)| e.endpoints.into_iter().map(shown).collect()).unwrap_or_default()
}

/// The verdict at the first mesh endpoint of each destination; refused by one is refused.
fn policies(mesh: &Mesh, explanation: &mut Explanation, head: &RequestHead<'_>, peer: Option<&SpiffeId>) {
    explanation.allowed = true;
    let ids: Vec<String> = explanation.endpoints.iter().map(|e| e.workload.clone()).filter(|w| !w.is_empty()).collect();
    for id in ids {
        let Some(known) = mesh.workloads.get(&id) else { continue };
        let workload = &known.registered.workload;
        let services = mesh.hosts_of_workload(&id);
        let to = Protected { namespace: &workload.namespace, labels: &workload.labels, services: &services, gateways: &[] };
        let applying: Vec<&Arc<Authorization>> = mesh.authorizations_for(&to).collect();
        let served = known.serves.iter().find(|(_, _, number)| explanation.endpoints.iter().any(|e| e.workload == id && e.port == *number));
        let port = served.map_or(0, |(program, ..)| *program);
        let local = IpAddr::from([127, 0, 0, 1]);
        let input = AuthorizationInput {
            peer,
            token: None,
            source_ip: local,
            remote_ip: local,
            destination_ip: local,
            destination_port: port,
            sni: None,
            http: Some(head),
        };
        let verdict = authorize(applying.iter().map(|p| p.as_ref()), &input);
        explanation.allowed &= verdict.is_allowed();
        let (mode, origin) = mesh.mtls_mode(&workload.namespace, &workload.labels, Some(port));
        explanation.mtls = Some(mode);
        explanation.mtls_origin = Some(origin);
        for policy in &applying {
            let shown = explained(policy, &input, &verdict);
            if !explanation.policies.contains(&shown) {
                explanation.policies.push(shown);
            }
        }
    }
}

fn explained(policy: &Authorization, input: &AuthorizationInput<'_>, verdict: &Verdict<'_>) -> ExplainedPolicy {
    let rule = policy.matching_rule(input);
    let decided = match verdict {
        Verdict::Allowed(p, _) | Verdict::Denied(p, _) | Verdict::NotAllowed(p) => p.name == policy.name,
        Verdict::AllowedByDefault => false,
    };
    let reason = match (policy.dry_run, rule.is_some(), policy.action, decided) {
        (true, matched, ..) => format!("dry run: {} match", if matched { "would" } else { "would not" }),
        (_, matched, AuthorizationAction::Audit, _) => {
            format!("an AUDIT rule {}", if matched { "matches: noted" } else { "does not match" })
        }
        (_, true, AuthorizationAction::Custom, _) => {
            let provider = policy.provider.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
            format!("a CUSTOM rule matches: {provider} is asked")
        }
        (_, false, AuthorizationAction::Custom, _) => "no CUSTOM rule matches".into(),
        (_, true, AuthorizationAction::Deny, _) => "a DENY rule matches: refused".into(),
        (_, true, AuthorizationAction::Allow, true) => "an ALLOW rule matches".into(),
        (_, true, AuthorizationAction::Allow, false) => "an ALLOW rule matches, but another policy decided".into(),
        (_, false, AuthorizationAction::Deny, _) => "no DENY rule matches".into(),
        (_, false, AuthorizationAction::Allow, true) => "no ALLOW rule matches: refused".into(),
        (_, false, AuthorizationAction::Allow, false) => "no ALLOW rule matches".into(),
    };
    let origin = rule.map(|r| &r.origin).unwrap_or(&policy.origin).clone();
    ExplainedPolicy { name: policy.name.clone(), action: policy.action, matched: rule.is_some(), reason, origin }
}

impl Mesh {
    /// The service that a workload's port belongs to, for reports.
    pub fn service_of_workload(&self, id: &str) -> Option<&Arc<MeshService>> {
        let (_, host, _) = self.workloads.get(id)?.serves.first()?;
        self.services.get(host)?.first()
    }
}
