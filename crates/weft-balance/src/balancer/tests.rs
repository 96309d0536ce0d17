use super::*;
use crate::standing::Standings;
use weft_model::{
    Cluster, EndpointTls, HashKey, HashPolicy, LocalityPolicy, LocalityShares, Nearness, Origin, Place, SlowStart, SuccessRate, hash_bytes,
};

fn cluster(balancing: Balancing) -> Cluster {
    Cluster {
        name: "outbound|80||a.default.svc.cluster.local".parse().expect("name"),
        protocol: weft_model::Protocol::Http,
        balancing,
        hash: None,
        locality: None,
        slow_start: None,
        panic_percent: 0,
        health_check: None,
        limits: weft_model::ConnectionLimits::default(),
        outlier: None,
        retry_budget: weft_model::RetryBudget::default(),
        tls: weft_model::UpstreamTls::Auto,
        sni: String::new(),
        origination: None,
        proxy_protocol: None,
        tunnel: None,
        dns: weft_model::DnsUse::Strict,
        dns_trust: weft_model::DnsTrust::Outside,
        origin: Origin::built_in("a"),
    }
}
fn endpoint(port: u16, weight: u32) -> Endpoint {
    at(port, weight, "")
}
fn at(port: u16, weight: u32, locality: &str) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(([127, 0, 0, 1], port).into()),
        workload: String::new(),
        workload_name: String::new(),
        namespace: String::new(),
        version: String::new(),
        identity: None,
        tls: EndpointTls::None,
        target_port: 0,
        weight,
        locality: locality.into(),
        labels: weft_model::Labels::new(),
        healthy: true,
    }
}
fn port(endpoint: &Endpoint) -> u16 {
    match &endpoint.address {
        EndpointAddress::Socket(a) => a.port(),
        EndpointAddress::Name { port, .. } => *port,
        EndpointAddress::Unix { .. } => 0,
    }
}
const MS: fn(u64) -> Duration = Duration::from_millis;

/// A balancer with what belongs to it, and a tiny generator, so that a distribution can be tested without a dependency on chance.
struct Bench {
    balancer: Balancer,
    standings: Arc<Standings>,
    cluster: Cluster,
    place: Place,
    seed: u64,
    now: Duration,
}

impl Bench {
    fn new(cluster: Cluster, endpoints: &[Endpoint]) -> Self {
        Self::at(cluster, endpoints, "")
    }
    fn at(cluster: Cluster, endpoints: &[Endpoint], locality: &str) -> Self {
        let place = Place { locality: locality.into(), ..Place::default() };
        let mut bench = Self { balancer: Balancer::default(), standings: Arc::default(), cluster, place, seed: 7, now: MS(1) };
        bench.update(endpoints);
        bench
    }
    fn update(&mut self, endpoints: &[Endpoint]) {
        self.balancer.update(Arc::new(Plan::new(&self.cluster, endpoints.to_vec(), &self.place, self.standings.clone())));
    }
    fn rolls(&mut self) -> (u32, u32) {
        let mut next = || {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.seed >> 32) as u32
        };
        (next(), next())
    }
    fn pick(&mut self, tried: &[EndpointId], hash: Option<u64>) -> Result<(EndpointId, u16), NoEndpoint> {
        let pick = Pick { now: self.now, rolls: self.rolls(), tried, left: &[], hash };
        self.balancer.pick(&pick).map(|(id, e)| (id, port(e)))
    }
    fn picks(&mut self, n: usize) -> Vec<u16> {
        (0..n).map(|_| self.pick(&[], None).expect("usable").1).collect()
    }
    fn id(&self, port_of: u16) -> EndpointId {
        self.balancer.plan.hosts.iter().find(|h| port(&h.endpoint) == port_of).expect("there").id
    }
    fn fail(&mut self, port: u16) -> EjectionChange {
        let id = self.id(port);
        self.balancer.observed(id, Outcome::Status(500), self.now)
    }
}
impl Bench {
    fn fail_thrice(&mut self, port: u16) {
        let changes = [self.fail(port), self.fail(port), self.fail(port)];
        assert!(matches!(changes, [EjectionChange::None, EjectionChange::None, EjectionChange::Ejected { .. }]), "{changes:?}");
    }
}
fn count(of: u16, picks: &[u16]) -> usize {
    picks.iter().filter(|p| **p == of).count()
}
fn outlier() -> OutlierDetection {
    let base = OutlierDetection::rates_only(Origin::built_in("o"));
    OutlierDetection { consecutive_5xx: 3, base_ejection_ms: 1_000, interval_ms: 100, ejection_percent_max: 50, ..base }
}

