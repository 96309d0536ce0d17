//! A projected view as text that people can read and diff.

use crate::mesh::Running;
use std::fmt::Write;
use weft_compile::{RootState, describe_matches};
use weft_model::{
    Authorization, Backend, Cluster, Cors, Endpoints, Fallback, FallbackTo, GatewayListeners, HeaderEdits, HttpRoute, Inbound, ModelValue,
    Origin, PathRewrite, Ppm, Redirect, RequestAuthentication, Retry, RouteAction, RouteTable, Service, Target, TcpRoutes, Telemetry,
};

/// The view of `who` with `roots`.
pub(crate) fn view(running: &Running, who: &str, roots: &[&str]) -> String {
    let Some(projection) = running.project(who, roots) else { return format!("no workload {who}\n") };
    let mut out = String::new();
    for (root, state) in &projection.roots {
        if *state == RootState::Unknown {
            let _ = writeln!(out, "unknown root {root:?}");
        }
    }
    for versioned in projection.view.values.values() {
        match versioned.value.as_ref() {
            ModelValue::Inbound(v) => inbound(&mut out, v),
            ModelValue::Authorization(v) => authorization(&mut out, v),
            ModelValue::RequestAuthentication(v) => request_authentication(&mut out, v),
            ModelValue::Settings(v) => {
                let _ = writeln!(out, "settings {} {}", json(v), place(&v.origin));
            }
            ModelValue::GatewayListeners(v) => listeners(&mut out, v),
            ModelValue::Service(v) => service(&mut out, v),
            ModelValue::RouteTable(v) => route_table(&mut out, v),
            ModelValue::TcpRoutes(v) => tcp_routes(&mut out, v),
            ModelValue::Cluster(v) => cluster(&mut out, v),
            ModelValue::Endpoints(v) => endpoints(&mut out, v),
            ModelValue::Telemetry(v) => telemetry(&mut out, v),
            ModelValue::RateLimit(v) => crate::admission_text::rate_limit(&mut out, v),
            ModelValue::Concurrency(v) => crate::admission_text::concurrency(&mut out, v),
        }
    }
    out
}

/// Where it was written, short: `(line 12)` or the object when it has no line.
pub(crate) fn place(origin: &Origin) -> String {
    match origin.line {
        0 => format!("({})", origin.object()),
        line => format!("(line {line})"),
    }
}

/// One line for each part, as compact JSON.
fn telemetry(out: &mut String, v: &Telemetry) {
    let _ = writeln!(out, "telemetry");
    let mut part = |name: &str, value: serde_json::Value| {
        if !value.is_null() && value != serde_json::json!({}) {
            let _ = writeln!(out, "  {name} {value}");
        }
    };
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    part("client metrics", json(serde_json::to_value(&v.metrics.client)));
    part("server metrics", json(serde_json::to_value(&v.metrics.server)));
    for log in v.access_logs.iter().flatten() {
        let mut value = json(serde_json::to_value(log));
        value.as_object_mut().and_then(|o| o.remove("origin"));
        part(&format!("access log {}", place(&log.origin)), value);
    }
    if v.access_logs.as_ref().is_some_and(Vec::is_empty) {
        part("access log", "off".into());
    }
    for (side, tracing) in [("client", &v.client_tracing), ("server", &v.server_tracing)] {
        if let Some(tracing) = tracing {
            let mut value = json(serde_json::to_value(tracing));
            value.as_object_mut().and_then(|o| o.remove("origin"));
            part(&format!("{side} tracing {}", place(&tracing.origin)), value);
        }
    }
    if v.headers != weft_model::ProxyHeaders::default() {
        part("headers", json(serde_json::to_value(&v.headers)));
    }
}

fn inbound(out: &mut String, v: &Inbound) {
    let _ = writeln!(out, "inbound {} mtls {:?} {}", v.workload.name, v.default_mtls, place(&v.default_mtls_origin));
    for p in &v.ports {
        let limits = if p.limits == Default::default() { String::new() } else { format!(" limits {}", json(&p.limits)) };
        let service = if p.service.is_empty() { "-" } else { &p.service };
        let _ = writeln!(out, "  port {} {:?} mtls {:?} {} service {service}{limits}", p.port, p.protocol, p.mtls, place(&p.mtls_origin));
    }
}

