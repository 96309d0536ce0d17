//! What a policy of admission covers, and what it tells requests apart by. Rate limits and concurrency policies share both.

use crate::{HttpRoute, RequestHead, SpiffeId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Which requests of one proxy a policy covers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyScope {
    /// Those for the proxy's own workload, or that enter at its gateway.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub own: bool,
    /// Of those, the ones for these ports of the program; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Those that take one of these routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteReference>,
    /// Calls of the proxy's program to these services, for what is decided at the caller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

/// An object with routes, or one of its rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteReference {
    /// `HTTPRoute`, `GRPCRoute` or `VirtualService`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the rule; empty: all rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
}

impl RouteReference {
    /// Is `route` of this object, and this rule of it?
    pub fn covers(&self, route: &HttpRoute) -> bool {
        let of = &route.origin;
        let rule =
            || match route.name.strip_prefix(&self.namespace).and_then(|r| r.strip_prefix('/')).and_then(|r| r.strip_prefix(&self.name)) {
                Some(rest) => rest.strip_prefix('/') == Some(self.rule.as_str()),
                // A name of a match may follow (Istio): `rule.match`.
                None => route.name.strip_prefix(self.rule.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            };
        of.kind == self.kind && of.namespace == self.namespace && of.name == self.name && (self.rule.is_empty() || rule())
    }
}

impl PolicyScope {
    /// Does it cover requests for this port of the proxy's own workload?
    pub fn covers_own(&self, port: u16) -> bool {
        self.own && (self.ports.is_empty() || self.ports.contains(&port))
    }
    /// Does it cover requests that take `route`?
    pub fn covers_route(&self, route: &HttpRoute) -> bool {
        self.routes.iter().any(|r| r.covers(route))
    }
    /// Nothing at all?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What of a request tells it from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// The caller's identity.
    Principal,
    /// Its namespace.
    Namespace,
    /// Namespace and account.
    ServiceAccount,
    /// Address of the connection's other end.
    RemoteAddress,
    /// Name of the rule that the request takes.
    Route,
    /// Method.
    Method,
    /// Path without query.
    Path,
    /// Host that is called.
    Host,
    /// First value of this header (lower case).
    Header(String),
    /// This claim of the caller's JWT.
    Claim(String),
    /// A fixed text.
    Constant(String),
}

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// What of the request.
    pub by: KeySource,
    /// Name of the entry in a descriptor of Envoy's protocol.
    pub descriptor: String,
}

/// What limits see of a request.
#[derive(Debug, Clone, Copy)]
pub struct LimitInput<'a> {
    /// The request.
    pub head: &'a RequestHead<'a>,
    /// Proven identity of the caller; on the calling side, the workload's own.
    pub caller: Option<&'a SpiffeId>,
    /// Address of the connection's other end.
    pub remote: IpAddr,
    /// Rule that the request takes; empty where none is chosen.
    pub route: &'a str,
}

impl KeySource {
    /// The text of this part; `None` when the request has none.
    pub fn of<'a>(&'a self, input: &LimitInput<'a>) -> Option<std::borrow::Cow<'a, str>> {
        let caller = input.caller;
        Some(match self {
            Self::Principal => caller?.to_string().into(),
            Self::Namespace => caller?.namespace().into(),
            Self::ServiceAccount => caller.map(|c| format!("{}/{}", c.namespace(), c.account()))?.into(),
            Self::RemoteAddress => input.remote.to_canonical().to_string().into(),
            Self::Route => input.route.into(),
            Self::Method => input.head.method.into(),
            Self::Path => input.head.path.into(),
            Self::Host => input.head.host.into(),
            Self::Header(name) => String::from_utf8_lossy(input.head.headers.get(name.as_str())?.as_bytes()),
            Self::Claim(name) => {
                let mut path = name.split('.');
                let first = input.head.claims?.0.get(path.next()?);
                match path.try_fold(first?, |value, part| value.get(part))? {
                    serde_json::Value::String(text) => text.as_str().into(),
                    other => other.to_string().into(),
                }
            }
            Self::Constant(text) => text.as_str().into(),
        })
    }
}

