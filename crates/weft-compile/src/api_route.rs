//! HTTPRoute and GRPCRoute: their rules in the linked form, one match each, with its precedence.

use crate::{
    diag,
    gateway_api::GROUP,
    http_rules::{ANY_GRPC_SERVICE, Destination, LinkedMatch, LinkedRoute, LinkedTarget, Rank, RankedRoute},
    istio_http::{checked_edits, millis, pattern},
    link::Linker,
    reference_grant::{Grants, Referrer},
};
use std::sync::Arc;
use weft_api::{Document, Resource, Spanned, gateway_api};
use weft_model::{
    CheckedBody, ClusterName, ExternalAuthorization, ExternalProtocol, HeaderEdits, HostPattern, HttpMatch, HttpRoute, NamedMatch, Origin,
    PathMatch, PathRewrite, Ppm, Redirect, RedirectPort, Retry, RetryOn, Rewrite, RouteAction, StringMatch, limits::RETRY_ATTEMPTS_MAX,
};

/// Longest wait for a service that decides, in milliseconds: Gateway API names none.
const EXTERNAL_AUTH_TIMEOUT_MS: u64 = 10_000;

/// A route, ready to be attached.
pub(crate) struct ApiRoute<'a> {
    pub(crate) kind: &'static str,
    pub(crate) document: &'a Document,
    pub(crate) age: usize,
    pub(crate) parents: &'a [Spanned<gateway_api::ParentReference>],
    pub(crate) hostnames: Vec<HostPattern>,
    pub(crate) rules: Vec<RankedRoute>,
}

/// What the rules of both kinds share.
struct Rule<'a> {
    document: &'a Document,
    kind: &'static str,
    name: String,
    at: Origin,
    matches: Vec<HttpMatch>,
    filters: &'a [Spanned<gateway_api::Filter>],
    backends: &'a [Spanned<gateway_api::BackendRef>],
    timeouts: Option<&'a gateway_api::HttpRouteTimeouts>,
    retry: Option<&'a gateway_api::HttpRouteRetry>,
}

/// All HTTPRoutes.
pub(crate) fn http_routes<'a>(linker: &mut Linker<'a>, grants: &Grants<'a>) -> Vec<ApiRoute<'a>> {
    let mut routes = Vec::new();
    for (age, document, spec) in linker.documents(|r| if let Resource::HttpRoute(h) = r { Some(h) } else { None }) {
        let mut rules = Vec::new();
        for (index, written) in spec.rules.iter().enumerate() {
            let at = written.origin(&document.origin);
            let mut matches = Vec::new();
            for m in &written.matches {
                matches.extend(http_match(linker, m, &m.origin(&document.origin)));
            }
            if written.matches.is_empty() {
                matches.push(every_path());
            }
            let rule = Rule {
                document,
                kind: "HTTPRoute",
                name: rule_name(document, index, written.name.as_deref()),
                at,
                matches,
                filters: &written.filters,
                backends: &written.backend_refs,
                timeouts: written.timeouts.as_ref().map(|t| &t.value),
                retry: written.retry.as_ref().map(|r| &r.value),
            };
            rules.extend(ranked(linker, grants, &rule, age, index));
        }
        let hostnames = hostnames(linker, document, &spec.hostnames);
        routes.push(ApiRoute { kind: "HTTPRoute", document, age, parents: &spec.parent_refs, hostnames, rules });
    }
    routes
}

