//! The HTTP rules of a VirtualService, one by one.

use crate::{
    diag,
    http_rules::{Destination, LinkedMatch, LinkedRoute, LinkedTarget},
    link::Linker,
    virtual_service::{destination, scope},
};
use base64::Engine;
use std::{collections::BTreeMap, time::Duration};
use weft_api::{Document, Spanned, istio};
use weft_model::{
    ClaimMatch, DirectBody, Fault, FaultAbort, FaultDelay, HeaderEdits, HttpMatch, HttpRoute, NamedMatch, Origin, PathMatch, PathRewrite,
    Pattern, Ppm, Redirect, RedirectPort, Retry, RouteAction, StringMatch, limits::DIRECT_RESPONSE_BYTES_MAX,
};

/// A rule whose rewrite replaces the matched prefix, once per match: each has its own prefix; so too one whose matches have names, which
/// stand in the record of a request. Other rules stay whole.
pub(crate) fn by_prefix(spec: &Spanned<istio::HttpRoute>) -> Vec<Spanned<istio::HttpRoute>> {
    let rewrites =
        spec.rewrite.as_ref().is_some_and(|r| r.uri.is_some()) || spec.redirect.as_ref().is_some_and(|r| r.prefix_rewrite.is_some());
    let named = spec.matches.iter().any(|m| m.name.is_some());
    if !(rewrites || named) || spec.matches.len() < 2 {
        return vec![spec.clone()];
    }
    let one = |m: &Spanned<istio::HttpMatchRequest>| {
        let mut part = spec.clone();
        part.value.matches = vec![m.clone()];
        part
    };
    spec.matches.iter().map(one).collect()
}

/// One rule; `None` when it cannot be used at all.
pub(crate) fn route(
    linker: &mut Linker<'_>,
    document: &Document,
    index: usize,
    spec: &Spanned<istio::HttpRoute>,
    at: &Origin,
) -> Option<LinkedRoute> {
    let name = spec.name.clone().unwrap_or_else(|| format!("{}/{}/{index}", document.meta.namespace, document.meta.name));
    let name = match spec.matches.as_slice() {
        [only] => only.name.as_ref().map_or_else(|| name.clone(), |of_match| format!("{name}.{of_match}")),
        _ => name,
    };
    let mut route = HttpRoute::new(name, at.clone());
    let mut matches = Vec::new();
    for written in &spec.matches {
        matches.extend(http_match(linker, document, written));
    }
    if matches.is_empty() && !spec.matches.is_empty() {
        linker.report(diag::rule_dropped(at.clone(), "none of its matches can be used"));
        return None;
    }
    // Fixed order of preference where a user gave several: what needs no upstream first.
    let mut targets = Vec::new();
    if let Some(redirect) = &spec.redirect {
        if !spec.route.is_empty() {
            linker.report(diag::route_beside(at.clone(), "redirect"));
        }
        route.action = RouteAction::Redirect(redirect_to(linker, redirect, &matches, &redirect.origin(&document.origin)));
    } else if let Some(response) = &spec.direct_response {
        if !spec.route.is_empty() {
            linker.report(diag::route_beside(at.clone(), "directResponse"));
        }
        route.action = RouteAction::Respond { status: response.status, body: body(linker, response, &response.origin(&document.origin)) };
    } else if spec.route.is_empty() {
        linker.report(diag::rule_without_target(at.clone()));
        targets
            .push(LinkedTarget::plain(Destination::Invalid { status: 503, reason: "the rule has no destination (WEFT-2010)".into() }, 1));
    } else {
        targets = targets_of(linker, document, spec, at);
    }
    if let Some(headers) = &spec.headers {
        route.request_headers = edits(linker, headers.request.as_ref(), at);
        route.response_headers = edits(linker, headers.response.as_ref(), at);
    }
    if let Some(rewrite) = &spec.rewrite {
        let rewrite_at = rewrite.origin(&document.origin);
        route.rewrite.authority = rewrite.authority.clone();
        route.rewrite.path = path_rewrite(linker, rewrite, &matches, &rewrite_at);
    }
    route.cors = spec.cors_policy.as_ref().map(|c| Box::new(crate::cors::of_istio(linker, c, &c.origin(&document.origin))));
    route.timeout_ms = spec.timeout.filter(|t| !t.is_zero()).map(millis);
    route.fault = spec.fault.as_ref().map(|f| fault(linker, document, f)).unwrap_or_default();
    if matches!(route.action, RouteAction::Forward(_)) {
        route.retry = Some(match &spec.retries {
            None => linker.mesh.default_retry(),
            Some(r) => retries(linker, r, &r.origin(&document.origin)),
        });
    }
    let mirrors = mirrors(linker, document, spec, at);
    Some(LinkedRoute { route, matches, targets, mirrors, unresolved_status: 503 })
}