#[test]
fn round_robin_takes_turns_and_respects_weights() {
    let mut b = Bench::new(cluster(Balancing::RoundRobin), &[endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]);
    assert_eq!(b.picks(6), [1, 2, 3, 1, 2, 3]);
    let mut b = Bench::new(cluster(Balancing::RoundRobin), &[endpoint(1, 3), endpoint(2, 1)]);
    let got = b.picks(80);
    assert!((59..=61).contains(&count(1, &got)), "{got:?}");
    assert!(got[8..].windows(5).all(|w| w.contains(&2)), "{got:?} is smooth");
    // Churn of others does not start the turns anew: a newcomer waits its turn, and the shares stay.
    for extra in 0..40 {
        b.update(&[endpoint(1, 3), endpoint(2, 1), endpoint(100 + extra, 1)]);
        b.picks(1);
    }
    b.update(&[endpoint(1, 3), endpoint(2, 1)]);
    let got = b.picks(80);
    assert!((56..=64).contains(&count(1, &got)), "{got:?}");
}

#[test]
fn random_follows_the_weights() {
    let mut b = Bench::new(cluster(Balancing::Random), &[endpoint(1, 9), endpoint(2, 1), endpoint(3, 0)]);
    let got = b.picks(10_000);
    assert!((8_700..9_300).contains(&count(1, &got)), "{}", count(1, &got));
    assert_eq!(count(3, &got), 0);
}

#[test]
fn least_request_prefers_the_idle_one_and_respects_weights() {
    let mut b = Bench::new(cluster(Balancing::LeastRequest), &[endpoint(1, 1), endpoint(2, 1)]);
    let (id, first) = b.pick(&[], None).expect("usable");
    b.balancer.started(id);
    assert!(b.picks(50).iter().all(|p| *p != first), "the busy one of two is never taken");
    b.balancer.finished(id);
    let got = b.picks(1_000);
    assert!(count(1, &got) > 300 && count(2, &got) > 300);
    let mut b = Bench::new(cluster(Balancing::LeastRequest), &[endpoint(1, 3), endpoint(2, 1)]);
    let got = b.picks(10_000);
    assert!((7_200..7_800).contains(&count(1, &got)), "{}", count(1, &got));
}

#[test]
fn expected_latency_decides_and_fades() {
    let mut b = Bench::new(cluster(Balancing::Ewma), &[endpoint(1, 1), endpoint(2, 1)]);
    let (slow, quick) = (b.id(1), b.id(2));
    b.balancer.measured(slow, MS(200), b.now);
    b.balancer.measured(quick, MS(5), b.now);
    assert!(b.picks(100).iter().all(|p| *p == 2));
    // A peak counts at once.
    b.balancer.measured(quick, MS(900), b.now);
    assert!(b.picks(100).iter().all(|p| *p == 1));
    // What was slow long ago is tried again.
    b.balancer.measured(slow, MS(100), b.now + MS(59_990));
    b.now += MS(60_000);
    assert!(b.picks(100).contains(&2));
}

#[test]
fn who_says_that_it_is_busy_is_avoided_until_then() {
    let mut b = Bench::new(cluster(Balancing::Ewma), &[endpoint(1, 1), endpoint(2, 1)]);
    let (busy, other) = (b.id(1), b.id(2));
    b.balancer.measured(busy, MS(1), b.now);
    b.balancer.measured(other, MS(50), b.now);
    b.balancer.busy(busy, b.now + MS(500));
    assert!(b.picks(100).iter().all(|p| *p == 2));
    // All busy: as if none were.
    b.balancer.busy(other, b.now + MS(500));
    assert!(b.picks(100).contains(&1));
    b.now += MS(501);
    assert!(b.picks(100).contains(&1));
}

#[test]
fn an_update_keeps_what_is_in_flight() {
    let mut b = Bench::new(cluster(Balancing::LeastRequest), &[endpoint(1, 1), endpoint(2, 1)]);
    let id = b.id(1);
    b.balancer.started(id);
    b.update(&[endpoint(3, 1), endpoint(1, 1)]);
    let state: Vec<u32> = b.balancer.states(b.now).map(|s| s.in_flight).collect();
    assert_eq!((state, b.id(1)), (vec![0, 1], id));
    b.update(&[endpoint(3, 1)]);
    b.balancer.finished(id);
    assert!(!b.balancer.contains(id));
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
    for balancing in [Balancing::RoundRobin, Balancing::LeastRequest, Balancing::Random, Balancing::Ewma] {
        let mut b = Bench::new(cluster(balancing), &[endpoint(1, 1), endpoint(2, 1)]);
        let (first, _) = b.pick(&[], None).expect("usable");
        for _ in 0..20 {
            assert_ne!(b.pick(&[first], None).expect("usable").0, first);
        }
        let both = [b.id(1), b.id(2)];
        assert!(b.pick(&both, None).is_ok());
    }
}

