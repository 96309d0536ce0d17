//! Holding a request at an endpoint: what it is hashed by, and the cookie that a caller without one gets.

use crate::upstream::Upstream;
use http::{HeaderMap, HeaderValue, header};
use std::net::IpAddr;
use weft_model::{HashKey, hash_bytes};

/// What binds a request to an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    /// The hash that chooses.
    pub hash: Option<u64>,
    /// For the answer.
    set_cookie: Option<HeaderValue>,
}

impl Affinity {
    /// What the cluster's hash policy makes of a request, as it will be sent. `random` names a caller that has no cookie yet.
    pub(crate) fn of(upstream: &Upstream, headers: &HeaderMap, query: Option<&str>, source: IpAddr, random: impl FnOnce() -> u64) -> Self {
        let found = upstream.with_hash(|policy| {
            let hash = policy.on.hash(headers, query, source);
            match &policy.on {
                HashKey::Cookie(cookie) if hash.is_none() && cookie.ttl_s.is_some() => {
                    let value = format!("{:016x}", random());
                    let set_cookie = HeaderValue::from_str(&cookie.set(&value)).ok();
                    Self { hash: Some(hash_bytes(value.as_bytes())), set_cookie }
                }
                _ => Self { hash, set_cookie: None },
            }
        });
        found.unwrap_or_default()
    }

    /// Gives the caller its cookie.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        if let Some(cookie) = &self.set_cookie {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
    }
}
