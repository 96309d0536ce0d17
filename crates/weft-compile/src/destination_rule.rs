//! DestinationRule: which one applies to a caller and a service, what its subsets are, and the cluster that comes of it.

use crate::{
    balancing::{LoadBalancing, load_balancing},
    client_tls::ClientTls,
    diag,
    istio_http::millis,
    link::Linker,
    mesh::{Client, Mesh, MeshService, Resolution, Visibility},
};
use std::collections::BTreeMap;
use weft_api::{Diagnostic, Document, Resource, Spanned, istio};
use weft_model::{
    Balancing, Cluster, ClusterName, ConnectionLimits, Endpoint, EndpointTls, Endpoints, HostPattern, Http2Keepalive, HttpVersionChoice,
    Labels, MtlsMode, Origin, OutlierDetection, Protocol, ProxyProtocol, RetryBudget, TcpKeepalive, Tunnel, TunnelMethod, UpstreamTls,
    selects,
};

/// All DestinationRules, merged per namespace and host.
#[derive(Debug, Clone, Default)]
pub(crate) struct DestinationRules {
    pub(crate) by_namespace: BTreeMap<String, NamespaceRules>,
}

/// Those of one namespace.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamespaceRules {
    /// By exact host.
    pub(crate) exact: BTreeMap<String, Vec<LinkedDestinationRule>>,
    /// By wildcard, in no order.
    pub(crate) wildcard: Vec<LinkedDestinationRule>,
}

/// One rule, perhaps merged from several objects.
#[derive(Debug, Clone)]
pub(crate) struct LinkedDestinationRule {
    pub(crate) host: HostPattern,
    pub(crate) policy: Option<TrafficPolicy>,
    pub(crate) subsets: BTreeMap<String, Subset>,
    pub(crate) visibility: Visibility,
    /// Callers it is for; `None`: all.
    pub(crate) workload_selector: Option<Labels>,
    pub(crate) origin: Origin,
}

/// A subset.
#[derive(Debug, Clone)]
pub(crate) struct Subset {
    pub(crate) labels: Labels,
    pub(crate) policy: Option<TrafficPolicy>,
    pub(crate) origin: Origin,
}

/// Settings; `None` is "not said".
#[derive(Debug, Clone, Default)]
pub(crate) struct TrafficPolicy {
    pub(crate) balancing: Option<LoadBalancing>,
    pub(crate) limits: Option<ConnectionLimits>,
    /// With the panic threshold that comes with it.
    pub(crate) outlier: Option<(OutlierDetection, u8)>,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) retry_budget: Option<RetryBudget>,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Port-level settings: they replace the four settings, they do not inherit.
    pub(crate) ports: BTreeMap<u16, TrafficPolicy>,
}

impl TrafficPolicy {
    /// `narrower` over `self`: each setting that is said overrides; its settings for `port` replace all.
    fn overridden_by(&self, narrower: &Self, port: u16) -> Self {
        let merged = Self {
            balancing: narrower.balancing.clone().or_else(|| self.balancing.clone()),
            limits: narrower.limits.clone().or_else(|| self.limits.clone()),
            outlier: narrower.outlier.clone().or_else(|| self.outlier.clone()),
            tls: narrower.tls.clone().or_else(|| self.tls.clone()),
            retry_budget: narrower.retry_budget.clone().or_else(|| self.retry_budget.clone()),
            tunnel: narrower.tunnel.clone().or_else(|| self.tunnel.clone()),
            proxy_protocol: narrower.proxy_protocol.or(self.proxy_protocol),
            ports: BTreeMap::new(),
        };
        match narrower.ports.get(&port) {
            Some(own) => Self {
                retry_budget: merged.retry_budget,
                tunnel: merged.tunnel,
                proxy_protocol: merged.proxy_protocol,
                ports: BTreeMap::new(),
                ..own.clone()
            },
            None => merged,
        }
    }
}