/// Whole milliseconds; a shorter time that is not zero is one.
pub(crate) fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if whole == 0 && !duration.is_zero() { 1 } else { whole }
}

fn targets_of(linker: &mut Linker<'_>, document: &Document, spec: &istio::HttpRoute, at: &Origin) -> Vec<LinkedTarget> {
    let only = spec.route.len() == 1;
    let mut targets = Vec::new();
    for written in &spec.route {
        let at = written.origin(&document.origin);
        let headers = written.headers.as_ref();
        targets.push(LinkedTarget {
            request_headers: edits(linker, headers.and_then(|h| h.request.as_ref()), &at),
            response_headers: edits(linker, headers.and_then(|h| h.response.as_ref()), &at),
            ..LinkedTarget::plain(
                destination(linker, document, &written.destination, &at),
                if only { 1 } else { written.weight.unwrap_or_default() },
            )
        });
    }
    if targets.iter().all(|t| t.weight == 0) {
        linker.report(diag::no_weight(at.clone()));
        return vec![LinkedTarget::plain(Destination::Invalid { status: 503, reason: "all weights are 0 (WEFT-2023)".into() }, 1)];
    }
    targets
}

/// A text match; a bad regular expression is reported and matches nothing (`None`).
pub(crate) fn text(linker: &mut Linker<'_>, m: &istio::StringMatch, at: &Origin) -> Option<StringMatch> {
    Some(match m {
        istio::StringMatch::Exact(t) => StringMatch::Exact(t.clone()),
        istio::StringMatch::Prefix(t) => StringMatch::Prefix(t.clone()),
        istio::StringMatch::Regex(t) => StringMatch::Regex(pattern(linker, t, at)?),
        istio::StringMatch::Present => StringMatch::Present,
    })
}

/// A regular expression, or a diagnostic.
pub(crate) fn pattern(linker: &mut Linker<'_>, text: &str, at: &Origin) -> Option<Pattern> {
    match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            linker.report(diag::bad_pattern(at.clone(), text, &why.to_string()));
            None
        }
    }
}

/// One block of conditions; `None` when a part of it cannot be used: half a block would match what nobody meant.
fn http_match(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::HttpMatchRequest>) -> Option<LinkedMatch> {
    let at = spec.origin(&document.origin);
    let path = match &spec.uri {
        None | Some(istio::StringMatch::Present) => None,
        Some(istio::StringMatch::Exact(t)) => Some(PathMatch::Exact(t.clone())),
        Some(istio::StringMatch::Prefix(t)) => Some(PathMatch::Prefix(t.clone())),
        Some(istio::StringMatch::Regex(t)) => Some(PathMatch::Regex(pattern(linker, t, &at)?)),
    };
    let mut one = |m: &Option<istio::StringMatch>| match m {
        None | Some(istio::StringMatch::Present) => Some(None),
        Some(m) => text(linker, m, &at).map(Some),
    };
    let (method, scheme, authority) = (one(&spec.method)?, one(&spec.scheme)?, one(&spec.authority)?);
    let mut claims = Vec::new();
    let mut headers = named(linker, &spec.headers, false, &at, &mut claims)?;
    headers.extend(named(linker, &spec.without_headers, true, &at, &mut claims)?);
    let query = named_query(linker, &spec.query_params, &at)?;
    let http = HttpMatch {
        name: spec.name.clone().unwrap_or_default(),
        path,
        ignore_path_case: spec.ignore_uri_case,
        method,
        scheme,
        authority,
        headers,
        query,
        claims,
        ..HttpMatch::default()
    };
    let scope = scope(linker, document, spec.port, &spec.source_labels, spec.source_namespace.as_ref(), &spec.gateways);
    if http == HttpMatch::default() && scope == Default::default() && spec.uri.is_none() {
        linker.report(diag::empty_match(at));
    }
    Some(LinkedMatch { scope, http })
}

/// Header conditions, and those on claims, which have a name of their own form. The pseudo-header names are ignored, as Istio says.
fn named(
    linker: &mut Linker<'_>,
    map: &BTreeMap<String, istio::StringMatch>,
    invert: bool,
    at: &Origin,
    claims: &mut Vec<ClaimMatch>,
) -> Option<Vec<NamedMatch>> {
    let mut out = Vec::new();
    for (name, m) in map {
        if matches!(name.as_str(), "uri" | "scheme" | "method" | "authority") {
            linker.report(diag::ignored_header_match(at.clone(), name));
            continue;
        }
        let value = match m {
            istio::StringMatch::Present => None,
            m => Some(text(linker, m, at)?),
        };
        if name.starts_with('@') {
            let Some(path) = ClaimMatch::path_of(name) else {
                linker.report(diag::bad_claim(at.clone(), name));
                return None;
            };
            claims.push(ClaimMatch { path, value, invert });
            continue;
        }
        out.push(NamedMatch { name: name.to_ascii_lowercase(), value, invert });
    }
    Some(out)
}