#[test]
fn a_retry_that_may_go_far_leaves_the_localities_that_failed() {
    let endpoints = [at(1, 1, "r/a"), at(2, 1, "r/a"), at(3, 1, "r/b")];
    let mut b = Bench::new(cluster(Balancing::RoundRobin), &endpoints);
    let tried = [b.id(1)];
    let pick = |b: &mut Bench, left: &[EndpointId]| {
        let pick = Pick { now: b.now, rolls: b.rolls(), tried: &tried, left, hash: None };
        b.balancer.pick(&pick).map(|(_, e)| port(e)).expect("usable")
    };
    assert!((0..20).all(|_| pick(&mut b, &tried) == 3), "the other locality");
    assert!((0..20).any(|_| pick(&mut b, &[]) == 2), "without, the neighbour will do");
    b.update(&endpoints[..2]);
    assert!((0..20).all(|_| pick(&mut b, &tried) == 2), "there is no other locality");
}

fn hashed(balancing: Balancing, size: u32) -> Cluster {
    Cluster { hash: Some(HashPolicy { on: HashKey::SourceIp, size }), ..cluster(balancing) }
}

#[test]
fn a_hash_stays_with_its_endpoint_and_an_ejection_moves_that_endpoints_callers_only() {
    for mut of in [hashed(Balancing::RingHash, 1024), hashed(Balancing::Maglev, 1009)] {
        of.outlier = Some(outlier());
        let endpoints: Vec<Endpoint> = (1..=5).map(|p| endpoint(p, 1)).collect();
        let mut b = Bench::new(of, &endpoints);
        let keys: Vec<u64> = (0..500u64).map(|n| hash_bytes(&n.to_be_bytes())).collect();
        let all = |b: &mut Bench| keys.iter().map(|k| b.pick(&[], Some(*k)).expect("usable").1).collect::<Vec<_>>();
        let before = all(&mut b);
        assert_eq!(before, all(&mut b), "whatever the rolls");
        b.fail_thrice(3);
        let during = all(&mut b);
        assert!(before.iter().zip(&during).all(|(was, is)| (*was == 3 && *is != 3) || was == is));
        b.now += MS(1_001);
        assert_eq!(before, all(&mut b), "and they come back");
        let (id, _) = b.pick(&[], Some(keys[0])).expect("usable");
        assert_ne!(b.pick(&[id], Some(keys[0])).expect("usable").0, id, "a retry goes elsewhere");
        assert!((0..100).map(|_| b.pick(&[], None).expect("usable").1).collect::<std::collections::BTreeSet<_>>().len() == 5);
    }
}

#[test]
fn ejection_by_consecutive_errors_with_a_growing_length() {
    let mut b = Bench::new(
        Cluster { outlier: Some(outlier()), ..cluster(Balancing::RoundRobin) },
        &[endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)],
    );
    b.now = Duration::ZERO;
    assert_eq!(b.fail(1), EjectionChange::None);
    let id = b.id(1);
    b.balancer.observed(id, Outcome::Status(200), b.now);
    (0..2).for_each(|_| assert_eq!(b.fail(1), EjectionChange::None));
    assert_eq!(b.fail(1), EjectionChange::Ejected { until: MS(1_000) });
    assert_eq!(b.standings.take_ejections().map(|(_, n)| n).iter().sum::<u32>(), 1);
    assert_eq!(b.standings.take_ejections().map(|(_, n)| n), [0; 4], "counted once");
    assert!(!b.picks(10).contains(&1));
    // A second one would be 67 % out, more than 50 %.
    b.now = MS(10);
    (0..4).for_each(|_| assert_eq!(b.fail(2), EjectionChange::None));
    // It comes back after its time; the next ejection lasts twice as long.
    b.now = MS(1_000);
    assert!(b.picks(3).contains(&1));
    b.now = MS(1_100);
    (0..2).for_each(|_| assert_eq!(b.fail(1), EjectionChange::None));
    assert_eq!(b.fail(1), EjectionChange::Ejected { until: MS(3_100) });
}

