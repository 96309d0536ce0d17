//! Gateway API: Gateways with their listeners, and the routes attached to listeners and to Services.

use crate::{
    api_route::{ApiRoute, grpc_routes, http_routes},
    diag,
    gateway::{LinkedGateway, LinkedHost, LinkedListener, ListenerHost, ServedBy},
    http_rules::{AttachedRoute, RankedRoute},
    link::Linker,
    reference_grant::{Grants, Referrer},
};
use std::{cmp::Reverse, collections::BTreeMap};
use weft_api::{Document, Resource, Spanned, gateway_api};
use weft_model::{HostPattern, Labels, Protocol, selects};

/// The API's group.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

/// Gateway classes that Weft serves without a GatewayClass object.
const OWN_CLASSES: [&str; 2] = ["weft", "istio"];

/// A listener as written, beside its place in the mesh, until routes are attached.
pub(crate) struct OpenListener<'a> {
    pub(crate) gateway: usize,
    pub(crate) listener: usize,
    namespace: &'a str,
    pub(crate) spec: &'a gateway_api::Listener,
    pub(crate) pattern: HostPattern,
    routes: Vec<(HostPattern, RankedRoute)>,
}

/// Links gateways, then routes.
pub(crate) fn link(linker: &mut Linker<'_>) {
    let grants = Grants::collect(linker);
    let mut open = gateways(linker, &grants);
    let mut routes = http_routes(linker, &grants);
    routes.extend(grpc_routes(linker, &grants));
    routes.sort_by_key(|r| r.age);
    for route in &routes {
        for parent in route.parents {
            match (parent.group(), parent.kind()) {
                (GROUP, "Gateway") => attach_to_gateway(linker, &mut open, route, parent),
                ("" | "core", "Service") => attach_to_service(linker, route, parent),
                (_, kind) => linker.report(diag::parent_not_found(parent.origin(&route.document.origin), kind, &parent.name)),
            }
        }
    }
    for index in 0..open.len() {
        finish_listener(linker, &open, index);
    }
    crate::tcp_route::link(linker, &grants, &open);
}

/// All Gateways of our classes, with their listeners.
fn gateways<'a>(linker: &mut Linker<'a>, grants: &Grants<'a>) -> Vec<OpenListener<'a>> {
    let classes = linker.documents(|r| if let Resource::GatewayClass(c) = r { Some(c) } else { None });
    let classes: Vec<&str> = classes.iter().map(|(_, d, _)| d.meta.name.as_str()).chain(OWN_CLASSES).collect();
    let mut open = Vec::new();
    for (_, document, spec) in linker.documents(|r| if let Resource::Gateway(g) = r { Some(g) } else { None }) {
        let class = &spec.gateway_class_name;
        if !classes.contains(&class.value.as_str()) {
            linker.report(diag::unknown_gateway_class(class.origin(&document.origin), &class.value));
            continue;
        }
        let mut listeners: Vec<LinkedListener> = Vec::new();
        for written in &spec.listeners {
            let Some(made) = listener(linker, grants, document, spec, written, &listeners) else { continue };
            open.push(OpenListener {
                gateway: linker.mesh.gateways.len(),
                listener: listeners.len(),
                namespace: &document.meta.namespace,
                spec: &written.value,
                pattern: made.hosts.first().map_or(HostPattern::Any, |h| h.pattern.clone()),
                routes: Vec::new(),
            });
            listeners.push(made);
        }
        linker.mesh.gateways.push(LinkedGateway {
            namespace: document.meta.namespace.clone(),
            name: document.meta.name.clone(),
            served_by: ServedBy::Name { class: class.value.clone() },
            listeners,
        });
    }
    open
}

fn listener(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    spec: &gateway_api::Gateway,
    written: &Spanned<gateway_api::Listener>,
    before: &[LinkedListener],
) -> Option<LinkedListener> {
    let origin = written.origin(&document.origin);
    let passthrough = written.tls.as_ref().is_some_and(|t| t.mode == Some(gateway_api::TlsMode::Passthrough));
    let (protocol, certificate) = match (written.protocol.value.as_str(), passthrough) {
        ("HTTP", _) => (Protocol::Http, false),
        ("HTTPS", _) => (Protocol::Https, true),
        ("TLS", true) => (Protocol::Tls, false),
        ("TLS", false) => (Protocol::Tls, true),
        ("TCP", _) => (Protocol::Tcp, false),
        (other, _) => {
            linker.report(diag::unknown_listener_protocol(written.protocol.origin(&document.origin), other));
            return None;
        }
    };
    let pattern = match &written.hostname {
        None => HostPattern::Any,
        Some(name) if name.value.is_empty() => HostPattern::Any,
        Some(name) => match name.value.parse() {
            Ok(pattern) => pattern,
            Err(why) => {
                linker.report(diag::bad_host(name.origin(&document.origin), &format!("{why}")));
                return None;
            }
        },
    };
    let rival = before.iter().find(|l| {
        let same_host = l.hosts.first().is_some_and(|h| h.pattern == pattern);
        l.port == written.port && (same_host || (l.protocol == Protocol::Http) != (protocol == Protocol::Http))
    });
    if let Some(rival) = rival {
        linker.report(diag::listener_conflict(origin, &rival.name));
        return None;
    }
    let mut tls = None;
    if certificate {
        let certificates = vec![certificate_of(linker, grants, document, written)?];
        let clients = crate::gateway_tls::frontend_validation(linker, grants, document, spec, written.port).ok()?;
        tls = Some(weft_model::GatewayTls { certificates, clients, ..Default::default() });
    }
    let proxy_protocol = crate::gateway_tls::expects_proxy_protocol(linker, document);
    Some(LinkedListener {
        name: written.name.clone(),
        port: written.port,
        protocol,
        hosts: vec![ListenerHost { namespace: None, pattern }],
        https_redirect: false,
        tls,
        auto_passthrough: false,
        proxy_protocol,
        virtual_hosts: Vec::new(),
        tcp: Vec::new(),
        origin,
    })
}

