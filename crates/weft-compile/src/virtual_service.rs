//! VirtualService: rules for hosts, at gateways and in sidecars.

use crate::{
    diag,
    http_rules::{Destination, LinkedRoute, LinkedTarget, LinkedTcpRoute, MatchScope},
    link::Linker,
    mesh::{Client, Visibility},
};
use std::{collections::BTreeMap, sync::Arc};
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{HostPattern, Origin, TcpRoute};

/// All VirtualServices that sidecars follow, by host; oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct VirtualServices {
    pub(crate) exact: BTreeMap<String, Vec<Arc<LinkedVirtualService>>>,
    /// The most specific first; of equals the oldest.
    pub(crate) wildcard: Vec<(HostPattern, Arc<LinkedVirtualService>)>,
}

/// One VirtualService.
#[derive(Debug, Clone)]
pub(crate) struct LinkedVirtualService {
    pub(crate) namespace: String,
    pub(crate) hosts: Vec<HostPattern>,
    /// `mesh` or `ns/name`.
    pub(crate) gateways: Vec<String>,
    pub(crate) visibility: Visibility,
    pub(crate) http: Vec<Arc<LinkedRoute>>,
    pub(crate) tls: Vec<LinkedTcpRoute>,
    pub(crate) tcp: Vec<LinkedTcpRoute>,
    pub(crate) origin: Origin,
}

impl VirtualServices {
    /// The one that a client follows for a service: the most specific host, then the oldest.
    pub(crate) fn for_service(&self, host: &str, client: &Client<'_>) -> Option<&Arc<LinkedVirtualService>> {
        self.all_for(host).into_iter().find(|vs| vs.visibility.shows_to(client.namespace))
    }
    /// All that name the host, the winner first.
    pub(crate) fn all_for(&self, host: &str) -> Vec<&Arc<LinkedVirtualService>> {
        let wild = self.wildcard.iter().filter(|(pattern, _)| pattern.matches(host)).map(|(_, vs)| vs);
        self.exact.get(host).into_iter().flatten().chain(wild).collect()
    }
}

/// Links all, binds them to gateways, and indexes those for sidecars.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (_, document, spec) in linker.documents(|r| if let Resource::VirtualService(v) = r { Some(v) } else { None }) {
        // Without hosts it is a delegate: its rules are linked with each root that goes on there.
        if spec.hosts.is_empty() {
            continue;
        }
        let linked = Arc::new(virtual_service(linker, document, spec));
        if linked.gateways.iter().any(|g| g == "mesh") {
            index(linker, &linked, document, spec);
        }
        crate::istio_gateway::bind(linker, &linked);
    }
    let specificity = |(pattern, _): &(HostPattern, Arc<LinkedVirtualService>)| std::cmp::Reverse(pattern.specificity());
    linker.mesh.virtual_services.wildcard.sort_by_key(specificity);
    crate::istio_gateway::order_catch_alls(linker);
}

/// Enters one under its hosts, and says where an older one already rules.
fn index(linker: &mut Linker<'_>, linked: &Arc<LinkedVirtualService>, document: &Document, spec: &istio::VirtualService) {
    for (host, written) in linked.hosts.iter().zip(&spec.hosts) {
        let at = written.origin(&document.origin);
        match host {
            HostPattern::Exact(name) => {
                if linker.mesh.service_or_wildcard(name.as_str(), &linked.namespace).is_none() && linked.gateways == ["mesh"] {
                    linker.report(diag::host_without_service(at.clone(), name.as_str()));
                }
                let same = linker.mesh.virtual_services.exact.entry(name.to_string()).or_default();
                if let Some(first) = same.iter().find(|v| overlap(&v.visibility, &linked.visibility)) {
                    linker.diagnostics.push(diag::host_already_ruled(at, name.as_str(), &first.origin));
                }
                same.push(linked.clone());
            }
            pattern => linker.mesh.virtual_services.wildcard.push((pattern.clone(), linked.clone())),
        }
    }
}

fn overlap(a: &Visibility, b: &Visibility) -> bool {
    match (a, b) {
        (Visibility::Namespaces(a), Visibility::Namespaces(b)) => !a.is_disjoint(b),
        _ => true,
    }
}