pub(crate) fn json<T>(value: &T) -> String
where
    ModelJson: From<T>,
    T: Clone,
{
    ModelJson::from(value.clone()).0
}

/// Compact JSON without quotes: rules of policies and limits are printed in it.
pub(crate) struct ModelJson(String);

macro_rules! model_json {
    ($($t:ty),*) => {$(
        impl From<$t> for ModelJson {
            fn from(value: $t) -> Self {
                Self(serde_json::to_string(&value).unwrap_or_default().replace('"', "").replace(',', ", "))
            }
        }
    )*};
}
model_json!(
    weft_model::ConnectionLimits,
    weft_model::Source,
    weft_model::Operation,
    weft_model::Condition,
    weft_model::RetryOn,
    weft_model::FallbackOn,
    Cors,
    weft_model::PolicyScope
);
model_json!(
    weft_model::SuccessRate,
    weft_model::FailurePercentage,
    weft_model::HashPolicy,
    weft_model::LocalityPolicy,
    weft_model::SlowStart,
    weft_model::Probe
);

impl From<weft_model::ProxySettings> for ModelJson {
    fn from(value: weft_model::ProxySettings) -> Self {
        without_origin(&value)
    }
}
impl From<weft_model::ExternalAuthorization> for ModelJson {
    fn from(value: weft_model::ExternalAuthorization) -> Self {
        without_origin(&value)
    }
}
impl From<weft_model::JwtRule> for ModelJson {
    fn from(value: weft_model::JwtRule) -> Self {
        without_origin(&value)
    }
}

fn without_origin(value: &impl serde::Serialize) -> ModelJson {
    let mut json = serde_json::to_value(value).unwrap_or_default();
    json.as_object_mut().map(|fields| fields.shift_remove("origin"));
    ModelJson(json.to_string().replace('"', "").replace(',', ", "))
}

fn request_authentication(out: &mut String, v: &RequestAuthentication) {
    let _ = writeln!(out, "request-authentication {} {}", v.name, place(&v.origin));
    for rule in &v.rules {
        let _ = writeln!(out, "  rule {} {}", json(rule), place(&rule.origin));
    }
}

fn authorization(out: &mut String, v: &Authorization) {
    let dry = if v.dry_run { " dry-run" } else { "" };
    let _ = writeln!(out, "authorization {} {:?}{dry} {}", v.name, v.action, place(&v.origin));
    if let Some(provider) = &v.provider {
        let _ = writeln!(out, "  provider {}", json(provider.as_ref()));
    }
    for rule in &v.rules {
        let mut parts: Vec<String> = rule.from.iter().map(|s| format!("from {}", json(s))).collect();
        parts.extend(rule.to.iter().map(|o| format!("to {}", json(o))));
        parts.extend(rule.when.iter().map(|c| format!("when {}", json(c))));
        let text = if parts.is_empty() { "any".into() } else { parts.join(" ") };
        let _ = writeln!(out, "  rule {text} {}", place(&rule.origin));
    }
}

fn listeners(out: &mut String, v: &GatewayListeners) {
    for l in &v.listeners {
        let hosts: Vec<String> = l.hosts.iter().map(ToString::to_string).collect();
        let mut more = String::new();
        if l.https_redirect {
            more.push_str(" https-redirect");
        }
        more.push_str(&server_tls(l));
        let _ = writeln!(out, "listener {} {} {:?} hosts {}{more} {}", l.port, l.name, l.protocol, hosts.join(","), place(&l.origin));
    }
}

/// How TLS is ended, or passed on.
fn server_tls(l: &weft_model::GatewayListener) -> String {
    let mut text = String::new();
    if let Some(tls) = &l.tls {
        text.push_str(if tls.mesh { " mesh-tls" } else { " certificate" });
        if tls.certificates.len() > 1 {
            text.push('s');
        }
        if let Some(clients) = &tls.clients {
            let word = if clients.required { "required" } else { "optional" };
            let _ = write!(text, " clients {word}");
            let parts = [("crl", clients.crl.is_some()), ("insecure", clients.insecure), ("names", !clients.subject_alt_names.is_empty())];
            let pins = !(clients.spki.is_empty() && clients.hashes.is_empty());
            for (word, _) in parts.into_iter().chain([("pins", pins)]).filter(|(_, is)| *is) {
                let _ = write!(text, "+{word}");
            }
        }
        if tls.version_min.is_some() || tls.version_max.is_some() {
            let _ = write!(text, " versions {:?}-{:?}", tls.version_min, tls.version_max);
        }
        if !tls.cipher_suites.is_empty() {
            let _ = write!(text, " suites {}", tls.cipher_suites.join(":"));
        }
    }
    text.push_str(if l.auto_passthrough { " auto-passthrough" } else { "" });
    text.push_str(if l.proxy_protocol { " proxy-protocol" } else { "" });
    text
}

