//! The snapshot: a view, checked and indexed for serving. Built off the request path, swapped whole, held once per request.

mod check;

pub use crate::health_check::Checks;

use crate::policy::TokenRules;
use foldhash::HashMap;
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use weft_balance::{Counters, Plan, RetryGate};
use weft_model::{
    Authorization, Cluster, ClusterName, Endpoint, GatewayListeners, HttpRoute, Inbound, ModelValue, Place, ProxySettings, RequestHead,
    ResourceName, RouteIndex, RouteTable, RouteTableName, Service, TcpRoutes, Telemetry, Versioned, View,
};

/// A value that this proxy will not run, and why. Travels back as a NACK; the last good form stays in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The resource.
    pub resource: ResourceName,
    /// Path of the field inside it, e.g. `routes[1].action.respond.status`.
    pub field: String,
    /// Why, in words.
    pub reason: String,
}

/// One destination: the cluster, its endpoints, and what is shared by all workers about it.
#[derive(Debug)]
pub struct ClusterEntry {
    /// The cluster.
    pub cluster: Cluster,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Versions of the two, to see whether anything changed.
    pub versions: (String, String),
    /// Counters of the limits, kept from snapshot to snapshot.
    pub counters: Arc<Counters>,
    /// The retry budget, kept likewise.
    pub gate: Arc<RetryGate>,
    /// How endpoints are chosen; the standing of each is kept likewise.
    pub plan: Arc<Plan>,
    /// Active health checks, kept likewise.
    pub checks: Arc<Checks>,
    /// The caller as the plan sees it.
    pub(crate) place: Arc<Place>,
}

/// The rules of one port, with an index.
#[derive(Debug)]
pub struct Routes {
    /// The rules.
    pub table: RouteTable,
    index: RouteIndex,
}

impl Routes {
    /// The rule that the request takes.
    pub fn find(&self, request: &RequestHead<'_>) -> Option<&Arc<HttpRoute>> {
        self.index.find(&self.table, request)
    }
}

/// Everything that a request may need, immutable.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The values in use, with their versions: what `/config` shows.
    pub values: BTreeMap<ResourceName, Versioned>,
    /// The workload that this proxy stands for.
    pub inbound: Option<Arc<Inbound>>,
    /// Policies that apply to it.
    pub policies: Vec<Arc<Authorization>>,
    /// What it tells of its traffic.
    pub telemetry: Arc<Telemetry>,
    /// Tokens that it believes; `None`: it looks for none.
    pub(crate) tokens: Option<Arc<TokenRules>>,
    /// Is there a CUSTOM policy among them?
    pub asks: bool,
    /// Settings of the mesh.
    pub settings: Arc<ProxySettings>,
    /// Listeners, for a gateway.
    pub gateway: Option<Arc<GatewayListeners>>,
    /// Limits on its requests, when there are any.
    pub(crate) admission: Option<Arc<crate::policy::Admission>>,
    /// Services by every name that they answer to.
    services: HashMap<String, Arc<Service>>,
    addresses: HashMap<IpAddr, Arc<Service>>,
    service_routes: HashMap<String, Vec<(u16, Arc<Routes>)>>,
    gateway_routes: HashMap<u16, Arc<Routes>>,
    tcp_routes: HashMap<String, Vec<(u16, Arc<TcpRoutes>)>>,
    clusters: HashMap<ClusterName, Arc<ClusterEntry>>,
}

/// Makes a snapshot of `view`. A value that does not pass the checks is left in its form in `previous`, or left out.
///
/// Never fails: one bad value harms only itself. Pure but for the shared counters carried over from `previous`.
pub fn build(view: &View, previous: Option<&Snapshot>) -> (Snapshot, Vec<Rejection>) {
    let mut rejections = Vec::new();
    let mut snapshot = Snapshot::default();
    for (name, versioned) in &view.values {
        let known = previous.and_then(|p| p.values.get(name));
        let same = known.is_some_and(|k| k.version == versioned.version);
        let found = if same { Vec::new() } else { check::check(name, &versioned.value) };
        let used = match (found.is_empty(), known) {
            (true, _) => versioned,
            (false, Some(last_good)) => last_good,
            (false, None) => {
                rejections.extend(found);
                continue;
            }
        };
        rejections.extend(found);
        snapshot.values.insert(name.clone(), used.clone());
    }
    snapshot.index(previous);
    (snapshot, rejections)
}

/// Where this proxy's workload runs.
fn place(values: &BTreeMap<ResourceName, Versioned>) -> Place {
    match values.get(&ResourceName::Inbound).map(|v| &*v.value) {
        Some(ModelValue::Inbound(inbound)) => {
            let workload = &inbound.workload;
            Place { locality: workload.locality.clone(), labels: workload.labels.clone(), callers: inbound.zones.clone() }
        }
        _ => Place::default(),
    }
}

