//! The balancer: which endpoint of a cluster is next, for one worker.
//!
//! What may be used is worked out when something changes (a new plan, an ejection, an ejection's end, a step of a warm-up), not
//! at each pick: a pick reads two numbers to see that nothing did, and costs O(1), or O(log n) with weights and tables.

use crate::{
    plan::Plan,
    standing::{EjectionChange, EndpointId, Outcome, ms},
};
use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};
use weft_model::{Balancing, Endpoint, EndpointAddress, GroupShare, OutlierDetection, availability, level_loads, stir, zone_weights};

/// What a pick sees of time and chance. `roll`s are uniform over all of `u32`.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// Time since the proxy's epoch.
    pub now: Duration,
    /// Two rolls.
    pub rolls: (u32, u32),
    /// Endpoints tried before, which a retry avoids while there are others.
    pub tried: &'a [EndpointId],
    /// Endpoints tried before, whose localities a retry leaves while others have usable endpoints.
    pub left: &'a [EndpointId],
    /// Hash of the request, for the algorithms that go by it.
    pub hash: Option<u64>,
}

/// Why there is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEndpoint {
    /// The cluster has none.
    Empty,
    /// There are some, and all are unhealthy.
    Unhealthy,
    /// All fail their active health check.
    FailsCheck,
    /// There are healthy ones, and all are ejected.
    Ejected,
}

/// One endpoint as the page and `/config` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// Id.
    pub id: EndpointId,
    /// Address.
    pub address: EndpointAddress,
    /// Requests in flight from this worker.
    pub in_flight: u32,
    /// Ejected until then.
    pub ejected_until: Option<Duration>,
    /// Says until then that it is busy.
    pub busy_until: Option<Duration>,
    /// Healthy, as the control plane says.
    pub healthy: bool,
    /// Fails its active health check.
    pub fails_check: bool,
    /// Level of preference, from 0.
    pub priority: usize,
    /// Expected latency in microseconds, where it is measured.
    pub latency_us: u64,
}

/// What this worker knows of one endpoint.
#[derive(Debug, Default, Clone)]
struct Local {
    in_flight: u32,
    /// Peak-sensitive mean of latencies, in microseconds, as of `measured`.
    latency_us: f64,
    measured: Duration,
    /// Virtual time of its next turn in weighted round robin.
    turn: u64,
}

/// Hosts of a group that may be used now.
#[derive(Debug, Default)]
struct Usable {
    hosts: Vec<u32>,
    /// Running sums of weights; empty when all weights are equal.
    sums: Vec<u64>,
    weights: Vec<u64>,
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    turn: usize,
    /// Weight of the group in its level.
    weight: u64,
}

#[derive(Debug, Default)]
struct Level {
    /// Share of all picks, in percent.
    load: u64,
    groups: Vec<Usable>,
    weight: u64,
}

/// The endpoints of one cluster and how they are chosen.
#[derive(Debug, Default)]
pub struct Balancer {
    plan: Arc<Plan>,
    locals: Vec<Local>,
    levels: Vec<Level>,
    /// Which hosts may be used now, by place.
    open: Vec<bool>,
    stale: bool,
    seen: u64,
    /// When something changes by the clock alone.
    next_change: Duration,
}

/// Latency that is expected of an endpoint that has not been measured, in microseconds.
const LATENCY_DEFAULT_US: f64 = 30_000.0;
/// Time in which the memory of a latency fades to a third.
const LATENCY_DECAY: Duration = Duration::from_secs(10);
/// A busy endpoint looks so many times as slow.
const BUSY_FACTOR: f64 = 1e6;
/// Weights count in thousandths while endpoints warm up.
const WARMING_SCALE: u64 = 1_000;
/// A warm-up goes in so many steps, and none is shorter than this.
const WARMING_STEPS: u64 = 64;
const WARMING_STEP_MIN: Duration = Duration::from_millis(50);
/// A turn of weight 1 in weighted round robin.
const TURN: u64 = 1 << 32;

impl Balancer {
    /// Takes over a new plan. Endpoints that stay keep their counts.
    pub fn update(&mut self, plan: Arc<Plan>) {
        let before = std::mem::replace(&mut self.plan, plan);
        let mut locals = std::mem::take(&mut self.locals);
        let kept = |id| before.place_of(id).and_then(|at| locals.get_mut(at)).map(std::mem::take);
        self.locals = self.plan.hosts.iter().map(|host| host.id).map(kept).map(Option::unwrap_or_default).collect();
        self.stale = true;
    }

