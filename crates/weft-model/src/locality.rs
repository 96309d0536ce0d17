//! Locality: which endpoints a caller prefers by where it and they run. A locality is written `region/zone/subzone`.

use crate::{Endpoint, Labels};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How localities are preferred. Levels are used in order; a level that is only partly healthy spills over to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LocalityPolicy {
    /// Fixed shares by locality; a locality without a share gets nothing. The first entry that fits the caller counts.
    Distribute(Vec<LocalityShares>),
    /// Levels by nearness.
    Priority(Nearness),
    /// Levels by nearness; in the first, each zone gets what its callers need, and its own zone goes first.
    ZoneAware {
        /// Order of the levels.
        nearness: Nearness,
        /// With fewer endpoints than this, zones make no difference.
        endpoints_min: u32,
    },
}

/// Shares for the callers of some localities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalityShares {
    /// Callers: `region/zone/subzone`, with `*`.
    pub from: String,
    /// Share by locality of the endpoints.
    pub to: Vec<(String, u32)>,
}

/// What makes an endpoint near.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nearness {
    /// Labels (`key`, or `key=value`) that caller and endpoint share; the nth counts only if those before it do. Empty: by region,
    /// zone and subzone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Region to go to when one's own fails, by region.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<(String, String)>,
}

/// The caller: its locality, labels, and how many of its kind run in each zone (`region/zone`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `region/zone/subzone`.
    pub locality: String,
    /// Labels.
    pub labels: Labels,
    /// Callers of its kind by `region/zone`, itself included.
    pub callers: BTreeMap<String, u32>,
}

/// Endpoints that share one weight among the groups of their level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Indices of the endpoints.
    pub members: Vec<usize>,
    /// Its share.
    pub share: GroupShare,
}

/// The share of a group in its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupShare {
    /// A fixed weight.
    Fixed(u32),
    /// As much as the zone's callers need.
    Zone {
        /// Callers in the zone.
        callers: u32,
        /// Is it the caller's own zone?
        own: bool,
    },
}

/// The label names that stand for parts of a locality.
const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const SUBZONE_LABEL: &str = "topology.istio.io/subzone";

/// What `trafficDistribution: PreferClose` asks for.
pub const PREFER_CLOSE_LABELS: [&str; 4] = ["topology.istio.io/network", REGION_LABEL, ZONE_LABEL, SUBZONE_LABEL];

/// The locality that the labels of a workload tell: Istio's `istio-locality` (with dots), else Kubernetes' region and zone.
pub fn locality_of(labels: &Labels) -> String {
    if let Some(written) = labels.get("istio-locality") {
        return written.replace('.', "/");
    }
    let said: Vec<&str> = [REGION_LABEL, ZONE_LABEL, SUBZONE_LABEL].iter().map_while(|key| labels.get(*key)).map(String::as_str).collect();
    said.join("/")
}

fn part(locality: &str, index: usize) -> &str {
    locality.split('/').nth(index).unwrap_or_default()
}

fn zone_of(locality: &str) -> String {
    format!("{}/{}", part(locality, 0), part(locality, 1))
}

/// Does the pattern (`*`, `region/*`, `region/zone`, `region/zone/subzone`) fit? What it leaves out fits anything.
fn fits(pattern: &str, locality: &str) -> bool {
    pattern.split('/').enumerate().all(|(i, want)| want == "*" || want == part(locality, i))
}

/// A label; the parts of the locality stand where the labels do not say them.
fn label<'a>(labels: &'a Labels, locality: &'a str, key: &str) -> Option<&'a str> {
    let index = match key {
        REGION_LABEL => Some(0),
        ZONE_LABEL => Some(1),
        SUBZONE_LABEL => Some(2),
        _ => None,
    };
    let by_place = index.map(|i| part(locality, i)).filter(|part| !part.is_empty());
    by_place.or_else(|| labels.get(key).map(String::as_str))
}

