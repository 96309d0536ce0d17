//! Services for the page: the catalogue, and one service with all that surrounds it.

use crate::{
    Control, EdgeSum, Graph, GraphEdge, HealthLevel, RecordFilter, Traffic,
    edges::add_sums,
    graph::{Names, node_id, share},
    service_routes,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_compile::MeshService;
use weft_model::{Endpoint, EndpointTls, Labels, Location, ModelValue, Origin, Protocol, View};
use weft_std::clock;
use weft_telemetry::RequestRecord;

/// Failed requests on the page of a service.
const FAILURES_MAX: usize = 20;

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortView {
    /// Number.
    pub number: u16,
    /// Protocol, as declared.
    pub protocol: Protocol,
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A service of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Full host.
    pub host: String,
    /// In the mesh or outside.
    pub location: Location,
    /// Virtual addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePortView>,
    /// Versions that run.
    pub versions: BTreeSet<String>,
    /// Instances that run.
    pub workloads: usize,
    /// Healthy endpoints, all ports.
    pub endpoints_healthy: usize,
    /// Endpoints, all ports.
    pub endpoints_total: usize,
    /// Health of what comes in.
    pub health: HealthLevel,
    /// What comes in.
    pub inbound: Traffic,
    /// Where it is declared; absent when a workload implies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A version of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceVersion {
    /// Version.
    pub version: String,
    /// Instances.
    pub workloads: usize,
    /// Healthy endpoints.
    pub endpoints_healthy: usize,
    /// Endpoints.
    pub endpoints_total: usize,
    /// Share of requests that it got.
    pub observed_share: f64,
    /// Its traffic.
    pub traffic: Traffic,
    /// Share that the catch-all route gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured_share: Option<f64>,
    /// Subset that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Labels that its instances share.
    pub labels: Labels,
}

/// An address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEndpointView {
    /// Address.
    pub address: String,
    /// Service port.
    pub port: u16,
    /// Workload id.
    pub workload: String,
    /// Workload name.
    pub workload_name: String,
    /// Version.
    pub version: String,
    /// Used?
    pub healthy: bool,
    /// `mesh` or `none`.
    pub tls: EndpointTls,
    /// Identity that it must prove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Weight.
    pub weight: u32,
    /// Locality.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// Where it is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A policy that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPolicy {
    /// Kind.
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// In a few words.
    pub effect: String,
    /// One line.
    pub summary: String,
    /// Where it is written.
    pub origin: Origin,
    /// Versions that it applies to, when not all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteDestination {
    /// Host.
    pub host: String,
    /// Share of the requests.
    pub share: f64,
    /// Subset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRoute {
    /// Name.
    pub name: String,
    /// Conditions in words.
    #[serde(rename = "match")]
    pub matches: String,
    /// Action in words.
    pub action: String,
    /// Destinations.
    pub destinations: Vec<RouteDestination>,
    /// Where it is written.
    pub origin: Origin,
    /// Service port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Time-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Attempts beyond the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// What else it does, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
}

/// The page of a service.
#[derive(Debug, Clone)]
pub struct ServiceDetail {
    /// The service.
    pub service: ServiceView,
    /// Edges that end here, busiest first.
    pub callers: Vec<GraphEdge>,
    /// Edges that start here.
    pub callees: Vec<GraphEdge>,
    /// Versions.
    pub versions: Vec<ServiceVersion>,
    /// Endpoints.
    pub endpoints: Vec<ServiceEndpointView>,
    /// Identities.
    pub identities: BTreeSet<String>,
    /// Policies.
    pub policies: Vec<AppliedPolicy>,
    /// Routes, in order of precedence.
    pub routes: Vec<ServiceRoute>,
    /// Failed or denied requests to it, newest first.
    pub failures: Vec<Arc<RequestRecord>>,
}

impl Control {
    /// All services.
    pub fn services(&self, window_s: u64) -> Vec<ServiceView> {
        let graph = self.graph(window_s);
        let mesh = self.mesh();
        let mut seen = BTreeSet::new();
        let first = mesh.mesh.all_services().filter(|service| seen.insert(service.host()));
        first.map(|service| self.service_view(service, &graph)).collect()
    }

