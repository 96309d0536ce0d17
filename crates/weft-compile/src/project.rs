//! Mesh → view: what one proxy needs, and nothing else.

use crate::{
    authorization::Protected,
    http_rules::{Asker, Destination, LinkedTarget},
    mesh::{Client, Mesh, MeshService},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_model::{
    Backend, ClusterName, ConcurrencyPolicy, Counted, FallbackTo, GatewayListeners, HostPattern, HttpRoute, Inbound, InboundPort, Labels,
    ModelValue, Origin, Protocol, RateLimit, Root, RouteAction, RouteTable, RouteTableName, SpiffeId, Target, TcpRoute, TcpRoutes, View,
    VirtualHost, Workload,
};

/// The proxy that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// Id under which it registered.
    pub workload_id: String,
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: Labels,
    /// Identity that it proved.
    pub identity: SpiffeId,
    /// What it is.
    pub role: ProxyRole,
}

/// What a proxy is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyRole {
    /// Beside one program.
    #[default]
    Sidecar,
    /// At the edge.
    Gateway,
}

/// What became of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    /// It stands for this host (for `Own`: the workload's id).
    Resolved(String),
    /// Nothing that this proxy may see has that name or address.
    Unknown,
}

/// The answer to one proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    /// Values.
    pub view: View,
    /// What became of each root that was asked for.
    pub roots: BTreeMap<Root, RootState>,
}

impl ProxyIdentity {
    pub(crate) fn client(&self) -> Client<'_> {
        Client { namespace: &self.namespace, labels: &self.labels, gateway: self.role == ProxyRole::Gateway }
    }
}

/// The view of one proxy: its own side always, and the closure of each root.
pub fn project(mesh: &Mesh, proxy: &ProxyIdentity, roots: &BTreeSet<Root>) -> Projection {
    let mut projector = Projector { mesh, client: proxy.client(), view: View::default(), clusters: BTreeSet::new() };
    projector.own(proxy);
    let mut states = BTreeMap::new();
    for root in roots {
        let state = match root {
            Root::Own => RootState::Resolved(proxy.workload_id.clone()),
            Root::Host(text) => match mesh.resolve(text, &proxy.namespace) {
                Some(service) => {
                    projector.service(&service);
                    RootState::Resolved(service.service.host.to_string())
                }
                None => RootState::Unknown,
            },
        };
        states.insert(root.clone(), state);
    }
    projector.admission(proxy);
    projector.close();
    Projection { view: projector.view, roots: states }
}

/// Collects values; clusters are added once, at the end.
struct Projector<'a> {
    mesh: &'a Mesh,
    client: Client<'a>,
    view: View,
    clusters: BTreeSet<ClusterName>,
}