impl LinkedDestinationRule {
    /// The settings for one cluster.
    fn policy_for(&self, port: u16, subset: &str) -> TrafficPolicy {
        let none = TrafficPolicy::default();
        let whole = self.policy.as_ref().map_or_else(|| none.clone(), |p| none.overridden_by(p, port));
        match self.subsets.get(subset).and_then(|s| s.policy.as_ref()) {
            Some(policy) => whole.overridden_by(policy, port),
            None => whole,
        }
    }
}

impl DestinationRules {
    /// The rule that applies: the client's namespace, then the service's, then the root; the first that has one; there, the most
    /// specific host.
    pub(crate) fn find(&self, mesh: &Mesh, client: &Client<'_>, service: &MeshService) -> Option<&LinkedDestinationRule> {
        let namespaces = [client.namespace, service.service.namespace.as_str(), mesh.settings.root_namespace.as_str()];
        let host = service.service.host.as_str();
        namespaces.iter().find_map(|namespace| {
            let visible = |r: &&LinkedDestinationRule| {
                let chosen = r.workload_selector.as_ref().is_none_or(|s| *namespace == client.namespace && selects(s, client.labels));
                // In its own namespace a rule is always seen; elsewhere `exportTo` decides.
                chosen && (*namespace == client.namespace || r.visibility.shows_to(client.namespace))
            };
            let rules = self.by_namespace.get(*namespace)?;
            let exact = rules.exact.get(host).into_iter().flatten().find(visible);
            exact.or_else(|| rules.wildcard.iter().filter(|r| r.host.matches(host)).filter(visible).max_by_key(|r| r.host.specificity()))
        })
    }
    /// Does any rule look at zones?
    pub(crate) fn look_at_zones(&self) -> bool {
        let rules = self.by_namespace.values().flat_map(|rules| rules.exact.values().flatten().chain(&rules.wildcard));
        let policies = rules.flat_map(|r| r.policy.iter().chain(r.subsets.values().filter_map(|s| s.policy.as_ref())));
        let balancers = policies.flat_map(|p| p.balancing.iter().chain(p.ports.values().filter_map(|p| p.balancing.as_ref())));
        balancers.into_iter().any(LoadBalancing::looks_at_zones)
    }
    /// All rules for a host, whoever asks.
    pub(crate) fn all_for<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a LinkedDestinationRule> {
        self.by_namespace.values().flat_map(move |rules| {
            rules.exact.get(host).into_iter().flatten().chain(rules.wildcard.iter().filter(move |r| r.host.matches(host)))
        })
    }
}

impl Mesh {
    /// A cluster and its endpoints, as this client sees them; `None` when the service or port does not exist for it.
    pub(crate) fn cluster(&self, client: &Client<'_>, name: &ClusterName) -> Option<(Cluster, Endpoints)> {
        let service = self.service_or_wildcard(&name.host, client.namespace)?;
        let port = service.port(name.port)?;
        let rule = self.destination_rules.find(self, client, &service);
        let policy = rule.map(|r| r.policy_for(name.port, &name.subset)).unwrap_or_default();
        let subset = rule.and_then(|r| r.subsets.get(&name.subset));
        let passthrough = service.resolution == Resolution::Passthrough && service.endpoints.get(&name.port).is_none_or(Vec::is_empty);
        let ClientTls { mode: tls, sni, origination } = self.client_tls(policy.tls, &name.host, name.port, &service.alternative_names);
        let balancing = policy.balancing.unwrap_or_default();
        let mut cluster = Cluster {
            name: name.clone(),
            protocol: if port.protocol == Protocol::Udp { Protocol::Tcp } else { port.protocol },
            balancing: if passthrough { Balancing::Passthrough } else { balancing.balancing },
            hash: balancing.hash.clone(),
            locality: None,
            slow_start: balancing.slow_start,
            panic_percent: policy.outlier.as_ref().map_or(0, |(_, percent)| *percent),
            health_check: None,
            limits: policy.limits.unwrap_or_default(),
            outlier: policy.outlier.map(|(outlier, _)| outlier),
            retry_budget: policy.retry_budget.unwrap_or_default(),
            tls,
            sni,
            origination,
            proxy_protocol: policy.proxy_protocol,
            tunnel: policy.tunnel,
            dns: service.dns,
            dns_trust: service.dns_trust,
            origin: subset.map(|s| &s.origin).or(rule.map(|r| &r.origin)).unwrap_or(&service.service.origin).clone(),
        };
        self.apply_backend_policy(&service, &mut cluster);
        cluster.locality = balancing.locality(&service, cluster.outlier.is_some() || cluster.health_check.is_some());
        let keys = cluster.locality.as_ref().map(weft_model::LocalityPolicy::keys).unwrap_or_default();
        let labels = subset.map(|s| &s.labels);
        let chosen = service.endpoints.get(&name.port).into_iter().flatten().filter(|e| labels.is_none_or(|l| selects(l, &e.labels)));
        let endpoints = chosen
            // Mutual TLS of the mesh was asked for: an endpoint without a proxy cannot give it.
            .filter(|e| tls != UpstreamTls::IstioMutual || e.endpoint.tls == EndpointTls::Mesh)
            .map(|e| {
                let wanted = |key: &&str| Some(((*key).to_owned(), e.labels.get(*key)?.clone()));
                Endpoint { labels: keys.iter().filter_map(wanted).collect(), ..self.as_spoken_to(&e.endpoint, tls) }
            })
            .collect();
        Some((cluster, Endpoints { cluster: name.clone(), endpoints }))
    }
}

