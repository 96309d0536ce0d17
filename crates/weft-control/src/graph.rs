//! The graph: who calls whom, at the level of services, from edges, the mesh and the registry. Pure.

use crate::{CompiledMesh, EdgeNode, EdgeSum, HealthLevel, Presence, ProxyRole, RegistryEntry, Traffic, edges::add_sums};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_compile::Mesh;
use weft_model::Location;
use weft_telemetry::RequestRecord;

/// What a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A service of the mesh.
    Service,
    /// A gateway.
    Gateway,
    /// Outside of the mesh.
    External,
    /// A caller without a proxy, or a workload that no service selects.
    #[default]
    Program,
}

/// A version behind a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeVersion {
    /// Canonical revision.
    pub version: String,
    /// Instances that run.
    pub workloads: usize,
    /// Share of the node's requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphNode {
    /// `namespace/name`; `/host` for what has no namespace.
    pub id: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: NodeKind,
    /// Health of what comes in.
    pub health: HealthLevel,
    /// Versions.
    pub versions: Vec<NodeVersion>,
    /// What comes in.
    pub inbound: Traffic,
    /// Full host, of services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Instances that run.
    pub workloads: usize,
}

/// The part of one version in an edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeVersion {
    /// Canonical revision of the callee.
    pub version: String,
    /// Share of the edge's requests.
    pub share: f64,
    /// Its traffic.
    pub traffic: Traffic,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphEdge {
    /// `source>destination>protocol`.
    pub id: String,
    /// Node id.
    pub source: String,
    /// Node id.
    pub destination: String,
    /// `http`, `grpc`, `tcp`.
    pub protocol: String,
    /// Health.
    pub health: HealthLevel,
    /// Traffic.
    pub traffic: Traffic,
    /// By version of the callee.
    pub versions: Vec<EdgeVersion>,
    /// Host that was called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Identities that the caller proved.
    pub source_principals: BTreeSet<String>,
    /// Identities that the callee proved.
    pub destination_principals: BTreeSet<String>,
    /// The newest failed or denied request that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_id: Option<String>,
}

/// The graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    /// Generation.
    pub generation: u64,
    /// When.
    pub at_unix_ms: u64,
    /// Window.
    pub window_s: u64,
    /// Nodes.
    pub nodes: Vec<GraphNode>,
    /// Edges.
    pub edges: Vec<GraphEdge>,
    /// Requests that found no room in the table.
    pub dropped: u64,
}

/// What a graph is made of.
pub(crate) struct GraphInputs<'a> {
    pub(crate) mesh: &'a CompiledMesh,
    pub(crate) registry: &'a [RegistryEntry],
    pub(crate) sums: &'a [EdgeSum],
    /// Failed and denied records, newest first.
    pub(crate) bad: &'a [Arc<RequestRecord>],
    pub(crate) dropped: u64,
    pub(crate) now_ms: u64,
    pub(crate) window_s: u64,
    /// What rates are divided by: less than the window while the control plane is younger than it.
    pub(crate) rate_s: u64,
}

/// Telemetry knows canonical services, the catalogue knows services: this leads from one to the other.
pub(crate) struct Names {
    by_canonical: BTreeMap<(String, String), (String, String)>,
}

impl Names {
    pub(crate) fn of(mesh: &Mesh) -> Self {
        let mut by_canonical = BTreeMap::new();
        for workload in mesh.workloads.values() {
            let one = &workload.registered.workload;
            if let Some(service) = mesh.service_of_workload(&one.id) {
                let name = (service.service.namespace.clone(), service.service.name.clone());
                by_canonical.entry((one.namespace.clone(), one.canonical_service().to_owned())).or_insert(name);
            }
        }
        Self { by_canonical }
    }
    /// `(namespace, name)` of the graph's node.
    fn node(&self, node: &EdgeNode) -> (String, String) {
        let known = self.by_canonical.get(&(node.namespace.clone(), node.service.clone()));
        let name = if node.service.is_empty() { "unknown" } else { node.service.as_str() };
        known.cloned().unwrap_or_else(|| (node.namespace.clone(), name.to_owned()))
    }
    /// Node ids of both ends.
    pub(crate) fn ends(&self, source: &EdgeNode, destination: &EdgeNode) -> (String, String) {
        let (from, to) = (self.node(source), self.node(destination));
        let to = if destination.service.is_empty() { (String::new(), "no route".to_owned()) } else { to };
        (node_id(&from.0, &from.1), node_id(&to.0, &to.1))
    }
}

