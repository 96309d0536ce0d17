//! The plan of a cluster: its endpoints with their standings, in levels and groups, with the hash tables. Made off the request path
//! whenever the cluster or its endpoints change, and shared by the workers.

use crate::{
    standing::{EndpointId, Standing, Standings},
    table::{Entry, Table},
};
use std::{sync::Arc, time::Duration};
use weft_model::{Balancing, Cluster, Endpoint, Group, GroupShare, HashPolicy, OutlierDetection, Place, SlowStart};

/// One endpoint of a plan.
#[derive(Debug)]
pub struct Host {
    /// Its id.
    pub id: EndpointId,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its standing, shared by the workers.
    pub standing: Arc<Standing>,
}

/// Endpoints that are used before those of the next level.
#[derive(Debug)]
pub(crate) struct LevelPlan {
    pub groups: Vec<Group>,
    pub table: Option<Table>,
}

/// The plan.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) balancing: Balancing,
    pub(crate) hash: Option<HashPolicy>,
    pub(crate) slow_start: Option<SlowStart>,
    pub(crate) panic_percent: u8,
    pub(crate) outlier: Option<OutlierDetection>,
    pub(crate) checked: bool,
    pub(crate) standings: Arc<Standings>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) levels: Vec<LevelPlan>,
    /// Places of the hosts, by id.
    index: Vec<(EndpointId, u32)>,
}

impl Plan {
    /// The plan of `cluster` with `endpoints` for a caller at `place`.
    pub fn new(cluster: &Cluster, endpoints: Vec<Endpoint>, place: &Place, standings: Arc<Standings>) -> Self {
        let groups = match &cluster.locality {
            Some(locality) => locality.arrange(place, &endpoints),
            None => vec![vec![Group::all(&endpoints)]],
        };
        let enrolled = standings.enrol(&endpoints);
        let hosts: Vec<Host> =
            endpoints.into_iter().zip(enrolled).map(|(endpoint, (id, standing))| Host { id, endpoint, standing }).collect();
        let mut index: Vec<(EndpointId, u32)> = hosts.iter().zip(0u32..).map(|(host, at)| (host.id, at)).collect();
        index.sort_unstable();
        let levels = groups.into_iter().map(|groups| LevelPlan { table: table(cluster, &hosts, &groups), groups }).collect();
        Self {
            balancing: cluster.balancing,
            hash: cluster.hash.clone(),
            slow_start: cluster.slow_start,
            panic_percent: cluster.panic_percent,
            outlier: cluster.outlier.clone(),
            checked: cluster.health_check.is_some(),
            standings,
            hosts,
            levels,
            index,
        }
    }

    /// Where the endpoint with this id stands.
    pub(crate) fn place_of(&self, id: EndpointId) -> Option<usize> {
        let found = self.index.binary_search_by_key(&id, |(known, _)| *known).ok()?;
        self.index.get(found).map(|(_, at)| *at as usize)
    }

    /// End of the endpoint's ejection. A verdict holds only as long as the policy that it came from.
    pub(crate) fn ejected_until(&self, host: &Host, now: Duration) -> Option<Duration> {
        self.outlier.as_ref().and_then(|_| host.standing.ejected_until(now))
    }

    /// Does it fail its health check? As for ejections.
    pub(crate) fn fails_check(&self, host: &Host) -> bool {
        self.checked && host.standing.fails_check()
    }

    /// The endpoints.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What all workers know of the endpoints.
    pub fn standings(&self) -> &Arc<Standings> {
        &self.standings
    }

    /// What a request must be hashed by, when it is.
    pub fn hash(&self) -> Option<&HashPolicy> {
        self.hash.as_ref().filter(|_| matches!(self.balancing, Balancing::RingHash | Balancing::Maglev))
    }
}

/// The hash table of a level; weights of groups are weights of their endpoints.
fn table(cluster: &Cluster, hosts: &[Host], groups: &[Group]) -> Option<Table> {
    let policy = cluster.hash.as_ref()?;
    let share = |group: &Group| match group.share {
        GroupShare::Fixed(weight) => u64::from(weight),
        GroupShare::Zone { .. } => 1,
    };
    let of_group = |group: &Group| {
        let share = share(group);
        let member = move |at: &usize| {
            let endpoint = &hosts[*at].endpoint;
            Entry {
                index: u32::try_from(*at).unwrap_or(u32::MAX),
                key: endpoint.address.to_string(),
                weight: u64::from(endpoint.weight) * share,
            }
        };
        group.members.iter().map(member).collect::<Vec<_>>()
    };
    let entries: Vec<Entry> = groups.iter().flat_map(of_group).collect();
    match cluster.balancing {
        Balancing::RingHash => Some(Table::ring(&entries, policy.size)),
        Balancing::Maglev => Some(Table::maglev(&entries, policy.size)),
        Balancing::LeastRequest | Balancing::RoundRobin | Balancing::Random | Balancing::Passthrough | Balancing::Ewma => None,
    }
}
