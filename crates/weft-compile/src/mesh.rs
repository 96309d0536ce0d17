//! The linked mesh: every resource resolved against every other, still the same for all proxies.
//!
//! What depends on *who asks* (source labels, the caller's namespace, a gateway's labels) is kept as data here and decided in
//! `project`. All collections are ordered, so that equal inputs give equal views.

use crate::{
    authorization::ScopedPolicy, destination_rule::DestinationRules, gateway::LinkedGateway, http_rules::ServiceRoutes,
    inputs::MeshSettings, inputs::RegisteredWorkload, peer_authentication::PeerAuthentications, telemetry::Telemetries,
    virtual_service::VirtualServices,
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};
use weft_model::{Endpoint, HostPattern, Labels, Origin, Service, ServicePort, Workload};

/// The whole mesh.
#[derive(Debug, Clone, Default)]
pub struct Mesh {
    /// Settings.
    pub settings: MeshSettings,
    /// Services by host; several of one host are in order of preference (Kubernetes first, then the oldest).
    pub services: BTreeMap<String, Vec<Arc<MeshService>>>,
    /// Services for all names below a suffix (`*.example.org`), the most specific first.
    pub wildcard_services: Vec<Arc<MeshService>>,
    /// Hosts by virtual address.
    pub addresses: BTreeMap<IpAddr, String>,
    /// Hosts by address block (ServiceEntry addresses), in order.
    pub networks: Vec<(IpNet, String)>,
    /// Registered workloads by id.
    pub workloads: BTreeMap<String, MeshWorkload>,
    /// Workloads that Deployments and Pods declare and that may not run yet.
    pub declared: Vec<DeclaredWorkload>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    pub(crate) virtual_services: VirtualServices,
    pub(crate) service_routes: ServiceRoutes,
    pub(crate) destination_rules: DestinationRules,
    pub(crate) route_defaults: crate::route_defaults::RouteDefaults,
    /// The broader first, so that the narrower wins.
    pub(crate) route_policies: Vec<crate::route_policy::LinkedRoutePolicy>,
    pub(crate) backend_policies: crate::backend_policy::BackendPolicies,
    pub(crate) backend_tls: crate::client_tls::BackendPolicies,
    pub(crate) service_connections: crate::tcp_route::ServiceConnections,
    pub(crate) gateways: Vec<LinkedGateway>,
    /// By namespace; those for all under the empty name.
    pub(crate) authorizations: BTreeMap<String, Vec<ScopedPolicy<weft_model::Authorization>>>,
    /// By namespace; those for all under the empty name.
    pub(crate) request_authentications: BTreeMap<String, Vec<ScopedPolicy<weft_model::RequestAuthentication>>>,
    /// Where keys of token issuers are published.
    pub key_sources: BTreeSet<crate::KeySource>,
    /// Further names of the trust domain.
    pub(crate) trust_domain_aliases: Vec<String>,
    /// Settings for every proxy, where they differ from the default.
    pub(crate) proxy_settings: Option<weft_model::ProxySettings>,
    /// Providers of decisions, by name.
    pub(crate) providers: BTreeMap<String, weft_model::ExternalAuthorization>,
    pub(crate) peer_authentications: PeerAuthentications,
    pub(crate) telemetries: Telemetries,
    pub(crate) rate_limits: Vec<crate::rate_limit::LinkedRateLimit>,
    pub(crate) concurrency: Vec<crate::concurrency::LinkedConcurrency>,
}

/// Who may see a resource (`exportTo`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Visibility {
    /// All namespaces.
    #[default]
    All,
    /// These only.
    Namespaces(BTreeSet<String>),
}

impl Visibility {
    /// Reads `exportTo`: `*` all, `.` the own namespace, `~` nobody, else names. Absent: all.
    pub(crate) fn read<'a>(list: impl IntoIterator<Item = &'a str>, own: &str) -> Self {
        let mut some = false;
        let mut namespaces = BTreeSet::new();
        for entry in list {
            some = true;
            match entry {
                "*" => return Self::All,
                "." => drop(namespaces.insert(own.to_owned())),
                "~" => {}
                name => drop(namespaces.insert(name.to_owned())),
            }
        }
        if some { Self::Namespaces(namespaces) } else { Self::All }
    }
    /// May `namespace` see it?
    pub fn shows_to(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }
}

/// Where the endpoints of a service come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// Workloads and listed addresses.
    #[default]
    Static,
    /// Names, resolved by the proxy.
    Dns,
    /// None: the address that the caller wanted.
    Passthrough,
}

/// A service with its endpoints.
#[derive(Debug, Clone)]
pub struct MeshService {
    /// The host as written; `*.suffix` for a wildcard ServiceEntry, whose `service.host` is then the bare suffix.
    pub pattern: HostPattern,
    /// As callers see it, without aliases.
    pub service: Service,
    /// Who sees it.
    pub visibility: Visibility,
    /// Where endpoints come from.
    pub resolution: Resolution,
    /// Endpoints by service port.
    pub endpoints: BTreeMap<u16, Vec<ServiceEndpoint>>,
    /// Ids of the registered workloads behind it.
    pub workloads: BTreeSet<String>,
    /// Does a Kubernetes Service declare it?
    pub kubernetes: bool,
    /// Made for registered workloads that nobody selects?
    pub implied: bool,
    /// What the workload selector asks; `None` when there is none.
    pub selector: Option<Labels>,
    /// Which endpoints its callers prefer (`trafficDistribution`).
    pub prefer: Option<weft_model::Nearness>,
    /// Names that its certificate may have (ServiceEntry).
    pub alternative_names: Vec<String>,
    /// How names among its endpoints are used.
    pub dns: weft_model::DnsUse,
    /// Which addresses they may stand for.
    pub dns_trust: weft_model::DnsTrust,
}

