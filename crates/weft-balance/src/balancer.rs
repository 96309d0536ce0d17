//! The balancer: the endpoints of one cluster, which of them may be used now, and which one is next.

use crate::outlier::{EjectionChange, Outcome, Standing};
use std::time::Duration;
use weft_model::{Balancing, Cluster, Endpoint, EndpointAddress, OutlierDetection};

/// Names one endpoint as long as its address stays in the set. Never used twice in one balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

/// What a pick sees of time and chance. `roll`s are uniform over all of `u32`.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// Time since any fixed point.
    pub now: Duration,
    /// Two rolls.
    pub rolls: (u32, u32),
    /// Endpoints tried before, which a retry avoids while there are others.
    pub tried: &'a [EndpointId],
}

/// Why there is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEndpoint {
    /// The cluster has none.
    Empty,
    /// There are some, and all are unhealthy.
    Unhealthy,
    /// There are healthy ones, and all are ejected.
    Ejected,
}

/// One endpoint as the page and `/config` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// Address.
    pub address: EndpointAddress,
    /// Requests in flight.
    pub in_flight: u32,
    /// Ejected until then.
    pub ejected_until: Option<Duration>,
    /// Healthy, as the control plane says.
    pub healthy: bool,
}

#[derive(Debug)]
struct Entry {
    id: EndpointId,
    endpoint: Endpoint,
    in_flight: u32,
    standing: Standing,
    /// Current weight of smooth weighted round robin.
    current: i64,
}

impl Entry {
    fn usable(&self, now: Duration) -> bool {
        self.endpoint.healthy && self.endpoint.weight > 0 && !self.standing.is_ejected(now)
    }
}

/// The endpoints of one cluster and how they are chosen.
#[derive(Debug, Default)]
pub struct Balancer {
    balancing: Balancing,
    outlier: Option<OutlierDetection>,
    entries: Vec<Entry>,
    next_id: u64,
    /// Position of unweighted round robin.
    turn: usize,
    /// Indices that may be used, kept to avoid an allocation for each pick.
    usable: Vec<usize>,
}

impl Balancer {
    /// Takes over a new form of the cluster and its endpoints. Endpoints that stay (by address) keep their counts and standing.
    pub fn update(&mut self, cluster: &Cluster, endpoints: &[Endpoint]) {
        self.balancing = cluster.balancing;
        self.outlier.clone_from(&cluster.outlier);
        let mut before = std::mem::take(&mut self.entries);
        for endpoint in endpoints {
            let kept = before.iter().position(|e| e.endpoint.address == endpoint.address && e.endpoint.identity == endpoint.identity);
            self.entries.push(match kept {
                Some(index) => Entry { endpoint: endpoint.clone(), ..before.swap_remove(index) },
                None => {
                    self.next_id += 1;
                    let id = EndpointId(self.next_id);
                    Entry { id, endpoint: endpoint.clone(), in_flight: 0, standing: Standing::default(), current: 0 }
                }
            });
        }
    }