fn service(out: &mut String, v: &Service) {
    let ports: Vec<String> = v.ports.iter().map(|p| format!("{}/{:?}", p.number, p.protocol)).collect();
    let aliases: Vec<&str> = v.aliases.iter().map(|a| a.as_str()).collect();
    let addresses: Vec<String> = v.addresses.iter().map(ToString::to_string).collect();
    let _ = writeln!(
        out,
        "service {} {:?} [{}] {} ports {} {}",
        v.host,
        v.location,
        aliases.join(" "),
        addresses.join(","),
        ports.join(" "),
        place(&v.origin)
    );
}

fn route_table(out: &mut String, v: &RouteTable) {
    let _ = writeln!(out, "routes {}", v.name);
    for host in &v.hosts {
        let hosts: Vec<String> = host.hosts.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "  hosts {}", hosts.join(" "));
        for route in &host.routes {
            let _ = writeln!(out, "    {} | {} | {}", route.name, describe_matches(&route.matches), route_does(route));
        }
    }
}

/// What a rule does, with its place.
pub(crate) fn route_does(route: &HttpRoute) -> String {
    let mut parts = vec![match &route.action {
        RouteAction::Forward(targets) => targets_text(targets),
        RouteAction::Redirect(to) => redirect_text(to),
        RouteAction::Respond { status, body } => format!("respond {status} {:?}", body.text()),
    }];
    parts.extend(route.rewrite.path.as_ref().map(|p| format!("rewrite {}", rewrite_text(p))));
    parts.extend(route.rewrite.authority.as_ref().map(|a| format!("authority {a}")));
    parts.extend(edits_text("request", &route.request_headers));
    parts.extend(edits_text("response", &route.response_headers));
    parts.extend(route.timeout_ms.map(|t| format!("timeout {t}ms")));
    parts.extend(route.idle_timeout_ms.map(|t| format!("idle {t}ms")));
    parts.extend(route.grpc_timeout_max_ms.map(|t| format!("grpc-timeout up to {t}ms")));
    parts.extend(route.retry.as_ref().filter(|r| **r != Retry::built_in()).map(retry_text));
    parts.extend(route.hedging.as_ref().map(|h| {
        let percentile = h.percentile.map(|p| format!(" or p{p}")).unwrap_or_default();
        format!("hedge {} after {}ms{percentile}", h.attempts, h.delay_ms)
    }));
    parts.extend(route.fallback.as_ref().map(|f| fallback_text(f)));
    parts.extend(route.cors.as_ref().map(|c| cors_text(c)));
    parts.extend(route.fault.delay.as_ref().map(|d| format!("delay {}ms for {}", d.delay_ms, percent(d.share))));
    parts.extend(route.fault.abort.as_ref().map(|a| {
        let grpc = a.grpc_status.map(|g| format!(" grpc {g}")).unwrap_or_default();
        format!("abort {}{grpc} for {}", a.status, percent(a.share))
    }));
    parts.extend(route.external_auth.as_ref().map(|asked| format!("ask {}", ModelJson::from((**asked).clone()).0)));
    parts.extend(route.mirrors.iter().map(|m| format!("mirror {} {}", m.cluster, percent(m.share))));
    parts.push(place(&route.origin));
    parts.join(" ")
}

fn percent(share: Ppm) -> String {
    format!("{}%", f64::from(share.0) / 10_000.0)
}