#[test]
fn workers_share_what_they_saw() {
    let mut one = Bench::new(Cluster { outlier: Some(outlier()), ..cluster(Balancing::RoundRobin) }, &[endpoint(1, 1), endpoint(2, 1)]);
    let mut other = Balancer::default();
    other.update(one.balancer.plan.clone());
    let (id, now) = (one.id(1), one.now);
    let fail = |b: &mut Balancer| b.observed(id, Outcome::Failed, now);
    assert_eq!([fail(&mut one.balancer), fail(&mut other)], [EjectionChange::None; 2]);
    assert_ne!(fail(&mut one.balancer), EjectionChange::None, "three in all");
    for rolls in 0..20 {
        let pick = Pick { now, rolls: (rolls << 28, 0), tried: &[], left: &[], hash: None };
        assert_eq!(port(other.pick(&pick).expect("usable").1), 2);
    }
}

#[test]
fn split_failures_and_listed_statuses_count_by_themselves() {
    let split = OutlierDetection { split_local_failures: true, consecutive_local_failures: 2, ..outlier() };
    let mut b = Bench::new(Cluster { outlier: Some(split), ..cluster(Balancing::RoundRobin) }, &[endpoint(1, 1), endpoint(2, 1)]);
    let (id, now) = (b.id(1), b.now);
    let mut saw = |outcome| b.balancer.observed(id, outcome, now) != EjectionChange::None;
    // An answer in between starts the count of failures anew, a failure does not touch the count of errors.
    let course = [Outcome::Status(500), Outcome::Failed, Outcome::Status(500), Outcome::Failed];
    assert_eq!(course.map(&mut saw), [false; 4]);
    assert!(saw(Outcome::Status(500)), "three errors");
}

#[test]
fn a_low_success_rate_ejects() {
    let rate = SuccessRate { hosts_min: 5, requests_min: 50, deviations_milli: 1_000 };
    let policy = OutlierDetection { success_rate: Some(rate), consecutive_5xx: 0, interval_ms: 500, ..outlier() };
    let endpoints: Vec<Endpoint> = (1..=5).map(|p| endpoint(p, 1)).collect();
    let mut b = Bench::new(Cluster { outlier: Some(policy), ..cluster(Balancing::RoundRobin) }, &endpoints);
    for n in 0..1_000u32 {
        b.now += MS(1);
        let port = u16::try_from(n % 5 + 1).expect("small");
        let (id, now) = (b.id(port), b.now);
        // Every second one of endpoint 2 fails, never two in a row.
        let status = if port == 2 && (n / 5) % 2 == 0 { 500 } else { 200 };
        b.balancer.observed(id, Outcome::Status(status), now);
    }
    assert!(!b.picks(20).contains(&2));
    assert!(b.picks(20).contains(&1));
}

#[test]
fn a_failed_level_spills_over_and_the_rest_follows() {
    let near = LocalityPolicy::Priority(Nearness::default());
    let of = Cluster { locality: Some(near), outlier: Some(outlier()), ..cluster(Balancing::RoundRobin) };
    let endpoints = [at(1, 1, "eu/a"), at(2, 1, "eu/a"), at(3, 1, "us/a"), at(4, 1, "us/a")];
    let mut b = Bench::at(of, &endpoints, "eu/a");
    assert_eq!((count(1, &b.picks(100)), count(3, &b.picks(100))), (50, 0));
    b.fail_thrice(1);
    // One of two usable counts for 70 %: the other 30 % go on.
    let got = b.picks(10_000);
    assert!((6_700..7_300).contains(&count(2, &got)), "{}", count(2, &got));
    assert_eq!(count(2, &got) + count(3, &got) + count(4, &got), 10_000);
    b.fail_thrice(2);
    assert!(b.picks(100).iter().all(|p| *p > 2));
    // Retries leave the level when it has nothing else.
    b.now += MS(2_000);
    let tried = [b.id(1), b.id(2)];
    assert!(b.pick(&tried, None).is_ok_and(|(_, port)| port > 2));
}