/// All GRPCRoutes: POST requests to `/service/method`.
pub(crate) fn grpc_routes<'a>(linker: &mut Linker<'a>, grants: &Grants<'a>) -> Vec<ApiRoute<'a>> {
    let mut routes = Vec::new();
    for (age, document, spec) in linker.documents(|r| if let Resource::GrpcRoute(g) = r { Some(g) } else { None }) {
        let mut rules = Vec::new();
        for (index, written) in spec.rules.iter().enumerate() {
            let mut matches = Vec::new();
            for m in &written.matches {
                matches.extend(grpc_match(linker, m, &m.origin(&document.origin)));
            }
            if written.matches.is_empty() {
                matches.push(HttpMatch { method: Some(StringMatch::Exact("POST".into())), ..every_path() });
            }
            let rule = Rule {
                document,
                kind: "GRPCRoute",
                name: rule_name(document, index, written.name.as_deref()),
                at: written.origin(&document.origin),
                matches,
                filters: &written.filters,
                backends: &written.backend_refs,
                timeouts: None,
                retry: None,
            };
            rules.extend(ranked(linker, grants, &rule, age, index));
        }
        let hostnames = hostnames(linker, document, &spec.hostnames);
        routes.push(ApiRoute { kind: "GRPCRoute", document, age, parents: &spec.parent_refs, hostnames, rules });
    }
    routes
}

fn every_path() -> HttpMatch {
    HttpMatch { path: Some(PathMatch::SegmentPrefix("/".into())), ..HttpMatch::default() }
}

fn rule_name(document: &Document, index: usize, name: Option<&str>) -> String {
    let own = name.map_or_else(|| index.to_string(), str::to_owned);
    format!("{}/{}/{own}", document.meta.namespace, document.meta.name)
}

pub(crate) fn hostnames(linker: &mut Linker<'_>, document: &Document, list: &[Spanned<String>]) -> Vec<HostPattern> {
    let mut out = Vec::new();
    for written in list {
        match written.value.parse() {
            Ok(pattern) => out.push(pattern),
            Err(why) => linker.report(diag::bad_host(written.origin(&document.origin), &format!("{why}"))),
        }
    }
    out
}

pub(crate) fn http_match(linker: &mut Linker<'_>, spec: &gateway_api::HttpRouteMatch, at: &Origin) -> Option<HttpMatch> {
    let (kind, value) = match &spec.path {
        None => (gateway_api::PathMatchType::PathPrefix, "/"),
        Some(p) => (p.kind.unwrap_or(gateway_api::PathMatchType::PathPrefix), p.value.as_deref().unwrap_or("/")),
    };
    let path = match kind {
        gateway_api::PathMatchType::Exact => PathMatch::Exact(value.into()),
        gateway_api::PathMatchType::PathPrefix => PathMatch::SegmentPrefix(value.into()),
        gateway_api::PathMatchType::RegularExpression => PathMatch::Regex(pattern(linker, value, at)?),
    };
    Some(HttpMatch {
        path: Some(path),
        method: spec.method.map(|m| StringMatch::Exact(m.as_str().into())),
        headers: values(linker, &spec.headers, true, at)?,
        query: values(linker, &spec.query_params, false, at)?,
        ..HttpMatch::default()
    })
}

/// Header or query conditions; of several with one name only the first counts (Gateway API).
fn values(linker: &mut Linker<'_>, list: &[gateway_api::ValueMatch], headers: bool, at: &Origin) -> Option<Vec<NamedMatch>> {
    let mut out: Vec<NamedMatch> = Vec::new();
    for m in list {
        let name = if headers { m.name.to_ascii_lowercase() } else { m.name.clone() };
        if out.iter().any(|known| known.name == name) {
            continue;
        }
        let value = match m.kind.unwrap_or(gateway_api::ValueMatchType::Exact) {
            gateway_api::ValueMatchType::Exact => StringMatch::Exact(m.value.clone()),
            gateway_api::ValueMatchType::RegularExpression => StringMatch::Regex(pattern(linker, &m.value, at)?),
        };
        out.push(NamedMatch { name, value: Some(value), invert: false });
    }
    Some(out)
}