/// Writes the key of a request into `out`. A part that the request lacks counts as empty, so that leaving a header out gives no way
/// around a limit: all requests without it share one key. Long keys are cut to a hash.
pub fn write_key(parts: &[KeyPart], input: &LimitInput<'_>, out: &mut String) {
    use sha2::{Digest, Sha256};
    out.clear();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            // Cannot occur in identities, addresses and header values, so that parts never run into each other.
            out.push('\0');
        }
        out.push_str(&part.by.of(input).unwrap_or_default());
    }
    if out.len() > crate::limits::LIMIT_KEY_BYTES_MAX {
        let hash = Sha256::digest(out.as_bytes());
        out.clear();
        out.push('#');
        out.extend(hash.iter().map(|byte| format!("{byte:02x}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn check(parts: &[KeySource], headers: &HeaderMap, want: &str) {
        let claims = crate::Claims(serde_json::json!({ "sub": "ann", "org": { "tier": 2 } }).as_object().cloned().unwrap_or_default());
        let head = RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a",
            host: "a",
            path: "/x",
            query: None,
            headers,
            claims: Some(&claims),
        };
        let caller = SpiffeId::new("cluster.local", "shop", "page").expect("legal");
        let remote = "::ffff:10.0.0.7".parse().expect("address");
        let input = LimitInput { head: &head, caller: Some(&caller), remote, route: "r" };
        let parts: Vec<KeyPart> = parts.iter().map(|by| KeyPart { by: by.clone(), descriptor: String::new() }).collect();
        let mut out = "left over".to_owned();
        write_key(&parts, &input, &mut out);
        assert_eq!(out, want);
    }

    #[test]
    fn keys_are_of_what_the_user_names() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ann".parse().expect("value"));
        let user = || KeySource::Header("x-user".into());
        check(&[], &headers, "");
        check(&[KeySource::Principal], &headers, "spiffe://cluster.local/ns/shop/sa/page");
        check(&[KeySource::ServiceAccount, KeySource::RemoteAddress], &headers, "shop/page\x0010.0.0.7");
        check(&[user(), KeySource::Namespace], &headers, "ann\0shop");
        check(&[KeySource::Claim("org.tier".into()), KeySource::Route, KeySource::Constant("c".into())], &headers, "2\0r\0c");
        check(&[user(), KeySource::Method], &HeaderMap::new(), "\0GET");
        headers.insert("x-user", "u".repeat(9000).parse().expect("value"));
        let parts = [KeyPart { by: user(), descriptor: String::new() }];
        let head = RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a",
            host: "a",
            path: "/x",
            query: None,
            headers: &headers,
            claims: None,
        };
        let remote = "10.0.0.7".parse().expect("address");
        let mut out = String::new();
        write_key(&parts, &LimitInput { head: &head, caller: None, remote, route: "" }, &mut out);
        assert!(out.starts_with('#') && out.len() == 65, "{out}");
    }

    #[test]
    fn a_rule_is_found_by_its_name() {
        let route = |kind: &str, name: &str| {
            let mut origin = crate::Origin::built_in("x");
            (origin.kind, origin.namespace, origin.name) = (kind.into(), "shop".into(), "web".into());
            let respond = serde_json::json!({ "respond": { "status": 200, "body": "" } });
            serde_json::from_value::<HttpRoute>(serde_json::json!({ "name": name, "action": respond, "origin": origin })).expect("route")
        };
        let reference =
            |kind: &str, rule: &str| RouteReference { kind: kind.into(), namespace: "shop".into(), name: "web".into(), rule: rule.into() };
        assert!(reference("HTTPRoute", "").covers(&route("HTTPRoute", "shop/web/0")));
        assert!(reference("HTTPRoute", "0").covers(&route("HTTPRoute", "shop/web/0")));
        assert!(!reference("HTTPRoute", "1").covers(&route("HTTPRoute", "shop/web/0")));
        assert!(reference("VirtualService", "canary").covers(&route("VirtualService", "canary")));
        assert!(!reference("VirtualService", "").covers(&route("HTTPRoute", "shop/web/0")));
    }
}
