//! Gateways of both APIs: which proxies serve them, their listeners, and the rules behind each.

use crate::{
    http_rules::{Asker, LinkedRoute, LinkedTcpRoute},
    mesh::{Client, Mesh},
};
use std::{collections::BTreeMap, sync::Arc};
use weft_model::{
    GatewayListener, GatewayTls, HostPattern, HttpRoute, Labels, Origin, Protocol, RouteTable, RouteTableName, TcpRoutes, VirtualHost,
    selects,
};

/// Label by which a gateway proxy says that it serves one Gateway (Gateway API) only.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

pub use weft_model::GATEWAY_TCP_HOST;

/// One Gateway object.
#[derive(Debug, Clone)]
pub(crate) struct LinkedGateway {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) served_by: ServedBy,
    pub(crate) listeners: Vec<LinkedListener>,
}

/// Which gateway proxies serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServedBy {
    /// Istio: those with these labels.
    Selector(Labels),
    /// Gateway API: those with the label of its name, in its namespace, and those that name no Gateway at all.
    Name {
        /// Its class.
        class: String,
    },
}

/// One listener with the rules attached to it.
#[derive(Debug, Clone)]
pub(crate) struct LinkedListener {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) hosts: Vec<ListenerHost>,
    pub(crate) https_redirect: bool,
    pub(crate) tls: Option<GatewayTls>,
    pub(crate) auto_passthrough: bool,
    pub(crate) proxy_protocol: bool,
    pub(crate) virtual_hosts: Vec<LinkedHost>,
    pub(crate) tcp: Vec<LinkedTcpRoute>,
    pub(crate) origin: Origin,
}

/// A host that a listener answers, and whose routes may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerHost {
    /// Namespace of the routes; `None`: any.
    pub(crate) namespace: Option<String>,
    /// Host.
    pub(crate) pattern: HostPattern,
}

/// The rules of one host, in order.
#[derive(Debug, Clone)]
pub(crate) struct LinkedHost {
    pub(crate) host: HostPattern,
    pub(crate) routes: Vec<Arc<LinkedRoute>>,
}

impl LinkedGateway {
    /// `ns/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
    /// Does a gateway proxy with these labels serve it?
    pub(crate) fn is_served_by(&self, namespace: &str, labels: &Labels) -> bool {
        match &self.served_by {
            ServedBy::Selector(selector) => selects(selector, labels),
            ServedBy::Name { .. } => match labels.get(GATEWAY_NAME_LABEL) {
                Some(name) => *name == self.name && namespace == self.namespace,
                None => true,
            },
        }
    }
}

impl Mesh {
    /// The Gateway API gateways (`ns/name`, class) that a proxy serves.
    pub(crate) fn gateway_api_keys(&self, namespace: &str, labels: &Labels) -> Vec<(String, String)> {
        let serves = self.gateways.iter().filter(|g| g.is_served_by(namespace, labels));
        serves
            .filter_map(|g| match &g.served_by {
                ServedBy::Name { class } => Some((g.key(), class.clone())),
                ServedBy::Selector(_) => None,
            })
            .collect()
    }
    /// Listeners, HTTP rules by port and connection rules by port of a gateway proxy.
    pub(crate) fn gateway_tables(&self, client: &Client<'_>) -> (Vec<GatewayListener>, Vec<RouteTable>, Vec<TcpRoutes>) {
        let mut listeners = Vec::new();
        let mut hosts: BTreeMap<u16, Vec<VirtualHost>> = BTreeMap::new();
        let mut tcp: BTreeMap<u16, TcpRoutes> = BTreeMap::new();
        for gateway in self.gateways.iter().filter(|g| g.is_served_by(client.namespace, client.labels)) {
            let door = gateway.key();
            for listener in &gateway.listeners {
                let asker = Asker { client: *client, port: listener.port, door: &door };
                listeners.push(listener.model());
                if listener.protocol.is_http() || listener.protocol == Protocol::Https && listener.tls.is_some() {
                    let of_port = hosts.entry(listener.port).or_default();
                    for virtual_host in &listener.virtual_hosts {
                        let routes = virtual_host.routes.iter().filter_map(|r| r.for_asker(self, &asker)).map(Arc::new).collect();
                        add_host(of_port, virtual_host.host.clone(), routes);
                    }
                } else {
                    let of_port = tcp.entry(listener.port).or_insert_with(|| TcpRoutes {
                        host: GATEWAY_TCP_HOST.into(),
                        port: listener.port,
                        routes: Vec::new(),
                    });
                    of_port.routes.extend(listener.tcp.iter().filter_map(|r| r.for_asker(self, &asker)).map(|r| listener.narrow(r)));
                }
            }
        }
        listeners.sort_by(|a, b| (a.port, &a.name).cmp(&(b.port, &b.name)));
        let table = |(port, hosts)| RouteTable { name: RouteTableName::Gateway { port }, hosts };
        // SNI first: a rule without one takes every connection.
        let tcp = tcp.into_values().map(|mut routes| {
            routes.routes.sort_by_key(|r| (r.sni.is_empty(), std::cmp::Reverse(r.sni.iter().map(HostPattern::specificity).max())));
            routes
        });
        (listeners, hosts.into_iter().map(table).collect(), tcp.collect())
    }
}

/// Adds rules to a host of a port; the same host of another listener or gateway gets them behind its own.
fn add_host(hosts: &mut Vec<VirtualHost>, host: HostPattern, routes: Vec<Arc<HttpRoute>>) {
    match hosts.iter_mut().find(|v| v.hosts == [host.clone()]) {
        Some(known) => known.routes.extend(routes),
        None => hosts.push(VirtualHost { hosts: vec![host], routes }),
    }
}

impl LinkedListener {
    /// Connections whose TLS is ended here take the rules of the listener that their name chose: a rule that asks for no name asks for
    /// the listener's.
    fn narrow(&self, mut route: weft_model::TcpRoute) -> weft_model::TcpRoute {
        let hosts = || self.hosts.iter().map(|h| h.pattern.clone());
        if self.protocol == Protocol::Tls && route.sni.is_empty() && !hosts().any(|h| h == HostPattern::Any) {
            route.sni = hosts().collect();
        }
        route
    }
    fn model(&self) -> GatewayListener {
        GatewayListener {
            name: self.name.clone(),
            port: self.port,
            protocol: self.protocol,
            hosts: self.hosts.iter().map(|h| h.pattern.clone()).collect(),
            https_redirect: self.https_redirect,
            tls: self.tls.clone(),
            auto_passthrough: self.auto_passthrough,
            proxy_protocol: self.proxy_protocol,
            origin: self.origin.clone(),
        }
    }
}