fn grpc_match(linker: &mut Linker<'_>, spec: &gateway_api::GrpcRouteMatch, at: &Origin) -> Option<HttpMatch> {
    let path = match &spec.method {
        None => PathMatch::SegmentPrefix("/".into()),
        Some(m) => {
            let some = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
            let (service, method) = (some(&m.service), some(&m.method));
            let regex = m.kind == Some(gateway_api::ValueMatchType::RegularExpression);
            match (service, method, regex) {
                (Some(service), Some(method), false) => PathMatch::Exact(format!("/{service}/{method}")),
                (Some(service), None, false) => PathMatch::SegmentPrefix(format!("/{service}")),
                (None, None, _) => PathMatch::SegmentPrefix("/".into()),
                (None, Some(method), false) => {
                    PathMatch::Regex(pattern(linker, &format!("{ANY_GRPC_SERVICE}{}", crate::authorization_rule::escape(&method)), at)?)
                }
                (service, method, true) => {
                    let any = || "[^/]+".to_owned();
                    let text = format!("/(?:{})/(?:{})", service.unwrap_or_else(any), method.unwrap_or_else(any));
                    PathMatch::Regex(pattern(linker, &text, at)?)
                }
            }
        }
    };
    Some(HttpMatch {
        path: Some(path),
        method: Some(StringMatch::Exact("POST".into())),
        headers: values(linker, &spec.headers, true, at)?,
        ..HttpMatch::default()
    })
}

/// The rule once per match, since precedence is the match's.
fn ranked(linker: &mut Linker<'_>, grants: &Grants<'_>, rule: &Rule<'_>, age: usize, index: usize) -> Vec<RankedRoute> {
    if rule.matches.is_empty() {
        linker.report(diag::rule_dropped(rule.at.clone(), "none of its matches can be used"));
        return Vec::new();
    }
    let base = base(linker, grants, rule);
    let one = |(place, m): (usize, &HttpMatch)| {
        let mut route = base.clone();
        fit_paths(&mut route, m);
        route.matches = vec![LinkedMatch { scope: Default::default(), http: m.clone() }];
        RankedRoute { rank: Rank::new(m, age, (index, place)), route: Arc::new(route) }
    };
    let routes = rule.matches.iter().enumerate().map(one).collect();
    let replaces = paths(&mut base.clone()).into_iter().any(|p| matches!(p, Some(PathRewrite::Prefix { .. })));
    if replaces && rule.matches.iter().any(|m| !matches!(m.path, Some(PathMatch::SegmentPrefix(_)))) {
        linker.report(diag::prefix_rewrite_without_prefix(rule.at.clone()));
    }
    routes
}

/// Fills the prefix that this match matches into rewrites of the prefix; without one the path is kept.
fn fit_paths(route: &mut LinkedRoute, m: &HttpMatch) {
    let prefix = match &m.path {
        Some(PathMatch::SegmentPrefix(text)) => Some(text.clone()),
        _ => None,
    };
    for rewrite in paths(route) {
        if let Some(PathRewrite::Prefix { matched, .. }) = rewrite {
            match &prefix {
                Some(text) => matched.clone_from(text),
                None => *rewrite = None,
            }
        }
    }
}

/// Every new path that the rule or a backend of it makes.
fn paths(route: &mut LinkedRoute) -> Vec<&mut Option<PathRewrite>> {
    let mut all = vec![&mut route.route.rewrite.path];
    if let RouteAction::Redirect(redirect) = &mut route.route.action {
        all.push(&mut redirect.path);
    }
    for target in &mut route.targets {
        all.push(&mut target.rewrite.path);
        all.extend(target.redirect.as_mut().map(|r| &mut r.path));
    }
    all
}

fn url_rewrite(spec: &gateway_api::UrlRewrite) -> Rewrite {
    Rewrite { authority: spec.hostname.clone(), path: spec.path.as_ref().map(path_modifier) }
}

fn mirrored(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    rule: &Rule<'_>,
    mirror: &gateway_api::RequestMirror,
    at: &Origin,
) -> (Destination, Ppm) {
    let b = &mirror.backend_ref;
    let reference = Reference { group: b.group(), kind: b.kind(), namespace: b.namespace.as_deref(), name: &b.name, port: b.port };
    (backend(linker, grants, rule, &reference, at), share(mirror))
}