    /// The plan in use.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Chooses an endpoint. The caller reports what became of it with [`Balancer::started`] and [`Balancer::finished`].
    ///
    /// # Errors
    /// When none can be used, and why.
    pub fn pick(&mut self, pick: &Pick<'_>) -> Result<(EndpointId, &Endpoint), NoEndpoint> {
        self.refresh(pick.now);
        let place = self.place(pick).ok_or_else(|| self.why_none(pick.now))?;
        let host = &self.plan.hosts[place];
        Ok((host.id, &host.endpoint))
    }

    /// The endpoint itself, if it may be used: for callers that are held at theirs.
    pub fn pinned(&mut self, wanted: impl Fn(&Endpoint) -> bool, now: Duration) -> Option<(EndpointId, &Endpoint)> {
        self.refresh(now);
        let open = &self.open;
        let found = self.plan.hosts.iter().zip(open).find(|(host, open)| **open && wanted(&host.endpoint));
        found.map(|(host, _)| (host.id, &host.endpoint))
    }

    fn place(&mut self, pick: &Pick<'_>) -> Option<usize> {
        let by_hash = pick.hash.filter(|_| self.plan.hash().is_some());
        // Further rolls are stirred from the two: independent enough for shares.
        let chance = by_hash.unwrap_or_else(|| stir(u64::from(pick.rolls.0) << 32 | u64::from(pick.rolls.1)));
        let level = self.level(stir(chance ^ 0x9e37_79b9))?;
        let first = match by_hash {
            Some(hash) => self.by_hash(level, hash, &[])?,
            None => self.by_algorithm(level, chance, pick)?,
        };
        if !pick.left.is_empty()
            && let Some(remote) = self.elsewhere(chance, pick)
        {
            return Some(remote);
        }
        if pick.tried.is_empty() || !pick.tried.contains(&self.plan.hosts[first].id) {
            return Some(first);
        }
        // A retry: rare, and it may look at all.
        let hashed = by_hash.and_then(|hash| self.by_hash(level, hash, pick.tried));
        Some(hashed.or_else(|| self.untried(level, first, pick.tried)).unwrap_or(first))
    }

    fn level(&self, roll: u64) -> Option<usize> {
        let mut point = roll % 100;
        self.levels.iter().position(|level| match level.load.checked_sub(point + 1) {
            Some(_) => true,
            None => {
                point -= level.load;
                false
            }
        })
    }

    fn by_hash(&self, level: usize, hash: u64, tried: &[EndpointId]) -> Option<usize> {
        let table = self.plan.levels.get(level)?.table.as_ref()?;
        let usable = |at: u32| self.open[at as usize] && !tried.contains(&self.plan.hosts[at as usize].id);
        table.find(hash, usable).map(|at| at as usize)
    }

    fn by_algorithm(&mut self, level: usize, chance: u64, pick: &Pick<'_>) -> Option<usize> {
        let level = self.levels.get_mut(level)?;
        let group = match level.groups.as_mut_slice() {
            [only] => only,
            several => {
                let mut point = ((u128::from(stir(chance)) * u128::from(level.weight)) >> 64) as u64;
                let found = several.iter().position(|group| match group.weight.checked_sub(point + 1) {
                    Some(_) => true,
                    None => {
                        point -= group.weight;
                        false
                    }
                });
                several.get_mut(found?)?
            }
        };
        if let [only] = group.hosts.as_slice() {
            return Some(*only as usize);
        }
        let (hosts, locals) = (&self.plan.hosts, &mut self.locals);
        let at = match self.plan.balancing {
            Balancing::LeastRequest | Balancing::Passthrough => group.of_two(pick.rolls, |at, weight| {
                // In flight for its weight; without load the draw alone decides, which goes by weight already.
                f64::from(locals[at].in_flight) / weight as f64
            }),
            Balancing::RoundRobin => group.next_turn(locals),
            // Without a hash a request has no place of its own.
            Balancing::Random | Balancing::RingHash | Balancing::Maglev => group.draw(pick.rolls.0),
            Balancing::Ewma => {
                let now_ms = ms(pick.now);
                group.of_two(pick.rolls, |at, _| {
                    let busy = if hosts[at].standing.is_busy(now_ms) { BUSY_FACTOR } else { 1.0 };
                    locals[at].expected_us(pick.now) * f64::from(locals[at].in_flight + 1) * busy
                })
            }
        };
        group.hosts.get(at).map(|place| *place as usize)
    }

