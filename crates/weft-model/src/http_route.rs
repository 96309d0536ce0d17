//! HTTP routing: which rule a request takes, and what the rule does.
//!
//! A [`RouteTable`] is already in order of precedence (the compiler sorts as the two specifications say), so that here the
//! first match wins.

use crate::{
    ClaimMatch, Claims, ClusterName, Cors, Fallback, HeaderEdits, Hedging, HostPattern, Origin, Pattern, Redirect, Retry, Rewrite,
    StringMatch,
};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// What matching and authorization see of a request: after normalisation, before any rewrite.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Authority as sent: host and perhaps port.
    pub authority: &'a str,
    /// Host of the authority: lower case, no port, no trailing dot.
    pub host: &'a str,
    /// Path without query.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Claims of the request's proven token; `None` where there is none, or before tokens are looked at.
    pub claims: Option<&'a Claims>,
}

/// The host part of an authority: without port and trailing dot, in lower case.
pub fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority
            .rsplit_once(':')
            .filter(|(h, p)| !h.contains(':') && p.bytes().all(|b| b.is_ascii_digit()))
            .map_or(authority, |(h, _)| h),
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// How the path is matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// A prefix of the text (Istio): `/foo` matches `/foobar`.
    Prefix(String),
    /// A prefix of whole segments (Gateway API): `/foo` matches `/foo` and `/foo/bar`, not `/foobar`.
    SegmentPrefix(String),
    /// The whole path, as a regular expression.
    Regex(Pattern),
}

impl PathMatch {
    /// Does `path` match? `ignore_case` is for exact and prefix only.
    pub fn matches(&self, path: &str, ignore_case: bool) -> bool {
        let starts = |want: &str| match ignore_case {
            false => path.starts_with(want),
            true => path.as_bytes().get(..want.len()).is_some_and(|head| head.eq_ignore_ascii_case(want.as_bytes())),
        };
        match self {
            Self::Exact(want) => path == want || (ignore_case && path.eq_ignore_ascii_case(want)),
            Self::Prefix(want) => starts(want),
            Self::SegmentPrefix(want) => {
                let want = want.trim_end_matches('/');
                starts(want) && matches!(path.as_bytes().get(want.len()), None | Some(b'/'))
            }
            Self::Regex(pattern) => pattern.is_match(path),
        }
    }
}

/// One header or query parameter and how its value is matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedMatch {
    /// Name; headers in lower case.
    pub name: String,
    /// Value. `None`: the name must be present, whatever its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<StringMatch>,
    /// True: the request must *not* match (Istio `withoutHeaders`).
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub invert: bool,
}

impl NamedMatch {
    fn header_matches(&self, headers: &HeaderMap) -> bool {
        // HTTP/2 may send one cookie per line (RFC 9113 §8.2.3); a condition is about the whole.
        if self.name == "cookie" && headers.get_all(header::COOKIE).iter().nth(1).is_some() {
            let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
            let joined = http::HeaderValue::from_bytes(&all.join(&b"; "[..]));
            return joined.is_ok_and(|whole| self.header_matches(&HeaderMap::from_iter([(header::COOKIE, whole)])));
        }
        let mut found = false;
        for value in headers.get_all(self.name.as_str()) {
            match (&self.value, value.to_str()) {
                (None, _) => found = true,
                (Some(want), Ok(text)) => found |= want.matches(text),
                // An undecodable value matches nothing, and may not satisfy a negative match either.
                (Some(_), Err(_)) if self.invert => return false,
                (Some(_), Err(_)) => {}
            }
        }
        found != self.invert
    }
    /// Does a cookie of this name have the value? The first of several with one name decides.
    fn cookie_matches(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let value = pairs.find(|(name, _)| *name == self.name).map(|(_, value)| value.trim_matches('"'));
        let found = value.is_some_and(|value| self.value.as_ref().is_none_or(|want| want.matches(value)));
        found != self.invert
    }
    fn query_matches(&self, query: Option<&str>) -> bool {
        // Gateway API: the first of repeated parameters decides.
        let value = query.unwrap_or_default().split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == self.name).then_some(value)
        });
        let found = match (&self.value, value) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(want), Some(value)) => want.matches(value),
        };
        found != self.invert
    }
}

/// One alternative of a rule: all of its conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpMatch {
    /// Name of the match (Istio), appended to the route's name in logs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Ignore case in exact and prefix path matches.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub ignore_path_case: bool,
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<StringMatch>,
    /// Scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<StringMatch>,
    /// Authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<StringMatch>,
    /// Headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<NamedMatch>,
    /// Query parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<NamedMatch>,
    /// Cookies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<NamedMatch>,
    /// Claims of the request's token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimMatch>,
}

