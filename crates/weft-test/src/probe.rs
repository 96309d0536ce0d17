//! Probes: one request or connection each, decided by the model's own evaluators on the projected view.

use crate::{
    mesh::Running,
    view_text::{place, route_does, targets_text},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, Ipv4Addr};
use weft_compile::{Projection, RootState};
use weft_model::{
    AuthorizationInput, JwtRule, ModelValue, RequestHead, ResourceName, Root, RouteAction, RouteTableName, SpiffeId, Token, Verdict,
    audited, authorize, custom, host_of, shadow,
};

/// The line with its answer behind `=>`.
pub(crate) fn run(running: &Running, line: &str) -> String {
    let question = line.split(" =>").next().unwrap_or_default().trim_end();
    if question.is_empty() || question.starts_with('#') {
        return line.to_owned();
    }
    let answer = question.split_once(" -> ").map_or_else(
        || "a probe is `who -> what`".to_owned(),
        |(who, what)| match who.starts_with("spiffe://") || who == "plaintext" {
            true => inbound(running, who, what),
            false => outbound(running, who, what),
        },
    );
    format!("{question} => {answer}")
}

/// `[name: value, name: value]` at the end of a probe.
pub(crate) fn bracketed(text: &str) -> (&str, HeaderMap) {
    let mut headers = HeaderMap::new();
    let Some((rest, list)) = text.split_once('[') else { return (text.trim(), headers) };
    for pair in list.trim_end().trim_end_matches(']').split(',') {
        let (name, value) = pair.split_once(':').unwrap_or((pair, ""));
        let name = HeaderName::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).expect("a header name");
        headers.append(name, HeaderValue::from_str(value.trim()).expect("a header value"));
    }
    (rest.trim(), headers)
}

/// A request or connection from a workload, or one that comes in at a gateway.
fn outbound(running: &Running, who: &str, what: &str) -> String {
    let (what, headers) = bracketed(what);
    let (method, url) = what.split_once(' ').unwrap_or(("GET", what));
    if method == "tcp" {
        return connection(running, who, url, headers.get("sni").and_then(|v| v.to_str().ok()));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
    let well_known = if scheme == "https" { 443 } else { 80 };
    let port = authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).unwrap_or(well_known);
    let host = host_of(authority);
    let head = RequestHead { method, scheme, authority, host: &host, path, query, headers: &headers, claims: None };
    let Some(projection) = running.project(who, &[&host]) else { return format!("no workload {who}") };
    let name = match (running.is_gateway(who), projection.roots.get(&Root::Host(host.clone()))) {
        (true, _) => RouteTableName::Gateway { port },
        (false, Some(RootState::Resolved(full))) => RouteTableName::Service { host: full.clone(), port },
        (false, _) => return "no such service".into(),
    };
    let Some(ModelValue::RouteTable(table)) = value(&projection, &ResourceName::RouteTable(name)) else { return "no HTTP port".into() };
    // A gateway judges who enters before it looks for a rule.
    if running.is_gateway(who) {
        let verdict = judge(&projection, &input(None, IpAddr::from([10, 0, 0, 1]), port, Some(&head)));
        if !verdict.starts_with("allowed") {
            return verdict;
        }
    }
    match table.find(&head) {
        None => "404".into(),
        Some(route) => match &route.action {
            RouteAction::Redirect(to) => {
                format!("{} {} route {} {}", to.status, to.location(&head, port).unwrap_or_default(), route.name, place(&route.origin))
            }
            RouteAction::Respond { .. } | RouteAction::Forward(_) => {
                let path = route.rewrite.path.as_ref().map(|p| format!(" as {}", p.apply(path).unwrap_or_default())).unwrap_or_default();
                format!("{} route {}{path}", route_does(route), route.name)
            }
        },
    }
}

fn value<'a>(projection: &'a Projection, name: &ResourceName) -> Option<&'a ModelValue> {
    projection.view.values.get(name).map(|v| v.value.as_ref())
}

/// A connection whose bytes are not read.
fn connection(running: &Running, who: &str, to: &str, sni: Option<&str>) -> String {
    let (host, port) = to.rsplit_once(':').expect("host:port");
    let port = port.parse().expect("a port");
    let Some(projection) = running.project(who, &[host]) else { return format!("no workload {who}") };
    let host = match (running.is_gateway(who), projection.roots.get(&Root::Host(host.into()))) {
        (true, _) => weft_compile::GATEWAY_TCP_HOST.to_owned(),
        (false, Some(RootState::Resolved(full))) => full.clone(),
        (false, _) => return "no such service".into(),
    };
    match value(&projection, &ResourceName::TcpRoutes { host, port }) {
        Some(ModelValue::TcpRoutes(routes)) => match routes.find(&weft_model::ConnectionHead {
            sni,
            destination: Ipv4Addr::UNSPECIFIED.into(),
            source: Ipv4Addr::UNSPECIFIED.into(),
        }) {
            Some(route) => format!("{} {}", targets_text(&route.targets), place(&route.origin)),
            None => "no rule".into(),
        },
        _ => "no opaque port".into(),
    }
}