impl Projector<'_> {
    /// The proxy's own side.
    fn own(&mut self, proxy: &ProxyIdentity) {
        self.view.insert(ModelValue::Inbound(inbound(self.mesh, proxy)));
        let services = self.mesh.hosts_of_workload(&proxy.workload_id);
        let gateways = if self.client.gateway { self.mesh.gateway_api_keys(&proxy.namespace, &proxy.labels) } else { Vec::new() };
        let me = Protected { namespace: &proxy.namespace, labels: &proxy.labels, services: &services, gateways: &gateways };
        for policy in self.mesh.authorizations_for(&me) {
            self.clusters.extend(policy.provider.as_ref().and_then(|p| p.cluster.clone()));
            self.view.insert(ModelValue::Authorization(policy.as_ref().clone()));
        }
        for policy in self.mesh.request_authentications_for(&me) {
            self.view.insert(ModelValue::RequestAuthentication(policy.as_ref().clone()));
        }
        if let Some(telemetry) = self.mesh.telemetry_for(&me) {
            self.clusters.extend(telemetry.clusters().into_iter().cloned());
            self.view.insert(ModelValue::Telemetry(Box::new(telemetry)));
        }
        if let Some(settings) = &self.mesh.proxy_settings {
            self.view.insert(ModelValue::Settings(settings.clone()));
        }
        if self.client.gateway {
            self.gateway(proxy);
        }
    }
    /// Listeners, route tables and connection rules of a gateway.
    fn gateway(&mut self, proxy: &ProxyIdentity) {
        let (listeners, tables, tcp) = self.mesh.gateway_tables(&self.client);
        for table in tables {
            self.http_targets(&table);
            self.view.insert(ModelValue::RouteTable(table));
        }
        for routes in tcp {
            self.tcp_targets(&routes);
            self.view.insert(ModelValue::TcpRoutes(routes));
        }
        for host in listeners.iter().filter(|l| l.auto_passthrough).flat_map(|l| &l.hosts) {
            self.named_clusters(host);
        }
        self.view.insert(ModelValue::GatewayListeners(GatewayListeners { labels: proxy.labels.clone(), listeners }));
    }
    /// All clusters that a server name may name behind a listener that passes TLS on (`AUTO_PASSTHROUGH`).
    fn named_clusters(&mut self, host: &HostPattern) {
        let seen = |s: &&Arc<MeshService>| s.visibility.shows_to(self.client.namespace) && host.matches(s.service.host.as_str());
        let services: Vec<Arc<MeshService>> = self.mesh.services.values().flatten().filter(seen).cloned().collect();
        for service in services {
            let rule = self.mesh.destination_rules.find(self.mesh, &self.client, &service);
            let subsets = rule.into_iter().flat_map(|r| r.subsets.keys().cloned());
            let subsets: Vec<String> = std::iter::once(String::new()).chain(subsets).collect();
            for port in &service.service.ports {
                let named = |subset: &String| ClusterName { subset: subset.clone(), ..own_cluster(&service, port.number) };
                self.clusters.extend(subsets.iter().map(named));
            }
        }
    }
    /// A service with everything that a call to it needs.
    fn service(&mut self, service: &Arc<MeshService>) {
        let mut value = service.service.clone();
        value.aliases = self.mesh.aliases(&value, self.client.namespace);
        for port in &value.ports {
            // The whole service's cluster is always there: it is what an opaque connection falls back to.
            self.clusters.insert(own_cluster(service, port.number));
            if port.protocol.is_http() || port.protocol == Protocol::Auto {
                let table = self.mesh.route_table(&self.client, service, port.number);
                self.http_targets(&table);
                self.view.insert(ModelValue::RouteTable(table));
            }
            if matches!(port.protocol, Protocol::Tcp | Protocol::Tls | Protocol::Https | Protocol::Auto) {
                let routes = self.mesh.tcp_routes(&self.client, service, port.number);
                self.tcp_targets(&routes);
                self.view.insert(ModelValue::TcpRoutes(routes));
            }
        }
        self.view.insert(ModelValue::Service(value));
    }
    fn http_targets(&mut self, table: &RouteTable) {
        for route in table.hosts.iter().flat_map(|h| &h.routes) {
            if let RouteAction::Forward(targets) = &route.action {
                self.targets(targets);
            }
            self.clusters.extend(route.mirrors.iter().map(|m| m.cluster.clone()));
            self.clusters.extend(route.external_auth.as_ref().and_then(|asked| asked.cluster.clone()));
            if let Some(FallbackTo::Backend(target)) = route.fallback.as_ref().map(|f| &f.to) {
                self.targets(std::slice::from_ref(&**target));
            }
        }
    }
    fn tcp_targets(&mut self, routes: &TcpRoutes) {
        for route in &routes.routes {
            self.targets(&route.targets);
        }
    }
    fn targets(&mut self, targets: &[Target]) {
        self.clusters.extend(targets.iter().filter_map(|t| match &t.backend {
            Backend::Cluster(name) => Some(name.clone()),
            Backend::Invalid { .. } => None,
        }));
        self.clusters.extend(targets.iter().flat_map(|t| &t.mirrors).map(|m| m.cluster.clone()));
    }
    /// What limits the requests that the values so far are about.
    fn admission(&mut self, proxy: &ProxyIdentity) {
        let services = self.mesh.hosts_of_workload(&proxy.workload_id);
        let gateways = if self.client.gateway { self.mesh.gateway_api_keys(&proxy.namespace, &proxy.labels) } else { Vec::new() };
        let me = Protected { namespace: &proxy.namespace, labels: &proxy.labels, services: &services, gateways: &gateways };
        let limits: Vec<RateLimit> = self.mesh.rate_limits_for(&proxy.workload_id, &me, &self.view).collect();
        let concurrency: Vec<ConcurrencyPolicy> = self.mesh.concurrency_for(&proxy.workload_id, &me, &self.view).collect();
        for limit in limits {
            self.clusters.extend(limit.limits.iter().filter_map(|rule| match &rule.counted {
                Counted::Service(service) => Some(service.cluster.clone()),
                Counted::Local(_) | Counted::Global(_) => None,
            }));
            self.view.insert(ModelValue::RateLimit(limit));
        }
        concurrency.into_iter().for_each(|policy| self.view.insert(ModelValue::Concurrency(policy)));
    }
    /// Adds the clusters that were met.
    fn close(&mut self) {
        for name in std::mem::take(&mut self.clusters) {
            if let Some((cluster, endpoints)) = self.mesh.cluster(&self.client, &name) {
                self.view.insert(ModelValue::Cluster(cluster));
                self.view.insert(ModelValue::Endpoints(endpoints));
            }
        }
    }
}