impl Nearness {
    /// How far the endpoint is: 0 is the nearest.
    fn distance(&self, own: &Place, endpoint: &Endpoint) -> usize {
        if !self.labels.is_empty() {
            let shared = self.labels.iter().take_while(|written| {
                let (key, value) = written.split_once('=').map_or((written.as_str(), None), |(k, v)| (k, Some(v)));
                let wanted = value.or_else(|| label(&own.labels, &own.locality, key));
                // Two that both lack a label share it, as in Istio.
                wanted == label(&endpoint.labels, &endpoint.locality, key)
            });
            return self.labels.len() - shared.count();
        }
        let same = |index| part(&own.locality, index) == part(&endpoint.locality, index);
        let region = part(&own.locality, 0);
        let named = self.regions.iter().find(|(from, _)| from == region);
        match (same(0), same(1), same(2)) {
            // Without a place of its own a caller prefers nothing.
            _ if region.is_empty() => 0,
            (true, true, true) => 0,
            (true, true, false) => 1,
            (true, false, _) => 2,
            (false, ..) if named.is_some_and(|(_, to)| to == part(&endpoint.locality, 0)) => 3,
            (false, ..) => 4,
        }
    }

    /// Label keys that the endpoints must bring.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|written| written.split_once('=').map_or(written.as_str(), |(key, _)| key))
    }
}

impl LocalityPolicy {
    /// The levels and groups of `endpoints` as the caller sees them.
    pub fn arrange(&self, own: &Place, endpoints: &[Endpoint]) -> Vec<Vec<Group>> {
        match self {
            Self::Distribute(shares) => match shares.iter().find(|s| fits(&s.from, &own.locality)).filter(|_| !own.locality.is_empty()) {
                Some(shares) => vec![shares.groups(endpoints)],
                None => vec![vec![Group::all(endpoints)]],
            },
            Self::Priority(nearness) => {
                levels(nearness, own, endpoints).into_iter().map(|members| vec![Group { members, share: GroupShare::Fixed(1) }]).collect()
            }
            Self::ZoneAware { nearness, endpoints_min } => {
                // Zones are what the first level is shared by: only regions, or the user's labels, make levels.
                let by_region = Nearness { labels: vec![REGION_LABEL.into()], regions: Vec::new() };
                let order = if nearness.labels.is_empty() && nearness.regions.is_empty() { &by_region } else { nearness };
                let merged = match order.labels.is_empty() {
                    true => levels_by(endpoints, |e| order.distance(own, e).max(2)),
                    false => levels(order, own, endpoints),
                };
                let mut levels = merged.into_iter();
                let first = levels.next().map(|members| zones(own, endpoints, members, *endpoints_min));
                let rest = levels.map(|members| vec![Group { members, share: GroupShare::Fixed(1) }]);
                first.into_iter().chain(rest).collect()
            }
        }
    }

    /// Label keys that the endpoints must bring.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Distribute(_) => Vec::new(),
            Self::Priority(nearness) | Self::ZoneAware { nearness, .. } => nearness.keys().collect(),
        }
    }
}

impl Group {
    /// All endpoints alike.
    pub fn all(endpoints: &[Endpoint]) -> Self {
        Self { members: (0..endpoints.len()).collect(), share: GroupShare::Fixed(1) }
    }
}

impl LocalityShares {
    /// One group for each entry; an endpoint belongs to the longest pattern that fits it.
    fn groups(&self, endpoints: &[Endpoint]) -> Vec<Group> {
        let mut groups: Vec<Group> =
            self.to.iter().map(|(_, share)| Group { members: Vec::new(), share: GroupShare::Fixed(*share) }).collect();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let fitting = self.to.iter().enumerate().filter(|(_, (pattern, _))| fits(pattern, &endpoint.locality));
            let exactness = |pattern: &str| pattern.split('/').filter(|part| *part != "*").count();
            if let Some((group, _)) = fitting.max_by_key(|(_, (pattern, _))| exactness(pattern)) {
                groups[group].members.push(index);
            }
        }
        groups.retain(|g| !g.members.is_empty());
        groups
    }
}

/// Endpoints by distance, the nearest first; distances that nobody has are left out.
fn levels(nearness: &Nearness, own: &Place, endpoints: &[Endpoint]) -> Vec<Vec<usize>> {
    levels_by(endpoints, |e| nearness.distance(own, e))
}

fn levels_by(endpoints: &[Endpoint], distance: impl Fn(&Endpoint) -> usize) -> Vec<Vec<usize>> {
    let mut by_distance: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        by_distance.entry(distance(endpoint)).or_default().push(index);
    }
    by_distance.into_values().collect()
}

