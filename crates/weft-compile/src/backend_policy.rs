//! BackendPolicy: which services it is for, and what it adds to their clusters.

use crate::{
    diag,
    istio_http::millis,
    link::Linker,
    mesh::{Mesh, MeshService},
};
use std::{collections::BTreeMap, time::Duration};
use weft_api::{Document, Resource, Spanned, weft};
use weft_model::{Balancing, Cluster, FailurePercentage, HealthCheck, HttpProbe, Origin, OutlierDetection, Probe, SuccessRate};

/// Envoy's default: below half, all.
const PANIC_PERCENT: u8 = 50;

/// One policy, read.
#[derive(Debug, Clone)]
pub(crate) struct LinkedBackendPolicy {
    health_check: Option<HealthCheck>,
    balancing: Option<Balancing>,
    panic_percent: Option<u8>,
    rates: Option<Rates>,
    origin: Origin,
}

#[derive(Debug, Clone)]
struct Rates {
    interval_ms: Option<u64>,
    base_ejection_ms: Option<u64>,
    ejection_ms_max: Option<u64>,
    ejection_percent_max: Option<u8>,
    success_rate: Option<SuccessRate>,
    failure_percentage: Option<FailurePercentage>,
    origin: Origin,
}

/// Links all policies to the services that they name.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (_, document, spec) in linker.documents(|r| if let Resource::BackendPolicy(p) = r { Some(p) } else { None }) {
        let policy = read(linker, document, spec);
        for target in &spec.target_refs {
            let at = target.origin(&document.origin);
            let hosts = hosts(linker, target, &document.meta.namespace);
            if hosts.is_empty() {
                linker.report(diag::backend_policy_target(at.clone(), &target.kind, &target.name));
            }
            for host in hosts {
                match linker.mesh.backend_policies.get(&host) {
                    Some(first) => {
                        let diagnostic = diag::backend_policy_twice(at.clone(), &host, &first.origin);
                        linker.report(diagnostic);
                    }
                    None => drop(linker.mesh.backend_policies.insert(host, policy.clone())),
                }
            }
        }
    }
}

/// The hosts that a target stands for.
fn hosts(linker: &Linker<'_>, target: &Spanned<weft_api::istio::PolicyTargetReference>, namespace: &str) -> Vec<String> {
    match target.kind.as_str() {
        "Service" => {
            let host = linker.mesh.settings.service_host(&target.name, namespace);
            linker.mesh.services.contains_key(&host).then_some(host).into_iter().collect()
        }
        "ServiceEntry" => {
            let named = |s: &&std::sync::Arc<MeshService>| {
                let origin = &s.service.origin;
                origin.kind == "ServiceEntry" && origin.namespace == namespace && origin.name == target.name
            };
            linker.mesh.all_services().filter(named).map(|s| s.host()).collect()
        }
        _ => Vec::new(),
    }
}

fn read(linker: &mut Linker<'_>, document: &Document, spec: &weft::BackendPolicy) -> LinkedBackendPolicy {
    let health_check = spec.health_check.as_ref().and_then(|check| {
        let origin = check.origin(&document.origin);
        let probe = probe(check);
        if probe.is_none() {
            linker.report(diag::health_check_without_probe(origin.clone()));
        }
        let time = |given: Option<Duration>, default: u64| given.filter(|t| !t.is_zero()).map_or(default, millis);
        Some(HealthCheck {
            probe: probe?,
            interval_ms: time(check.interval, 10_000),
            timeout_ms: time(check.timeout, 2_000),
            healthy_threshold: check.healthy_threshold.unwrap_or(2).max(1),
            unhealthy_threshold: check.unhealthy_threshold.unwrap_or(3).max(1),
            origin,
        })
    });
    let algorithm = spec.load_balancing.as_ref().and_then(|l| l.algorithm);
    LinkedBackendPolicy {
        health_check,
        balancing: algorithm.map(|a| match a {
            weft::Algorithm::Ewma => Balancing::Ewma,
            weft::Algorithm::LeastRequest => Balancing::LeastRequest,
            weft::Algorithm::RoundRobin => Balancing::RoundRobin,
            weft::Algorithm::Random => Balancing::Random,
        }),
        panic_percent: spec.panic_threshold.as_ref().map(|p| percent(p.value)),
        rates: spec.outlier_detection.as_ref().map(|o| rates(o, o.origin(&document.origin))),
        origin: document.origin.clone(),
    }
}