/// The inbound side: ports as registered, each with its mode and the service that it serves.
fn inbound(mesh: &Mesh, proxy: &ProxyIdentity) -> Inbound {
    let (default_mtls, default_mtls_origin) = mesh.mtls_mode(&proxy.namespace, &proxy.labels, None);
    let known = mesh.workloads.get(&proxy.workload_id);
    let port = |p: &crate::RegisteredPort| {
        let (mtls, mtls_origin) = mesh.mtls_mode(&proxy.namespace, &proxy.labels, Some(p.port));
        let served = known.into_iter().flat_map(|w| &w.serves).find(|(program_port, ..)| *program_port == p.port);
        let service = served.and_then(|(_, host, number)| Some((mesh.service(host, &proxy.namespace)?, *number)));
        // What the service's port says holds where the program's registration says nothing.
        let declared = service.as_ref().and_then(|(s, number)| s.port(*number)).map(|p| p.protocol);
        let protocol = if p.protocol == Protocol::Auto { declared.unwrap_or_default() } else { p.protocol };
        let own = Client { namespace: &proxy.namespace, labels: &proxy.labels, gateway: false };
        let limits = service.as_ref().and_then(|(s, number)| mesh.cluster(&own, &own_cluster(s, *number))).map(|(c, _)| c.limits);
        InboundPort {
            port: p.port,
            protocol,
            mtls,
            mtls_origin,
            service: served.map(|(_, host, _)| host.clone()).unwrap_or_default(),
            limits: limits.unwrap_or_default(),
        }
    };
    let workload = known.map(|w| w.registered.workload.clone()).unwrap_or_else(|| Workload {
        id: proxy.workload_id.clone(),
        name: proxy.workload_id.rsplit('/').next().unwrap_or_default().into(),
        namespace: proxy.namespace.clone(),
        identity: proxy.identity.clone(),
        labels: proxy.labels.clone(),
        locality: String::new(),
        origin: Origin::built_in("not registered yet"),
    });
    let ports = known.into_iter().flat_map(|w| &w.registered.ports).map(port).collect();
    let zones = zones(mesh, &workload);
    Inbound { workload, zones, ports, default_mtls, default_mtls_origin }
}

/// Workloads of the same kind by zone, where a rule looks at zones.
fn zones(mesh: &Mesh, own: &Workload) -> BTreeMap<String, u32> {
    let mut zones = BTreeMap::new();
    if own.locality.is_empty() || !mesh.destination_rules.look_at_zones() {
        return zones;
    }
    let alike = |w: &&Workload| w.namespace == own.namespace && w.canonical_service() == own.canonical_service();
    for workload in mesh.all_workloads().filter(alike) {
        let mut parts = workload.locality.split('/');
        let zone = format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        *zones.entry(zone).or_default() += 1;
    }
    zones
}

/// The cluster of a whole service port.
pub(crate) fn own_cluster(service: &MeshService, port: u16) -> ClusterName {
    ClusterName { host: service.service.host.to_string(), port, subset: String::new() }
}