fn named_query(linker: &mut Linker<'_>, map: &BTreeMap<String, istio::StringMatch>, at: &Origin) -> Option<Vec<NamedMatch>> {
    let one = |(name, m): (&String, &istio::StringMatch)| {
        let value = match m {
            istio::StringMatch::Present => None,
            m => Some(text(linker, m, at)?),
        };
        Some(NamedMatch { name: name.clone(), value, invert: false })
    };
    map.iter().map(one).collect()
}

/// Header edits; one that HTTP does not allow is reported and left out.
fn edits(linker: &mut Linker<'_>, spec: Option<&istio::HeaderOperations>, at: &Origin) -> HeaderEdits {
    let Some(spec) = spec else { return HeaderEdits::default() };
    let pairs = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    checked_edits(linker, HeaderEdits::new(pairs(&spec.set), pairs(&spec.add), spec.remove.clone()), at)
}

/// The edits that HTTP allows.
pub(crate) fn checked_edits(linker: &mut Linker<'_>, mut edits: HeaderEdits, at: &Origin) -> HeaderEdits {
    let mut legal = |name: &str, value: &str, authority: bool| {
        // Of HTTP/2's pseudo-headers only the authority can be set (Envoy's rule); the others are changed by `rewrite`.
        let name_ok = authority && name == ":authority" || http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        let ok = name_ok && http::HeaderValue::from_str(value).is_ok();
        if !ok {
            linker.report(diag::bad_header(at.clone(), name));
        } else if value.split('%').skip(1).step_by(2).any(|word| word.starts_with(|c: char| c.is_ascii_uppercase())) {
            linker.report(diag::operator_as_text(at.clone(), name));
        }
        ok
    };
    edits.set.retain(|(n, v)| legal(n, v, true));
    edits.add.retain(|(n, v)| legal(n, v, false));
    edits.remove.retain(|n| legal(n, "", false));
    edits
}

/// The prefix that the rule matches; its rewrites were split by match before.
fn matched_prefix(matches: &[LinkedMatch]) -> Option<String> {
    match matches.first().map(|m| &m.http.path) {
        Some(Some(PathMatch::Prefix(text))) => Some(text.clone()),
        _ => None,
    }
}

fn path_rewrite(linker: &mut Linker<'_>, spec: &istio::HttpRewrite, matches: &[LinkedMatch], at: &Origin) -> Option<PathRewrite> {
    if let Some(regex) = &spec.uri_regex_rewrite {
        let pattern = pattern(linker, &regex.pattern, at)?;
        return Some(PathRewrite::Regex { pattern, substitution: regex.rewrite.clone() });
    }
    let uri = spec.uri.clone()?;
    Some(match matched_prefix(matches) {
        Some(matched) => PathRewrite::Prefix { matched, replacement: uri, segments: false },
        None => PathRewrite::Full(uri),
    })
}

fn redirect_to(linker: &mut Linker<'_>, spec: &istio::HttpRedirect, matches: &[LinkedMatch], at: &Origin) -> Redirect {
    let path = match (&spec.uri, &spec.prefix_rewrite) {
        (Some(uri), _) => Some(PathRewrite::Full(uri.clone())),
        (None, Some(replacement)) => match matched_prefix(matches) {
            Some(matched) => Some(PathRewrite::Prefix { matched, replacement: replacement.clone(), segments: false }),
            None => {
                linker.report(diag::prefix_rewrite_without_prefix(at.clone()));
                None
            }
        },
        (None, None) => None,
    };
    let status = spec.redirect_code.unwrap_or(301);
    if ![301, 302, 303, 307, 308].contains(&status) {
        linker.report(diag::bad_redirect_status(at.clone(), status));
    }
    let port = match (spec.port, spec.derive_port) {
        (Some(port), _) => RedirectPort::Number(port),
        (None, Some(istio::RedirectPort::FromRequestPort)) => RedirectPort::FromRequest,
        (None, Some(istio::RedirectPort::FromProtocolDefault)) => RedirectPort::WellKnown,
        // A new authority stands as it is written, with its own port or none.
        (None, None) if spec.authority.is_some() => RedirectPort::WellKnown,
        (None, None) => RedirectPort::FromScheme,
    };
    let status = if (300..400).contains(&status) { status } else { 301 };
    Redirect { status, scheme: spec.scheme.clone(), host: spec.authority.clone(), port, path }
}

