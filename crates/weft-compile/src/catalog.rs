//! The catalogue: every service with its ports, virtual addresses and endpoints, whoever declares it.

use crate::{
    MeshWorkload, RegisteredWorkload,
    candidates::{Candidate, Candidates, Target},
    diag,
    link::Linker,
    mesh::{MeshService, Resolution, ServiceEndpoint, Visibility},
    vip::VirtualAddresses,
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};
use weft_api::{Document, Resource, kubernetes};
use weft_model::{Endpoint, EndpointAddress, EndpointTls, HostPattern, Labels, Location, Origin, Protocol, Service, ServicePort};

/// Annotation of a Service that says who may see it.
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Services, endpoints and addresses.
pub(crate) fn link(linker: &mut Linker<'_>) {
    register(linker);
    crate::candidates::declare(linker);
    for (_, document, _) in linker.documents(|r| if let Resource::Namespace(n) = r { Some(n) } else { None }) {
        linker.mesh.namespaces.insert(document.meta.name.clone(), document.meta.labels.clone());
    }
    let candidates = Candidates::collect(linker);
    let mut catalog = Catalog { services: BTreeMap::new(), blocks: Vec::new(), wildcards: Vec::new() };
    for (_, document, service) in linker.documents(|r| if let Resource::Service(s) = r { Some(s) } else { None }) {
        let made = kubernetes_service(linker, &candidates, document, service);
        catalog.add(linker, made);
    }
    crate::service_entry::link(linker, &candidates, &mut catalog);
    let selected: BTreeSet<String> =
        catalog.services.values().flatten().chain(&catalog.wildcards).flat_map(|s| s.workloads.clone()).collect();
    for made in implied_services(linker, &selected) {
        if catalog.services.contains_key(&made.host()) {
            let diagnostic = diag::workload_not_selected(made.service.origin.clone(), &made.host());
            linker.report(diagnostic);
        } else {
            catalog.add(linker, made);
        }
    }
    addresses(linker, &mut catalog);
    finish(linker, catalog);
}

/// Services under construction.
pub(crate) struct Catalog {
    pub(crate) services: BTreeMap<String, Vec<MeshService>>,
    pub(crate) wildcards: Vec<MeshService>,
    pub(crate) blocks: Vec<(IpNet, String)>,
}

impl Catalog {
    /// Adds a service behind those of the same host.
    pub(crate) fn add(&mut self, linker: &mut Linker<'_>, service: MeshService) {
        if !matches!(service.pattern, HostPattern::Exact(_)) {
            self.wildcards.push(service);
            return;
        }
        let same = self.services.entry(service.host()).or_default();
        if let Some(first) = same.iter().find(|s| s.visibility == Visibility::All || s.visibility == service.visibility) {
            linker.report(diag::service_twice(service.service.origin.clone(), &service.host(), &first.service.origin));
        }
        same.push(service);
    }
}

/// Registered workloads, by id.
fn register(linker: &mut Linker<'_>) {
    let declared = linker.documents(|r| if let Resource::Workload(w) = r { Some(w) } else { None });
    let declared: BTreeMap<(&str, &str), &str> = declared
        .into_iter()
        .filter_map(|(_, d, w)| Some(((d.meta.namespace.as_str(), d.meta.name.as_str()), w.locality.as_deref()?)))
        .collect();
    for registered in &linker.inputs.workloads {
        let mut registered = registered.clone();
        let workload = &mut registered.workload;
        if workload.locality.is_empty() {
            let written = declared.get(&(workload.namespace.as_str(), workload.name.as_str())).map(|l| (*l).to_owned());
            workload.locality = written.unwrap_or_else(|| weft_model::locality_of(&workload.labels));
        }
        let id = workload.id.clone();
        linker.mesh.workloads.insert(id, MeshWorkload { registered, serves: Vec::new() });
    }
}

/// A Kubernetes Service.
fn kubernetes_service(linker: &mut Linker<'_>, candidates: &Candidates, document: &Document, spec: &kubernetes::Service) -> MeshService {
    let (name, namespace) = (document.meta.name.clone(), document.meta.namespace.clone());
    let host = linker.mesh.settings.service_host(&name, &namespace);
    let export = document.meta.annotations.get(EXPORT_TO).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let protocol = |p: &kubernetes::ServicePort| {
        Protocol::select(p.app_protocol.as_deref(), p.name.as_deref().unwrap_or_default(), p.port, p.protocol.as_deref().unwrap_or("TCP"))
    };
    let port =
        |p: &kubernetes::ServicePort| ServicePort { number: p.port, name: p.name.clone().unwrap_or_default(), protocol: protocol(p) };
    let given = std::iter::once(&spec.cluster_ip).flatten().chain(&spec.cluster_ips);
    let mut addresses: Vec<IpAddr> = given.filter_map(|text| text.parse().ok()).collect();
    addresses.dedup();
    let mut made = blank_service(&host, &name, &namespace, document.origin.clone());
    made.kubernetes = true;
    made.visibility = Visibility::read(export.unwrap_or_default(), &namespace);
    made.selector = (!spec.selector.is_empty()).then(|| spec.selector.clone());
    made.prefer = preference(document, spec);
    made.service.addresses = addresses;
    made.service.ports = spec.ports.iter().map(|p| port(p)).collect();
    let external = spec.external_name.as_deref().filter(|_| spec.kind.as_deref() == Some("ExternalName"));
    for p in &spec.ports {
        let endpoints = match external {
            Some(name) => vec![named_endpoint(name, p.port)],
            None if spec.selector.is_empty() => Vec::new(),
            None => {
                let target = match &p.target_port {
                    None => Target { number: Some(p.port), name: None, port_name: p.name.as_deref() },
                    Some(kubernetes::TargetPort::Number(n)) => Target { number: Some(*n), name: None, port_name: p.name.as_deref() },
                    Some(kubernetes::TargetPort::Name(n)) => Target { number: None, name: Some(n), port_name: p.name.as_deref() },
                };
                let at = document.origin.at(p.line, p.field.clone());
                let found = candidates.select(&namespace, &spec.selector);
                endpoints_of(linker, &mut made, p.port, &target, found, &at)
            }
        };
        made.endpoints.insert(p.port, endpoints);
    }
    if external.is_some() {
        made.resolution = Resolution::Dns;
        made.service.location = Location::External;
    }
    made
}