impl Snapshot {
    fn index(&mut self, previous: Option<&Snapshot>) {
        let values = std::mem::take(&mut self.values);
        let mut admission = crate::policy::Admission::default();
        let place = Arc::new(place(&values));
        let mut authentications = Vec::new();
        for (name, versioned) in &values {
            match &*versioned.value {
                ModelValue::Inbound(inbound) => self.inbound = Some(Arc::new(inbound.clone())),
                ModelValue::Authorization(policy) => self.policies.push(Arc::new(policy.clone())),
                ModelValue::RequestAuthentication(policy) => authentications.push(policy),
                ModelValue::Settings(settings) => self.settings = Arc::new(settings.clone()),
                ModelValue::GatewayListeners(listeners) => self.gateway = Some(Arc::new(listeners.clone())),
                ModelValue::Service(service) => self.index_service(service),
                ModelValue::RouteTable(table) => self.index_routes(table),
                ModelValue::TcpRoutes(routes) => {
                    self.tcp_routes.entry(routes.host.clone()).or_default().push((routes.port, Arc::new(routes.clone())));
                }
                ModelValue::Cluster(cluster) => {
                    let endpoints = values.get(&ResourceName::Endpoints(cluster.name.clone()));
                    let entry = Self::cluster_entry(cluster, &values[name].version, endpoints, &place, previous);
                    self.clusters.insert(cluster.name.clone(), entry);
                }
                ModelValue::Endpoints(_) => {}
                ModelValue::Telemetry(telemetry) => self.telemetry = Arc::new(telemetry.as_ref().clone()),
                ModelValue::RateLimit(policy) => admission.rate_limit(policy, previous),
                ModelValue::Concurrency(policy) => admission.concurrency(policy, previous),
            }
        }
        self.admission = admission.some();
        self.asks = self.policies.iter().any(|p| p.action == weft_model::AuthorizationAction::Custom);
        self.tokens = TokenRules::new(authentications.into_iter());
        self.values = values;
    }

    /// Names are claimed by full hosts first: an alias never hides another service's own name.
    fn index_service(&mut self, service: &Service) {
        let service = Arc::new(service.clone());
        self.services.insert(service.host.as_str().to_owned(), service.clone());
        for alias in &service.aliases {
            self.services.entry(alias.as_str().to_owned()).or_insert_with(|| service.clone());
        }
        for address in &service.addresses {
            self.addresses.entry(*address).or_insert_with(|| service.clone());
        }
    }

    fn index_routes(&mut self, table: &RouteTable) {
        let table = Arc::new(Routes { index: RouteIndex::new(table), table: table.clone() });
        match &table.table.name {
            RouteTableName::Service { host, port } => self.service_routes.entry(host.clone()).or_default().push((*port, table.clone())),
            RouteTableName::Gateway { port } => {
                self.gateway_routes.insert(*port, table);
            }
        }
    }

    /// The entry of `previous` where nothing changed, so that workers see by pointer that they need not look.
    fn cluster_entry(
        cluster: &Cluster,
        version: &str,
        endpoints: Option<&Versioned>,
        place: &Arc<Place>,
        previous: Option<&Snapshot>,
    ) -> Arc<ClusterEntry> {
        let versions = (version.to_owned(), endpoints.map(|e| e.version.clone()).unwrap_or_default());
        let before = previous.and_then(|p| p.clusters.get(&cluster.name));
        // Only a preference by place looks at the place.
        let settled = |b: &&Arc<ClusterEntry>| cluster.locality.is_none() || b.place == *place;
        if let Some(same) = before.filter(|b| b.versions == versions).filter(settled) {
            return same.clone();
        }
        let endpoints = match endpoints.map(|e| &*e.value) {
            Some(ModelValue::Endpoints(e)) => e.endpoints.clone(),
            _ => Vec::new(),
        };
        let counters = before.map(|b| b.counters.clone()).unwrap_or_default();
        let gate = before.map(|b| b.gate.clone()).unwrap_or_default();
        let checks = before.map(|b| b.checks.clone()).unwrap_or_default();
        let standings = before.map(|b| b.plan.standings().clone()).unwrap_or_default();
        let plan = Arc::new(Plan::new(cluster, crate::upstream::usable(cluster, &endpoints), place, standings));
        Arc::new(ClusterEntry { cluster: cluster.clone(), endpoints, versions, counters, gate, plan, checks, place: place.clone() })
    }