fn retry_text(r: &Retry) -> String {
    let per_try = r.per_try_timeout_ms.map(|t| format!(" each {t}ms")).unwrap_or_default();
    let max = r.backoff_max_ms.map(|m| format!(" to {m}ms")).unwrap_or_default();
    let mut text = format!("retry {}{per_try} backoff {}ms{max} on {}", r.attempts, r.backoff_ms, json(&r.on));
    for (is, word) in [(r.repeat_hosts, "repeat-hosts"), (r.remote_localities, "remote-localities"), (r.count_header, "count-header")] {
        if is {
            let _ = write!(text, " {word}");
        }
    }
    if let Some(asked) = &r.rate_limited_backoff {
        let headers: Vec<String> = asked.headers.iter().map(|(name, format)| format!("{name}/{format:?}")).collect();
        let _ = write!(text, " as asked by {} up to {}ms", headers.join(","), asked.max_ms);
    }
    text
}

fn fallback_text(f: &Fallback) -> String {
    let to = match &f.to {
        FallbackTo::Backend(target) => targets_text(std::slice::from_ref(&**target)),
        FallbackTo::Respond { status, body, headers } => {
            let edits = edits_text("response", headers).map(|e| format!(" {e}")).unwrap_or_default();
            format!("respond {status} {:?}{edits}", body.text())
        }
    };
    format!("fallback {to} on {} {}", json(&f.on), place(&f.origin))
}

fn cors_text(c: &Cors) -> String {
    let mut text = format!("cors {}", json(c));
    if let Some(at) = text.find(", origin:") {
        text.truncate(at);
        text.push('}');
    }
    text
}

fn edits_text(what: &str, edits: &HeaderEdits) -> Option<String> {
    let pairs = |list: &[(String, String)], sign: &str| list.iter().map(|(n, v)| format!("{sign}{n}={v}")).collect::<Vec<_>>();
    let mut parts = pairs(&edits.set, "=");
    parts.extend(pairs(&edits.add, "+"));
    parts.extend(edits.remove.iter().map(|n| format!("-{n}")));
    (!parts.is_empty()).then(|| format!("{what}[{}]", parts.join(" ")))
}

fn rewrite_text(p: &PathRewrite) -> String {
    match p {
        PathRewrite::Full(full) => full.clone(),
        PathRewrite::Prefix { matched, replacement, .. } => format!("{matched}* to {replacement}*"),
        PathRewrite::Regex { pattern, substitution } => format!("~{} to {substitution}", pattern.as_str()),
    }
}

fn redirect_text(to: &Redirect) -> String {
    let mut parts = vec![format!("redirect {}", to.status)];
    parts.extend(to.scheme.as_ref().map(|s| format!("scheme {s}")));
    parts.extend(to.host.as_ref().map(|h| format!("host {h}")));
    if to.port != Default::default() {
        parts.push(format!("port {:?}", to.port));
    }
    parts.extend(to.path.as_ref().map(|p| format!("path {}", rewrite_text(p))));
    parts.join(" ")
}