    /// Chooses an endpoint. The caller reports what became of it with [`Balancer::started`] and [`Balancer::finished`].
    ///
    /// # Errors
    /// When none can be used, and why.
    pub fn pick(&mut self, pick: &Pick<'_>) -> Result<(EndpointId, &Endpoint), NoEndpoint> {
        let mut usable = std::mem::take(&mut self.usable);
        usable.clear();
        usable.extend((0..self.entries.len()).filter(|i| self.entries[*i].usable(pick.now)));
        if !pick.tried.is_empty() && usable.iter().any(|i| !pick.tried.contains(&self.entries[*i].id)) {
            usable.retain(|i| !pick.tried.contains(&self.entries[*i].id));
        }
        let chosen = match usable.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => Some(match self.balancing {
                Balancing::LeastRequest | Balancing::Passthrough => self.least_request(several, pick.rolls),
                Balancing::RoundRobin => self.round_robin(several),
                Balancing::Random => self.random(several, pick.rolls.0),
            }),
        };
        self.usable = usable;
        match chosen {
            Some(index) => Ok((self.entries[index].id, &self.entries[index].endpoint)),
            None if self.entries.is_empty() => Err(NoEndpoint::Empty),
            None if self.entries.iter().any(|e| e.endpoint.healthy) => Err(NoEndpoint::Ejected),
            None => Err(NoEndpoint::Unhealthy),
        }
    }

    /// Of two drawn at random, the one with fewer requests in flight for its weight.
    fn least_request(&self, usable: &[usize], rolls: (u32, u32)) -> usize {
        let first = scale(rolls.0, usable.len());
        // The second is drawn from the others, so that two different endpoints are always compared.
        let second = (first + 1 + scale(rolls.1, usable.len() - 1)) % usable.len();
        let (a, b) = (&self.entries[usable[first]], &self.entries[usable[second]]);
        let load = |of: &Entry, other: &Entry| u64::from(of.in_flight + 1) * u64::from(other.endpoint.weight);
        if load(a, b) <= load(b, a) { usable[first] } else { usable[second] }
    }

    fn round_robin(&mut self, usable: &[usize]) -> usize {
        let weight = self.entries[usable[0]].endpoint.weight;
        if usable.iter().all(|i| self.entries[*i].endpoint.weight == weight) {
            self.turn = self.turn.wrapping_add(1);
            return usable[(self.turn - 1) % usable.len()];
        }
        // Smooth weighted round robin: everyone gains its weight, the richest pays the sum.
        let mut sum = 0;
        let mut best = usable[0];
        for index in usable {
            let entry = &mut self.entries[*index];
            let weight = i64::from(entry.endpoint.weight);
            entry.current += weight;
            sum += weight;
            if entry.current > self.entries[best].current {
                best = *index;
            }
        }
        self.entries[best].current -= sum;
        best
    }

    fn random(&self, usable: &[usize], roll: u32) -> usize {
        let sum: u64 = usable.iter().map(|i| u64::from(self.entries[*i].endpoint.weight)).sum();
        let mut point = (u64::from(roll) * sum) >> 32;
        for index in usable {
            let weight = u64::from(self.entries[*index].endpoint.weight);
            if point < weight {
                return *index;
            }
            point -= weight;
        }
        usable[usable.len() - 1]
    }

    fn entry(&mut self, id: EndpointId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|e| e.id == id)
    }

    /// A request goes to the endpoint.
    pub fn started(&mut self, id: EndpointId) {
        if let Some(entry) = self.entry(id) {
            entry.in_flight += 1;
        }
    }

    /// A request to the endpoint is over, however it ended. An endpoint that left the set meanwhile is forgotten.
    pub fn finished(&mut self, id: EndpointId) {
        if let Some(entry) = self.entry(id) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
    }

    /// The endpoint answered, or failed to. May eject it.
    pub fn observed(&mut self, id: EndpointId, outcome: Outcome, now: Duration) -> EjectionChange {
        let Some(policy) = &self.outlier else { return EjectionChange::None };
        let (total, out) = (self.entries.len(), self.entries.iter().filter(|e| e.standing.is_ejected(now)).count());
        // At least one may be out, however small the share (Envoy's rule).
        let room = out == 0 || (out + 1) * 100 <= total * usize::from(policy.ejection_percent_max);
        match self.entries.iter_mut().find(|e| e.id == id) {
            Some(entry) => entry.standing.observe(policy, outcome, now, room),
            None => EjectionChange::None,
        }
    }

    /// The rule that ejects, for the record of a request that found all endpoints ejected.
    pub fn outlier(&self) -> Option<&OutlierDetection> {
        self.outlier.as_ref()
    }

    /// All endpoints, for people.
    pub fn states(&self, now: Duration) -> impl Iterator<Item = EndpointState> + '_ {
        self.entries.iter().map(move |e| EndpointState {
            address: e.endpoint.address.clone(),
            in_flight: e.in_flight,
            ejected_until: e.standing.ejected_until(now),
            healthy: e.endpoint.healthy,
        })
    }

    /// Is an endpoint with this id still in the set?
    pub fn contains(&self, id: EndpointId) -> bool {
        self.entries.iter().any(|e| e.id == id)
    }
}

