//! RoutePolicy: which rules it is for, and what it changes of them.

use crate::{
    diag,
    gateway_api::GROUP,
    http_rules::{Asker, Destination, LinkedTarget},
    istio_http::{bounded_body, checked_edits, millis, text},
    link::Linker,
    mesh::Mesh,
    reference_grant::{Grants, Referrer},
};
use weft_api::{Document, Resource, Spanned, istio, weft};
use weft_model::{
    Backend, Fallback, FallbackOn, FallbackTo, HeaderEdits, Hedging, HttpMatch, HttpRoute, NamedMatch, Origin, RateLimitedBackoff,
    ResetFormat, Retry, RetryOn, RouteAction, RouteReference, limits::RETRY_ATTEMPTS_MAX,
};

/// What a policy is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Rules(RouteReference),
    Service(String),
}

impl Subject {
    /// The narrower is applied later, so that it wins.
    fn rank(&self) -> u8 {
        match self {
            Self::Service(_) => 0,
            Self::Rules(reference) if reference.rule.is_empty() => 1,
            Self::Rules(_) => 2,
        }
    }
}

/// A policy at one of its targets.
#[derive(Debug, Clone)]
pub(crate) struct LinkedRoutePolicy {
    subject: Subject,
    cookies: Vec<NamedMatch>,
    timeout_ms: Option<u64>,
    per_try_timeout_ms: Option<u64>,
    idle_timeout_ms: Option<u64>,
    grpc_timeout_max_ms: Option<u64>,
    retry: Option<RetryChange>,
    hedging: Option<Hedging>,
    fallback: Option<(FallbackOn, LinkedFallback, Origin)>,
    origin: Origin,
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are few policies")]
enum LinkedFallback {
    Backend(LinkedTarget),
    Fixed(FallbackTo),
}

#[derive(Debug, Clone)]
struct RetryChange {
    attempts: Option<u32>,
    on: Option<RetryOn>,
    backoff_ms: Option<u64>,
    backoff_max_ms: Option<u64>,
    rate_limited_backoff: Option<RateLimitedBackoff>,
    repeat_hosts: Option<bool>,
    count_header: Option<bool>,
}

/// Links all; of two for one target the older wins.
pub(crate) fn link(linker: &mut Linker<'_>) {
    let grants = Grants::collect(linker);
    for (_, document, spec) in linker.documents(|r| if let Resource::RoutePolicy(p) = r { Some(p) } else { None }) {
        let Some(policy) = read(linker, &grants, document, spec) else { continue };
        for target in &spec.target_refs {
            let at = target.origin(&document.origin);
            let Some(subject) = subject(linker, document, target) else {
                linker.report(diag::route_policy_target(at, &target.kind, &target.name));
                continue;
            };
            match linker.mesh.route_policies.iter().find(|p| p.subject == subject) {
                Some(first) => {
                    let diagnostic = diag::route_policy_twice(at, &first.origin);
                    linker.report(diagnostic);
                }
                None => linker.mesh.route_policies.push(LinkedRoutePolicy { subject, ..policy.clone() }),
            }
        }
    }
    linker.mesh.route_policies.sort_by_key(|p| p.subject.rank());
}

fn subject(linker: &Linker<'_>, document: &Document, target: &weft::TargetReference) -> Option<Subject> {
    let namespace = document.meta.namespace.as_str();
    let there = |r: &Resource| match (r, target.kind.as_str()) {
        (Resource::HttpRoute(route), "HTTPRoute") => rule_exists(target, route.rules.iter().map(|r| r.name.as_deref())),
        (Resource::GrpcRoute(route), "GRPCRoute") => rule_exists(target, route.rules.iter().map(|r| r.name.as_deref())),
        (Resource::VirtualService(vs), "VirtualService") => rule_exists(target, vs.http.iter().map(|r| r.name.as_deref())),
        _ => false,
    };
    if target.kind == "Service" {
        let host = linker.mesh.settings.service_host(&target.name, namespace);
        return (target.section_name.is_none() && linker.mesh.services.contains_key(&host)).then_some(Subject::Service(host));
    }
    let mut documents = linker.inputs.documents.iter();
    documents.find(|d| d.meta.namespace == namespace && d.meta.name == target.name && there(&d.resource))?;
    Some(Subject::Rules(RouteReference {
        kind: target.kind.clone(),
        namespace: namespace.into(),
        name: target.name.clone(),
        rule: target.section_name.clone().unwrap_or_default(),
    }))
}

/// A rule is named by its name, or by its place where it has none.
fn rule_exists<'n>(target: &weft::TargetReference, names: impl Iterator<Item = Option<&'n str>>) -> bool {
    let Some(wanted) = &target.section_name else { return true };
    names.enumerate().any(|(index, name)| name.map_or_else(|| index.to_string() == *wanted, |name| name == wanted))
}

