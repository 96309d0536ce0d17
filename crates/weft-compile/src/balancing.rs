//! DestinationRule `loadBalancer` → how a cluster chooses; and what is wrong with what was written.

use crate::{diag, istio_http::millis, link::Linker, mesh::MeshService};
use weft_api::{Document, Spanned, istio};
use weft_model::{Balancing, HashCookie, HashKey, HashPolicy, LocalityPolicy, LocalityShares, Nearness, SlowStart};

/// Points of a ring where nothing is written (Istio's default).
const RING_SIZE: u32 = 1024;
/// Slots of a Maglev table where nothing is written.
const MAGLEV_SIZE: u32 = 65_537;
/// Zones make no difference below so many endpoints (Istio's default).
const ZONE_ENDPOINTS_MIN: u32 = 6;

/// `loadBalancer`, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LoadBalancing {
    pub(crate) balancing: Balancing,
    pub(crate) hash: Option<HashPolicy>,
    pub(crate) slow_start: Option<SlowStart>,
    locality: LocalityChoice,
}

/// What is said about localities.
#[derive(Debug, Clone, Default, PartialEq)]
enum LocalityChoice {
    /// Nothing: near endpoints first, as soon as something notices that they fail.
    #[default]
    Unsaid,
    /// They make no difference.
    Off,
    /// This; what makes levels needs something that notices failures.
    Policy(LocalityPolicy),
}

impl LoadBalancing {
    /// The locality policy for a service, given whether anything notices that its endpoints fail.
    pub(crate) fn locality(&self, service: &MeshService, watched: bool) -> Option<LocalityPolicy> {
        match &self.locality {
            LocalityChoice::Off => None,
            LocalityChoice::Policy(policy @ LocalityPolicy::Priority(_)) => watched.then(|| policy.clone()),
            LocalityChoice::Policy(policy) => Some(policy.clone()),
            // `trafficDistribution` is a wish of the service itself, which stands without ejection.
            LocalityChoice::Unsaid => match &service.prefer {
                Some(nearness) => Some(LocalityPolicy::Priority(nearness.clone())),
                None => watched.then(|| LocalityPolicy::Priority(Nearness::default())),
            },
        }
    }

    /// Does it look at zones?
    pub(crate) fn looks_at_zones(&self) -> bool {
        matches!(self.locality, LocalityChoice::Policy(LocalityPolicy::ZoneAware { .. }))
    }
}

/// Reads `loadBalancer`.
pub(crate) fn load_balancing(spec: &istio::LoadBalancerSettings) -> LoadBalancing {
    let simple = match spec.simple {
        None | Some(istio::SimpleLb::Unspecified | istio::SimpleLb::LeastConn | istio::SimpleLb::LeastRequest) => Balancing::LeastRequest,
        Some(istio::SimpleLb::Random) => Balancing::Random,
        Some(istio::SimpleLb::Passthrough) => Balancing::Passthrough,
        Some(istio::SimpleLb::RoundRobin) => Balancing::RoundRobin,
    };
    let hash = spec.consistent_hash.as_ref().and_then(|h| hash_policy(h).map(|policy| (h.maglev.is_some(), policy)));
    let (balancing, hash) = match hash {
        None => (simple, None),
        Some((false, policy)) => (Balancing::RingHash, Some(policy)),
        Some((true, policy)) => (Balancing::Maglev, Some(policy)),
    };
    let warmup = spec.warmup.as_ref().map(|w| (w.duration, w.minimum_percent.unwrap_or(10.0), w.aggression.unwrap_or(1.0)));
    let warmup = warmup.or(spec.warmup_duration_secs.map(|duration| (duration, 10.0, 1.0)));
    let warms = |b| matches!(b, Balancing::LeastRequest | Balancing::RoundRobin);
    let slow_start = warmup.filter(|(duration, ..)| !duration.is_zero() && warms(balancing)).map(|(duration, percent, aggression)| {
        SlowStart { duration_ms: millis(duration), percent_min: percent.clamp(0.0, 100.0), aggression: aggression.max(0.01) }
    });
    LoadBalancing { balancing, hash, slow_start, locality: locality(spec) }
}

fn hash_policy(spec: &istio::ConsistentHash) -> Option<HashPolicy> {
    let cookie = spec.http_cookie.as_ref().map(|c| {
        let attributes = c.attributes.iter().map(|a| (a.name.clone(), a.value.clone().unwrap_or_default())).collect();
        let (name, path) = (c.name.clone(), c.path.clone().unwrap_or_default());
        HashKey::Cookie(HashCookie { name, path, ttl_s: c.ttl.map(|ttl| ttl.as_secs()), attributes })
    });
    let header = spec.http_header_name.as_ref().map(|name| HashKey::Header(name.to_ascii_lowercase()));
    let query = spec.http_query_parameter_name.as_ref().map(|name| HashKey::Query(name.clone()));
    let on = header.or(cookie).or(spec.use_source_ip.then_some(HashKey::SourceIp)).or(query)?;
    let size = match &spec.maglev {
        Some(maglev) => maglev.table_size.filter(|n| is_table_size(*n)).unwrap_or(MAGLEV_SIZE),
        None => spec.ring_hash.as_ref().and_then(|r| r.minimum_ring_size).or(spec.minimum_ring_size).unwrap_or(RING_SIZE),
    };
    Some(HashPolicy { on, size })
}