fn virtual_service<'a>(linker: &mut Linker<'a>, document: &'a Document, spec: &istio::VirtualService) -> LinkedVirtualService {
    let namespace = document.meta.namespace.as_str();
    let hosts = spec.hosts.iter().filter_map(|h| linker.full_host(&h.value, namespace, &h.origin(&document.origin))).collect();
    let gateways = gateway_names(linker, document, &spec.gateways).unwrap_or_else(|| vec!["mesh".into()]);
    let mut http = Vec::new();
    for part in crate::delegate::expand(linker, document, spec) {
        let at = crate::delegate::place(&part);
        for rule in crate::istio_http::by_prefix(&part.rule) {
            http.extend(crate::istio_http::route(linker, part.document, part.index, &rule, &at).map(Arc::new));
        }
    }
    warn_unreachable(linker, &http);
    let tls = spec.tls.iter().flat_map(|r| tls_route(linker, document, r)).collect();
    let tcp = spec.tcp.iter().flat_map(|r| tcp_route(linker, document, r)).collect();
    LinkedVirtualService {
        namespace: namespace.into(),
        hosts,
        gateways,
        visibility: visibility(linker, &spec.export_to, namespace),
        http,
        tls,
        tcp,
        origin: document.origin.clone(),
    }
}

/// Who sees it: what it says, else what the mesh says.
pub(crate) fn visibility(linker: &Linker<'_>, export_to: &[String], namespace: &str) -> Visibility {
    let said = if export_to.is_empty() { &linker.mesh.route_defaults.export_to } else { export_to };
    Visibility::read(said.iter().map(String::as_str), namespace)
}

/// A rule behind one that matches everything is never reached.
fn warn_unreachable(linker: &mut Linker<'_>, http: &[Arc<LinkedRoute>]) {
    let Some(position) = http.iter().position(|r| r.catches_all()) else { return };
    if let (Some(first), Some(second)) = (http.get(position), http.get(position + 1)) {
        linker.report(diag::unreachable_rule(second.route.origin.clone(), first.route.origin.line));
    }
}

/// `mesh` and `ns/name` for a list of gateways; `None` when the list is empty.
pub(crate) fn gateway_names(linker: &mut Linker<'_>, document: &Document, list: &[Spanned<String>]) -> Option<Vec<String>> {
    if list.is_empty() {
        return None;
    }
    let mut names = Vec::new();
    for written in list {
        let name = match written.value.as_str() {
            "mesh" => "mesh".to_owned(),
            name if name.contains('/') => name.strip_prefix("./").map_or(name.to_owned(), |n| format!("{}/{n}", document.meta.namespace)),
            name => format!("{}/{name}", document.meta.namespace),
        };
        if name != "mesh" && !linker.mesh.gateways.iter().any(|g| g.key() == name) {
            linker.report(diag::unknown_gateway(written.origin(&document.origin), &name));
        }
        names.push(name);
    }
    Some(names)
}

/// What the blocks of HTTP, TLS and TCP matches have in common.
pub(crate) fn scope(
    linker: &mut Linker<'_>,
    document: &Document,
    port: Option<u16>,
    source_labels: &BTreeMap<String, String>,
    source_namespace: Option<&String>,
    gateways: &[Spanned<String>],
) -> MatchScope {
    MatchScope {
        port,
        source_labels: source_labels.clone(),
        source_namespace: source_namespace.cloned(),
        gateways: gateway_names(linker, document, gateways),
    }
}