impl HttpMatch {
    /// Does the request match?
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        let text = |want: &Option<StringMatch>, value: &str| want.as_ref().is_none_or(|m| m.matches(value));
        self.path.as_ref().is_none_or(|p| p.matches(request.path, self.ignore_path_case))
            && text(&self.method, request.method)
            && text(&self.scheme, request.scheme)
            && text(&self.authority, request.authority)
            && self.headers.iter().all(|h| h.header_matches(request.headers))
            && self.query.iter().all(|q| q.query_matches(request.query))
            && self.cookies.iter().all(|c| c.cookie_matches(request.headers))
            && self.claims.iter().all(|c| c.matches(request.claims))
    }
}

/// One weighted destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where.
    pub backend: Backend,
    /// Share of the sum of the weights; 0 gets nothing.
    pub weight: u32,
    /// Edits on the way to this destination only.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    /// Edits on the way back from it.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    /// Changes to path and authority for this destination, over those of the rule.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub rewrite: Rewrite,
    /// Its share is answered with a redirect instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Copies of what goes to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
}

impl Target {
    /// A destination without edits.
    pub fn plain(backend: Backend, weight: u32) -> Self {
        Self {
            backend,
            weight,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: Rewrite::default(),
            redirect: None,
            mirrors: Vec::new(),
        }
    }
}

/// A cluster, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// Send there.
    Cluster(ClusterName),
    /// The reference leads nowhere: answer with `status` and say why.
    Invalid {
        /// 500 (Gateway API) or 503 (Istio).
        status: u16,
        /// In words, with the diagnostic's code.
        reason: String,
    },
}

/// Index of the target that `roll` (uniform over `0..=u32::MAX`) falls on; `None` when all weights are 0.
pub fn pick_target(targets: &[Target], roll: u32) -> Option<usize> {
    let sum: u64 = targets.iter().map(|t| u64::from(t.weight)).sum();
    if targets.len() == 1 && sum > 0 {
        return Some(0);
    }
    let mut point = (u64::from(roll) * sum) >> 32;
    targets.iter().position(|t| {
        let inside = point < u64::from(t.weight);
        point = point.saturating_sub(u64::from(t.weight));
        inside
    })
}

/// What a rule does with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteAction {
    /// Send on.
    Forward(Vec<Target>),
    /// Redirect.
    Redirect(Redirect),
    /// Answer here.
    Respond {
        /// Status.
        status: u16,
        /// Body.
        body: DirectBody,
    },
}

/// The body of an answer that the configuration holds. Text stays text on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BodyForm", into = "BodyForm")]
pub struct DirectBody(pub Arc<[u8]>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BodyForm {
    Text(String),
    Bytes { bytes: Vec<u8> },
}

impl From<BodyForm> for DirectBody {
    fn from(form: BodyForm) -> Self {
        match form {
            BodyForm::Text(text) => Self(text.into_bytes().into()),
            BodyForm::Bytes { bytes } => Self(bytes.into()),
        }
    }
}
impl From<DirectBody> for BodyForm {
    fn from(body: DirectBody) -> Self {
        match std::str::from_utf8(&body.0) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { bytes: body.0.to_vec() },
        }
    }
}
impl From<&str> for DirectBody {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}
impl DirectBody {
    /// As text, for people.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// A share, in parts per million, so that 0.1 % and less can be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ppm(pub u32);

impl Ppm {
    /// All.
    pub const ALL: Self = Self(1_000_000);
    /// From percent, clamped to 0–100.
    pub fn from_percent(percent: f64) -> Self {
        Self((percent.clamp(0.0, 100.0) * 10_000.0).round() as u32)
    }
    /// Is `roll` (uniform over `0..=u32::MAX`) within the share?
    pub fn includes(self, roll: u32) -> bool {
        (u64::from(roll) * 1_000_000) >> 32 < u64::from(self.0)
    }
}

/// Planned failure, for tests of the callers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Wait first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Then answer with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

/// A delay for a share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDelay {
    /// Share.
    pub share: Ppm,
    /// How long, in milliseconds.
    pub delay_ms: u64,
}

/// An error for a share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultAbort {
    /// Share.
    pub share: Ppm,
    /// HTTP status to answer with (200 with `grpc_status` for gRPC).
    pub status: u16,
    /// gRPC status, for gRPC aborts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
}