    /// Another usable endpoint: of the level, else of any level; the search starts behind `first`, so that retries spread.
    fn untried(&self, level: usize, first: usize, tried: &[EndpointId]) -> Option<usize> {
        let free = |at: &usize| self.open[*at] && !tried.contains(&self.plan.hosts[*at].id);
        let members = |level: &'_ crate::plan::LevelPlan| level.groups.iter().flat_map(|g| g.members.clone()).collect::<Vec<_>>();
        let near = self.plan.levels.get(level).map(members).unwrap_or_default();
        let start = near.iter().position(|at| *at == first).map_or(0, |p| p + 1);
        let round = near[start..].iter().chain(&near[..start]);
        round.copied().find(|at| free(at)).or_else(|| self.plan.levels.iter().flat_map(members).find(|at| free(at)))
    }

    /// A usable endpoint in a locality that none of `left` is in: of the first level that has one.
    fn elsewhere(&self, chance: u64, pick: &Pick<'_>) -> Option<usize> {
        let hosts = &self.plan.hosts;
        let localities: Vec<&str> =
            pick.left.iter().filter_map(|id| Some(hosts[self.plan.place_of(*id)?].endpoint.locality.as_str())).collect();
        let fits = |at: &usize| {
            let host = &hosts[*at];
            self.open[*at] && !pick.tried.contains(&host.id) && !localities.contains(&host.endpoint.locality.as_str())
        };
        self.plan.levels.iter().find_map(|level| {
            let found: Vec<usize> = level.groups.iter().flat_map(|group| group.members.iter().copied()).filter(fits).collect();
            let roll = usize::try_from(stir(chance) >> 32).unwrap_or_default();
            found.get(roll.checked_rem(found.len())?).copied()
        })
    }

    fn why_none(&self, now: Duration) -> NoEndpoint {
        let hosts = &self.plan.hosts;
        let declared = || hosts.iter().filter(|h| h.endpoint.healthy && h.endpoint.weight > 0);
        match () {
            () if hosts.is_empty() => NoEndpoint::Empty,
            () if declared().next().is_none() => NoEndpoint::Unhealthy,
            () if declared().any(|h| self.plan.ejected_until(h, now).is_some()) => NoEndpoint::Ejected,
            () if declared().any(|h| self.plan.fails_check(h)) => NoEndpoint::FailsCheck,
            () => NoEndpoint::Unhealthy,
        }
    }

    fn entry(&mut self, id: EndpointId) -> Option<&mut Local> {
        let at = self.plan.place_of(id)?;
        self.locals.get_mut(at)
    }

    /// A request goes to the endpoint.
    pub fn started(&mut self, id: EndpointId) {
        if let Some(local) = self.entry(id) {
            local.in_flight += 1;
        }
    }

    /// A request to the endpoint is over, however it ended. An endpoint that left the set meanwhile is forgotten.
    pub fn finished(&mut self, id: EndpointId) {
        if let Some(local) = self.entry(id) {
            local.in_flight = local.in_flight.saturating_sub(1);
        }
    }

    /// The endpoint answered, or failed to. May eject it.
    pub fn observed(&mut self, id: EndpointId, outcome: Outcome, now: Duration) -> EjectionChange {
        let Some(policy) = &self.plan.outlier else { return EjectionChange::None };
        let Some(host) = self.plan.place_of(id).and_then(|at| self.plan.hosts.get(at)) else { return EjectionChange::None };
        self.plan.standings.observe(policy, &host.standing, outcome, now)
    }

    /// The answer took so long to begin. A longer one counts at once, a shorter one slowly.
    pub fn measured(&mut self, id: EndpointId, latency: Duration, now: Duration) {
        if self.plan.balancing != Balancing::Ewma {
            return;
        }
        if let Some(local) = self.entry(id) {
            let (sample, expected) = (latency.as_micros() as f64, local.expected_us(now));
            let fade = fade(now.saturating_sub(local.measured));
            local.latency_us =
                if local.measured.is_zero() || sample > expected { sample } else { local.latency_us * fade + sample * (1.0 - fade) };
            local.measured = now.max(Duration::from_nanos(1));
        }
    }

    /// The endpoint asks to be left alone until then.
    pub fn busy(&self, id: EndpointId, until: Duration) {
        if let Some(host) = self.plan.place_of(id).and_then(|at| self.plan.hosts.get(at)) {
            self.plan.standings.busy(&host.standing, until);
        }
    }

    /// The rule that ejects, for the record of a request that found all endpoints ejected.
    pub fn outlier(&self) -> Option<&OutlierDetection> {
        self.plan.outlier.as_ref()
    }