impl MeshService {
    /// The service as text, with its wildcard.
    pub fn host(&self) -> String {
        self.pattern.to_string()
    }
    /// The port, by number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.service.port(number)
    }
    /// The only port, when there is one.
    pub(crate) fn only_port(&self) -> Option<u16> {
        match self.service.ports.as_slice() {
            [one] => Some(one.number),
            _ => None,
        }
    }
}

/// An endpoint and the labels that subsets look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its labels.
    pub labels: Labels,
}

/// A registered workload and the services that lead to it.
#[derive(Debug, Clone)]
pub struct MeshWorkload {
    /// As registered.
    pub registered: RegisteredWorkload,
    /// Hosts of the services that select it, by port of the program: `(program port, host, service port)`.
    pub serves: Vec<(u16, String, u16)>,
}

/// A workload that a Deployment or Pod declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredWorkload {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Service account; `default` where none is written.
    pub service_account: String,
    /// Labels of its pods.
    pub labels: Labels,
    /// Named ports of its containers.
    pub ports: Vec<(String, u16)>,
    /// Where.
    pub origin: Origin,
}

/// Who asks: decides visibility, source matches and which DestinationRule applies.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Namespace of the caller.
    pub namespace: &'a str,
    /// Labels of the caller.
    pub labels: &'a Labels,
    /// Is it a gateway?
    pub gateway: bool,
}

impl Mesh {
    /// The service of `host` (a full name) that `namespace` sees.
    pub fn service(&self, host: &str, namespace: &str) -> Option<&Arc<MeshService>> {
        self.services.get(host)?.iter().find(|s| s.visibility.shows_to(namespace))
    }
    /// The same, also by wildcard: a service below `*.example.org` is made for the name that is asked for.
    pub fn service_or_wildcard(&self, host: &str, namespace: &str) -> Option<Arc<MeshService>> {
        if let Some(service) = self.service(host, namespace) {
            return Some(service.clone());
        }
        let wild = self.wildcard_services.iter().find(|s| s.pattern.matches(host) && s.visibility.shows_to(namespace))?;
        let mut made = MeshService::clone(wild);
        made.service.host = host.parse().ok()?;
        made.service.name = host.into();
        made.pattern = HostPattern::Exact(made.service.host.clone());
        if made.selector.is_none() && made.resolution != Resolution::Static {
            for (port, endpoints) in made.endpoints.iter_mut().filter(|(_, endpoints)| endpoints.is_empty()) {
                endpoints.push(crate::catalog::named_endpoint(host, *port));
            }
        }
        Some(Arc::new(made))
    }
    /// Resolves what a program in `namespace` calls: a full name, a short name, or an address.
    pub fn resolve(&self, text: &str, namespace: &str) -> Option<Arc<MeshService>> {
        let host = weft_model::host_of(text);
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = address.to_canonical();
            let named = self.addresses.get(&address);
            let found = named.or_else(|| self.networks.iter().find(|(net, _)| net.contains(&address)).map(|(_, host)| host))?;
            return self.services.get(found)?.iter().find(|s| s.visibility.shows_to(namespace)).cloned();
        }
        self.full_names(&host, namespace).find_map(|name| self.service(&name, namespace).cloned()).or_else(|| {
            let external = self.service_or_wildcard(&host, namespace);
            external.filter(|_| host.contains('.'))
        })
    }
    /// The full names that `host` may stand for in `namespace`, the likeliest first.
    fn full_names<'a>(&'a self, host: &'a str, namespace: &'a str) -> impl Iterator<Item = String> + 'a {
        let domain = &self.settings.cluster_domain;
        let same_namespace = (!host.contains('.')).then(|| self.settings.service_host(host, namespace));
        let other_namespace = (host.matches('.').count() == 1).then(|| format!("{host}.svc.{domain}"));
        let with_svc = host.ends_with(".svc").then(|| format!("{host}.{domain}"));
        std::iter::once(host.to_owned()).chain(same_namespace).chain(other_namespace).chain(with_svc)
    }
    /// Short forms by which `namespace` may call `service`.
    pub fn aliases(&self, service: &Service, namespace: &str) -> Vec<weft_model::Hostname> {
        let host = self.settings.service_host(&service.name, &service.namespace);
        if service.host.as_str() != host {
            return Vec::new();
        }
        let own = (service.namespace == namespace).then(|| service.name.clone());
        let long = [format!("{}.{}", service.name, service.namespace), format!("{}.{}.svc", service.name, service.namespace)];
        own.into_iter().chain(long).filter_map(|name| name.parse().ok()).collect()
    }
    /// All services, in order of host.
    pub fn all_services(&self) -> impl Iterator<Item = &Arc<MeshService>> {
        self.services.values().flatten().chain(&self.wildcard_services)
    }
    /// All registered workloads.
    pub fn all_workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values().map(|w| &w.registered.workload)
    }
}