/// A copy of the request, its answer thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// To whom.
    pub cluster: ClusterName,
    /// Share.
    pub share: Ppm,
}

/// One rule: its alternatives and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// Name in logs (Istio's route name or `<namespace>/<name>/<index>`).
    pub name: String,
    /// Alternatives; empty matches all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What it does.
    pub action: RouteAction,
    /// Changes to path and authority.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub rewrite: Rewrite,
    /// Edits of the request's headers.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    /// Edits of the response's headers.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    /// Longest time for the whole exchange, all attempts included, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Longest time in which nothing comes from the upstream, before and during its answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Where it asks the caller: longest time that a gRPC caller may ask for with `grpc-timeout`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_timeout_max_ms: Option<u64>,
    /// Retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Further attempts beside a slow one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<Hedging>,
    /// What takes over when the backend fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Box<Fallback>>,
    /// A service that is asked whether a request may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_auth: Option<Box<crate::ExternalAuthorization>>,
    /// Cross-origin rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<Cors>>,
    /// Faults.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub fault: Fault,
    /// Copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Where it was written.
    pub origin: Origin,
}

impl HttpRoute {
    /// A rule that takes every request and has no target yet.
    pub fn new(name: impl Into<String>, origin: Origin) -> Self {
        Self {
            name: name.into(),
            matches: Vec::new(),
            action: RouteAction::Forward(Vec::new()),
            rewrite: Rewrite::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            timeout_ms: None,
            idle_timeout_ms: None,
            grpc_timeout_max_ms: None,
            retry: None,
            hedging: None,
            fallback: None,
            external_auth: None,
            cors: None,
            fault: Fault::default(),
            mirrors: Vec::new(),
            origin,
        }
    }
    /// Does the request take this rule?
    pub fn matches(&self, request: &RequestHead<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|m| m.matches(request))
    }
}

/// The rules for some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHost {
    /// Hosts.
    pub hosts: Vec<HostPattern>,
    /// Rules, in order of precedence.
    pub routes: Vec<Arc<HttpRoute>>,
}

/// Which proxy port a route table belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RouteTableName {
    /// Calls to a service port: `mesh/<host>/<port>`.
    Service {
        /// Service host.
        host: String,
        /// Port.
        port: u16,
    },
    /// Requests to a port of the subscribing gateway: `gateway/<port>`.
    Gateway {
        /// Port as written in the object.
        port: u16,
    },
}

impl fmt::Display for RouteTableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { host, port } => write!(f, "mesh/{host}/{port}"),
            Self::Gateway { port } => write!(f, "gateway/{port}"),
        }
    }
}
impl FromStr for RouteTableName {
    type Err = crate::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || crate::ids_error(format!("{text:?} is not mesh/<host>/<port> or gateway/<port>"));
        let port = |p: &str| p.parse().map_err(|_| wrong());
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["mesh", host, number] => Ok(Self::Service { host: (*host).into(), port: port(number)? }),
            ["gateway", number] => Ok(Self::Gateway { port: port(number)? }),
            _ => Err(wrong()),
        }
    }
}
impl TryFrom<String> for RouteTableName {
    type Error = crate::NameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
impl From<RouteTableName> for String {
    fn from(name: RouteTableName) -> String {
        name.to_string()
    }
}

/// All rules of one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Name.
    pub name: RouteTableName,
    /// Hosts and their rules. A host is looked up by its most specific pattern; there is no second look.
    pub hosts: Vec<VirtualHost>,
}