/// The certificate of a listener; one in another namespace needs a grant.
fn certificate_of(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    written: &Spanned<gateway_api::Listener>,
) -> Option<weft_model::KeyPair> {
    let own = document.meta.namespace.as_str();
    let from = Referrer { group: GROUP, kind: "Gateway", namespace: own };
    let mut names = Vec::new();
    for reference in written.tls.iter().flat_map(|t| &t.certificate_refs) {
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        match grants.allow(from, "", "Secret", namespace, &reference.name) {
            true => names.push((namespace, reference.name.as_str())),
            false => {
                let at = reference.origin(&document.origin);
                linker.report(diag::not_granted(at, "Secret", namespace, &reference.name, "Gateway", own));
            }
        }
    }
    crate::secret::certificate(linker, names.into_iter(), &written.origin(&document.origin))
}

/// Adds the rules of a route to the listeners of one gateway that take it, or says why none does.
fn attach_to_gateway(
    linker: &mut Linker<'_>,
    open: &mut [OpenListener<'_>],
    route: &ApiRoute<'_>,
    parent: &Spanned<gateway_api::ParentReference>,
) {
    let at = parent.origin(&route.document.origin);
    let own = route.document.meta.namespace.as_str();
    let key = format!("{}/{}", parent.namespace.as_deref().unwrap_or(own), parent.name);
    let is_ours = |g: &LinkedGateway| g.key() == key && matches!(g.served_by, ServedBy::Name { .. });
    let Some(gateway) = linker.mesh.gateways.iter().position(is_ours) else {
        linker.report(diag::parent_not_found(at, "Gateway", &key));
        return;
    };
    let named = |l: &OpenListener<'_>| {
        l.gateway == gateway
            && parent.section_name.as_ref().is_none_or(|name| *name == l.spec.name)
            && parent.port.is_none_or(|port| port == l.spec.port)
    };
    let (mut found, mut allowed, mut common) = (false, false, false);
    for listener in open.iter_mut().filter(|l| named(l)) {
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
        for host in hosts {
            listener.routes.extend(route.rules.iter().map(|r| (host.clone(), r.clone())));
        }
    }
    let listener = parent.section_name.clone().or(parent.port.map(|p| format!("port {p}"))).unwrap_or_default();
    match (found, allowed, common) {
        (false, ..) => linker.report(diag::parent_not_found(at, "listener", &format!("{key} {listener}"))),
        (true, false, _) => linker.report(diag::not_allowed_by_listener(at, &key, own)),
        (true, true, false) => linker.report(diag::no_matching_hostname(at, &key)),
        (true, true, true) => {}
    }
}

/// Does the listener take routes of this kind and namespace?
pub(crate) fn allows(linker: &Linker<'_>, listener: &OpenListener<'_>, route: &str, own: &str) -> bool {
    let protocol = match listener.spec.protocol.value.as_str() {
        "HTTP" | "HTTPS" => matches!(route, "HTTPRoute" | "GRPCRoute"),
        "TLS" => matches!(route, "TLSRoute" | "TCPRoute"),
        "TCP" => route == "TCPRoute",
        _ => false,
    };
    let rules = listener.spec.allowed_routes.as_ref();
    let kinds = rules.map(|r| r.kinds.as_slice()).unwrap_or_default();
    let kind = kinds.is_empty() || kinds.iter().any(|k| k.kind == route && k.group.as_deref().is_none_or(|g| g == GROUP));
    let namespaces = rules.and_then(|r| r.namespaces.as_ref());
    let from = namespaces.and_then(|n| n.from).unwrap_or(gateway_api::FromNamespaces::Same);
    let namespace = match from {
        gateway_api::FromNamespaces::All => true,
        gateway_api::FromNamespaces::None => false,
        gateway_api::FromNamespaces::Same => own == listener.namespace,
        gateway_api::FromNamespaces::Selector => {
            let mut labels = linker.mesh.namespaces.get(own).cloned().unwrap_or_default();
            labels.entry("kubernetes.io/metadata.name".into()).or_insert_with(|| own.to_owned());
            namespaces.and_then(|n| n.selector.as_ref()).is_some_and(|s| selected(s, &labels))
        }
    };
    protocol && kind && namespace
}