    /// The service that answers to `host` (lower case, no port).
    pub fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(host)
    }
    /// The service with this virtual address.
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.addresses.get(&address.to_canonical())
    }
    /// The rules of a service port.
    pub fn service_routes(&self, host: &str, port: u16) -> Option<&Arc<Routes>> {
        self.service_routes.get(host)?.iter().find(|(p, _)| *p == port).map(|(_, table)| table)
    }
    /// The rules of a gateway port.
    pub fn gateway_routes(&self, port: u16) -> Option<&Arc<Routes>> {
        self.gateway_routes.get(&port)
    }
    /// The TCP rules of a service port.
    pub fn tcp_routes(&self, host: &str, port: u16) -> Option<&Arc<TcpRoutes>> {
        self.tcp_routes.get(host)?.iter().find(|(p, _)| *p == port).map(|(_, routes)| routes)
    }
    /// Is there a policy with this rate limit (`<namespace>/<policy>/<limit>`)?
    pub(crate) fn has_limit(&self, limit: &str) -> bool {
        limit.rsplit_once('/').is_some_and(|(policy, _)| self.values.contains_key(&ResourceName::RateLimit(policy.into())))
    }
    /// A destination.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Arc<ClusterEntry>> {
        self.clusters.get(name)
    }
    /// All destinations.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<ClusterEntry>> {
        self.clusters.values()
    }
    /// All services, each once.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().filter(|(name, service)| service.host.as_str() == name.as_str()).map(|(_, service)| service)
    }
    /// The rule for a service port without a route table: straight to the whole service.
    pub fn default_route(service: &Service, port: u16) -> HttpRoute {
        let name = ClusterName { host: service.host.to_string(), port, subset: String::new() };
        let target = weft_model::Target::plain(weft_model::Backend::Cluster(name), 1);
        HttpRoute {
            action: weft_model::RouteAction::Forward(vec![target]),
            retry: Some(weft_model::Retry::built_in()),
            ..HttpRoute::new("default", service.origin.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Backend, HeaderEdits, Origin, Rewrite, RouteAction, VirtualHost};

    fn table(status: u16) -> ModelValue {
        let service: Service = serde_json::from_value(serde_json::json!({
            "host": "a.default.svc.cluster.local", "namespace": "default", "name": "a", "ports": [{"number": 80}],
            "origin": {"kind": "Service", "name": "a"}
        }))
        .expect("service");
        let route = HttpRoute {
            action: RouteAction::Respond { status, body: Default::default() },
            rewrite: Rewrite::default(),
            response_headers: HeaderEdits::default(),
            origin: Origin::built_in("x"),
            ..Snapshot::default_route(&service, 80)
        };
        let hosts = vec![VirtualHost { hosts: vec!["*".parse().expect("any")], routes: vec![Arc::new(route)] }];
        ModelValue::RouteTable(RouteTable { name: "mesh/a.default.svc.cluster.local/80".parse().expect("name"), hosts })
    }
    fn status_of(snapshot: &Snapshot) -> Option<u16> {
        match &snapshot.service_routes("a.default.svc.cluster.local", 80)?.table.hosts[0].routes[0].action {
            RouteAction::Respond { status, .. } => Some(*status),
            RouteAction::Forward(targets) => targets.iter().find_map(|t| match &t.backend {
                Backend::Invalid { status, .. } => Some(*status),
                Backend::Cluster(_) => None,
            }),
            RouteAction::Redirect(_) => None,
        }
    }
    fn view(values: Vec<ModelValue>) -> View {
        let mut view = View::default();
        values.into_iter().for_each(|v| view.insert(v));
        view
    }

    #[test]
    fn a_bad_value_is_refused_and_the_last_good_kept() {
        let (good, none) = build(&view(vec![table(204)]), None);
        assert_eq!((status_of(&good), none.len()), (Some(204), 0));
        let (kept, rejections) = build(&view(vec![table(99)]), Some(&good));
        assert_eq!(status_of(&kept), Some(204));
        assert_eq!(rejections[0].resource.to_string(), "routes/mesh/a.default.svc.cluster.local/80");
        assert_eq!(rejections[0].field, "hosts[0].routes[0].action.respond.status");
        let (without, rejections) = build(&view(vec![table(99)]), None);
        assert_eq!((status_of(&without), rejections.len()), (None, 1));
    }

    #[test]
    fn entries_without_a_change_are_the_same_entries() {
        let cluster: Cluster = serde_json::from_value(serde_json::json!({
            "name": "outbound|80||a", "origin": {"kind": "Service", "name": "a"}
        }))
        .expect("cluster");
        let view = view(vec![ModelValue::Cluster(cluster.clone())]);
        let (first, _) = build(&view, None);
        let (second, _) = build(&view, Some(&first));
        let of = |s: &Snapshot| s.cluster(&cluster.name).expect("there").clone();
        assert!(Arc::ptr_eq(&of(&first), &of(&second)));
    }
}