impl RouteTable {
    /// The rules for `host`, by the most specific pattern.
    pub fn virtual_host(&self, host: &str) -> Option<&VirtualHost> {
        let best = |v: &&VirtualHost| v.hosts.iter().filter(|p| p.matches(host)).map(HostPattern::specificity).max();
        // max_by_key keeps the last of equals; reversed so that the first declared wins.
        self.hosts.iter().rev().filter(|v| best(v).is_some()).max_by_key(|v| best(v))
    }
    /// The rule that the request takes.
    pub fn find(&self, request: &RequestHead<'_>) -> Option<&Arc<HttpRoute>> {
        self.virtual_host(request.host)?.routes.iter().find(|r| r.matches(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead {
            method: "GET",
            scheme: "http",
            authority: "shop:8080",
            host: "shop",
            path,
            query: Some("a=1&b"),
            headers,
            claims: None,
        }
    }

    #[test]
    fn segment_prefixes_end_at_a_slash() {
        let m = |p: &str, path: &str| PathMatch::SegmentPrefix(p.into()).matches(path, false);
        assert!(m("/foo", "/foo") && m("/foo", "/foo/bar") && m("/foo/", "/foo") && m("/", "/anything"));
        assert!(!m("/foo", "/foobar"));
        assert!(PathMatch::Prefix("/foo".into()).matches("/foobar", false));
        assert!(PathMatch::Exact("/Foo".into()).matches("/foo", true));
    }

    #[test]
    fn undecodable_headers_satisfy_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert("x", http::HeaderValue::from_bytes(b"\xff").expect("opaque"));
        let m = |invert| NamedMatch { name: "x".into(), value: Some(StringMatch::Exact("a".into())), invert };
        assert!(!m(false).header_matches(&headers));
        assert!(!m(true).header_matches(&headers));
    }

    #[test]
    fn query_and_header_matches() {
        let mut headers = HeaderMap::new();
        headers.insert("end-user", http::HeaderValue::from_static("jason"));
        let named = |name: &str, v: &str| NamedMatch { name: name.into(), value: Some(StringMatch::Exact(v.into())), invert: false };
        let m = HttpMatch { headers: vec![named("end-user", "jason")], query: vec![named("a", "1"), named("b", "")], ..Default::default() };
        assert!(m.matches(&head("/", &headers)));
        assert!(!m.matches(&head("/", &HeaderMap::new())));
    }

    #[test]
    fn cookies_are_one_list_however_they_come() {
        let named =
            |value: Option<&str>, invert| NamedMatch { name: "user".into(), value: value.map(|v| StringMatch::Exact(v.into())), invert };
        let mut headers = HeaderMap::new();
        for line in ["theme=dark", "user=jason; lang=en", "user=other"] {
            headers.append(header::COOKIE, line.parse().expect("value"));
        }
        let m = |m: NamedMatch| HttpMatch { cookies: vec![m], ..HttpMatch::default() }.matches(&head("/", &headers));
        assert!(
            m(named(Some("jason"), false)) && m(named(None, false)) && !m(named(Some("other"), false)) && !m(named(Some("jason"), true))
        );
        // The usual expression of Istio's examples, over cookies that came in several lines.
        let pattern = Pattern::new("^(.*?;)?(\\s*lang=en)(;.*)?$").expect("legal");
        let regex = NamedMatch { name: "cookie".into(), value: Some(StringMatch::Regex(pattern)), invert: false };
        assert!(HttpMatch { headers: vec![regex], ..HttpMatch::default() }.matches(&head("/", &headers)));
    }

    #[test]
    fn bodies_travel_as_text_or_bytes() {
        for (bytes, json) in [(&b"ok"[..], "\"ok\""), (&b"\xff\x00"[..], "{\"bytes\":[255,0]}")] {
            let body = DirectBody(bytes.into());
            assert_eq!(serde_json::to_string(&body).expect("written"), json);
            assert_eq!(serde_json::from_str::<DirectBody>(json).expect("read"), body);
        }
    }

    #[test]
    fn weights_and_shares() {
        let t = |weight| Target::plain(Backend::Invalid { status: 500, reason: String::new() }, weight);
        let targets = [t(90), t(10), t(0)];
        assert_eq!(pick_target(&targets, 0), Some(0));
        assert_eq!(pick_target(&targets, u32::MAX), Some(1));
        assert_eq!(pick_target(&[t(0)], 0), None);
        assert!(Ppm::from_percent(50.0).includes(u32::MAX / 2 - 1) && !Ppm::from_percent(50.0).includes(u32::MAX / 2 + 1));
        assert!(Ppm::ALL.includes(u32::MAX) && !Ppm(0).includes(0));
    }

    #[test]
    fn hosts_of_authorities() {
        assert_eq!(host_of("Shop:80"), "shop");
        assert_eq!(host_of("[::1]:80"), "::1");
        assert_eq!(host_of("a.b."), "a.b");
    }

    #[test]
    fn the_most_specific_host_wins() {
        let vh = |host: &str| VirtualHost { hosts: vec![host.parse().expect("host")], routes: vec![] };
        let name = RouteTableName::Gateway { port: 80 };
        let table = RouteTable { name, hosts: vec![vh("*"), vh("*.example.com"), vh("a.example.com")] };
        let at = |h: &str| table.virtual_host(h).map(|v| v.hosts[0].to_string());
        assert_eq!(at("a.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(at("b.example.com").as_deref(), Some("*.example.com"));
        assert_eq!(at("other").as_deref(), Some("*"));
    }
}