/// The groups of a level, one for each zone; all in one where zones cannot help.
fn zones(own: &Place, endpoints: &[Endpoint], members: Vec<usize>, endpoints_min: u32) -> Vec<Group> {
    let mut by_zone: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for index in &members {
        by_zone.entry(zone_of(&endpoints[*index].locality)).or_default().push(*index);
    }
    let home = zone_of(&own.locality);
    let few = members.len() < endpoints_min.max(1) as usize;
    if few || by_zone.len() < 2 || !by_zone.contains_key(&home) || part(&own.locality, 1).is_empty() {
        return vec![Group { members, share: GroupShare::Fixed(1) }];
    }
    let share = |zone: &str| GroupShare::Zone { callers: own.callers.get(zone).copied().unwrap_or_default(), own: zone == home };
    by_zone.into_iter().map(|(zone, members)| Group { share: share(&zone), members }).collect()
}

/// Weights of zones, each `(usable endpoints, callers, own)`: one's own zone as far as its capacity reaches, the rest to zones with
/// capacity to spare (Envoy's zone-aware routing).
pub fn zone_weights(zones: &[(u32, u32, bool)]) -> Vec<u32> {
    const WHOLE: f64 = 10_000.0;
    let (endpoints, callers) = zones.iter().fold((0, 0), |(e, c), zone| (e + zone.0, c + zone.1));
    let share = |part: u32, of: u32| if of == 0 { 0.0 } else { f64::from(part) / f64::from(of) };
    let spare = |zone: &(u32, u32, bool)| (share(zone.0, endpoints) - share(zone.1, callers)).max(0.0);
    let Some(own) = zones.iter().find(|zone| zone.2) else { return zones.iter().map(|zone| zone.0).collect() };
    let (capacity, need) = (share(own.0, endpoints), share(own.1, callers));
    let local = if capacity >= need { WHOLE } else { WHOLE * capacity / need };
    let spare_sum: f64 = zones.iter().filter(|zone| !zone.2).map(spare).sum();
    let others = |zone: &(u32, u32, bool)| match spare_sum > 0.0 {
        true => (WHOLE - local) * spare(zone) / spare_sum,
        false => (WHOLE - local) * share(zone.0, endpoints),
    };
    zones.iter().map(|zone| if zone.2 { local } else { others(zone) }.round() as u32).collect()
}

/// Envoy's overprovisioning factor, in percent: a level counts as whole while five in seven of its endpoints are usable.
const OVERPROVISIONING_PERCENT: u64 = 140;

/// How much of a set of endpoints counts as available, in percent.
pub fn availability(usable: u64, all: u64) -> u64 {
    (usable * OVERPROVISIONING_PERCENT).checked_div(all).unwrap_or_default().min(100)
}