fn read(linker: &mut Linker<'_>, grants: &Grants<'_>, document: &Document, spec: &weft::RoutePolicy) -> Option<LinkedRoutePolicy> {
    let origin = &document.origin;
    let mut cookies = Vec::new();
    for (name, wanted) in spec.matches.iter().flat_map(|m| &m.cookies) {
        let value = match wanted {
            istio::StringMatch::Present => None,
            // A condition that cannot be read would let every request in: the policy is left out.
            wanted => Some(text(linker, wanted, origin)?),
        };
        cookies.push(NamedMatch { name: name.clone(), value, invert: false });
    }
    let timeouts = spec.timeouts.as_ref();
    let retry = spec.retry.as_ref().map(|r| retry_change(linker, r, &r.origin(origin)));
    let hedging = spec.hedging.as_ref().and_then(|h| hedging(linker, h, &h.origin(origin)));
    let fallback = spec.fallback.as_ref().and_then(|f| fallback(linker, grants, document, f));
    Some(LinkedRoutePolicy {
        subject: Subject::Service(String::new()),
        cookies,
        timeout_ms: timeouts.and_then(|t| t.request).map(millis),
        per_try_timeout_ms: timeouts.and_then(|t| t.backend_request).map(millis),
        idle_timeout_ms: timeouts.and_then(|t| t.idle).map(millis),
        grpc_timeout_max_ms: timeouts.and_then(|t| t.max_grpc).map(millis),
        retry,
        hedging,
        fallback,
        origin: origin.clone(),
    })
}

fn retry_change(linker: &mut Linker<'_>, spec: &weft::RoutePolicyRetry, at: &Origin) -> RetryChange {
    let words = spec.on.iter().map(String::as_str);
    // A list in which nothing can be used changes nothing.
    let on = Some(crate::retry::conditions(linker, words, &spec.retriable_headers, at)).filter(|on| *on != RetryOn::default());
    let asked = spec.retry_after.as_ref().map(|r| {
        let max_ms = millis(r.max);
        let one = |h: &weft::RetryAfterHeader| match h.format {
            None | Some(weft::RetryAfterFormat::Seconds) => (h.name.to_ascii_lowercase(), ResetFormat::Seconds),
            Some(weft::RetryAfterFormat::UnixTimestamp) => (h.name.to_ascii_lowercase(), ResetFormat::UnixTime),
        };
        match r.headers.is_empty() {
            true => RateLimitedBackoff::usual(max_ms),
            false => RateLimitedBackoff { headers: r.headers.iter().map(one).collect(), max_ms },
        }
    });
    RetryChange {
        attempts: spec.attempts.map(|n| crate::retry::bounded_attempts(linker, n, at)),
        on,
        backoff_ms: spec.backoff.map(millis),
        backoff_max_ms: spec.max_backoff.map(millis),
        rate_limited_backoff: asked,
        repeat_hosts: spec.avoid_previous_hosts.map(|avoid| !avoid),
        count_header: spec.attempt_count_header,
    }
}

fn hedging(linker: &mut Linker<'_>, spec: &weft::RoutePolicyHedging, at: &Origin) -> Option<Hedging> {
    let percentile = match spec.percentile {
        None => None,
        Some(percent @ 1..=99) => u8::try_from(percent).ok(),
        Some(other) => {
            linker
                .report(diag::route_policy_unusable(at.clone(), &format!("hedging.percentile is {other}, and must lie between 1 and 99")));
            return None;
        }
    };
    Some(Hedging { delay_ms: millis(spec.delay), percentile, attempts: spec.attempts.unwrap_or(1).clamp(1, RETRY_ATTEMPTS_MAX) })
}

fn fallback(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    spec: &Spanned<weft::RoutePolicyFallback>,
) -> Option<(FallbackOn, LinkedFallback, Origin)> {
    let at = spec.origin(&document.origin);
    let mut on = if spec.on.is_empty() { FallbackOn::built_in() } else { FallbackOn::default() };
    for word in &spec.on {
        match word.as_str() {
            "no-endpoint" => on.no_endpoint = true,
            "connect-failure" => on.connect_failure = true,
            "reset" => on.reset = true,
            "timeout" => on.timeout = true,
            "overflow" => on.overflow = true,
            "5xx" => on.five_xx = true,
            code => match code.parse::<u16>().ok().filter(|c| (100..600).contains(c)) {
                Some(code) => on.status.push(code),
                None => linker.report(diag::unknown_fallback_condition(at.clone(), word)),
            },
        }
    }
    let to = match (&spec.backend_ref, &spec.response) {
        (Some(reference), None) => LinkedFallback::Backend(backend(linker, grants, document, reference)?),
        (None, Some(response)) => {
            if !(200..600).contains(&response.status) {
                linker.report(diag::route_policy_unusable(at, &format!("{} is not a status", response.status)));
                return None;
            }
            let headers = response.headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect();
            let headers = checked_edits(linker, HeaderEdits::new(headers, Vec::new(), Vec::new()), &at);
            let body = bounded_body(linker, response.body.clone().unwrap_or_default().into_bytes(), &at);
            LinkedFallback::Fixed(FallbackTo::Respond { status: response.status, body, headers })
        }
        _ => {
            linker.report(diag::route_policy_unusable(at, "fallback needs exactly one of backendRef and response"));
            return None;
        }
    };
    Some((on, to, at))
}