    /// All endpoints, for people.
    pub fn states(&self, now: Duration) -> impl Iterator<Item = EndpointState> + '_ {
        let level_of = |at: usize| self.plan.levels.iter().position(|l| l.groups.iter().any(|g| g.members.contains(&at)));
        self.plan.hosts.iter().zip(&self.locals).enumerate().map(move |(at, (host, local))| EndpointState {
            id: host.id,
            address: host.endpoint.address.clone(),
            in_flight: local.in_flight,
            ejected_until: self.plan.ejected_until(host, now),
            busy_until: host.standing.busy_until(now),
            healthy: host.endpoint.healthy,
            fails_check: self.plan.fails_check(host),
            priority: level_of(at).unwrap_or_default(),
            latency_us: if local.measured.is_zero() { 0 } else { local.expected_us(now) as u64 },
        })
    }

    /// Is an endpoint with this id still in the set?
    pub fn contains(&self, id: EndpointId) -> bool {
        self.plan.place_of(id).is_some()
    }
}

impl Balancer {
    /// Works out what may be used, if anything changed since.
    fn refresh(&mut self, now: Duration) {
        let version = self.plan.standings.version();
        if !self.stale && version == self.seen && now < self.next_change {
            return;
        }
        (self.stale, self.seen, self.next_change) = (false, version, Duration::MAX);
        self.open.clear();
        for host in &self.plan.hosts {
            let ejected = self.plan.ejected_until(host, now);
            if let Some(until) = ejected {
                self.next_change = self.next_change.min(until);
            }
            self.open.push(host.endpoint.healthy && host.endpoint.weight > 0 && ejected.is_none() && !self.plan.fails_check(host));
        }
        let loads = self.loads();
        let plan = self.plan.clone();
        let mut before = std::mem::take(&mut self.levels).into_iter().flat_map(|level| level.groups).map(|group| group.turn);
        for (level, load) in plan.levels.iter().zip(loads) {
            let mut groups: Vec<Usable> = Vec::new();
            for group in &level.groups {
                let turn = before.next().unwrap_or_default();
                groups.push(Usable { turn, ..self.usable(&group.members, now) });
            }
            weigh(&mut groups, &level.groups);
            let weight = groups.iter().map(|g| g.weight).sum();
            self.levels.push(Level { load, groups, weight });
        }
    }

    fn count(&self, level: &crate::plan::LevelPlan) -> (u64, u64) {
        let members = || level.groups.iter().flat_map(|g| &g.members);
        (members().filter(|at| self.open[**at]).count() as u64, members().count() as u64)
    }

    /// The load of each level. Envoy's panic: where too few of a level are left, and all levels together are not enough, better all
    /// of its endpoints than those few.
    fn loads(&mut self) -> Vec<u64> {
        let counts: Vec<(u64, u64)> = self.plan.levels.iter().map(|level| self.count(level)).collect();
        let loads = level_loads(&counts);
        let enough = counts.iter().map(|(usable, all)| availability(*usable, *all)).sum::<u64>() >= 100;
        if enough || self.plan.panic_percent == 0 {
            return loads;
        }
        let plan = self.plan.clone();
        let panics = |(usable, all): &(u64, u64)| usable * 100 < all * u64::from(plan.panic_percent);
        for level in plan.levels.iter().zip(&counts).filter(|(_, counts)| panics(counts)).map(|(level, _)| level) {
            for at in level.groups.iter().flat_map(|g| &g.members) {
                self.open[*at] = plan.hosts[*at].endpoint.weight > 0;
            }
        }
        match counts.iter().all(panics) {
            // Nowhere is enough: by the number of endpoints.
            true => level_loads(&counts.iter().map(|(_, all)| (*all, counts.iter().map(|c| c.1).sum::<u64>() * 2)).collect::<Vec<_>>()),
            false => loads,
        }
    }