/// `trafficDistribution`, or Istio's annotation of the same meaning.
fn preference(document: &Document, spec: &kubernetes::Service) -> Option<weft_model::Nearness> {
    let annotated = document.meta.annotations.get("networking.istio.io/traffic-distribution").map(String::as_str);
    let same_node = match (annotated, spec.traffic_distribution) {
        (Some("PreferClose" | "PreferSameZone"), _) => false,
        (Some("PreferSameNode"), _) => true,
        (Some(_), _) | (None, None) => return None,
        (None, Some(kubernetes::TrafficDistribution::PreferClose | kubernetes::TrafficDistribution::PreferSameZone)) => false,
        (None, Some(kubernetes::TrafficDistribution::PreferSameNode)) => true,
    };
    let node = same_node.then_some("kubernetes.io/hostname");
    let labels = weft_model::PREFER_CLOSE_LABELS.into_iter().chain(node).map(str::to_owned).collect();
    Some(weft_model::Nearness { labels, regions: Vec::new() })
}

/// A service without ports and endpoints.
pub(crate) fn blank_service(host: &str, name: &str, namespace: &str, origin: Origin) -> MeshService {
    // The callers have names that parsed as Kubernetes names or host patterns.
    let pattern: HostPattern = host.parse().unwrap_or(HostPattern::Any);
    let concrete = match &pattern {
        HostPattern::Exact(host) => Some(host.clone()),
        HostPattern::Suffix(suffix) => suffix.trim_start_matches('.').parse().ok(),
        HostPattern::Any => None,
    };
    let host = concrete.unwrap_or_else(|| "invalid".parse().expect("a plain word is a host name"));
    MeshService {
        pattern,
        service: Service {
            host,
            namespace: namespace.into(),
            name: name.into(),
            aliases: Vec::new(),
            addresses: Vec::new(),
            ports: Vec::new(),
            location: Location::Internal,
            origin,
        },
        visibility: Visibility::All,
        resolution: Resolution::Static,
        endpoints: BTreeMap::new(),
        workloads: BTreeSet::new(),
        kubernetes: false,
        implied: false,
        selector: None,
        prefer: None,
        alternative_names: Vec::new(),
        dns: weft_model::DnsUse::Strict,
        dns_trust: weft_model::DnsTrust::Outside,
    }
}

/// An endpoint that is a DNS name.
pub(crate) fn named_endpoint(host: &str, port: u16) -> ServiceEndpoint {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let endpoint = plain_endpoint(EndpointAddress::Name { host, port });
    ServiceEndpoint { endpoint, labels: Labels::new() }
}

/// An endpoint without a proxy.
pub(crate) fn plain_endpoint(address: EndpointAddress) -> Endpoint {
    Endpoint {
        address,
        workload: String::new(),
        workload_name: String::new(),
        namespace: String::new(),
        version: String::new(),
        identity: None,
        tls: EndpointTls::None,
        target_port: 0,
        weight: 1,
        locality: String::new(),
        labels: Labels::new(),
        healthy: true,
    }
}

/// The endpoint behind one port of a registered workload.
fn mesh_endpoint(registered: &RegisteredWorkload, port: &crate::RegisteredPort) -> Endpoint {
    let workload = &registered.workload;
    Endpoint {
        workload: workload.id.clone(),
        workload_name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        version: workload.canonical_revision().to_owned(),
        identity: Some(workload.identity.clone()),
        tls: EndpointTls::Mesh,
        target_port: port.port,
        locality: workload.locality.clone(),
        healthy: registered.healthy,
        ..plain_endpoint(EndpointAddress::Socket(port.address))
    }
}