/// Targets with their shares.
pub(crate) fn targets_text(targets: &[Target]) -> String {
    let sum: u64 = targets.iter().map(|t| u64::from(t.weight)).sum();
    let one = |t: &Target| {
        let to = match &t.backend {
            Backend::Cluster(name) => name.to_string(),
            Backend::Invalid { status, reason } => format!("{status} {reason}"),
        };
        let share = if targets.len() == 1 { String::new() } else { format!(" {}/{sum}", t.weight) };
        let edits = [edits_text("request", &t.request_headers), edits_text("response", &t.response_headers)];
        let mut edits: String = edits.into_iter().flatten().map(|e| format!(" {e}")).collect();
        edits.extend(t.rewrite.path.as_ref().map(|p| format!(" rewrite {}", rewrite_text(p))));
        edits.extend(t.rewrite.authority.as_ref().map(|a| format!(" authority {a}")));
        edits.extend(t.redirect.as_ref().map(|r| format!(" {}", redirect_text(r))));
        edits.extend(t.mirrors.iter().map(|m| format!(" mirror {} {}", m.cluster, percent(m.share))));
        format!("{to}{share}{edits}")
    };
    targets.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn tcp_routes(out: &mut String, v: &TcpRoutes) {
    let _ = writeln!(out, "tcp-routes {} {}", v.host, v.port);
    for r in &v.routes {
        let sni: Vec<String> = r.sni.iter().map(ToString::to_string).collect();
        let mut asked = if sni.is_empty() { "any".to_owned() } else { format!("sni {}", sni.join(",")) };
        for (word, blocks) in [("to", &r.destinations), ("from", &r.sources)] {
            if !blocks.is_empty() {
                let _ = write!(asked, " {word} {}", blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
            }
        }
        let _ = writeln!(out, "  {asked} | {} {}", targets_text(&r.targets), place(&r.origin));
    }
}

fn cluster(out: &mut String, v: &Cluster) {
    let mut more = String::new();
    if v.limits != Default::default() {
        let _ = write!(more, " limits {}", json(&v.limits));
    }
    if let Some(o) = &v.outlier {
        let _ = write!(
            more,
            " outlier 5xx={} gateway={} base={}ms interval={}ms max={}%",
            o.consecutive_5xx, o.consecutive_gateway_errors, o.base_ejection_ms, o.interval_ms, o.ejection_percent_max
        );
        if o.split_local_failures {
            let _ = write!(more, " local={}", o.consecutive_local_failures);
        }
        if !o.error_statuses.is_empty() {
            let _ = write!(more, " errors={:?}", o.error_statuses);
        }
        for rate in [o.success_rate.as_ref().map(json), o.failure_percentage.as_ref().map(json)].into_iter().flatten() {
            let _ = write!(more, " rate {rate}");
        }
    }
    if v.retry_budget != Default::default() {
        let _ = write!(more, " budget {}% min {}", v.retry_budget.percent, v.retry_budget.concurrency_min);
    }
    let parts = [
        ("hash", v.hash.as_ref().map(json)),
        ("locality", v.locality.as_ref().map(json)),
        ("warm-up", v.slow_start.as_ref().map(json)),
        ("panic", (v.panic_percent > 0).then(|| format!("{}%", v.panic_percent))),
        ("health", v.health_check.as_ref().map(|h| format!("{} every {}ms {}", json(&h.probe), h.interval_ms, place(&h.origin)))),
    ];
    for (what, text) in parts {
        let _ = text.map(|text| write!(more, " {what} {text}"));
    }
    if v.tls != Default::default() {
        let _ = write!(more, " tls {:?} {}", v.tls, v.sni);
    }
    if let Some(o) = &v.origination {
        let given = [("ca", o.ca.is_some()), ("crl", o.crl.is_some()), ("certificate", o.certificate.is_some())];
        let given: Vec<&str> =
            given.into_iter().chain([("unchecked", o.insecure_skip_verify)]).filter(|(_, is)| *is).map(|(w, _)| w).collect();
        let names = if o.subject_alt_names.is_empty() { String::new() } else { format!(" names {}", o.subject_alt_names.join(",")) };
        let missing = if o.missing.is_empty() { String::new() } else { format!(" missing ({})", o.missing) };
        let _ = write!(more, " with [{}]{names}{missing}", given.join(" "));
    }
    if let Some(version) = v.proxy_protocol {
        let _ = write!(more, " proxy-protocol {version:?}");
    }
    if let Some(tunnel) = &v.tunnel {
        let _ = write!(more, " tunnel {} {}:{}", tunnel.method.as_str(), tunnel.host, tunnel.port);
    }
    if v.dns != Default::default() || v.dns_trust != Default::default() {
        let _ = write!(more, " dns {:?} {:?}", v.dns, v.dns_trust);
    }
    let _ = writeln!(out, "cluster {} {:?} {:?}{more} {}", v.name, v.protocol, v.balancing, place(&v.origin));
}

fn endpoints(out: &mut String, v: &Endpoints) {
    let _ = writeln!(out, "endpoints {}", v.cluster);
    for e in &v.endpoints {
        let identity = e.identity.as_ref().map(|i| format!(" {i}")).unwrap_or_default();
        let weight = if e.weight == 1 { String::new() } else { format!(" weight {}", e.weight) };
        let health = if e.healthy { "" } else { " unhealthy" };
        let name = if e.workload_name.is_empty() { "-" } else { &e.workload_name };
        let locality = if e.locality.is_empty() { String::new() } else { format!(" at {}", e.locality) };
        let labels: String = e.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        let _ = writeln!(out, "  {} {name} {:?}{identity}{weight}{locality}{labels}{health}", e.address, e.tls);
    }
}