#[test]
fn localities_get_their_shares() {
    let to = vec![("eu/a".to_owned(), 80), ("eu/b".to_owned(), 20)];
    let shares = LocalityPolicy::Distribute(vec![LocalityShares { from: "eu/*".into(), to }]);
    for balancing in [Balancing::LeastRequest, Balancing::Random, Balancing::RoundRobin] {
        let of = Cluster { locality: Some(shares.clone()), ..cluster(balancing) };
        let mut b = Bench::at(of, &[at(1, 1, "eu/a"), at(2, 1, "eu/b"), at(3, 1, "us/a")], "eu/a");
        let got = b.picks(10_000);
        assert!((7_800..8_200).contains(&count(1, &got)) && count(3, &got) == 0, "{}", count(1, &got));
    }
    let of = Cluster { locality: Some(shares), ..hashed(Balancing::Maglev, 1009) };
    let mut b = Bench::at(of, &[at(1, 1, "eu/a"), at(2, 1, "eu/b"), at(3, 1, "us/a")], "eu/a");
    let got: Vec<u16> = (0..10_000u64).map(|n| b.pick(&[], Some(hash_bytes(&n.to_be_bytes()))).expect("usable").1).collect();
    assert!((7_800..8_200).contains(&count(1, &got)) && count(3, &got) == 0, "{}", count(1, &got));
}

#[test]
fn too_few_left_means_all() {
    let sick = |port| Endpoint { healthy: false, ..endpoint(port, 1) };
    let of = |percent| Cluster { panic_percent: percent, ..cluster(Balancing::RoundRobin) };
    let endpoints = [endpoint(1, 1), sick(2), sick(3), sick(4)];
    assert!(Bench::new(of(0), &endpoints).picks(8).iter().all(|p| *p == 1));
    assert_eq!(Bench::new(of(50), &endpoints).picks(4), [1, 2, 3, 4]);
    assert!(Bench::new(of(25), &endpoints).picks(8).iter().all(|p| *p == 1), "a quarter is not below a quarter");
    assert!(Bench::new(of(1), &[sick(1)]).pick(&[], None).is_ok());
}

#[test]
fn a_newcomer_is_warmed_up() {
    let slow_start = Some(SlowStart { duration_ms: 10_000, percent_min: 10.0, aggression: 1.0 });
    for balancing in [Balancing::RoundRobin, Balancing::LeastRequest] {
        let mut b = Bench::new(Cluster { slow_start, ..cluster(balancing) }, &[endpoint(1, 1)]);
        b.picks(1);
        b.now = MS(60_000);
        b.update(&[endpoint(1, 1), endpoint(2, 1)]);
        let share = |b: &mut Bench| count(2, &b.picks(2_000));
        // A tenth of the other's weight: one in eleven.
        let at_first = share(&mut b);
        assert!((120..260).contains(&at_first), "{at_first}");
        b.now += MS(5_000);
        let midway = share(&mut b);
        assert!((560..780).contains(&midway), "{midway}");
        b.now += MS(5_000);
        let at_last = share(&mut b);
        assert!((900..1_100).contains(&at_last), "{at_last}");
    }
}

fn health_check() -> weft_model::HealthCheck {
    weft_model::HealthCheck {
        probe: weft_model::Probe::Tcp,
        interval_ms: 1_000,
        timeout_ms: 100,
        healthy_threshold: 1,
        unhealthy_threshold: 1,
        origin: Origin::built_in("h"),
    }
}

#[test]
fn verdicts_go_with_their_policies() {
    let of = Cluster { health_check: Some(health_check()), outlier: Some(outlier()), ..cluster(Balancing::RoundRobin) };
    let endpoints = [endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)];
    let mut b = Bench::new(of, &endpoints);
    b.fail_thrice(1);
    b.standings.checked(&b.balancer.plan.hosts[1].standing, false, MS(1));
    assert!(b.picks(6).iter().all(|p| *p == 3));
    b.cluster = cluster(Balancing::RoundRobin);
    b.update(&endpoints);
    assert_eq!(b.picks(3).into_iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn reasons_for_no_endpoint() {
    let of = || cluster(Balancing::Random);
    let none = |mut b: Bench| b.pick(&[], None).err();
    assert_eq!(none(Bench::new(of(), &[])), Some(NoEndpoint::Empty));
    let sick = Endpoint { healthy: false, ..endpoint(1, 1) };
    assert_eq!(none(Bench::new(of(), &[sick])), Some(NoEndpoint::Unhealthy));
    let checked = Bench::new(Cluster { health_check: Some(health_check()), ..of() }, &[endpoint(1, 1)]);
    checked.standings.checked(&checked.balancer.plan.hosts[0].standing, false, MS(1));
    assert_eq!(none(checked), Some(NoEndpoint::FailsCheck));
    let mut failed = Bench::new(Cluster { outlier: Some(outlier()), ..of() }, &[endpoint(1, 1)]);
    failed.fail_thrice(1);
    assert_eq!(none(failed), Some(NoEndpoint::Ejected));
}
