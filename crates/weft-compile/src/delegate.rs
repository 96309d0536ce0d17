//! Delegation between VirtualServices: a rule of the root goes on in the rules of another, which may only narrow it.

use crate::{diag, link::Linker};
use std::collections::BTreeMap;
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{Origin, limits::MATCHES_PER_RULE_MAX};

/// A rule in the form in which it is linked, with the document that it stands in and its place there.
pub(crate) struct Part<'a> {
    pub(crate) document: &'a Document,
    pub(crate) index: usize,
    pub(crate) rule: Spanned<istio::HttpRoute>,
}

/// The rules of a root, each delegating one replaced by those of its delegate.
pub(crate) fn expand<'a>(linker: &mut Linker<'a>, document: &'a Document, spec: &istio::VirtualService) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    for (index, rule) in spec.http.iter().enumerate() {
        match &rule.delegate {
            None => parts.push(Part { document, index, rule: rule.clone() }),
            Some(delegate) => delegated(linker, document, rule, delegate, &mut parts),
        }
    }
    parts
}

fn delegated<'a>(
    linker: &mut Linker<'a>,
    document: &'a Document,
    root: &Spanned<istio::HttpRoute>,
    delegate: &Spanned<istio::Delegate>,
    parts: &mut Vec<Part<'a>>,
) {
    let at = delegate.origin(&document.origin);
    if !root.route.is_empty() || root.redirect.is_some() || root.direct_response.is_some() {
        linker.report(diag::delegate_beside(at.clone()));
    }
    let own = document.meta.namespace.as_str();
    let namespace = delegate.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(own);
    let name = delegate.name.as_deref().unwrap_or_default();
    let all = linker.documents(|r| if let Resource::VirtualService(v) = r { Some(v) } else { None });
    let found = all.into_iter().find(|(_, d, _)| d.meta.name == name && d.meta.namespace == namespace);
    let Some((_, there, spec)) = found else {
        return linker.report(diag::delegate_unusable(at, &format!("there is no VirtualService {namespace}/{name}")));
    };
    if !spec.hosts.is_empty() {
        return linker.report(diag::delegate_unusable(at, &format!("{namespace}/{name} has hosts of its own")));
    }
    if !crate::virtual_service::visibility(linker, &spec.export_to, namespace).shows_to(own) {
        return linker.report(diag::delegate_unusable(at, &format!("{namespace}/{name} is not exported to {own}")));
    }
    for (index, rule) in spec.http.iter().enumerate() {
        let here = rule.origin(&there.origin);
        if rule.delegate.is_some() {
            linker.report(diag::delegate_unusable(here, "a delegate may not delegate in turn"));
            continue;
        }
        match merged(document, root, rule) {
            Ok(rule) => parts.push(Part { document: there, index, rule }),
            Err(why) => linker.report(diag::delegate_outside(here, &at, why)),
        }
    }
}

/// The delegate's rule, narrowed by the root's conditions, with the root's settings where it has none.
fn merged(
    document: &Document,
    root: &istio::HttpRoute,
    rule: &Spanned<istio::HttpRoute>,
) -> Result<Spanned<istio::HttpRoute>, &'static str> {
    let mut out = rule.clone();
    out.value.matches = matches(document, &root.matches, &rule.matches)?;
    out.value.name = match (&root.name, &rule.name) {
        (Some(root), Some(own)) => Some(format!("{root}-{own}")),
        (root, own) => own.clone().or_else(|| root.clone()),
    };
    let own = &mut out.value;
    macro_rules! inherit {
        ($($field:ident),*) => { $(if own.$field.is_none() { own.$field.clone_from(&root.$field); })* };
    }
    inherit!(rewrite, timeout, retries, fault, mirror, mirror_percentage, mirror_percent, cors_policy, headers);
    if own.mirrors.is_empty() {
        own.mirrors.clone_from(&root.mirrors);
    }
    Ok(out)
}

/// Every alternative of the root with every one of the delegate that fits it.
fn matches(
    document: &Document,
    root: &[Spanned<istio::HttpMatchRequest>],
    own: &[Spanned<istio::HttpMatchRequest>],
) -> Result<Vec<Spanned<istio::HttpMatchRequest>>, &'static str> {
    let root: Vec<_> = root.iter().map(|m| qualified(document, m)).collect();
    if root.is_empty() {
        return Ok(own.to_vec());
    }
    if own.is_empty() {
        return Ok(root);
    }
    if root.len().saturating_mul(own.len()) > MATCHES_PER_RULE_MAX {
        return Err("the two have too many alternatives together");
    }
    let both: Vec<_> = root.iter().flat_map(|r| own.iter().filter_map(|o| both(r, o))).collect();
    if both.is_empty() { Err("none of its alternatives is a part of one of the root's") } else { Ok(both) }
}