/// Id of a node.
pub(crate) fn node_id(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Makes the graph.
pub(crate) fn build(inputs: &GraphInputs<'_>) -> Graph {
    let names = Names::of(&inputs.mesh.mesh);
    let mut nodes = known_nodes(inputs);
    let mut groups: BTreeMap<(String, String, &str), Vec<&EdgeSum>> = BTreeMap::new();
    for sum in inputs.sums {
        let (source, destination) = names.ends(&sum.source, &sum.destination);
        for id in [&source, &destination] {
            nodes.entry(id.clone()).or_insert_with(|| stranger(id, *id == destination));
        }
        groups.entry((source, destination, sum.protocol.as_str())).or_default().push(sum);
    }
    let last_bad = last_failures(inputs.bad, &names);
    let edges: Vec<GraphEdge> = groups.iter().map(|(key, sums)| edge(key, sums, inputs.rate_s, &last_bad)).collect();
    for node in nodes.values_mut() {
        let into: Vec<&EdgeSum> =
            groups.iter().filter(|((_, destination, _), _)| *destination == node.id).flat_map(|(_, sums)| sums.iter().copied()).collect();
        fill_inbound(node, &into, inputs.rate_s);
    }
    Graph {
        generation: inputs.mesh.generation,
        at_unix_ms: inputs.now_ms,
        window_s: inputs.window_s,
        nodes: nodes.into_values().collect(),
        edges,
        dropped: inputs.dropped,
    }
}

/// Every service and gateway, called or not.
fn known_nodes(inputs: &GraphInputs<'_>) -> BTreeMap<String, GraphNode> {
    let mut nodes = BTreeMap::new();
    for service in inputs.mesh.mesh.all_services() {
        let external = service.service.location == Location::External;
        // An external service is called by its host, and that is how telemetry names it.
        let (namespace, name) =
            if external { (String::new(), service.host()) } else { (service.service.namespace.clone(), service.service.name.clone()) };
        let id = node_id(&namespace, &name);
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        for workload in service.workloads.iter().filter_map(|id| inputs.mesh.mesh.workloads.get(id)) {
            *versions.entry(workload.registered.workload.canonical_revision().to_owned()).or_default() += 1;
        }
        let kind = if external { NodeKind::External } else { NodeKind::Service };
        let node = GraphNode { host: Some(service.host()), kind, ..blank(&id, &namespace, &name, versions) };
        nodes.entry(id).or_insert(node);
    }
    for entry in inputs.registry.iter().filter(|e| e.role == ProxyRole::Gateway && e.presence != Presence::Absent) {
        let (namespace, name) = (entry.workload.namespace.as_str(), entry.workload.canonical_service());
        let id = node_id(namespace, name);
        let node: &mut GraphNode = nodes.entry(id.clone()).or_insert_with(|| blank(&id, namespace, name, BTreeMap::new()));
        node.kind = NodeKind::Gateway;
        node.workloads += 1;
    }
    nodes
}

fn blank(id: &str, namespace: &str, name: &str, versions: BTreeMap<String, usize>) -> GraphNode {
    GraphNode {
        id: id.into(),
        namespace: namespace.into(),
        name: name.into(),
        kind: NodeKind::Program,
        health: HealthLevel::Idle,
        workloads: versions.values().sum(),
        versions: versions.into_iter().map(|(version, workloads)| NodeVersion { version, workloads, share: None }).collect(),
        inbound: Traffic::default(),
        host: None,
    }
}

/// A node that only telemetry knows.
fn stranger(id: &str, is_destination: bool) -> GraphNode {
    let (namespace, name) = id.split_once('/').unwrap_or(("", id));
    let kind = if namespace.is_empty() && is_destination { NodeKind::External } else { NodeKind::Program };
    GraphNode { kind, ..blank(id, namespace, name, BTreeMap::new()) }
}

fn edge(
    (source, destination, protocol): &(String, String, &str),
    sums: &[&EdgeSum],
    rate_s: u64,
    last_bad: &BTreeMap<(String, String), String>,
) -> GraphEdge {
    let counts = add_sums(sums.iter().copied());
    let traffic = Traffic::of(&counts, rate_s);
    let mut versions: BTreeMap<&str, Vec<&EdgeSum>> = BTreeMap::new();
    sums.iter()
        .filter(|sum| !sum.destination.version.is_empty())
        .for_each(|sum| versions.entry(&sum.destination.version).or_default().push(sum));
    let version = |(version, sums): (&str, Vec<&EdgeSum>)| {
        let part = add_sums(sums);
        EdgeVersion { version: version.into(), share: share(part.requests, counts.requests), traffic: Traffic::of(&part, rate_s) }
    };
    GraphEdge {
        id: format!("{source}>{destination}>{protocol}"),
        source: source.clone(),
        destination: destination.clone(),
        protocol: (*protocol).into(),
        health: traffic.health(),
        traffic,
        versions: versions.into_iter().map(version).collect(),
        host: sums.iter().map(|sum| &sum.host).find(|host| !host.is_empty()).cloned(),
        source_principals: sums.iter().flat_map(|sum| sum.source_principals.iter().cloned()).collect(),
        destination_principals: sums.iter().flat_map(|sum| sum.destination_principals.iter().cloned()).collect(),
        last_failure_id: last_bad.get(&(source.clone(), destination.clone())).cloned(),
    }
}

fn fill_inbound(node: &mut GraphNode, into: &[&EdgeSum], rate_s: u64) {
    let counts = add_sums(into.iter().copied());
    node.inbound = Traffic::of(&counts, rate_s);
    node.health = node.inbound.health();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    into.iter()
        .filter(|sum| !sum.destination.version.is_empty())
        .for_each(|sum| *seen.entry(&sum.destination.version).or_default() += sum.counts.requests);
    for (version, requests) in seen {
        let share = Some(share(requests, counts.requests));
        match node.versions.iter_mut().find(|known| known.version == version) {
            Some(known) => known.share = share,
            None => node.versions.push(NodeVersion { version: version.into(), workloads: 0, share }),
        }
    }
    node.versions.sort_by(|a, b| a.version.cmp(&b.version));
}

fn last_failures(bad: &[Arc<RequestRecord>], names: &Names) -> BTreeMap<(String, String), String> {
    let mut last = BTreeMap::new();
    for record in bad {
        let key = weft_telemetry::EdgeKey::of(record);
        let (source, destination) = (crate::edges::party_node(&key.source), crate::edges::destination_node(&key));
        last.entry(names.ends(&source, &destination)).or_insert_with(|| record.id.clone());
    }
    last
}

pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
