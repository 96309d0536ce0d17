//! Finding a rule among many: an index over hosts and paths that gives the same answer as trying the rules in order.

use crate::{HostPattern, HttpRoute, PathMatch, RequestHead, RouteTable, VirtualHost};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// With fewer rules than this, trying them in order is as fast.
const ROUTES_MIN: usize = 12;
/// With fewer hosts than this, trying them in order is as fast.
const HOSTS_MIN: usize = 8;

/// An index over a [`RouteTable`]; built once per snapshot.
#[derive(Debug, Default)]
pub struct RouteIndex {
    /// Exact hosts, when there are many.
    hosts: Option<HashMap<String, usize>>,
    /// Per virtual host.
    paths: Vec<Option<PathIndex>>,
}

/// Places of rules (in order of precedence) by what their paths begin with or are.
#[derive(Debug, Default)]
struct PathIndex {
    exact: HashMap<String, Vec<u32>>,
    prefixes: HashMap<String, Vec<u32>>,
    /// Lengths of the keys of `prefixes`.
    lengths: Vec<usize>,
    /// Rules that must always be tried.
    others: Vec<u32>,
}

impl RouteIndex {
    /// The index of `table`.
    pub fn new(table: &RouteTable) -> Self {
        let many_hosts = table.hosts.iter().map(|v| v.hosts.len()).sum::<usize>() >= HOSTS_MIN;
        let hosts = many_hosts.then(|| {
            let mut map = HashMap::new();
            for (index, host) in table.hosts.iter().enumerate() {
                for pattern in &host.hosts {
                    if let HostPattern::Exact(name) = pattern {
                        map.entry(name.to_string()).or_insert(index);
                    }
                }
            }
            map
        });
        Self {
            hosts,
            paths: table.hosts.iter().map(|host| (host.routes.len() >= ROUTES_MIN).then(|| PathIndex::new(&host.routes))).collect(),
        }
    }

    /// The same as [`RouteTable::find`] of the table that the index was made of.
    pub fn find<'t>(&self, table: &'t RouteTable, request: &RequestHead<'_>) -> Option<&'t Arc<HttpRoute>> {
        let place = self.virtual_host(table, request.host)?;
        let host = table.hosts.get(place)?;
        match self.paths.get(place) {
            Some(Some(index)) => index.find(&host.routes, request),
            _ => host.routes.iter().find(|r| r.matches(request)),
        }
    }

    fn virtual_host(&self, table: &RouteTable, host: &str) -> Option<usize> {
        // An exact name is more specific than any pattern.
        if let Some(place) = self.hosts.as_ref().and_then(|hosts| hosts.get(host)) {
            return Some(*place);
        }
        let found: &VirtualHost = table.virtual_host(host)?;
        table.hosts.iter().position(|v| std::ptr::eq(v, found))
    }
}

impl PathIndex {
    fn new(routes: &[Arc<HttpRoute>]) -> Self {
        let mut index = Self::default();
        let mut lengths = BTreeSet::new();
        for (place, route) in (0_u32..).zip(routes) {
            let keyed = |m: &crate::HttpMatch| {
                !m.ignore_path_case && matches!(m.path, Some(PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::SegmentPrefix(_)))
            };
            if route.matches.is_empty() || !route.matches.iter().all(keyed) {
                index.others.push(place);
                continue;
            }
            for path in route.matches.iter().filter_map(|m| m.path.as_ref()) {
                let (map, key) = match path {
                    PathMatch::Exact(text) => (&mut index.exact, text.as_str()),
                    PathMatch::SegmentPrefix(text) => (&mut index.prefixes, text.trim_end_matches('/')),
                    PathMatch::Prefix(text) => (&mut index.prefixes, text.as_str()),
                    PathMatch::Regex(_) => continue,
                };
                if !matches!(path, PathMatch::Exact(_)) {
                    lengths.insert(key.len());
                }
                let places = map.entry(key.to_owned()).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        index.lengths = lengths.into_iter().collect();
        index
    }

    fn find<'t>(&self, routes: &'t [Arc<HttpRoute>], request: &RequestHead<'_>) -> Option<&'t Arc<HttpRoute>> {
        let path = request.path;
        // Sorted lists of places; the smallest place of all that matches wins.
        let mut best: Option<u32> = None;
        let mut consider = |places: &[u32]| {
            for place in places.iter().take_while(|place| best.is_none_or(|b| **place < b)) {
                if routes.get(*place as usize).is_some_and(|r| r.matches(request)) {
                    best = Some(*place);
                    break;
                }
            }
        };
        if let Some(places) = self.exact.get(path) {
            consider(places);
        }
        for length in self.lengths.iter().rev().filter(|length| **length <= path.len()) {
            if let Some(places) = path.get(..*length).and_then(|head| self.prefixes.get(head)) {
                consider(places);
            }
        }
        consider(&self.others);
        routes.get(best? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HttpMatch, Origin, Pattern, RouteTableName, StringMatch};
    use http::HeaderMap;

    fn route(place: usize, path: PathMatch, method: Option<&str>) -> Arc<HttpRoute> {
        let method = method.map(|m| StringMatch::Exact(m.into()));
        let m = HttpMatch { path: Some(path), method, ignore_path_case: place % 17 == 3, ..HttpMatch::default() };
        Arc::new(HttpRoute { matches: vec![m], ..HttpRoute::new(place.to_string(), Origin::default()) })
    }

    /// Paths over a small alphabet, so that many rules match one request.
    fn path(mut number: usize) -> String {
        let mut text = String::new();
        for _ in 0..(number % 4) {
            number /= 4;
            text.push('/');
            text.push_str(["a", "b", "ab", "A"][number % 4]);
        }
        if text.is_empty() { "/".into() } else { text }
    }

    #[test]
    fn the_index_finds_what_trying_in_order_finds() {
        let mut state = 7_usize;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for _ in 0..40 {
            let routes: Vec<_> = (0..60)
                .map(|place| {
                    let text = path(next());
                    let path = match next() % 5 {
                        0 => PathMatch::Exact(text),
                        1 => PathMatch::Prefix(text),
                        2 => PathMatch::Regex(Pattern::new(&format!("{text}.*b")).expect("legal")),
                        _ => PathMatch::SegmentPrefix(text),
                    };
                    route(place, path, [None, Some("GET"), Some("PUT")][next() % 3])
                })
                .collect();
            let hosts = ["a.example.com", "*.example.com", "*.b.example.com", "x", "y", "z", "w", "v", "*"].map(|host| VirtualHost {
                hosts: vec![host.parse().expect("host")],
                routes: routes.iter().skip(host.len() % 5).cloned().collect(),
            });
            let table = RouteTable { name: RouteTableName::Gateway { port: 80 }, hosts: hosts.into() };
            let index = RouteIndex::new(&table);
            for _ in 0..300 {
                let (text, headers) = (path(next()), HeaderMap::new());
                let host = ["a.example.com", "c.example.com", "q.b.example.com", "x", "other"][next() % 5];
                let method = ["GET", "PUT", "POST"][next() % 3];
                let head = RequestHead {
                    method,
                    scheme: "http",
                    authority: host,
                    host,
                    path: &text,
                    query: None,
                    headers: &headers,
                    claims: None,
                };
                let names = |r: Option<&Arc<HttpRoute>>| r.map(|r| r.name.clone());
                assert_eq!(names(index.find(&table, &head)), names(table.find(&head)), "{method} {host}{text}");
            }
        }
    }
}