/// A service that decides. One that does not exist lets nothing through.
fn external_auth(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    rule: &Rule<'_>,
    spec: &gateway_api::HttpExternalAuthFilter,
    at: &Origin,
) -> ExternalAuthorization {
    let b = &spec.backend_ref;
    let reference = Reference { group: b.group(), kind: b.kind(), namespace: b.namespace.as_deref(), name: &b.name, port: b.port };
    let cluster = match backend(linker, grants, rule, &reference, at) {
        Destination::Service { host, port: Some(port), subset } => Some(ClusterName { host, port, subset }),
        Destination::Service { .. } | Destination::Invalid { .. } => None,
    };
    let names = |list: &[String]| list.iter().map(|name| StringMatch::Exact(name.to_ascii_lowercase())).collect::<Vec<_>>();
    let protocol = match spec.protocol {
        gateway_api::ExternalAuthProtocol::Grpc => {
            ExternalProtocol::Grpc { request_headers: spec.grpc.as_ref().map(|g| names(&g.allowed_headers)).unwrap_or_default() }
        }
        gateway_api::ExternalAuthProtocol::Http => {
            let http = spec.http.as_ref();
            let mut request_headers = vec![StringMatch::Exact("authorization".into())];
            request_headers.extend(http.into_iter().flat_map(|h| names(&h.allowed_headers)));
            let to_upstream = http.map(|h| names(&h.allowed_response_headers)).unwrap_or_default();
            ExternalProtocol::Http {
                path_prefix: http.and_then(|h| h.path.clone()).unwrap_or_default(),
                request_headers,
                additional_headers: Vec::new(),
                to_upstream: if to_upstream.is_empty() { vec![StringMatch::Present] } else { to_upstream },
                to_downstream_on_allow: Vec::new(),
                to_downstream_on_deny: Vec::new(),
            }
        }
    };
    let body = spec.forward_body.as_ref().map(|b| b.max_size).filter(|size| *size > 0);
    ExternalAuthorization {
        name: b.name.clone(),
        status_on_error: if cluster.is_some() { 403 } else { 500 },
        cluster,
        protocol,
        timeout_ms: EXTERNAL_AUTH_TIMEOUT_MS,
        fail_open: false,
        clear_route_cache: false,
        body: body.map(|size| CheckedBody { bytes_max: size.into(), partial: true, as_bytes: false }),
        origin: at.clone(),
    }
}

fn path_modifier(path: &gateway_api::PathModifier) -> PathRewrite {
    match path {
        gateway_api::PathModifier::ReplaceFullPath(full) => PathRewrite::Full(full.clone()),
        gateway_api::PathModifier::ReplacePrefixMatch(replacement) => {
            PathRewrite::Prefix { matched: String::new(), replacement: replacement.clone(), segments: true }
        }
    }
}

/// Everything but the match.
fn base(linker: &mut Linker<'_>, grants: &Grants<'_>, rule: &Rule<'_>) -> LinkedRoute {
    let mut linked = LinkedRoute {
        route: HttpRoute::new(rule.name.clone(), rule.at.clone()),
        matches: Vec::new(),
        targets: Vec::new(),
        mirrors: Vec::new(),
        unresolved_status: 500,
    };
    let mut unsupported = false;
    for filter in rule.filters {
        let at = filter.origin(&rule.document.origin);
        match &filter.value {
            gateway_api::Filter::RequestHeaderModifier(edits) => linked.route.request_headers = header_edits(linker, edits, &at),
            gateway_api::Filter::ResponseHeaderModifier(edits) => linked.route.response_headers = header_edits(linker, edits, &at),
            gateway_api::Filter::RequestRedirect(spec) => linked.route.action = RouteAction::Redirect(redirect(linker, spec, &at)),
            gateway_api::Filter::UrlRewrite(rewrite) => linked.route.rewrite = url_rewrite(rewrite),
            gateway_api::Filter::RequestMirror(mirror) => linked.mirrors.push(mirrored(linker, grants, rule, mirror, &at)),
            gateway_api::Filter::Cors(cors) => linked.route.cors = Some(Box::new(crate::cors::of_gateway_api(linker, cors, &at))),
            gateway_api::Filter::ExternalAuth(spec) => {
                linked.route.external_auth = Some(Box::new(external_auth(linker, grants, rule, spec, &at)));
            }
            gateway_api::Filter::ExtensionRef(_) => {
                linker.report(diag::filter_unsupported(at));
                unsupported = true;
            }
        }
    }
    if unsupported {
        linked.route.action = RouteAction::Respond { status: 500, body: "a filter of the route is not supported (WEFT-2408)".into() };
    }
    if matches!(linked.route.action, RouteAction::Forward(_)) {
        linked.targets = targets(linker, grants, rule);
        linked.route.timeout_ms = rule.timeouts.and_then(|t| t.request).filter(|t| !t.is_zero()).map(millis);
        linked.route.retry = Some(retry(linker, rule));
    }
    linked
}