/// The endpoints of one service port among the candidates that its selector chooses.
pub(crate) fn endpoints_of(
    linker: &mut Linker<'_>,
    service: &mut MeshService,
    number: u16,
    target: &Target<'_>,
    found: Vec<&Candidate>,
    origin: &Origin,
) -> Vec<ServiceEndpoint> {
    let mut endpoints = Vec::new();
    for candidate in found {
        match candidate {
            Candidate::Registered(registered, named) => {
                service.workloads.insert(registered.workload.id.clone());
                let Some(wanted) = target.registered_port(registered, named) else {
                    linker.report(diag::no_such_target_port(origin.clone(), &target.to_string(), registered));
                    continue;
                };
                let serves = (wanted.port, service.host(), number);
                if let Some(known) = linker.mesh.workloads.get_mut(&registered.workload.id) {
                    known.serves.push(serves);
                }
                let known = linker.mesh.workloads.get(&registered.workload.id).map_or(registered.as_ref(), |w| &w.registered);
                let endpoint = Endpoint { locality: known.workload.locality.clone(), ..mesh_endpoint(registered, wanted) };
                endpoints.push(ServiceEndpoint { endpoint, labels: registered.workload.labels.clone() });
            }
            Candidate::Written(written) => endpoints.extend(written.endpoint(target, number)),
        }
    }
    endpoints
}

/// One service per application of workloads that nobody selects, so that `weft run` alone is enough.
fn implied_services(linker: &mut Linker<'_>, selected: &BTreeSet<String>) -> Vec<MeshService> {
    let mut groups: BTreeMap<String, MeshService> = BTreeMap::new();
    let inputs = linker.inputs;
    for registered in inputs.workloads.iter().filter(|w| !selected.contains(&w.workload.id) && !w.ports.is_empty()) {
        let workload = &registered.workload;
        let name = workload.labels.get("app").map_or(workload.canonical_service(), String::as_str);
        let host = linker.mesh.settings.service_host(name, &workload.namespace);
        if host.parse::<weft_model::Hostname>().is_err() {
            continue;
        }
        let made = groups.entry(host.clone()).or_insert_with(|| {
            let origin = Origin::built_in(&format!("service implied by workload {}", workload.name));
            MeshService { implied: true, ..blank_service(&host, name, &workload.namespace, origin) }
        });
        made.workloads.insert(workload.id.clone());
        for port in &registered.ports {
            if made.service.port(port.port).is_none() {
                made.service.ports.push(ServicePort { number: port.port, name: port.name.clone(), protocol: port.protocol });
            }
            let locality = linker.mesh.workloads.get(&workload.id).map(|w| w.registered.workload.locality.clone()).unwrap_or_default();
            let endpoint = Endpoint { locality, ..mesh_endpoint(registered, port) };
            let endpoint = ServiceEndpoint { endpoint, labels: workload.labels.clone() };
            made.endpoints.entry(port.port).or_default().push(endpoint);
            if let Some(known) = linker.mesh.workloads.get_mut(&workload.id) {
                known.serves.push((port.port, host.clone(), port.port));
            }
        }
        made.service.ports.sort_by_key(|p| p.number);
    }
    groups.into_values().collect()
}

/// Virtual addresses: those that are written first, then one for each host that has none, in order of host.
fn addresses(linker: &mut Linker<'_>, catalog: &mut Catalog) {
    let mut pool = VirtualAddresses::default();
    for service in catalog.services.values_mut().flatten() {
        let host = service.host();
        service.service.addresses.retain(|address| match linker.mesh.addresses.get(address) {
            Some(other) if *other != host => {
                linker.diagnostics.push(diag::address_twice(service.service.origin.clone(), *address, other));
                false
            }
            _ => {
                linker.mesh.addresses.insert(*address, host.clone());
                pool.reserve(*address);
                true
            }
        });
    }
    for (host, services) in &mut catalog.services {
        let needy: Vec<&mut MeshService> = services.iter_mut().filter(|s| s.service.addresses.is_empty()).collect();
        if needy.is_empty() || catalog.blocks.iter().any(|(_, of)| of == host) {
            continue;
        }
        let Some(address) = pool.allocate(host) else {
            linker.report(diag::no_address_left(needy[0].service.origin.clone(), host));
            continue;
        };
        linker.mesh.addresses.insert(address, host.clone());
        for service in needy {
            service.service.addresses.push(address);
        }
    }
}

/// Orders everything and hands it to the mesh.
fn finish(linker: &mut Linker<'_>, mut catalog: Catalog) {
    for service in catalog.services.values_mut().flatten().chain(&mut catalog.wildcards) {
        for endpoints in service.endpoints.values_mut() {
            endpoints.sort_by(|a, b| (&a.endpoint.address, &a.endpoint.workload).cmp(&(&b.endpoint.address, &b.endpoint.workload)));
        }
    }
    catalog.wildcards.sort_by_key(|s| std::cmp::Reverse(s.pattern.specificity()));
    linker.mesh.wildcard_services = catalog.wildcards.into_iter().map(Arc::new).collect();
    linker.mesh.networks = catalog.blocks;
    let shared = |services: Vec<MeshService>| services.into_iter().map(Arc::new).collect();
    linker.mesh.services = catalog.services.into_iter().map(|(host, services)| (host, shared(services))).collect();
}