/// A destination, checked: host, port and subset exist, or it leads nowhere and a diagnostic says why.
pub(crate) fn destination(linker: &mut Linker<'_>, document: &Document, to: &istio::Destination, at: &Origin) -> Destination {
    let namespace = document.meta.namespace.as_str();
    let Some(pattern) = linker.full_host(&to.host, namespace, at) else {
        return Destination::Invalid { status: 503, reason: format!("{} is not a host name (WEFT-2004)", to.host) };
    };
    let host = pattern.to_string();
    let Some(service) = linker.mesh.service_or_wildcard(&host, namespace) else {
        let near = linker.near_host(&host);
        linker.report(diag::unknown_host(at.clone(), &host, near.as_deref()));
        return Destination::Invalid { status: 503, reason: format!("no service {host} (WEFT-2001)") };
    };
    let port = to.port.as_ref().map(|p| p.number);
    if let Some(number) = port.filter(|n| service.port(*n).is_none()) {
        linker.report(diag::unknown_port(at.clone(), &host, number, &service.service.ports));
        return Destination::Invalid { status: 503, reason: format!("service {host} has no port {number} (WEFT-2003)") };
    }
    let subset = to.subset.clone().unwrap_or_default();
    if !subset.is_empty() {
        let known: Vec<String> = linker.mesh.destination_rules.all_for(&host).flat_map(|r| r.subsets.keys().cloned()).collect();
        if !known.contains(&subset) {
            linker.report(diag::unknown_subset(at.clone(), &host, &subset, &known));
            return Destination::Invalid { status: 503, reason: format!("subset {subset} of {host} is not defined (WEFT-2002)") };
        }
    }
    Destination::Service { host, port, subset }
}

/// Weighted targets of TLS and TCP rules.
fn targets(linker: &mut Linker<'_>, document: &Document, route: &[Spanned<istio::RouteDestination>]) -> Vec<LinkedTarget> {
    let only = route.len() == 1;
    let target = |r: &Spanned<istio::RouteDestination>, linker: &mut Linker<'_>| {
        let at = r.origin(&document.origin);
        let weight = if only { 1 } else { r.weight.unwrap_or_default() };
        LinkedTarget::plain(destination(linker, document, &r.destination, &at), weight)
    };
    route.iter().map(|r| target(r, linker)).collect()
}

/// One rule for each alternative: what stands in one block must hold together.
fn tls_route(linker: &mut Linker<'_>, document: &Document, route: &Spanned<istio::TlsRoute>) -> Vec<LinkedTcpRoute> {
    let origin = route.origin(&document.origin);
    let targets = targets(linker, document, &route.route);
    let mut rules = Vec::new();
    for m in &route.matches {
        let at = m.origin(&document.origin);
        let mut sni = Vec::new();
        for host in &m.sni_hosts {
            match host.parse::<HostPattern>() {
                Ok(pattern) => sni.push(pattern),
                Err(why) => linker.report(diag::bad_host(at.clone(), &why.to_string())),
            }
        }
        if sni.is_empty() {
            continue;
        }
        let scope = scope(linker, document, m.port, &m.source_labels, m.source_namespace.as_ref(), &m.gateways);
        let route = TcpRoute { sni, destinations: m.destination_subnets.clone(), ..blank_tcp_route(origin.clone()) };
        rules.push(LinkedTcpRoute { route, scopes: vec![scope], targets: targets.clone() });
    }
    if rules.is_empty() {
        linker.report(diag::tls_without_sni(origin));
    }
    rules
}

fn tcp_route(linker: &mut Linker<'_>, document: &Document, route: &Spanned<istio::TcpRoute>) -> Vec<LinkedTcpRoute> {
    let origin = route.origin(&document.origin);
    let targets = targets(linker, document, &route.route);
    if route.matches.is_empty() {
        return vec![LinkedTcpRoute { route: blank_tcp_route(origin), scopes: Vec::new(), targets }];
    }
    let mut rules = Vec::new();
    for m in &route.matches {
        let scope = scope(linker, document, m.port, &m.source_labels, m.source_namespace.as_ref(), &m.gateways);
        let route = TcpRoute {
            destinations: m.destination_subnets.clone(),
            sources: m.source_subnet.into_iter().collect(),
            ..blank_tcp_route(origin.clone())
        };
        rules.push(LinkedTcpRoute { route, scopes: vec![scope], targets: targets.clone() });
    }
    rules
}

/// A rule for every connection, to be narrowed.
pub(crate) fn blank_tcp_route(origin: Origin) -> TcpRoute {
    TcpRoute { sni: Vec::new(), destinations: Vec::new(), sources: Vec::new(), targets: Vec::new(), origin }
}