    fn service_view(&self, service: &MeshService, graph: &Graph) -> ServiceView {
        let node = graph.nodes.iter().find(|node| node.host.as_deref() == Some(service.host().as_str()));
        let endpoints = || service.endpoints.values().flatten().map(|e| &e.endpoint);
        let mesh = self.mesh();
        let workloads = || service.workloads.iter().filter_map(|id| mesh.mesh.workloads.get(id)).map(|w| &w.registered.workload);
        ServiceView {
            namespace: service.service.namespace.clone(),
            name: service.service.name.clone(),
            host: service.host(),
            location: service.service.location,
            addresses: service.service.addresses.clone(),
            ports: service.service.ports.iter().map(|p| port_view(p.number, p.protocol, &p.name)).collect(),
            versions: workloads().map(|workload| workload.canonical_revision().to_owned()).collect(),
            workloads: workloads().count(),
            endpoints_healthy: endpoints().filter(|endpoint| endpoint.healthy).count(),
            endpoints_total: endpoints().count(),
            health: node.map(|node| node.health).unwrap_or_default(),
            inbound: node.map(|node| node.inbound.clone()).unwrap_or_default(),
            origin: (!service.implied).then(|| service.service.origin.clone()),
        }
    }

    /// One service with all that surrounds it; by its name, or by its host.
    pub fn service(&self, namespace: &str, name: &str, window_s: u64) -> Option<ServiceDetail> {
        let mesh = self.mesh();
        let service =
            mesh.mesh.all_services().find(|s| s.service.namespace == namespace && (s.service.name == name || s.host() == name))?.clone();
        let now_ms = clock::unix_ms();
        let (window_s, rate_s) = self.window(window_s, now_ms);
        let sums = self.sums(window_s, now_ms);
        let graph = self.graph_of(&sums, window_s, now_ms);
        let id = match service.service.location {
            Location::Internal => node_id(namespace, &service.service.name),
            Location::External => node_id("", &service.host()),
        };
        let view = service_routes::client_view(&mesh.mesh, &service);
        let routes = service_routes::routes(&view, &service);
        let edges = |wanted: &dyn Fn(&GraphEdge) -> bool| {
            let mut edges: Vec<GraphEdge> = graph.edges.iter().filter(|edge| wanted(edge)).cloned().collect();
            edges.sort_by(|a, b| b.traffic.requests.cmp(&a.traffic.requests).then_with(|| a.id.cmp(&b.id)));
            edges
        };
        let names = Names::of(&mesh.mesh);
        let into: Vec<&EdgeSum> = sums.iter().filter(|sum| names.ends(&sum.source, &sum.destination).1 == id).collect();
        Some(ServiceDetail {
            callers: edges(&|edge| edge.destination == id),
            callees: edges(&|edge| edge.source == id),
            versions: versions(&mesh.mesh, &service, &into, rate_s, &view, &routes),
            endpoints: endpoints(&service),
            identities: identities(&mesh.mesh, &service),
            policies: service_routes::policies(&mesh.mesh, &service, &view),
            routes,
            failures: self.failures_of(&service),
            service: self.service_view(&service, &graph),
        })
    }

    fn failures_of(&self, service: &MeshService) -> Vec<Arc<RequestRecord>> {
        let host = service.host();
        let of = |status| {
            self.records(&RecordFilter {
                status: Some(status),
                service: Some(host.clone()),
                limit: FAILURES_MAX,
                ..RecordFilter::default()
            })
        };
        let mut found = of(crate::StatusFilter::Failed);
        found.extend(of(crate::StatusFilter::Denied));
        found.retain(|record| record.destination_service == host);
        found.sort_by_key(|record| std::cmp::Reverse(record.start_unix_ms));
        let mut seen = BTreeSet::new();
        found.retain(|record| seen.insert(record.id.clone()));
        found.truncate(FAILURES_MAX);
        found
    }
}

/// A port for the page.
pub fn port_view(number: u16, protocol: Protocol, name: &str) -> ServicePortView {
    ServicePortView { number, protocol, name: (!name.is_empty()).then(|| name.to_owned()) }
}

