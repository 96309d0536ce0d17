//! Balancing: the ways in which an endpoint is chosen, what a request is hashed by, and how a new endpoint is warmed up.

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Balancing {
    /// The one with fewer requests in flight, of two drawn at random.
    #[default]
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The address that the caller wanted.
    Passthrough,
    /// The one with the lower expected latency, of two drawn at random; one that says it is busy is avoided.
    Ewma,
    /// By a hash of the request, on a ring. The cluster's `hash` says of what; a request without it goes at random.
    RingHash,
    /// By a hash of the request, in a Maglev table.
    Maglev,
}

/// What a request is hashed by, and how fine the table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashPolicy {
    /// The part of the request.
    pub on: HashKey,
    /// Fewest points of a ring, or slots of a Maglev table (a prime).
    pub size: u32,
}

/// The part of a request that chooses its endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashKey {
    /// A header, all its values.
    Header(String),
    /// A cookie.
    Cookie(HashCookie),
    /// The address of the caller.
    SourceIp,
    /// A parameter of the query.
    Query(String),
}

/// A cookie that holds a caller at its endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashCookie {
    /// Name.
    pub name: String,
    /// Path of a cookie that is made here; empty: none is written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Life of a cookie that is made here, in seconds; 0 for the browser's session. Absent: none is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Further attributes of a cookie that is made here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
}

impl HashCookie {
    /// The `Set-Cookie` value that gives a caller `value`.
    pub fn set(&self, value: &str) -> String {
        let mut text = format!("{}=\"{value}\"", self.name);
        if let Some(ttl) = self.ttl_s.filter(|ttl| *ttl > 0) {
            text.push_str(&format!("; Max-Age={ttl}"));
        }
        if !self.path.is_empty() {
            text.push_str(&format!("; Path={}", self.path));
        }
        for (name, value) in &self.attributes {
            text.push_str(&if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") });
        }
        text.push_str("; HttpOnly");
        text
    }
}

impl HashKey {
    /// The hash of a request; `None` when it lacks the part.
    pub fn hash(&self, headers: &HeaderMap, query: Option<&str>, source: IpAddr) -> Option<u64> {
        match self {
            Self::Header(name) => {
                let mut values = headers.get_all(name.as_str()).iter();
                let first = hash_bytes(values.next()?.as_bytes());
                Some(values.fold(first, |sum, value| hash_with(sum, value.as_bytes())))
            }
            Self::Cookie(cookie) => cookie_of(headers, &cookie.name).map(|value| hash_bytes(value.as_bytes())),
            Self::SourceIp => Some(match source.to_canonical() {
                IpAddr::V4(ip) => hash_bytes(&ip.octets()),
                IpAddr::V6(ip) => hash_bytes(&ip.octets()),
            }),
            Self::Query(name) => {
                let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                pairs.find(|(key, _)| key == name).map(|(_, value)| hash_bytes(value.as_bytes()))
            }
        }
    }
}

/// The value of a cookie, without quotes.
pub fn cookie_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
}

/// A hash that is the same in every proxy and release: FNV-1a, stirred (SplitMix64), so that all bits depend on all bytes.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    hash_with(0xcbf2_9ce4_8422_2325, bytes)
}

fn hash_with(start: u64, bytes: &[u8]) -> u64 {
    stir(bytes.iter().fold(start, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// SplitMix64's finaliser: a permutation of `u64` in which every input bit changes about half of the output bits.
pub fn stir(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A new endpoint gets little at first, and its whole share after a while (Istio `warmup`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SlowStart {
    /// Length, in milliseconds.
    pub duration_ms: u64,
    /// Share at the start, in percent.
    pub percent_min: f64,
    /// 1 grows evenly; more grows faster at first.
    pub aggression: f64,
}

// The numbers come from text that cannot write NaN.
impl Eq for SlowStart {}

impl SlowStart {
    /// The share of its weight that an endpoint has `age_ms` after it came (Envoy's curve).
    pub fn share(&self, age_ms: u64) -> f64 {
        if age_ms >= self.duration_ms {
            return 1.0;
        }
        let passed = (age_ms.max(1) as f64 / self.duration_ms as f64).powf(1.0 / self.aggression.max(0.01));
        passed.max(self.percent_min / 100.0).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter().map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value"))).collect::<HeaderMap>()
    }

    #[test]
    fn each_key_reads_its_part_and_only_it() {
        let source = IpAddr::from([10, 0, 0, 1]);
        let with = headers(&[("x-user", "a"), ("cookie", "s=\"1\"; t=2")]);
        let hash = |key: &HashKey, h: &HeaderMap, query| key.hash(h, query, source);
        let header = HashKey::Header("x-user".into());
        assert_eq!(hash(&header, &with, None), Some(hash_bytes(b"a")));
        assert_eq!(hash(&header, &headers(&[]), None), None);
        let cookie =
            |name: &str| HashKey::Cookie(HashCookie { name: name.into(), path: String::new(), ttl_s: None, attributes: Vec::new() });
        assert_eq!(hash(&cookie("s"), &with, None), Some(hash_bytes(b"1")));
        assert_eq!(hash(&cookie("u"), &with, None), None);
        let query = HashKey::Query("k".into());
        assert_eq!(hash(&query, &with, Some("a=b&k=v")), Some(hash_bytes(b"v")));
        assert_eq!(hash(&query, &with, None), None);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("address");
        assert_eq!(HashKey::SourceIp.hash(&with, None, mapped), HashKey::SourceIp.hash(&with, None, source));
    }

    #[test]
    fn a_made_cookie_says_what_was_written() {
        let attributes = vec![("SameSite".to_owned(), "Lax".to_owned()), ("Secure".to_owned(), String::new())];
        let mut cookie = HashCookie { name: "s".into(), path: "/a".into(), ttl_s: Some(60), attributes };
        assert_eq!(cookie.set("x"), "s=\"x\"; Max-Age=60; Path=/a; SameSite=Lax; Secure; HttpOnly");
        cookie.ttl_s = Some(0);
        assert_eq!(cookie.set("x"), "s=\"x\"; Path=/a; SameSite=Lax; Secure; HttpOnly");
    }

    #[test]
    fn warming_up_grows_from_the_minimum_to_the_whole() {
        let even = SlowStart { duration_ms: 1000, percent_min: 10.0, aggression: 1.0 };
        assert_eq!((even.share(0), even.share(500), even.share(1000)), (0.1, 0.5, 1.0));
        let fast = SlowStart { aggression: 2.0, ..even };
        assert!(fast.share(250) > 0.49 && fast.share(250) < 0.51);
    }
}