fn is_table_size(n: u32) -> bool {
    (2..5_000_011).contains(&n) && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

fn locality(spec: &istio::LoadBalancerSettings) -> LocalityChoice {
    let regions = |list: &[Spanned<istio::LocalityFailover>]| list.iter().map(|f| (f.from.clone(), f.to.clone())).collect();
    if let Some(zones) = spec.zone_aware_lb_setting.as_ref().filter(|z| z.enabled == Some(true)) {
        let nearness = Nearness { labels: zones.failover_priority.clone(), regions: regions(&zones.failover) };
        let endpoints_min = zones.min_cluster_size.unwrap_or(ZONE_ENDPOINTS_MIN).max(1);
        return LocalityChoice::Policy(LocalityPolicy::ZoneAware { nearness, endpoints_min });
    }
    match &spec.locality_lb_setting {
        None => LocalityChoice::Unsaid,
        Some(setting) if setting.enabled == Some(false) => LocalityChoice::Off,
        Some(setting) if !setting.distribute.is_empty() => {
            let shares = setting.distribute.iter().map(|d| LocalityShares { from: d.from.clone(), to: d.to.clone().into_iter().collect() });
            LocalityChoice::Policy(LocalityPolicy::Distribute(shares.collect()))
        }
        Some(setting) => {
            let nearness = Nearness { labels: setting.failover_priority.clone(), regions: regions(&setting.failover) };
            LocalityChoice::Policy(LocalityPolicy::Priority(nearness))
        }
    }
}

/// Says what is wrong with the balancing of a rule.
pub(crate) fn check(linker: &mut Linker<'_>, document: &Document, spec: &istio::DestinationRule) {
    let whole = spec.traffic_policy.as_ref();
    let ejects = |p: &istio::TrafficPolicy| p.outlier_detection.is_some();
    let subsets = spec.subsets.iter().filter_map(|s| s.traffic_policy.as_ref());
    for policy in whole.into_iter().chain(subsets) {
        // A subset takes over what it does not say itself.
        let watched = ejects(policy)
            || whole.is_some_and(|w| ejects(w))
            || spec.subsets.iter().filter_map(|s| s.traffic_policy.as_ref()).any(|p| ejects(p));
        check_balancer(linker, document, policy.load_balancer.as_ref(), watched);
        for port in &policy.port_level_settings {
            check_balancer(linker, document, port.load_balancer.as_ref(), port.outlier_detection.is_some());
        }
    }
}

fn check_balancer(linker: &mut Linker<'_>, document: &Document, spec: Option<&Spanned<istio::LoadBalancerSettings>>, watched: bool) {
    let Some(spec) = spec else { return };
    let at = || spec.origin(&document.origin);
    if let Some(hash) = &spec.consistent_hash {
        let keys =
            [hash.http_header_name.is_some(), hash.http_cookie.is_some(), hash.use_source_ip, hash.http_query_parameter_name.is_some()];
        let place = hash.origin(&document.origin);
        match keys.iter().filter(|k| **k).count() {
            0 => linker.report(diag::hash_without_key(place)),
            1 => {}
            _ => linker.report(diag::balancer_excludes(
                place,
                "httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName",
                "the first",
            )),
        }
        if let Some((maglev, size)) = hash.maglev.as_ref().and_then(|m| Some((m, m.table_size?))).filter(|(_, n)| !is_table_size(*n)) {
            linker.report(diag::bad_table_size(maglev.origin(&document.origin), size));
        }
        if spec.simple.is_some_and(|s| s != istio::SimpleLb::Unspecified) {
            linker.report(diag::balancer_excludes(at(), "simple and consistentHash", "consistentHash"));
        }
    }
    if spec.warmup.is_some() && spec.warmup_duration_secs.is_some() {
        linker.report(diag::balancer_excludes(at(), "warmup and warmupDurationSecs", "warmup"));
    }
    let warms = !matches!(load_balancing(spec).balancing, Balancing::LeastRequest | Balancing::RoundRobin);
    if warms && (spec.warmup.is_some() || spec.warmup_duration_secs.is_some()) {
        linker.report(diag::warmup_without_effect(at()));
    }
    if spec.locality_lb_setting.is_some() && spec.zone_aware_lb_setting.is_some() {
        linker.report(diag::balancer_excludes(at(), "localityLbSetting and zoneAwareLbSetting", "an enabled zoneAwareLbSetting"));
    }
    if let Some(setting) = spec.locality_lb_setting.as_ref().filter(|s| s.enabled != Some(false)) {
        check_locality(linker, document, setting, watched);
    }
}

fn check_locality(linker: &mut Linker<'_>, document: &Document, setting: &Spanned<istio::LocalityLbSetting>, watched: bool) {
    let at = || setting.origin(&document.origin);
    let said = [!setting.distribute.is_empty(), !setting.failover.is_empty(), !setting.failover_priority.is_empty()];
    if said[0] && (said[1] || said[2]) {
        linker.report(diag::balancer_excludes(at(), "distribute, failover and failoverPriority", "distribute"));
    }
    for shares in &setting.distribute {
        let sum: u64 = shares.to.values().map(|n| u64::from(*n)).sum();
        if sum != 100 {
            linker.report(diag::shares_not_whole(shares.origin(&document.origin), &shares.from, sum));
        }
    }
    for failover in setting.failover.iter().filter(|f| f.from == f.to || f.from.contains(['/', '*']) || f.to.contains(['/', '*'])) {
        linker.report(diag::bad_failover(failover.origin(&document.origin), &failover.from, &failover.to));
    }
    if !said[0] && !watched {
        linker.report(diag::failover_without_detection(at()));
    }
}