impl Mesh {
    /// An endpoint whose port refuses mutual TLS (PeerAuthentication DISABLE) is spoken to in plain text, unless a DestinationRule
    /// insists.
    fn as_spoken_to(&self, endpoint: &Endpoint, tls: UpstreamTls) -> Endpoint {
        let mut endpoint = endpoint.clone();
        if endpoint.tls == EndpointTls::Mesh && tls == UpstreamTls::Auto {
            let labels = self.workloads.get(&endpoint.workload).map(|w| &w.registered.workload.labels);
            let mode = labels.map(|l| self.mtls_mode(&endpoint.namespace, l, Some(endpoint.target_port)).0);
            if mode == Some(MtlsMode::Disable) {
                endpoint.tls = EndpointTls::None;
                endpoint.identity = None;
            }
        }
        endpoint
    }
}

/// Links all rules, merging those of one namespace and host.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (_, document, spec) in linker.documents(|r| if let Resource::DestinationRule(d) = r { Some(d) } else { None }) {
        let namespace = document.meta.namespace.clone();
        let at = spec.host.origin(&document.origin);
        let Some(host) = linker.full_host(&spec.host.value, &namespace, &at) else { continue };
        if let HostPattern::Exact(name) = &host
            && linker.mesh.service_or_wildcard(name.as_str(), &namespace).is_none()
        {
            let near = linker.near_host(name.as_str());
            linker.report(diag::rule_for_unknown_host(at, name.as_str(), near.as_deref()));
        }
        let linked = destination_rule(linker, document, spec, host);
        let rules = linker.mesh.destination_rules.by_namespace.entry(namespace).or_default();
        let same = match &linked.host {
            HostPattern::Exact(name) => rules.exact.entry(name.to_string()).or_default(),
            HostPattern::Suffix(_) | HostPattern::Any => &mut rules.wildcard,
        };
        let twin = same.iter_mut().find(|r| r.host == linked.host && r.workload_selector == linked.workload_selector);
        match twin {
            Some(first) => linker.diagnostics.extend(first.merge(linked)),
            None => same.push(linked),
        }
    }
}

impl LinkedDestinationRule {
    /// Adds a younger rule: subsets that are new, and the policy if there is none yet.
    fn merge(&mut self, younger: Self) -> Vec<Diagnostic> {
        let mut lost = Vec::new();
        for (name, subset) in younger.subsets {
            match self.subsets.get(&name) {
                Some(first) => lost.push(diag::subset_twice(subset.origin, &name, &first.origin)),
                None => drop(self.subsets.insert(name, subset)),
            }
        }
        match (&self.policy, younger.policy) {
            (Some(_), Some(_)) => lost.push(diag::policy_twice(younger.origin, &self.origin)),
            (None, policy) => self.policy = policy,
            (Some(_), None) => {}
        }
        lost
    }
}