/// `spiffe://… -> reviews-v2:9080 GET /x [h: v]`, or `tcp` in place of the request: what the destination's proxy decides.
fn inbound(running: &Running, who: &str, what: &str) -> String {
    let (what, headers) = bracketed(what);
    let words: Vec<&str> = what.split_whitespace().collect();
    let (name, port) = words.first().and_then(|w| w.split_once(':')).expect("workload:port");
    let port: u16 = port.parse().expect("a port");
    let Some(projection) = running.project(name, &[]) else { return format!("no workload {name}") };
    let Some(ModelValue::Inbound(inbound)) = value(&projection, &ResourceName::Inbound) else { return "no inbound side".into() };
    let peer: Option<SpiffeId> = who.parse().ok();
    let (mode, origin) = inbound.mtls(port);
    if peer.is_none() && !mode.accepts_plaintext() || peer.is_some() && !mode.accepts_mtls() {
        return format!("closed: {mode:?} {}", place(origin));
    }
    let (method, path) = (words.get(1).copied().unwrap_or("GET"), words.get(2).copied().unwrap_or("/"));
    let host = headers.get("host").and_then(|v| v.to_str().ok()).unwrap_or("localhost").to_owned();
    let name = host_of(&host);
    let token = headers.get("claims").and_then(|v| v.to_str().ok()).map(token);
    // Who must have a token and has none is refused before any policy is asked.
    let required = projection.view.values.values().find_map(|v| match v.value.as_ref() {
        ModelValue::RequestAuthentication(policy) => policy.rules.iter().find(|r| r.required).map(|rule| (policy, rule)),
        _ => None,
    });
    if let (Some((policy, rule)), None, true) = (required, &token, method != "tcp") {
        return format!("401 no token for {} {}", policy.name, place(&rule.origin));
    }
    let head = RequestHead {
        method,
        scheme: "http",
        authority: &host,
        host: &name,
        path,
        query: None,
        headers: &headers,
        claims: token.as_ref().map(|t| &t.claims),
    };
    let source = headers.get("source-ip").and_then(|v| v.to_str().ok()).unwrap_or("10.0.0.1");
    let source: IpAddr = source.parse().expect("an address");
    judge(
        &projection,
        &AuthorizationInput { token: token.as_ref(), ..input(peer.as_ref(), source, port, (method != "tcp").then_some(&head)) },
    )
}

fn input<'a>(peer: Option<&'a SpiffeId>, source: IpAddr, port: u16, http: Option<&'a RequestHead<'a>>) -> AuthorizationInput<'a> {
    AuthorizationInput {
        peer,
        token: None,
        source_ip: source,
        remote_ip: source,
        destination_ip: IpAddr::from([10, 0, 0, 2]),
        destination_port: port,
        sni: None,
        http,
    }
}

/// What the policies of the proxy say.
fn judge(projection: &Projection, input: &AuthorizationInput<'_>) -> String {
    let policies = projection.view.values.values().filter_map(|v| match v.value.as_ref() {
        ModelValue::Authorization(a) => Some(a),
        _ => None,
    });
    let mut notes = String::new();
    for (policy, rule) in custom(policies.clone(), input) {
        let provider = policy.provider.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
        notes.push_str(&format!("; asks {provider} for {} {}", policy.name, place(rule)));
    }
    for (policy, rule) in audited(policies.clone(), input) {
        notes.push_str(&format!("; noted by {} {}", policy.name, place(rule)));
    }
    if let Some(verdict) = shadow(policies.clone(), input) {
        notes.push_str(&format!("; dry run: {}", verdict_text(&verdict)));
    }
    format!("{}{notes}", verdict_text(&authorize(policies, input)))
}

fn verdict_text(verdict: &Verdict<'_>) -> String {
    match verdict {
        Verdict::AllowedByDefault => "allowed, no policy".into(),
        Verdict::Allowed(p, rule) => format!("allowed by {} {}", p.name, place(rule)),
        Verdict::Denied(p, rule) => format!("403 denied by {} {}", p.name, place(rule)),
        Verdict::NotAllowed(p) => format!("403 not allowed by {} {}", p.name, place(&p.origin)),
    }
}

/// A checked token of `iss=a;sub=b;groups=x|y`: lists are written with `|`, nested claims with `/`.
fn token(text: &str) -> Token {
    let mut claims = serde_json::Map::new();
    for (name, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
        let value = match value.contains('|') {
            true => value.split('|').collect::<Vec<_>>().into(),
            false => serde_json::Value::from(value),
        };
        match name.split_once('/') {
            Some((outer, inner)) => {
                let object = claims.entry(outer).or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
                object[inner] = value;
            }
            None => drop(claims.insert(name.to_owned(), value)),
        }
    }
    let issuer = claims.get("iss").and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    Token::new(claims, &JwtRule { issuer, ..JwtRule::default() })
}