/// The user's codes, and failures of the connection, which are always tried again (GEP-1731).
fn retry(linker: &Linker<'_>, rule: &Rule<'_>) -> Retry {
    let per_try_timeout_ms = rule.timeouts.and_then(|t| t.backend_request).filter(|t| !t.is_zero()).map(millis);
    let built_in = Retry { per_try_timeout_ms, ..linker.mesh.default_retry() };
    let Some(spec) = rule.retry else { return built_in };
    let status = spec.codes.clone();
    let on = RetryOn { connect_failure: true, refused_stream: true, reset: true, reset_before_request: true, status, ..RetryOn::default() };
    Retry {
        attempts: spec.attempts.unwrap_or(built_in.attempts).min(RETRY_ATTEMPTS_MAX),
        backoff_ms: spec.backoff.map_or(built_in.backoff_ms, millis),
        on,
        ..built_in
    }
}

fn share(mirror: &gateway_api::RequestMirror) -> Ppm {
    match (&mirror.fraction, mirror.percent) {
        (Some(f), _) => Ppm::from_percent(f64::from(f.numerator) * 100.0 / f64::from(f.denominator.unwrap_or(100).max(1))),
        (None, percent) => Ppm::from_percent(percent.map_or(100.0, f64::from)),
    }
}

fn header_edits(linker: &mut Linker<'_>, spec: &gateway_api::HeaderModifier, at: &Origin) -> HeaderEdits {
    let pairs = |list: &[gateway_api::HttpHeader]| list.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
    checked_edits(linker, HeaderEdits::new(pairs(&spec.set), pairs(&spec.add), spec.remove.clone()), at)
}

fn redirect(linker: &mut Linker<'_>, spec: &gateway_api::RequestRedirect, at: &Origin) -> Redirect {
    let status = spec.status_code.unwrap_or(302);
    let legal = [301, 302, 303, 307, 308].contains(&status);
    if !legal {
        linker.report(diag::bad_redirect_status(at.clone(), status));
    }
    Redirect {
        status: if legal { status } else { 302 },
        scheme: spec.scheme.clone(),
        host: spec.hostname.clone(),
        port: spec.port.map_or(RedirectPort::FromScheme, RedirectPort::Number),
        path: spec.path.as_ref().map(path_modifier),
    }
}