impl Mesh {
    /// Hosts of the services that lead to a workload.
    pub(crate) fn hosts_of_workload(&self, id: &str) -> Vec<String> {
        let hosts: BTreeSet<String> = self.workloads.get(id).into_iter().flat_map(|w| &w.serves).map(|(_, host, _)| host.clone()).collect();
        hosts.into_iter().collect()
    }
    /// The HTTP rules for calls of `client` to a port of a service.
    pub fn route_table(&self, client: &Client<'_>, service: &MeshService, port: u16) -> RouteTable {
        let asker = Asker { client: *client, port, door: "mesh" };
        let host = service.service.host.as_str();
        let mut routes: Vec<Arc<HttpRoute>> = self
            .virtual_services
            .for_service(host, client)
            .map(|vs| vs.http.iter().filter_map(|r| r.for_asker_at(self, &asker, Some(host))).map(Arc::new).collect())
            .unwrap_or_default();
        if routes.is_empty() {
            let attached = self.service_routes.find(host, port, client);
            routes = attached.iter().filter_map(|r| r.for_asker_at(self, &asker, Some(host))).map(Arc::new).collect();
        }
        if routes.is_empty() {
            let mut route = default_route(self, &asker, service, port);
            self.apply_route_policies(&mut route, Some(host), &asker);
            routes.push(Arc::new(route));
        }
        let names = std::iter::once(service.service.host.clone()).chain(self.aliases(&service.service, client.namespace));
        let addresses = service.service.addresses.iter().filter_map(|ip| ip.to_string().parse().ok());
        let mut hosts: Vec<HostPattern> = names.chain(addresses).map(HostPattern::Exact).collect();
        // Who connects to the service's address means the service, whatever the Host header says (GAMMA: matching is by address).
        hosts.push(HostPattern::Any);
        RouteTable { name: RouteTableName::Service { host: host.into(), port }, hosts: vec![VirtualHost { hosts, routes }] }
    }
    /// The rules for opaque connections to a port of a service.
    pub fn tcp_routes(&self, client: &Client<'_>, service: &MeshService, port: u16) -> TcpRoutes {
        let asker = Asker { client: *client, port, door: "mesh" };
        let host = service.service.host.as_str();
        let vs = self.virtual_services.for_service(host, client);
        let protocol = service.port(port).map(|p| p.protocol).unwrap_or_default();
        let tls = vs.into_iter().flat_map(|v| &v.tls).filter(|_| protocol != Protocol::Tcp);
        let tcp = vs.into_iter().flat_map(|v| &v.tcp).filter(|_| !matches!(protocol, Protocol::Tls | Protocol::Https));
        let mut routes: Vec<TcpRoute> = tls.chain(tcp).filter_map(|r| r.for_asker(self, &asker)).collect();
        if routes.is_empty() {
            routes = self.service_connections.find(host, port, client).filter_map(|r| r.for_asker(self, &asker)).collect();
        }
        if !routes.iter().any(TcpRoute::catches_all) {
            let target = LinkedTarget::plain(whole_service(service, port), 1);
            let origin = service.service.origin.clone();
            let route = crate::virtual_service::blank_tcp_route(origin);
            let own = crate::http_rules::LinkedTcpRoute { route, scopes: Vec::new(), targets: vec![target] };
            routes.extend(own.for_asker(self, &asker));
        }
        TcpRoutes { host: host.into(), port, routes }
    }
}

/// The destination that is the whole service.
fn whole_service(service: &MeshService, port: u16) -> Destination {
    Destination::Service { host: service.service.host.to_string(), port: Some(port), subset: String::new() }
}

/// Where nothing is written: forward, with the built-in retries and no time-out.
fn default_route(mesh: &Mesh, asker: &Asker<'_>, service: &MeshService, port: u16) -> HttpRoute {
    let backend = whole_service(service, port).backend(mesh, asker, 503);
    HttpRoute {
        action: RouteAction::Forward(vec![Target::plain(backend, 1)]),
        retry: Some(mesh.default_retry()),
        ..HttpRoute::new("default", service.service.origin.clone())
    }
}