/// The root's block with the names of its gateways in full, as they are read from the root's namespace.
fn qualified(document: &Document, m: &Spanned<istio::HttpMatchRequest>) -> Spanned<istio::HttpMatchRequest> {
    let mut m = m.clone();
    for gateway in &mut m.value.gateways {
        let name = gateway.value.as_str();
        if name != "mesh" && !name.contains('/') {
            gateway.value = format!("{}/{name}", document.meta.namespace);
        }
    }
    m
}

/// Both blocks at once; `None` when the delegate's is not a part of the root's.
fn both(root: &Spanned<istio::HttpMatchRequest>, own: &Spanned<istio::HttpMatchRequest>) -> Option<Spanned<istio::HttpMatchRequest>> {
    let mut out = own.clone();
    let m = &mut out.value;
    m.name = match (&root.name, &own.name) {
        (Some(root), Some(own)) => Some(format!("{root}-{own}")),
        (root, own) => own.clone().or_else(|| root.clone()),
    };
    m.uri = narrower(root.uri.as_ref(), own.uri.as_ref())?;
    let both_uris = root.uri.is_some() && own.uri.is_some();
    if both_uris && root.ignore_uri_case != own.ignore_uri_case {
        return None;
    }
    m.ignore_uri_case = root.ignore_uri_case || own.ignore_uri_case;
    m.scheme = narrower(root.scheme.as_ref(), own.scheme.as_ref())?;
    m.method = narrower(root.method.as_ref(), own.method.as_ref())?;
    m.authority = narrower(root.authority.as_ref(), own.authority.as_ref())?;
    m.headers = narrower_map(&root.headers, &own.headers)?;
    m.without_headers = narrower_map(&root.without_headers, &own.without_headers)?;
    m.query_params = narrower_map(&root.query_params, &own.query_params)?;
    m.port = equal(root.port, own.port)?;
    m.source_namespace = equal(root.source_namespace.clone(), own.source_namespace.clone())?;
    for (key, value) in &root.source_labels {
        if m.source_labels.insert(key.clone(), value.clone()).is_some_and(|other| other != *value) {
            return None;
        }
    }
    m.gateways = match (root.gateways.as_slice(), own.gateways.as_slice()) {
        (root, []) => root.to_vec(),
        ([], own) => own.to_vec(),
        (root, own) if own.iter().all(|o| root.iter().any(|r| r.value == o.value)) => own.to_vec(),
        _ => return None,
    };
    Some(out)
}

fn equal<T: PartialEq>(root: Option<T>, own: Option<T>) -> Option<Option<T>> {
    match (root, own) {
        (Some(root), Some(own)) if root != own => None,
        (root, own) => Some(own.or(root)),
    }
}

/// The delegate's text condition where it is a part of the root's. Two conditions of which one is a regular expression cannot be compared.
fn narrower(root: Option<&istio::StringMatch>, own: Option<&istio::StringMatch>) -> Option<Option<istio::StringMatch>> {
    use istio::StringMatch::{Exact, Prefix, Present};
    match (root, own) {
        (None, own) => Some(own.cloned()),
        (root, None) => Some(root.cloned()),
        (Some(Present), own) => Some(own.cloned()),
        (Some(Exact(a)), Some(Exact(b))) if a == b => Some(own.cloned()),
        (Some(Prefix(a)), Some(Exact(b) | Prefix(b))) if b.starts_with(a.as_str()) => Some(own.cloned()),
        _ => None,
    }
}

fn narrower_map(
    root: &BTreeMap<String, istio::StringMatch>,
    own: &BTreeMap<String, istio::StringMatch>,
) -> Option<BTreeMap<String, istio::StringMatch>> {
    let mut out = own.clone();
    for (name, wanted) in root {
        let both = narrower(Some(wanted), own.get(name))?;
        out.extend(both.map(|m| (name.clone(), m)));
    }
    Some(out)
}

/// Where the rule stands, for messages.
pub(crate) fn place(part: &Part<'_>) -> Origin {
    part.rule.origin(&part.document.origin)
}