/// Weighted targets; a share that leads nowhere is answered with 500.
fn targets(linker: &mut Linker<'_>, grants: &Grants<'_>, rule: &Rule<'_>) -> Vec<LinkedTarget> {
    let nowhere = |reason: &str| vec![LinkedTarget::plain(Destination::Invalid { status: 500, reason: reason.into() }, 1)];
    if rule.backends.is_empty() {
        linker.report(diag::rule_without_backend(rule.at.clone()));
        return nowhere("the rule has no backend (WEFT-2412)");
    }
    let mut targets = Vec::new();
    for written in rule.backends {
        let at = written.origin(&rule.document.origin);
        let b = &written.value;
        let reference = Reference { group: b.group(), kind: b.kind(), namespace: b.namespace.as_deref(), name: &b.name, port: b.port };
        let mut target = LinkedTarget::plain(backend(linker, grants, rule, &reference, &at), b.weight.unwrap_or(1));
        for filter in &b.filters {
            let at = filter.origin(&rule.document.origin);
            match &filter.value {
                gateway_api::Filter::RequestHeaderModifier(edits) => target.request_headers = header_edits(linker, edits, &at),
                gateway_api::Filter::ResponseHeaderModifier(edits) => target.response_headers = header_edits(linker, edits, &at),
                gateway_api::Filter::UrlRewrite(rewrite) => target.rewrite = url_rewrite(rewrite),
                gateway_api::Filter::RequestRedirect(spec) => target.redirect = Some(redirect(linker, spec, &at)),
                gateway_api::Filter::RequestMirror(mirror) => target.mirrors.push(mirrored(linker, grants, rule, mirror, &at)),
                gateway_api::Filter::Cors(_) | gateway_api::Filter::ExternalAuth(_) | gateway_api::Filter::ExtensionRef(_) => {
                    linker.report(diag::filter_unsupported(at));
                    target.destination =
                        Destination::Invalid { status: 500, reason: "a filter of the backend is not supported (WEFT-2408)".into() };
                }
            }
        }
        targets.push(target);
    }
    if targets.iter().all(|t| t.weight == 0) {
        linker.report(diag::no_weight(rule.at.clone()));
        return nowhere("all weights are 0 (WEFT-2023)");
    }
    targets
}

/// The weighted targets of a rule for connections.
pub(crate) fn connection_targets(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    kind: &'static str,
    written: &Spanned<gateway_api::TcpRouteRule>,
) -> Vec<LinkedTarget> {
    let rule = Rule {
        document,
        kind,
        name: String::new(),
        at: written.origin(&document.origin),
        matches: Vec::new(),
        filters: &[],
        backends: &written.backend_refs,
        timeouts: None,
        retry: None,
    };
    targets(linker, grants, &rule)
}

/// A reference to a backend, of either type.
struct Reference<'a> {
    group: &'a str,
    kind: &'a str,
    namespace: Option<&'a str>,
    name: &'a str,
    port: Option<u16>,
}

fn backend(linker: &mut Linker<'_>, grants: &Grants<'_>, rule: &Rule<'_>, to: &Reference<'_>, at: &Origin) -> Destination {
    let invalid = |reason: String| Destination::Invalid { status: 500, reason };
    let own = rule.document.meta.namespace.as_str();
    let namespace = to.namespace.unwrap_or(own);
    let host = match (to.group, to.kind) {
        ("" | "core", "Service") => linker.mesh.settings.service_host(to.name, namespace),
        ("networking.istio.io", "Hostname") => to.name.to_ascii_lowercase(),
        (group, kind) => {
            linker.report(diag::backend_kind_unsupported(at.clone(), group, kind));
            return invalid(format!("backends of kind {kind} are not supported (WEFT-2407)"));
        }
    };
    let from = Referrer { group: GROUP, kind: rule.kind, namespace: own };
    if to.kind == "Service" && !grants.allow(from, "", "Service", namespace, to.name) {
        linker.report(diag::not_granted(at.clone(), "Service", namespace, to.name, rule.kind, own));
        return invalid(format!("no ReferenceGrant lets {own} refer to Service {namespace}/{} (WEFT-2406)", to.name));
    }
    // Seen from the namespace of the service: a reference that is granted is not bound to `exportTo`.
    let Some(service) = linker.mesh.service_or_wildcard(&host, namespace) else {
        let near = linker.near_host(&host);
        linker.report(diag::backend_not_found(at.clone(), &host, near.as_deref()));
        return invalid(format!("no service {host} (WEFT-2405)"));
    };
    let port = to.port.or(service.only_port());
    match port {
        Some(number) if service.port(number).is_some() => Destination::Service { host, port, subset: String::new() },
        Some(number) => {
            linker.report(diag::unknown_port(at.clone(), &host, number, &service.service.ports));
            invalid(format!("service {host} has no port {number} (WEFT-2003)"))
        }
        None => {
            linker.report(diag::port_required(at.clone(), &host));
            invalid(format!("service {host} has several ports and the reference names none (WEFT-2003)"))
        }
    }
}