fn backend(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    to: &Spanned<weft_api::gateway_api::BackendObjectReference>,
) -> Option<LinkedTarget> {
    let at = to.origin(&document.origin);
    let own = document.meta.namespace.as_str();
    if (to.group(), to.kind()) != ("", "Service") {
        linker.report(diag::route_policy_unusable(at, &format!("a fallback to a {} is not possible", to.kind())));
        return None;
    }
    let namespace = to.namespace.as_deref().unwrap_or(own);
    let from = |group| Referrer { group, kind: "RoutePolicy", namespace: own };
    if !["weft.dev", GROUP].into_iter().any(|group| grants.allow(from(group), "", "Service", namespace, &to.name)) {
        linker.report(diag::not_granted(at, "Service", namespace, &to.name, "RoutePolicy", own));
        return None;
    }
    let host = linker.mesh.settings.service_host(&to.name, namespace);
    let Some(service) = linker.mesh.service_or_wildcard(&host, namespace) else {
        let near = linker.near_host(&host);
        linker.report(diag::unknown_host(at, &host, near.as_deref()));
        return None;
    };
    let Some(port) = to.port.or(service.only_port()) else {
        linker.report(diag::port_required(at, &host));
        return None;
    };
    if service.port(port).is_none() {
        linker.report(diag::unknown_port(at, &host, port, &service.service.ports));
        return None;
    }
    Some(LinkedTarget::plain(Destination::Service { host, port: Some(port), subset: String::new() }, 1))
}

impl Mesh {
    /// Applies the policies of a rule. `called` is the service whose table the rule is in; at a gateway, that of all its targets.
    pub(crate) fn apply_route_policies(&self, route: &mut HttpRoute, called: Option<&str>, asker: &Asker<'_>) {
        for policy in &self.route_policies {
            let applies = match &policy.subject {
                Subject::Rules(reference) => reference.covers(route),
                Subject::Service(host) => called == Some(host.as_str()),
            };
            if applies {
                policy.apply(self, route, asker);
            }
        }
    }
}

/// The service that all targets of a rule are of, where there is one.
pub(crate) fn only_service(route: &HttpRoute) -> Option<String> {
    let RouteAction::Forward(targets) = &route.action else { return None };
    let host = |backend: &Backend| match backend {
        Backend::Cluster(name) => Some(name.host.clone()),
        Backend::Invalid { .. } => None,
    };
    let first = host(&targets.first()?.backend)?;
    targets.iter().all(|t| host(&t.backend).as_ref() == Some(&first)).then_some(first)
}

impl LinkedRoutePolicy {
    fn apply(&self, mesh: &Mesh, route: &mut HttpRoute, asker: &Asker<'_>) {
        if !self.cookies.is_empty() {
            if route.matches.is_empty() {
                route.matches.push(HttpMatch::default());
            }
            route.matches.iter_mut().for_each(|m| m.cookies.extend(self.cookies.iter().cloned()));
        }
        if !matches!(route.action, RouteAction::Forward(_)) {
            return;
        }
        let set = |to: &mut Option<u64>, from: Option<u64>| {
            if let Some(ms) = from {
                *to = Some(ms).filter(|ms| *ms > 0);
            }
        };
        set(&mut route.timeout_ms, self.timeout_ms);
        set(&mut route.idle_timeout_ms, self.idle_timeout_ms);
        set(&mut route.grpc_timeout_max_ms, self.grpc_timeout_max_ms);
        if self.per_try_timeout_ms.is_some() || self.retry.is_some() {
            let retry = route.retry.get_or_insert_with(Retry::built_in);
            set(&mut retry.per_try_timeout_ms, self.per_try_timeout_ms);
            if let Some(change) = &self.retry {
                change.apply(retry);
            }
        }
        if let Some(hedging) = &self.hedging {
            route.hedging = Some(hedging.clone());
        }
        if let Some((on, to, origin)) = &self.fallback {
            let to = match to {
                LinkedFallback::Fixed(to) => to.clone(),
                LinkedFallback::Backend(target) => FallbackTo::Backend(Box::new(target.for_asker(mesh, asker, 503))),
            };
            route.fallback = Some(Box::new(Fallback { on: on.clone(), to, origin: origin.clone() }));
        }
    }
}

impl RetryChange {
    fn apply(&self, retry: &mut Retry) {
        retry.attempts = self.attempts.unwrap_or(retry.attempts);
        if let Some(on) = &self.on {
            retry.on.clone_from(on);
        }
        retry.backoff_ms = self.backoff_ms.unwrap_or(retry.backoff_ms);
        retry.backoff_max_ms = self.backoff_max_ms.or(retry.backoff_max_ms);
        if self.rate_limited_backoff.is_some() {
            retry.rate_limited_backoff.clone_from(&self.rate_limited_backoff);
        }
        retry.repeat_hosts = self.repeat_hosts.unwrap_or(retry.repeat_hosts);
        retry.count_header = self.count_header.unwrap_or(retry.count_header);
    }
}