fn destination_rule(
    linker: &mut Linker<'_>,
    document: &Document,
    spec: &istio::DestinationRule,
    host: HostPattern,
) -> LinkedDestinationRule {
    crate::balancing::check(linker, document, spec);
    let mut subsets: BTreeMap<String, Subset> = BTreeMap::new();
    for written in &spec.subsets {
        let origin = written.origin(&document.origin);
        if let Some(first) = subsets.get(&written.name) {
            linker.report(diag::subset_twice(origin, &written.name, &first.origin));
            continue;
        }
        warn_empty_subset(linker, document, &host, written, &origin);
        let policy = written.traffic_policy.as_ref().map(|p| traffic_policy(linker, p, document));
        subsets.insert(written.name.clone(), Subset { labels: written.labels.clone(), policy, origin });
    }
    LinkedDestinationRule {
        host,
        policy: spec.traffic_policy.as_ref().map(|p| traffic_policy(linker, p, document)),
        subsets,
        visibility: Visibility::read(spec.export_to.iter().map(String::as_str), &document.meta.namespace),
        workload_selector: spec.workload_selector.as_ref().map(|s| s.match_labels.clone()),
        origin: document.origin.clone(),
    }
}

/// A subset whose labels no running endpoint has gets no traffic: worth knowing while the service does run.
fn warn_empty_subset(linker: &mut Linker<'_>, document: &Document, host: &HostPattern, subset: &Spanned<istio::Subset>, origin: &Origin) {
    let HostPattern::Exact(name) = host else { return };
    let Some(service) = linker.mesh.service(name.as_str(), &document.meta.namespace) else { return };
    let mut running = service.endpoints.values().flatten().peekable();
    let empty = running.peek().is_some() && !running.any(|e| selects(&subset.labels, &e.labels));
    if empty {
        linker.report(diag::subset_without_endpoints(origin.clone(), &subset.name, name.as_str()));
    }
}

fn traffic_policy(linker: &mut Linker<'_>, spec: &Spanned<istio::TrafficPolicy>, document: &Document) -> TrafficPolicy {
    let mut tls =
        |t: &Option<Spanned<istio::ClientTlsSettings>>| t.as_ref().map(|t| crate::client_tls::destination_rule(linker, document, t));
    let ports = spec.port_level_settings.iter().map(|p| {
        let settings = settings(&p.load_balancer, &p.connection_pool, &p.outlier_detection, document);
        (p.port.number, TrafficPolicy { tls: tls(&p.tls), ..settings })
    });
    let ports = ports.collect();
    let budget = spec.retry_budget.as_ref().map(|b| RetryBudget {
        percent: b.percent.map_or(RetryBudget::default().percent, |p| p.clamp(0.0, 100.0).round() as u8),
        concurrency_min: b.min_retry_concurrency.unwrap_or(RetryBudget::default().concurrency_min),
        interval_ms: b.budget_interval.map(millis).unwrap_or_default(),
    });
    TrafficPolicy {
        retry_budget: budget,
        ports,
        tls: tls(&spec.tls),
        tunnel: spec.tunnel.as_ref().map(|t| Tunnel {
            method: if t.protocol == Some(istio::TunnelProtocol::Post) { TunnelMethod::Post } else { TunnelMethod::Connect },
            host: t.target_host.value.clone(),
            port: t.target_port,
        }),
        proxy_protocol: spec.proxy_protocol.as_ref().map(|p| match p.version {
            None | Some(istio::ProxyProtocolVersion::V1) => ProxyProtocol::V1,
            Some(istio::ProxyProtocolVersion::V2) => ProxyProtocol::V2,
        }),
        ..settings(&spec.load_balancer, &spec.connection_pool, &spec.outlier_detection, document)
    }
}