fn identities(mesh: &weft_compile::Mesh, service: &MeshService) -> BTreeSet<String> {
    let registered = service.workloads.iter().filter_map(|id| mesh.workloads.get(id)).map(|w| w.registered.workload.identity.to_string());
    let declared = service.endpoints.values().flatten().filter_map(|e| e.endpoint.identity.as_ref()).map(ToString::to_string);
    registered.chain(declared).collect()
}

fn endpoints(service: &MeshService) -> Vec<ServiceEndpointView> {
    let view = |port: u16, endpoint: &Endpoint| ServiceEndpointView {
        address: endpoint.address.to_string(),
        port,
        workload: endpoint.workload.clone(),
        workload_name: endpoint.workload_name.clone(),
        version: endpoint.version.clone(),
        healthy: endpoint.healthy,
        tls: endpoint.tls,
        identity: endpoint.identity.as_ref().map(ToString::to_string),
        weight: endpoint.weight,
        locality: endpoint.locality.clone(),
        origin: None,
    };
    service.endpoints.iter().flat_map(|(port, endpoints)| endpoints.iter().map(|e| view(*port, &e.endpoint))).collect()
}

/// Versions: those that run and those that telemetry saw, with what the routes give them and what they got.
fn versions(
    mesh: &weft_compile::Mesh,
    service: &MeshService,
    into: &[&EdgeSum],
    rate_s: u64,
    view: &View,
    routes: &[ServiceRoute],
) -> Vec<ServiceVersion> {
    let mut names: BTreeSet<String> =
        into.iter().map(|sum| sum.destination.version.clone()).filter(|version| !version.is_empty()).collect();
    let workloads: Vec<_> = service.workloads.iter().filter_map(|id| mesh.workloads.get(id)).map(|w| &w.registered.workload).collect();
    names.extend(workloads.iter().map(|workload| workload.canonical_revision().to_owned()));
    names.extend(service.endpoints.values().flatten().map(|e| e.endpoint.version.clone()).filter(|version| !version.is_empty()));
    let total: u64 = into.iter().map(|sum| sum.counts.requests).sum();
    let subsets = subsets_of_versions(view, service);
    let configured = configured_shares(routes, &subsets);
    let one = |version: String| {
        let part = add_sums(into.iter().copied().filter(|sum| sum.destination.version == version));
        let endpoints = || service.endpoints.values().flatten().filter(|e| e.endpoint.version == version);
        let own: Vec<_> = workloads.iter().filter(|workload| workload.canonical_revision() == version).collect();
        ServiceVersion {
            workloads: own.len(),
            endpoints_healthy: endpoints().filter(|e| e.endpoint.healthy).count(),
            endpoints_total: endpoints().count(),
            observed_share: share(part.requests, total),
            traffic: Traffic::of(&part, rate_s),
            configured_share: configured.as_ref().map(|shares| shares.get(&version).copied().unwrap_or(0.0)),
            subset: subsets.iter().find(|(_, of)| of.len() == 1 && of.contains(&version)).map(|(subset, _)| subset.clone()),
            labels: own.first().map(|workload| workload.labels.clone()).unwrap_or_default(),
            version,
        }
    };
    names.into_iter().map(one).collect()
}

/// Which versions each subset of the service has endpoints of.
fn subsets_of_versions(view: &View, service: &MeshService) -> BTreeMap<String, BTreeSet<String>> {
    let mut subsets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for versioned in view.values.values() {
        if let ModelValue::Endpoints(endpoints) = &*versioned.value
            && endpoints.cluster.host == service.service.host.as_str()
            && !endpoints.cluster.subset.is_empty()
        {
            let versions = endpoints.endpoints.iter().map(|endpoint| endpoint.version.clone());
            subsets.entry(endpoints.cluster.subset.clone()).or_default().extend(versions);
        }
    }
    subsets
}

/// What the catch-all route gives each version, if it splits by subset.
fn configured_shares(routes: &[ServiceRoute], subsets: &BTreeMap<String, BTreeSet<String>>) -> Option<BTreeMap<String, f64>> {
    let catch_all = routes.iter().find(|route| route.matches == service_routes::ANY_REQUEST)?;
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for destination in &catch_all.destinations {
        let versions = subsets.get(destination.subset.as_ref()?)?;
        for version in versions {
            *shares.entry(version.clone()).or_default() += destination.share / versions.len() as f64;
        }
    }
    (!shares.is_empty()).then_some(shares)
}
