//! TCPRoute and TLSRoute: connections at gateways and towards Services.

use crate::{
    api_route::{connection_targets, hostnames},
    diag,
    gateway::ServedBy,
    gateway_api::{GROUP, OpenListener, allows},
    http_rules::LinkedTcpRoute,
    link::Linker,
    mesh::Client,
    reference_grant::Grants,
    virtual_service::blank_tcp_route,
};
use std::collections::BTreeMap;
use weft_api::{Document, Resource, Spanned, gateway_api};
use weft_model::{HostPattern, Protocol, TcpRoute};

/// Rules that routes attach to services, by service host; oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceConnections {
    by_host: BTreeMap<String, Vec<Attached>>,
}

/// One attachment.
#[derive(Debug, Clone)]
struct Attached {
    /// Port of the service; `None`: all.
    port: Option<u16>,
    /// Callers of this namespace only; `None`: all.
    consumer: Option<String>,
    rules: Vec<LinkedTcpRoute>,
}

impl ServiceConnections {
    /// The rules for connections of `client` to a port: those of its own namespace in place of the producer's.
    pub(crate) fn find(&self, host: &str, port: u16, client: &Client<'_>) -> impl Iterator<Item = &LinkedTcpRoute> {
        let here = || self.by_host.get(host).into_iter().flatten().filter(move |a| a.port.is_none_or(|p| p == port));
        let own = here().any(|a| a.consumer.as_deref() == Some(client.namespace));
        let consumer = own.then(|| client.namespace.to_owned());
        here().filter(move |a| a.consumer == consumer).flat_map(|a| &a.rules)
    }
}

/// A route of either kind.
struct Route<'a> {
    kind: &'static str,
    document: &'a Document,
    age: usize,
    parents: &'a [Spanned<gateway_api::ParentReference>],
    hostnames: Vec<HostPattern>,
    rules: Vec<LinkedTcpRoute>,
}