fn selected(selector: &gateway_api::NamespaceSelector, labels: &Labels) -> bool {
    selects(&selector.match_labels, labels)
        && selector.match_expressions.iter().all(|e| {
            let value = labels.get(&e.key);
            let listed = value.is_some_and(|v| e.values.contains(v));
            match e.operator {
                gateway_api::LabelOperator::In => listed,
                gateway_api::LabelOperator::NotIn => !listed,
                gateway_api::LabelOperator::Exists => value.is_some(),
                gateway_api::LabelOperator::DoesNotExist => value.is_none(),
            }
        })
}

/// A mesh route: of the service's own namespace it is for all callers, of another one for the callers there.
fn attach_to_service(linker: &mut Linker<'_>, route: &ApiRoute<'_>, parent: &Spanned<gateway_api::ParentReference>) {
    let at = parent.origin(&route.document.origin);
    let own = route.document.meta.namespace.as_str();
    let namespace = parent.namespace.as_deref().unwrap_or(own);
    let host = linker.mesh.settings.service_host(&parent.name, namespace);
    let Some(service) = linker.mesh.service(&host, own).cloned() else {
        linker.report(diag::parent_not_found(at, "Service", &host));
        return;
    };
    let by_name = parent.section_name.as_ref().map(|name| service.service.ports.iter().find(|p| p.name == *name).map(|p| p.number));
    let port = match by_name {
        Some(None) => {
            linker.report(diag::parent_not_found(at, "port", &format!("{host} {}", parent.section_name.as_deref().unwrap_or_default())));
            return;
        }
        Some(found) => found,
        None => parent.port,
    };
    if let Some(number) = port.filter(|n| service.port(*n).is_none()) {
        linker.report(diag::unknown_port(at, &host, number, &service.service.ports));
        return;
    }
    let winner = linker.mesh.virtual_services.all_for(&host).into_iter().find(|vs| !vs.http.is_empty()).map(|vs| vs.origin.clone());
    if let Some(winner) = winner {
        linker.report(diag::virtual_service_wins(at, &host, &winner));
    }
    let attached = AttachedRoute { port, consumer: (namespace != own).then(|| own.to_owned()), rules: route.rules.clone() };
    linker.mesh.service_routes.by_host.entry(host).or_default().push(attached);
}

/// Puts the rules of a listener in order, host by host.
///
/// A host that a more specific listener of the same port answers is that one's alone (listener isolation), and the listener's own
/// host is always there, so that a request which no route of it takes gets 404 and not another listener's answer.
fn finish_listener(linker: &mut Linker<'_>, open: &[OpenListener<'_>], index: usize) {
    let Some(this) = open.get(index) else { return };
    let covers = |wide: &HostPattern, narrow: &HostPattern| wide.intersect(narrow).as_ref() == Some(narrow);
    let taken = |host: &HostPattern| {
        let rivals = open.iter().enumerate().filter(|(i, o)| *i != index && o.gateway == this.gateway && o.spec.port == this.spec.port);
        rivals.into_iter().any(|(_, o)| o.pattern.specificity() > this.pattern.specificity() && covers(&o.pattern, host))
    };
    let mut hosts: BTreeMap<HostPattern, ()> = this.routes.iter().map(|(host, _)| (host.clone(), ())).collect();
    hosts.insert(this.pattern.clone(), ());
    let mut virtual_hosts = Vec::new();
    for host in hosts.into_keys().filter(|h| !taken(h)) {
        let mut rules: Vec<&(HostPattern, RankedRoute)> = this.routes.iter().filter(|(pattern, _)| covers(pattern, &host)).collect();
        rules.sort_by(|(pa, a), (pb, b)| (Reverse(pa.specificity()), &a.rank).cmp(&(Reverse(pb.specificity()), &b.rank)));
        // A route with two hostnames that cover the host has its rules here twice.
        let mut known: Vec<*const crate::http_rules::LinkedRoute> = Vec::new();
        rules.retain(|(_, r)| {
            let pointer = std::sync::Arc::as_ptr(&r.route);
            let new = !known.contains(&pointer);
            known.push(pointer);
            new
        });
        virtual_hosts.push(LinkedHost { host, routes: rules.into_iter().map(|(_, r)| r.route.clone()).collect() });
    }
    let place = linker.mesh.gateways.get_mut(this.gateway).and_then(|g| g.listeners.get_mut(this.listener));
    if let Some(listener) = place.filter(|l| matches!(l.protocol, Protocol::Http | Protocol::Https)) {
        listener.virtual_hosts = virtual_hosts;
    }
}