/// `roll` over all of `u32` → `0..below`.
fn scale(roll: u32, below: usize) -> usize {
    ((u64::from(roll) * below as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{EndpointTls, Origin};

    fn cluster(balancing: Balancing, outlier: Option<OutlierDetection>) -> Cluster {
        Cluster {
            name: "outbound|80||a.default.svc.cluster.local".parse().expect("name"),
            protocol: weft_model::Protocol::Http,
            balancing,
            limits: weft_model::ConnectionLimits::default(),
            outlier,
            retry_budget: weft_model::RetryBudget::default(),
            tls: weft_model::UpstreamTls::Auto,
            sni: String::new(),
            origin: Origin::built_in("a"),
        }
    }
    fn endpoint(port: u16, weight: u32) -> Endpoint {
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
            locality: String::new(),
            healthy: true,
        }
    }
    fn port(endpoint: &Endpoint) -> u16 {
        match &endpoint.address {
            EndpointAddress::Socket(a) => a.port(),
            EndpointAddress::Name { port, .. } => *port,
        }
    }
    /// A tiny generator, so that a distribution can be tested without a dependency on chance.
    fn rolls(seed: &mut u64) -> (u32, u32) {
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 32) as u32
        };
        (next(), next())
    }
    fn picks(b: &mut Balancer, n: usize) -> Vec<u16> {
        let mut seed = 7;
        (0..n).map(|_| port(b.pick(&Pick { now: Duration::ZERO, rolls: rolls(&mut seed), tried: &[] }).expect("usable").1)).collect()
    }
    fn balancer(balancing: Balancing, endpoints: &[Endpoint]) -> Balancer {
        let mut b = Balancer::default();
        b.update(&cluster(balancing, None), endpoints);
        b
    }
    fn count(of: u16, picks: &[u16]) -> usize {
        picks.iter().filter(|p| **p == of).count()
    }

    #[test]
    fn round_robin_takes_turns_and_respects_weights() {
        let mut b = balancer(Balancing::RoundRobin, &[endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]);
        assert_eq!(picks(&mut b, 6), [1, 2, 3, 1, 2, 3]);
        let mut b = balancer(Balancing::RoundRobin, &[endpoint(1, 3), endpoint(2, 1)]);
        let got = picks(&mut b, 8);
        assert_eq!((count(1, &got), count(2, &got)), (6, 2));
        assert!(got.windows(4).all(|w| w.contains(&2)), "{got:?} is smooth");
    }

    #[test]
    fn random_follows_the_weights() {
        let mut b = balancer(Balancing::Random, &[endpoint(1, 9), endpoint(2, 1), endpoint(3, 0)]);
        let got = picks(&mut b, 10_000);
        assert!((8_700..9_300).contains(&count(1, &got)), "{}", count(1, &got));
        assert_eq!(count(3, &got), 0);
    }

    #[test]
    fn least_request_prefers_the_idle_one() {
        let mut b = balancer(Balancing::LeastRequest, &[endpoint(1, 1), endpoint(2, 1)]);
        let (id, first) = b.pick(&Pick { now: Duration::ZERO, rolls: (0, 0), tried: &[] }).map(|(i, e)| (i, port(e))).expect("usable");
        b.started(id);
        assert!(picks(&mut b, 50).iter().all(|p| *p != first), "the busy one of two is never taken");
        b.finished(id);
        let got = picks(&mut b, 1_000);
        assert!(count(1, &got) > 300 && count(2, &got) > 300);
    }

    #[test]
    fn an_update_keeps_what_is_in_flight() {
        let mut b = balancer(Balancing::LeastRequest, &[endpoint(1, 1), endpoint(2, 1)]);
        let (id, _) = b.pick(&Pick { now: Duration::ZERO, rolls: (0, 0), tried: &[] }).expect("usable");
        b.started(id);
        b.update(&cluster(Balancing::LeastRequest, None), &[endpoint(3, 1), endpoint(1, 1)]);
        let state: Vec<u32> = b.states(Duration::ZERO).map(|s| s.in_flight).collect();
        assert_eq!(state, [0, 1]);
        b.update(&cluster(Balancing::LeastRequest, None), &[endpoint(3, 1)]);
        b.finished(id);
        assert!(!b.contains(id));
    }

    #[test]
    fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
        let mut b = balancer(Balancing::RoundRobin, &[endpoint(1, 1), endpoint(2, 1)]);
        let (first, _) = b.pick(&Pick { now: Duration::ZERO, rolls: (0, 0), tried: &[] }).expect("usable");
        let (second, _) = b.pick(&Pick { now: Duration::ZERO, rolls: (0, 0), tried: &[first] }).expect("usable");
        assert_ne!(first, second);
        assert!(b.pick(&Pick { now: Duration::ZERO, rolls: (0, 0), tried: &[first, second] }).is_ok());
    }

    #[test]
    fn ejection_by_consecutive_errors_with_a_growing_length() {
        let policy = OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway_errors: 0,
            base_ejection_ms: 1_000,
            interval_ms: 100,
            ejection_percent_max: 50,
            origin: Origin::built_in("o"),
        };
        let mut b = Balancer::default();
        b.update(&cluster(Balancing::RoundRobin, Some(policy)), &[endpoint(1, 1), endpoint(2, 1), endpoint(3, 1)]);
        let ids: Vec<EndpointId> = b.entries.iter().map(|e| e.id).collect();
        let ms = Duration::from_millis;
        let fail = |b: &mut Balancer, i: usize, now| b.observed(ids[i], Outcome::Status(500), now);
        assert_eq!(fail(&mut b, 0, ms(0)), EjectionChange::None);
        b.observed(ids[0], Outcome::Status(200), ms(0));
        (0..2).for_each(|_| assert_eq!(fail(&mut b, 0, ms(0)), EjectionChange::None));
        assert_eq!(fail(&mut b, 0, ms(0)), EjectionChange::Ejected { until: ms(1_000) });
        assert!(!picks(&mut b, 10).contains(&1));
        // A second one would be 67 % out, more than 50 %.
        (0..4).for_each(|_| assert_eq!(fail(&mut b, 1, ms(10)), EjectionChange::None));
        // It comes back after its time; the next ejection lasts twice as long.
        assert!(b.pick(&Pick { now: ms(1_000), rolls: (0, 0), tried: &ids[1..] }).is_ok_and(|(id, _)| id == ids[0]));
        (0..2).for_each(|_| assert_eq!(fail(&mut b, 0, ms(1_100)), EjectionChange::None));
        assert_eq!(fail(&mut b, 0, ms(1_100)), EjectionChange::Ejected { until: ms(3_100) });
    }

    #[test]
    fn reasons_for_no_endpoint() {
        let none = |b: &mut Balancer| b.pick(&Pick { now: Duration::ZERO, rolls: (0, 0), tried: &[] }).err();
        assert_eq!(none(&mut balancer(Balancing::Random, &[])), Some(NoEndpoint::Empty));
        let sick = Endpoint { healthy: false, ..endpoint(1, 1) };
        assert_eq!(none(&mut balancer(Balancing::Random, &[sick])), Some(NoEndpoint::Unhealthy));
    }
}