fn body(linker: &mut Linker<'_>, response: &istio::HttpDirectResponse, at: &Origin) -> DirectBody {
    let bytes = match response.body.as_ref().map(|b| (&b.string, &b.bytes)) {
        None | Some((None, None)) => Vec::new(),
        Some((Some(text), _)) => text.clone().into_bytes(),
        Some((None, Some(encoded))) => base64::engine::general_purpose::STANDARD.decode(encoded.trim()).unwrap_or_else(|_| {
            linker.report(diag::body_not_base64(at.clone()));
            Vec::new()
        }),
    };
    bounded_body(linker, bytes, at)
}

/// A body within the limit; a longer one is cut, since the status is what callers act on.
pub(crate) fn bounded_body(linker: &mut Linker<'_>, mut bytes: Vec<u8>, at: &Origin) -> DirectBody {
    if bytes.len() > DIRECT_RESPONSE_BYTES_MAX {
        linker.report(diag::body_too_long(at.clone(), DIRECT_RESPONSE_BYTES_MAX));
        bytes.truncate(DIRECT_RESPONSE_BYTES_MAX);
    }
    DirectBody(bytes.into())
}

/// The share of a fault: the older whole-number form counts when the newer is absent; neither is none (Istio).
fn share(percentage: Option<&istio::Percentage>, percent: Option<u32>) -> Ppm {
    let value = percentage.map(|p| p.value.unwrap_or_default()).or(percent.map(f64::from));
    Ppm::from_percent(value.unwrap_or_default())
}

fn fault(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::HttpFaultInjection>) -> Fault {
    let delay = spec.delay.as_ref().and_then(|d| {
        let at = d.origin(&document.origin);
        if d.percentage.is_none() && d.percent.is_none() {
            linker.report(diag::fault_without_share(at.clone()));
        }
        Some(FaultDelay { share: share(d.percentage.as_ref(), d.percent), delay_ms: millis(d.fixed_delay?) })
    });
    let abort = spec.abort.as_ref().and_then(|a| {
        let at = a.origin(&document.origin);
        if a.percentage.is_none() {
            linker.report(diag::fault_without_share(at.clone()));
        }
        let share = share(a.percentage.as_ref(), None);
        match (a.http_status, &a.grpc_status) {
            (Some(status), _) => Some(FaultAbort { share, status, grpc_status: None }),
            (None, Some(name)) => match weft_model::grpc_code(name) {
                Some(code) => Some(FaultAbort { share, status: 200, grpc_status: Some(code) }),
                None => {
                    linker.report(diag::bad_grpc_status(at, name));
                    None
                }
            },
            (None, None) => None,
        }
    });
    Fault { delay, abort }
}

pub(crate) fn retries(linker: &mut Linker<'_>, spec: &istio::HttpRetry, at: &Origin) -> Retry {
    let built_in = linker.mesh.default_retry();
    let on = spec.retry_on.as_deref().filter(|text| !text.trim().is_empty());
    Retry {
        attempts: crate::retry::bounded_attempts(linker, spec.attempts.unwrap_or(built_in.attempts), at),
        per_try_timeout_ms: spec.per_try_timeout.filter(|t| !t.is_zero()).map(millis),
        on: on.map_or_else(|| built_in.on.clone(), |text| crate::retry::conditions(linker, text.split(','), &[], at)),
        backoff_ms: spec.backoff.map_or(built_in.backoff_ms, millis),
        repeat_hosts: spec.retry_ignore_previous_hosts == Some(false),
        remote_localities: spec.retry_remote_localities == Some(true),
        ..built_in
    }
}

fn mirrors(linker: &mut Linker<'_>, document: &Document, spec: &istio::HttpRoute, at: &Origin) -> Vec<(Destination, Ppm)> {
    let mut out = Vec::new();
    if let Some(mirror) = &spec.mirror {
        let percent = spec
            .mirror_percentage
            .as_ref()
            .and_then(|p| p.value)
            .or(spec.mirror_percent.or(spec.mirror_percent_older).map(f64::from))
            .unwrap_or(100.0);
        out.push((destination(linker, document, mirror, &mirror.origin(&document.origin)), Ppm::from_percent(percent)));
    }
    for mirror in &spec.mirrors {
        let percent = mirror.percentage.as_ref().and_then(|p| p.value).unwrap_or(100.0);
        let at = if mirror.line == 0 { at.clone() } else { mirror.origin(&document.origin) };
        out.push((destination(linker, document, &mirror.destination, &at), Ppm::from_percent(percent)));
    }
    out
}