fn settings(
    balancer: &Option<Spanned<istio::LoadBalancerSettings>>,
    pool: &Option<Spanned<istio::ConnectionPoolSettings>>,
    outlier: &Option<Spanned<istio::OutlierDetection>>,
    document: &Document,
) -> TrafficPolicy {
    TrafficPolicy {
        balancing: balancer.as_ref().map(|b| load_balancing(b)),
        limits: pool.as_ref().map(|p| limits(p)),
        outlier: outlier.as_ref().map(|o| {
            let panic_percent = u8::try_from(o.min_health_percent.unwrap_or_default().min(100)).unwrap_or(100);
            (outlier_detection(o, o.origin(&document.origin)), panic_percent)
        }),
        ..TrafficPolicy::default()
    }
}

fn limits(pool: &istio::ConnectionPoolSettings) -> ConnectionLimits {
    let (tcp, http) = (pool.tcp.as_ref(), pool.http.as_ref());
    // Zero means no bound wherever Istio writes one of these.
    let some = |n: Option<u32>| n.filter(|n| *n > 0);
    let idle = http.and_then(|h| h.idle_timeout).or(tcp.and_then(|t| t.idle_timeout));
    ConnectionLimits {
        connections_max: some(tcp.and_then(|t| t.max_connections)),
        pending_requests_max: some(http.and_then(|h| h.http1_max_pending_requests)),
        requests_max: some(http.and_then(|h| h.http2_max_requests)),
        requests_per_connection_max: some(http.and_then(|h| h.max_requests_per_connection)),
        retries_max: some(http.and_then(|h| h.max_retries)),
        connect_timeout_ms: tcp.and_then(|t| t.connect_timeout).filter(|t| !t.is_zero()).map(millis),
        idle_timeout_ms: idle.map(millis),
        tcp_idle_timeout_ms: tcp.and_then(|t| t.idle_timeout).map(millis),
        connection_age_ms_max: tcp.and_then(|t| t.max_connection_duration).filter(|t| !t.is_zero()).map(millis),
        tcp_keepalive: tcp.and_then(|t| t.tcp_keepalive.as_ref()).map(|k| TcpKeepalive {
            probes: k.probes,
            time_s: k.time.map(|t| t.as_secs().max(1)),
            interval_s: k.interval.map(|t| t.as_secs().max(1)),
        }),
        streams_max: some(http.and_then(|h| h.max_concurrent_streams)),
        http2_keepalive: http
            .and_then(|h| h.http2_keep_alive.as_ref())
            .filter(|k| !k.interval.is_zero())
            .map(|k| Http2Keepalive { interval_ms: millis(k.interval), timeout_ms: millis(k.timeout).max(1) }),
        http_version: match http {
            Some(http) if http.use_client_protocol => HttpVersionChoice::Client,
            Some(http) if http.h2_upgrade_policy == Some(istio::H2UpgradePolicy::Upgrade) => HttpVersionChoice::Upgrade,
            _ => HttpVersionChoice::Declared,
        },
    }
}

fn outlier_detection(spec: &istio::OutlierDetection, origin: Origin) -> OutlierDetection {
    let gateway = spec.consecutive_gateway_errors.or(spec.consecutive_errors).unwrap_or_default();
    OutlierDetection {
        consecutive_5xx: spec.consecutive_5xx_errors.unwrap_or(5),
        consecutive_gateway_errors: gateway,
        consecutive_local_failures: if spec.split_external_local_origin_errors {
            spec.consecutive_local_origin_failures.unwrap_or(5)
        } else {
            0
        },
        split_local_failures: spec.split_external_local_origin_errors,
        error_statuses: spec.outlier_detection_http_error_codes.iter().filter_map(|s| u16::try_from(*s).ok()).collect(),
        base_ejection_ms: spec.base_ejection_time.filter(|t| !t.is_zero()).map_or(30_000, millis),
        interval_ms: spec.interval.filter(|t| !t.is_zero()).map_or(10_000, millis),
        ejection_percent_max: spec.max_ejection_percent.map_or(10, |p| u8::try_from(p.min(100)).unwrap_or(100)),
        ..OutlierDetection::rates_only(origin)
    }
}
