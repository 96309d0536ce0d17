//! What a value must satisfy before this proxy runs it. The control plane checks too; a proxy does not rely on it.

use super::Rejection;
use weft_model::{
    Backend, ConcurrencyPolicy, Counted, Endpoint, EndpointTls, FallbackTo, GatewayListeners, HeaderEdits, HttpRoute, ModelValue,
    RateLimit, ResourceName, RouteAction, Target,
};

/// Everything that is wrong with `value`, as field and reason.
pub(super) fn check(name: &ResourceName, value: &ModelValue) -> Vec<Rejection> {
    let mut found = Findings { resource: name, rejections: Vec::new() };
    if value.name() != *name {
        found.add("", format!("the value calls itself {}", value.name()));
    }
    match value {
        ModelValue::RouteTable(table) => {
            for (h, host) in table.hosts.iter().enumerate() {
                for (r, route) in host.routes.iter().enumerate() {
                    found.route(&format!("hosts[{h}].routes[{r}]"), route);
                }
            }
        }
        ModelValue::TcpRoutes(routes) => {
            for (r, route) in routes.routes.iter().enumerate() {
                found.targets(&format!("routes[{r}].targets"), &route.targets);
            }
        }
        ModelValue::Endpoints(endpoints) => {
            for (e, endpoint) in endpoints.endpoints.iter().enumerate() {
                found.endpoint(&format!("endpoints[{e}]"), endpoint);
            }
        }
        ModelValue::GatewayListeners(listeners) => found.listeners(listeners),
        ModelValue::Inbound(_)
        | ModelValue::RequestAuthentication(_)
        | ModelValue::Settings(_)
        | ModelValue::Authorization(_)
        | ModelValue::Service(_)
        | ModelValue::Cluster(_)
        | ModelValue::Telemetry(_) => {}
        ModelValue::RateLimit(policy) => found.rate_limit(policy),
        ModelValue::Concurrency(policy) => found.concurrency(policy),
    }
    found.rejections
}

struct Findings<'a> {
    resource: &'a ResourceName,
    rejections: Vec<Rejection>,
}

impl Findings<'_> {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.rejections.push(Rejection { resource: self.resource.clone(), field: field.into(), reason: reason.into() });
    }

    fn status(&mut self, field: &str, status: u16, range: std::ops::Range<u16>) {
        if !range.contains(&status) {
            self.add(field, format!("{status} is not a status between {} and {}", range.start, range.end - 1));
        }
    }

    fn route(&mut self, at: &str, route: &HttpRoute) {
        match &route.action {
            RouteAction::Forward(targets) => self.targets(&format!("{at}.action.forward"), targets),
            RouteAction::Redirect(redirect) => self.status(&format!("{at}.action.redirect.status"), redirect.status, 300..400),
            RouteAction::Respond { status, .. } => self.status(&format!("{at}.action.respond.status"), *status, 200..600),
        }
        if let Some(abort) = &route.fault.abort {
            self.status(&format!("{at}.fault.abort.status"), abort.status, 200..600);
        }
        self.edits(&format!("{at}.request_headers"), &route.request_headers);
        self.edits(&format!("{at}.response_headers"), &route.response_headers);
        match route.fallback.as_ref().map(|f| &f.to) {
            Some(FallbackTo::Backend(target)) => self.targets(&format!("{at}.fallback.to.backend"), std::slice::from_ref(&**target)),
            Some(FallbackTo::Respond { status, headers, .. }) => {
                self.status(&format!("{at}.fallback.to.respond.status"), *status, 200..600);
                self.edits(&format!("{at}.fallback.to.respond.headers"), headers);
            }
            None => {}
        }
    }

    fn targets(&mut self, at: &str, targets: &[Target]) {
        for (t, target) in targets.iter().enumerate() {
            if let Backend::Invalid { status, .. } = &target.backend {
                self.status(&format!("{at}[{t}].backend.status"), *status, 400..600);
            }
            if let Some(redirect) = &target.redirect {
                self.status(&format!("{at}[{t}].redirect.status"), redirect.status, 300..400);
            }
            self.edits(&format!("{at}[{t}].request_headers"), &target.request_headers);
            self.edits(&format!("{at}[{t}].response_headers"), &target.response_headers);
        }
    }

    fn edits(&mut self, at: &str, edits: &HeaderEdits) {
        for (list, pairs) in [("set", &edits.set), ("add", &edits.add)] {
            for (i, (name, value)) in pairs.iter().enumerate() {
                if !weft_model::names_authority(name) && http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                    self.add(format!("{at}.{list}[{i}]"), format!("{name:?} is not a header name"));
                }
                if http::HeaderValue::from_str(value).is_err() {
                    self.add(format!("{at}.{list}[{i}]"), format!("{value:?} is not a header value"));
                }
            }
        }
    }

    fn endpoint(&mut self, at: &str, endpoint: &Endpoint) {
        // Without an identity to check, mutual TLS would trust whoever answers.
        if endpoint.tls == EndpointTls::Mesh && endpoint.identity.is_none() {
            self.add(format!("{at}.identity"), "a mesh endpoint needs the identity that it must prove");
        }
    }

    fn rate_limit(&mut self, policy: &RateLimit) {
        for (l, limit) in policy.limits.iter().enumerate() {
            if let Counted::Local(rate) | Counted::Global(rate) = limit.counted
                && (rate.requests == 0 || rate.per_ms == 0 || rate.burst == 0)
            {
                self.add(format!("limits[{l}].counted"), "requests, time and burst must be at least 1");
            }
        }
    }

    fn concurrency(&mut self, policy: &ConcurrencyPolicy) {
        for (b, bulkhead) in policy.bulkheads.iter().enumerate() {
            if bulkhead.requests == 0 {
                self.add(format!("bulkheads[{b}].requests"), "a bulkhead without a place lets nothing through");
            }
        }
        if policy.adaptive.as_ref().is_some_and(|a| a.requests_min == 0 || a.requests_min > a.requests_max) {
            self.add("adaptive", "the least limit must be at least 1 and at most the largest");
        }
    }

    fn listeners(&mut self, listeners: &GatewayListeners) {
        for (l, listener) in listeners.listeners.iter().enumerate() {
            if listener.port == 0 {
                self.add(format!("listeners[{l}].port"), "port 0 cannot be listened on");
            }
        }
    }
}
