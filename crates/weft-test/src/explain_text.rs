//! An explanation as text.

use crate::{mesh::Running, probe::bracketed, view_text::place};
use std::fmt::Write;
use weft_compile::{ExplainRequest, explain};

/// `productpage-v1 GET http://reviews:9080/x [header: value]`, or `gateway:default/shop GET http://…`.
pub(crate) fn text(running: &Running, question: &str) -> String {
    let (question, headers) = bracketed(question);
    let words: Vec<&str> = question.split_whitespace().collect();
    let [who, method, url] = words.as_slice() else { return "an explanation is `who METHOD url`\n".into() };
    let rest = url.split_once("://").map_or(*url, |(_, rest)| rest);
    let (authority, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    let mut request = ExplainRequest {
        authority: authority.into(),
        method: (*method).into(),
        path: path.into(),
        headers: headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap_or_default().to_owned())).collect(),
        ..ExplainRequest::default()
    };
    match who.strip_prefix("gateway:") {
        Some(gateway) => request.gateway = Some(gateway.into()),
        None => {
            let Some(proxy) = running.proxy(who) else { return format!("no workload {who}\n") };
            request.source_namespace.clone_from(&proxy.namespace);
            request.source_labels.clone_from(&proxy.labels);
        }
    }
    let e = explain(&running.mesh, &request);
    let mut out = format!("{}\n", e.sentence);
    for (number, rule) in (1..).zip(&e.rules) {
        let _ = writeln!(out, "  {number}. {:?} {} | {} | {} {}", rule.outcome, rule.name, rule.matches, rule.reason, place(&rule.origin));
    }
    for d in &e.destinations {
        let _ = writeln!(out, "  to {} {} {} share {}", d.host, d.port.unwrap_or_default(), d.subset.as_deref().unwrap_or("-"), d.share);
    }
    for p in &e.endpoints {
        let _ = writeln!(out, "  endpoint {} {}", p.address, p.workload_name);
    }
    if let (Some(mode), Some(origin)) = (&e.mtls, &e.mtls_origin) {
        let _ = writeln!(out, "  mtls {mode:?} {}", place(origin));
    }
    for p in &e.policies {
        let _ = writeln!(out, "  policy {} {:?} matched={} {} {}", p.name, p.action, p.matched, p.reason, place(&p.origin));
    }
    out
}