    /// The usable members of a group with their weights of the moment.
    fn usable(&mut self, members: &[usize], now: Duration) -> Usable {
        let mut usable = Usable::default();
        for at in members.iter().filter(|at| self.open[**at]) {
            let host = &self.plan.hosts[*at];
            let mut weight = u64::from(host.endpoint.weight);
            if let Some(slow_start) = &self.plan.slow_start {
                let age_ms = ms(now).saturating_sub(host.standing.came_ms(ms(now)));
                if age_ms < slow_start.duration_ms {
                    let step = Duration::from_millis(slow_start.duration_ms / WARMING_STEPS).max(WARMING_STEP_MIN);
                    self.next_change = self.next_change.min(now + step);
                }
                weight = ((weight * WARMING_SCALE) as f64 * slow_start.share(age_ms)).max(1.0) as u64;
            }
            usable.hosts.push(u32::try_from(*at).unwrap_or(u32::MAX));
            usable.weights.push(weight);
        }
        let equal = usable.weights.windows(2).all(|pair| pair[0] == pair[1]);
        if equal {
            return usable;
        }
        let sums = usable.weights.iter().scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        usable.sums = sums.collect();
        if self.plan.balancing == Balancing::RoundRobin {
            // Who was there keeps its turn; who is new waits one turn of its weight.
            let known = usable.hosts.iter().map(|at| self.locals[*at as usize].turn).filter(|turn| *turn > 0).min();
            for (at, weight) in usable.hosts.iter().zip(&usable.weights) {
                let local = &mut self.locals[*at as usize];
                if local.turn == 0 {
                    local.turn = known.unwrap_or_default() + TURN / weight.max(&1);
                }
                usable.queue.push(Reverse((local.turn, *at)));
            }
        }
        usable
    }
}

/// The weights of the groups of a level: as far as they are available, or as their callers need.
fn weigh(groups: &mut [Usable], plans: &[weft_model::Group]) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let zones: Vec<(u32, u32, bool)> = plans
        .iter()
        .zip(groups.iter())
        .filter_map(|(plan, usable)| match plan.share {
            GroupShare::Zone { callers, own } => Some((count(usable.hosts.len()), callers, own)),
            GroupShare::Fixed(_) => None,
        })
        .collect();
    let by_zone = zone_weights(&zones);
    for (index, (plan, usable)) in plans.iter().zip(groups.iter_mut()).enumerate() {
        usable.weight = match plan.share {
            _ if usable.hosts.is_empty() => 0,
            GroupShare::Fixed(weight) => u64::from(weight) * availability(usable.hosts.len() as u64, plan.members.len() as u64),
            GroupShare::Zone { .. } => u64::from(by_zone.get(index).copied().unwrap_or_default()),
        };
    }
}

impl Usable {
    /// A place in `hosts`, by weight.
    fn draw(&self, roll: u32) -> usize {
        match self.sums.last() {
            None => scale(roll, self.hosts.len()),
            Some(sum) => {
                let point = (u64::from(roll) * sum) >> 32;
                self.sums.partition_point(|bound| *bound <= point)
            }
        }
    }

    /// Of two drawn at random, the one with the lower cost; the first of two equals.
    fn of_two(&self, rolls: (u32, u32), cost: impl Fn(usize, u64) -> f64) -> usize {
        let first = self.draw(rolls.0);
        // The second is another one, so that two different endpoints are always compared.
        let second = match self.sums.is_empty() {
            true => (first + 1 + scale(rolls.1, self.hosts.len() - 1)) % self.hosts.len(),
            false => match self.draw(rolls.1) {
                same if same == first => (first + 1) % self.hosts.len(),
                other => other,
            },
        };
        let cost = |at: usize| cost(self.hosts[at] as usize, self.weights[at]);
        if cost(first) <= cost(second) { first } else { second }
    }

    /// In turn; with weights, the earliest deadline first.
    fn next_turn(&mut self, locals: &mut [Local]) -> usize {
        let Some(Reverse((turn, place))) = self.queue.pop() else {
            self.turn = self.turn.wrapping_add(1);
            return (self.turn - 1) % self.hosts.len();
        };
        let at = self.hosts.partition_point(|known| *known < place);
        let next = turn + TURN / self.weights.get(at).copied().unwrap_or(1).max(1);
        locals[place as usize].turn = next;
        self.queue.push(Reverse((next, place)));
        at
    }
}

impl Local {
    /// The latency to expect: what was measured fades, so that a slow endpoint is tried again.
    fn expected_us(&self, now: Duration) -> f64 {
        match self.measured.is_zero() {
            true => LATENCY_DEFAULT_US,
            false => (self.latency_us * fade(now.saturating_sub(self.measured))).max(1.0),
        }
    }
}

fn fade(age: Duration) -> f64 {
    (-age.as_secs_f64() / LATENCY_DECAY.as_secs_f64()).exp()
}

/// `roll` over all of `u32` → `0..below`.
fn scale(roll: u32, below: usize) -> usize {
    ((u64::from(roll) * below as u64) >> 32) as usize
}

#[cfg(test)]
mod tests;