/// Links all, oldest first.
pub(crate) fn link(linker: &mut Linker<'_>, grants: &Grants<'_>, open: &[OpenListener<'_>]) {
    let mut routes = Vec::new();
    for (age, document, spec) in linker.documents(|r| if let Resource::TlsRoute(t) = r { Some(t) } else { None }) {
        let hostnames = hostnames(linker, document, &spec.hostnames);
        let rules = rules(linker, grants, document, "TLSRoute", &spec.rules);
        routes.push(Route { kind: "TLSRoute", document, age, parents: &spec.parent_refs, hostnames, rules });
    }
    for (age, document, spec) in linker.documents(|r| if let Resource::TcpRoute(t) = r { Some(t) } else { None }) {
        let rules = rules(linker, grants, document, "TCPRoute", &spec.rules);
        routes.push(Route { kind: "TCPRoute", document, age, parents: &spec.parent_refs, hostnames: Vec::new(), rules });
    }
    routes.sort_by_key(|r| r.age);
    for route in &routes {
        for parent in route.parents {
            match (parent.group(), parent.kind()) {
                (GROUP, "Gateway") => attach_to_gateway(linker, open, route, parent),
                ("" | "core", "Service") => attach_to_service(linker, route, parent),
                (_, kind) => linker.report(diag::parent_not_found(parent.origin(&route.document.origin), kind, &parent.name)),
            }
        }
    }
}

fn rules(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    kind: &'static str,
    written: &[Spanned<gateway_api::TcpRouteRule>],
) -> Vec<LinkedTcpRoute> {
    let rule = |rule: &Spanned<gateway_api::TcpRouteRule>| {
        let route = blank_tcp_route(rule.origin(&document.origin));
        LinkedTcpRoute { route, scopes: Vec::new(), targets: connection_targets(linker, grants, document, kind, rule) }
    };
    written.iter().map(rule).collect()
}

fn attach_to_gateway(
    linker: &mut Linker<'_>,
    open: &[OpenListener<'_>],
    route: &Route<'_>,
    parent: &Spanned<gateway_api::ParentReference>,
) {
    let at = parent.origin(&route.document.origin);
    let own = route.document.meta.namespace.as_str();
    let key = format!("{}/{}", parent.namespace.as_deref().unwrap_or(own), parent.name);
    let gateway = linker.mesh.gateways.iter().position(|g| g.key() == key && matches!(g.served_by, ServedBy::Name { .. }));
    let Some(gateway) = gateway else {
        linker.report(diag::parent_not_found(at, "Gateway", &key));
        return;
    };
    let named = |l: &&OpenListener<'_>| {
        l.gateway == gateway
            && parent.section_name.as_ref().is_none_or(|name| *name == l.spec.name)
            && parent.port.is_none_or(|port| port == l.spec.port)
    };
    let (mut found, mut allowed, mut common) = (false, false, false);
    for listener in open.iter().filter(named) {
        found = true;
        if !allows(linker, listener, route.kind, own) {
            continue;
        }
        allowed = true;
        let hosts: Vec<HostPattern> = match route.hostnames.is_empty() {
            true => vec![listener.pattern.clone()],
            false => route.hostnames.iter().filter_map(|h| h.intersect(&listener.pattern)).collect(),
        };
        common |= !hosts.is_empty();
        let place = linker.mesh.gateways.get_mut(gateway).and_then(|g| g.listeners.get_mut(listener.listener));
        let Some(place) = place.filter(|_| !hosts.is_empty()) else { continue };
        let sni = if place.protocol == Protocol::Tls && !hosts.contains(&HostPattern::Any) { hosts } else { Vec::new() };
        place
            .tcp
            .extend(route.rules.iter().map(|r| LinkedTcpRoute { route: TcpRoute { sni: sni.clone(), ..r.route.clone() }, ..r.clone() }));
    }
    let listener = parent.section_name.clone().or(parent.port.map(|p| format!("port {p}"))).unwrap_or_default();
    match (found, allowed, common) {
        (false, ..) => linker.report(diag::parent_not_found(at, "listener", &format!("{key} {listener}"))),
        (true, false, _) => linker.report(diag::not_allowed_by_listener(at, &key, own)),
        (true, true, false) => linker.report(diag::no_matching_hostname(at, &key)),
        (true, true, true) => {}
    }
}

/// A mesh route: of the service's own namespace it is for all callers, of another one for the callers there.
fn attach_to_service(linker: &mut Linker<'_>, route: &Route<'_>, parent: &Spanned<gateway_api::ParentReference>) {
    let at = parent.origin(&route.document.origin);
    let own = route.document.meta.namespace.as_str();
    let namespace = parent.namespace.as_deref().unwrap_or(own);
    let host = linker.mesh.settings.service_host(&parent.name, namespace);
    let Some(service) = linker.mesh.service(&host, own).cloned() else {
        linker.report(diag::parent_not_found(at, "Service", &host));
        return;
    };
    let port = match &parent.section_name {
        Some(name) => match service.service.ports.iter().find(|p| p.name == *name) {
            Some(port) => Some(port.number),
            None => return linker.report(diag::parent_not_found(at, "port", &format!("{host} {name}"))),
        },
        None => parent.port,
    };
    if let Some(number) = port.filter(|n| service.port(*n).is_none()) {
        linker.report(diag::unknown_port(at, &host, number, &service.service.ports));
        return;
    }
    let winner = linker.mesh.virtual_services.all_for(&host).into_iter().find(|vs| !(vs.tls.is_empty() && vs.tcp.is_empty()));
    if let Some(winner) = winner.map(|vs| vs.origin.clone()) {
        linker.report(diag::virtual_service_wins(at, &host, &winner));
    }
    let sni = route.hostnames.clone();
    let rules = route.rules.iter().map(|r| LinkedTcpRoute { route: TcpRoute { sni: sni.clone(), ..r.route.clone() }, ..r.clone() });
    let attached = Attached { port, consumer: (namespace != own).then(|| own.to_owned()), rules: rules.collect() };
    linker.mesh.service_connections.by_host.entry(host).or_default().push(attached);
}