fn percent(n: u32) -> u8 {
    u8::try_from(n.min(100)).unwrap_or(100)
}

/// The question; `None` unless it is exactly one.
fn probe(check: &weft::HealthCheck) -> Option<Probe> {
    match (&check.http, &check.tcp, &check.grpc) {
        (Some(http), None, None) => Some(Probe::Http(HttpProbe {
            path: http.path.clone().filter(|p| p.starts_with('/')).unwrap_or_else(|| "/".into()),
            host: http.host.clone().unwrap_or_default(),
            statuses: http.expected_statuses.iter().map(|range| (range.0, range.1)).collect(),
            headers: http.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone())).collect(),
        })),
        (None, Some(_), None) => Some(Probe::Tcp),
        (None, None, Some(grpc)) => Some(Probe::Grpc(grpc.service.clone().unwrap_or_default())),
        _ => None,
    }
}

fn rates(spec: &weft::RateOutlierDetection, origin: Origin) -> Rates {
    Rates {
        interval_ms: spec.interval.filter(|t| !t.is_zero()).map(millis),
        base_ejection_ms: spec.base_ejection_time.filter(|t| !t.is_zero()).map(millis),
        ejection_ms_max: spec.max_ejection_time.filter(|t| !t.is_zero()).map(millis),
        ejection_percent_max: spec.max_ejection_percent.map(percent),
        success_rate: spec.success_rate.as_ref().map(|s| SuccessRate {
            hosts_min: s.minimum_hosts.unwrap_or(5),
            requests_min: s.request_volume.unwrap_or(100),
            deviations_milli: (s.stdev_factor.unwrap_or(1.9).clamp(0.0, 1_000.0) * 1_000.0).round() as u32,
        }),
        failure_percentage: spec.failure_percentage.as_ref().map(|f| FailurePercentage {
            hosts_min: f.minimum_hosts.unwrap_or(5),
            requests_min: f.request_volume.unwrap_or(50),
            percent: percent(f.threshold.unwrap_or(85)),
        }),
        origin,
    }
}

impl Mesh {
    /// Adds what a BackendPolicy says of the service to a cluster. What it says wins over the DestinationRule's.
    pub(crate) fn apply_backend_policy(&self, service: &MeshService, cluster: &mut Cluster) {
        let Some(policy) = self.backend_policies.get(&service.host()) else { return };
        cluster.health_check.clone_from(&policy.health_check);
        if let Some(balancing) = policy.balancing.filter(|_| cluster.balancing != Balancing::Passthrough) {
            (cluster.balancing, cluster.hash) = (balancing, None);
        }
        match policy.panic_percent {
            Some(percent) => cluster.panic_percent = percent,
            None if policy.health_check.is_some() && cluster.panic_percent == 0 => cluster.panic_percent = PANIC_PERCENT,
            None => {}
        }
        if let Some(rates) = &policy.rates {
            let outlier = cluster.outlier.get_or_insert_with(|| OutlierDetection::rates_only(rates.origin.clone()));
            outlier.interval_ms = rates.interval_ms.unwrap_or(outlier.interval_ms);
            outlier.base_ejection_ms = rates.base_ejection_ms.unwrap_or(outlier.base_ejection_ms);
            outlier.ejection_ms_max = rates.ejection_ms_max.unwrap_or(outlier.ejection_ms_max);
            outlier.ejection_percent_max = rates.ejection_percent_max.unwrap_or(outlier.ejection_percent_max);
            outlier.success_rate.clone_from(&rates.success_rate);
            outlier.failure_percentage.clone_from(&rates.failure_percentage);
        }
    }
}

/// Policies by host.
pub(crate) type BackendPolicies = BTreeMap<String, LinkedBackendPolicy>;