/// The load of each level, in percent of all, from `(usable, all)` of each: a level takes what those before it cannot. The sum is 100
/// unless nothing is usable.
pub fn level_loads(levels: &[(u64, u64)]) -> Vec<u64> {
    let available: Vec<u64> = levels.iter().map(|(usable, all)| availability(*usable, *all)).collect();
    let sum = available.iter().sum::<u64>().min(100);
    if sum == 0 {
        return vec![0; levels.len()];
    }
    let mut left = 100;
    let mut loads: Vec<u64> = available
        .iter()
        .map(|a| {
            let load = (a * 100 / sum).min(left);
            left -= load;
            load
        })
        .collect();
    // What rounding left over belongs to the first that has something.
    if let Some(first) = loads.iter_mut().find(|load| **load > 0) {
        *first += left;
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(locality: &str) -> Endpoint {
        let mut e: Endpoint = serde_json::from_value(serde_json::json!({ "address": "10.0.0.1:80" })).expect("an endpoint");
        e.locality = locality.into();
        e
    }
    fn place(locality: &str) -> Place {
        Place { locality: locality.into(), ..Place::default() }
    }
    fn members(levels: &[Vec<Group>]) -> Vec<Vec<usize>> {
        levels.iter().map(|groups| groups.iter().flat_map(|g| g.members.clone()).collect()).collect()
    }

    #[test]
    fn the_nearest_first_then_the_named_region_then_the_rest() {
        let endpoints: Vec<Endpoint> = ["eu/b/1", "us/a/1", "eu/a/1", "eu/a/2", "asia/a/1", "eu/a/1"].iter().map(|l| endpoint(l)).collect();
        let by_place = LocalityPolicy::Priority(Nearness { labels: Vec::new(), regions: vec![("eu".into(), "us".into())] });
        let levels = by_place.arrange(&place("eu/a/1"), &endpoints);
        assert_eq!(members(&levels), [vec![2, 5], vec![3], vec![0], vec![1], vec![4]]);
        assert_eq!(members(&by_place.arrange(&place(""), &endpoints)), [vec![0, 1, 2, 3, 4, 5]]);
    }

    #[test]
    fn labels_count_only_while_those_before_them_do() {
        let mut endpoints = vec![endpoint("eu/a"), endpoint("eu/b"), endpoint("us/a")];
        endpoints[1].labels.insert("version".into(), "v2".into());
        let labels = vec![REGION_LABEL.to_owned(), "version=v2".to_owned(), ZONE_LABEL.to_owned()];
        let policy = LocalityPolicy::Priority(Nearness { labels, regions: Vec::new() });
        // 1 shares region and version; 0 the region; 2 only the zone, which does not count.
        assert_eq!(members(&policy.arrange(&place("eu/a"), &endpoints)), [vec![1], vec![0], vec![2]]);
        assert_eq!(policy.keys(), [REGION_LABEL, "version", ZONE_LABEL]);
    }

    #[test]
    fn shares_go_to_the_localities_that_are_named_only() {
        let endpoints: Vec<Endpoint> = ["eu/a/1", "eu/b/1", "us/a/1", "eu/a/2"].iter().map(|l| endpoint(l)).collect();
        let to = vec![("eu/a/*".to_owned(), 80), ("eu/b".to_owned(), 20)];
        let policy = LocalityPolicy::Distribute(vec![LocalityShares { from: "eu/*".into(), to }]);
        let groups = policy.arrange(&place("eu/c/1"), &endpoints).remove(0);
        assert_eq!(groups[0], Group { members: vec![0, 3], share: GroupShare::Fixed(80) });
        assert_eq!(groups[1], Group { members: vec![1], share: GroupShare::Fixed(20) });
        assert_eq!(members(&policy.arrange(&place("us/a/1"), &endpoints)), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn labels_tell_a_locality() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Labels>();
        assert_eq!(locality_of(&labels(&[("istio-locality", "eu.a.1")])), "eu/a/1");
        assert_eq!(locality_of(&labels(&[(REGION_LABEL, "eu"), (ZONE_LABEL, "a"), ("app", "x")])), "eu/a");
        assert_eq!(locality_of(&labels(&[(ZONE_LABEL, "a")])), "", "a zone without a region is none");
    }

    #[test]
    fn zones_share_the_first_level_by_need() {
        let endpoints: Vec<Endpoint> = ["eu/a", "eu/a", "eu/b", "eu/b", "us/a"].iter().map(|l| endpoint(l)).collect();
        let policy = LocalityPolicy::ZoneAware { nearness: Nearness::default(), endpoints_min: 4 };
        let levels = policy.arrange(&place("eu/a"), &endpoints);
        assert_eq!(members(&levels), [vec![0, 1, 2, 3], vec![4]]);
        assert_eq!(levels[0].len(), 2);
        let wide = LocalityPolicy::ZoneAware { nearness: Nearness::default(), endpoints_min: 6 };
        assert_eq!(wide.arrange(&place("eu/a"), &endpoints)[0].len(), 1, "too few endpoints");
    }

    #[test]
    fn a_zone_keeps_what_it_can_and_spills_the_rest() {
        // As much capacity as need: all at home.
        assert_eq!(zone_weights(&[(2, 2, true), (2, 2, false)]), [10_000, 0]);
        // Half of the callers, a quarter of the endpoints: half stays.
        assert_eq!(zone_weights(&[(1, 2, true), (3, 2, false)]), [5_000, 5_000]);
        assert_eq!(zone_weights(&[(0, 2, true), (3, 2, false)]), [0, 10_000]);
    }

    #[test]
    fn a_level_spills_over_when_five_in_seven_are_not_enough() {
        assert_eq!(level_loads(&[(10, 10), (10, 10)]), [100, 0]);
        assert_eq!(level_loads(&[(72, 100), (10, 10)]), [100, 0]);
        assert_eq!(level_loads(&[(5, 10), (10, 10)]), [70, 30]);
        assert_eq!(level_loads(&[(0, 10), (10, 10)]), [0, 100]);
        assert_eq!(level_loads(&[(0, 10), (0, 10)]), [0, 0]);
        // Nothing is whole: what is available is shared in proportion.
        assert_eq!(level_loads(&[(2, 10), (2, 10)]), [50, 50]);
    }
}
