//! Gateway (Istio) and how VirtualServices bind to it.

use crate::{
    diag,
    gateway::{LinkedGateway, LinkedHost, LinkedListener, ListenerHost, ServedBy},
    link::Linker,
    virtual_service::LinkedVirtualService,
};
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{HostPattern, Origin, Protocol, TcpRoute};

/// Adds the listeners of all Gateways.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (_, document, spec) in linker.documents(|r| if let Resource::IstioGateway(g) = r { Some(g) } else { None }) {
        let mut listeners = Vec::new();
        for server in &spec.servers {
            listeners.extend(listener(linker, document, server));
        }
        linker.mesh.gateways.push(LinkedGateway {
            namespace: document.meta.namespace.clone(),
            name: document.meta.name.clone(),
            served_by: ServedBy::Selector(spec.selector.clone()),
            listeners,
        });
    }
}

fn listener(linker: &mut Linker<'_>, document: &Document, server: &Spanned<istio::Server>) -> Option<LinkedListener> {
    let origin = server.origin(&document.origin);
    let word = server.port.protocol.value.as_str();
    let mode = server.tls.as_ref().and_then(|t| t.mode);
    let passthrough = matches!(mode, Some(istio::ServerTlsMode::Passthrough | istio::ServerTlsMode::AutoPassthrough));
    let protocol = match word.to_ascii_uppercase().as_str() {
        "HTTP" | "GRPC-WEB" => Protocol::Http,
        "HTTP2" => Protocol::Http2,
        "GRPC" => Protocol::Grpc,
        "HTTPS" if passthrough => Protocol::Tls,
        "HTTPS" => Protocol::Https,
        "TLS" => Protocol::Tls,
        "TCP" | "MONGO" => Protocol::Tcp,
        _ => {
            linker.report(diag::unknown_listener_protocol(server.port.protocol.origin(&document.origin), word));
            return None;
        }
    };
    let mut tls = None;
    if protocol == Protocol::Https || protocol == Protocol::Tls && !passthrough {
        tls = crate::gateway_tls::istio(linker, document, server, &origin);
        tls.as_ref()?;
    }
    let proxy_protocol = crate::gateway_tls::expects_proxy_protocol(linker, document);
    let mut hosts = Vec::new();
    for written in &server.hosts {
        let (namespace, name) = written.value.split_once('/').unwrap_or(("*", written.value.as_str()));
        let namespace = match namespace {
            "*" => None,
            "." => Some(document.meta.namespace.clone()),
            other => Some(other.to_owned()),
        };
        match name.parse::<HostPattern>() {
            Ok(pattern) => hosts.push(ListenerHost { namespace, pattern }),
            Err(why) => linker.report(diag::bad_host(written.origin(&document.origin), &why.to_string())),
        }
    }
    let name = server.name.clone().or_else(|| server.port.name.clone()).unwrap_or_else(|| format!("port-{}", server.port.number));
    Some(LinkedListener {
        name,
        port: server.port.number,
        protocol,
        hosts,
        https_redirect: server.tls.as_ref().is_some_and(|t| t.https_redirect),
        tls,
        auto_passthrough: mode == Some(istio::ServerTlsMode::AutoPassthrough),
        proxy_protocol,
        virtual_hosts: Vec::new(),
        tcp: Vec::new(),
        origin,
    })
}

/// Adds the rules of a VirtualService to the listeners of its gateways whose hosts it shares.
pub(crate) fn bind(linker: &mut Linker<'_>, vs: &LinkedVirtualService) {
    // A match may name gateways of its own, in place of those of the whole.
    let in_matches = vs.http.iter().flat_map(|r| &r.matches).flat_map(|m| m.scope.gateways.iter().flatten());
    let doors: Vec<&String> = vs.gateways.iter().chain(in_matches).filter(|g| *g != "mesh").collect();
    let mut unshared = Vec::new();
    for gateway in linker.mesh.gateways.iter_mut().filter(|g| matches!(g.served_by, ServedBy::Selector(_))) {
        let key = gateway.key();
        if !doors.iter().any(|d| **d == key) || !vs.visibility.shows_to(&gateway.namespace) {
            continue;
        }
        let mut shared = false;
        for listener in &mut gateway.listeners {
            let hosts = common_hosts(listener, vs);
            shared |= !hosts.is_empty();
            attach(listener, vs, hosts);
        }
        if !shared && !gateway.listeners.is_empty() {
            unshared.push(diag::no_common_host(vs.origin.clone(), &key));
        }
    }
    linker.diagnostics.extend(unshared);
}

/// Hosts that both the listener and the VirtualService accept, the narrower of each pair.
fn common_hosts(listener: &LinkedListener, vs: &LinkedVirtualService) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    for host in listener.hosts.iter().filter(|h| h.namespace.as_ref().is_none_or(|n| *n == vs.namespace)) {
        for narrower in vs.hosts.iter().filter_map(|h| h.intersect(&host.pattern)) {
            if !hosts.contains(&narrower) {
                hosts.push(narrower);
            }
        }
    }
    hosts
}

/// Merges the rules into the listener: those of an older VirtualService for the same host stand first.
fn attach(listener: &mut LinkedListener, vs: &LinkedVirtualService, hosts: Vec<HostPattern>) {
    match listener.protocol {
        _ if hosts.is_empty() => {}
        Protocol::Tcp => listener.tcp.extend(vs.tcp.iter().cloned()),
        Protocol::Tls => {
            for rule in &vs.tls {
                let within = |sni: &HostPattern| hosts.iter().find_map(|h| h.intersect(sni));
                let sni: Vec<HostPattern> = rule.route.sni.iter().filter_map(within).collect();
                if !sni.is_empty() {
                    let mut rule = rule.clone();
                    // TLS that is ended here was chosen by its listener: what is left is an opaque connection with a name.
                    rule.route = TcpRoute { sni, ..rule.route };
                    listener.tcp.push(rule);
                }
            }
            if listener.tls.is_some() {
                listener.tcp.extend(vs.tcp.iter().cloned());
            }
        }
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Https | Protocol::Auto | Protocol::Udp => {
            for host in hosts {
                match listener.virtual_hosts.iter_mut().find(|v| v.host == host) {
                    Some(known) => known.routes.extend(vs.http.iter().cloned()),
                    None => listener.virtual_hosts.push(LinkedHost { host, routes: vs.http.clone() }),
                }
            }
        }
    }
}

/// Merged rules: what matches everything goes behind what does not; of several such rules the first counts.
pub(crate) fn order_catch_alls(linker: &mut Linker<'_>) {
    let mut lost: Vec<(Origin, Origin)> = Vec::new();
    for listener in linker.mesh.gateways.iter_mut().flat_map(|g| &mut g.listeners) {
        for host in &mut listener.virtual_hosts {
            let several = host.routes.windows(2).any(|pair| pair[0].route.origin.object() != pair[1].route.origin.object());
            if !several {
                continue;
            }
            host.routes.sort_by_key(|r| r.catches_all());
            let all: Vec<Origin> = host.routes.iter().filter(|r| r.catches_all()).map(|r| r.route.origin.clone()).collect();
            if let [first, rest @ ..] = all.as_slice() {
                lost.extend(rest.iter().filter(|r| r.object() != first.object()).map(|r| (r.clone(), first.clone())));
            }
        }
    }
    for (origin, first) in lost {
        linker.report(diag::second_catch_all(origin, &first));
    }
}
