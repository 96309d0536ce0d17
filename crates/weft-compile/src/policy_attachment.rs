//! Where a policy of admission holds: its selector or targets, and what that means for one proxy. Shared by rate limits and
//! concurrency policies, with the key parts that both have.

use crate::{authorization::Protected, diag, link::Linker, mesh::Mesh};
use weft_api::{Document, Resource, Spanned, istio, weft};
use weft_model::{HttpMatch, KeyPart, KeySource, Labels, ModelValue, Origin, PolicyScope, RouteReference, View, selects};

/// Where a policy holds, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    /// Namespace; `None`: all (root namespace).
    namespace: Option<String>,
    /// Workloads; empty: all of the namespace. Not used with `targets`.
    selector: Labels,
    /// Whether objects were named, even if none of them exists.
    targeted: bool,
    targets: Vec<AttachedTo>,
}

#[derive(Debug, Clone)]
enum AttachedTo {
    /// A Gateway of the Gateway API, `ns/name`.
    Gateway(String),
    /// The workloads behind a service, or behind one of its ports.
    Service { host: String, port: Option<u16> },
    /// Requests that take a route.
    Route(RouteReference),
}

impl Attachment {
    /// Of a policy's selector and targets; what cannot be found is reported and left out.
    pub(crate) fn link(
        linker: &mut Linker<'_>,
        document: &Document,
        selector: Option<&istio::WorkloadSelector>,
        targets: &[Spanned<weft::TargetReference>],
    ) -> Self {
        let namespace = document.meta.namespace.clone();
        let found = targets.iter().filter_map(|target| attached_to(linker, document, target)).collect();
        Self {
            namespace: (namespace != linker.mesh.settings.root_namespace).then_some(namespace),
            selector: selector.map(|s| s.match_labels.clone()).unwrap_or_default(),
            targeted: !targets.is_empty(),
            targets: found,
        }
    }

    /// What the policy covers at one proxy. `view` holds what its program may call.
    pub(crate) fn scope(&self, mesh: &Mesh, workload: &str, me: &Protected<'_>, view: &View) -> PolicyScope {
        let mut scope = PolicyScope::default();
        if !self.targeted {
            scope.own = self.namespace.as_deref().is_none_or(|n| n == me.namespace) && selects(&self.selector, me.labels);
            return scope;
        }
        let mut whole = false;
        for target in &self.targets {
            match target {
                AttachedTo::Gateway(key) => whole |= me.gateways.iter().any(|(name, _)| name == key),
                AttachedTo::Service { host, port: None } => whole |= me.services.contains(host),
                AttachedTo::Service { host, port: Some(port) } => {
                    let serves = mesh.workloads.get(workload).into_iter().flat_map(|w| &w.serves);
                    scope.ports.extend(serves.filter(|(_, h, p)| h == host && p == port).map(|(program, ..)| *program));
                }
                AttachedTo::Route(reference) => scope.routes.extend(holds(view, reference).then(|| reference.clone())),
            }
        }
        scope.own = whole || !scope.ports.is_empty();
        if whole {
            scope.ports.clear();
        }
        scope
    }

    /// The services that it is attached to and that the proxy's program calls: for what is decided at the caller.
    pub(crate) fn called<'a>(&'a self, view: &'a View) -> impl Iterator<Item = String> + 'a {
        let hosts = self.targets.iter().filter_map(|t| if let AttachedTo::Service { host, .. } = t { Some(host) } else { None });
        hosts.filter(|host| view.values.contains_key(&weft_model::ResourceName::Service((*host).clone()))).cloned()
    }
}

/// Is a rule of this object among the proxy's route tables?
fn holds(view: &View, reference: &RouteReference) -> bool {
    view.values.values().any(|versioned| match versioned.value.as_ref() {
        ModelValue::RouteTable(table) => table.hosts.iter().flat_map(|h| &h.routes).any(|route| reference.covers(route)),
        _ => false,
    })
}

fn attached_to(linker: &mut Linker<'_>, document: &Document, target: &Spanned<weft::TargetReference>) -> Option<AttachedTo> {
    let namespace = document.meta.namespace.as_str();
    let at = target.origin(&document.origin);
    let section = target.section_name.as_deref();
    let exists = |linker: &Linker<'_>, kind: &str| {
        linker.inputs.documents.iter().any(|d| d.meta.kind == kind && d.meta.namespace == namespace && d.meta.name == target.name)
    };
    match target.kind.as_str() {
        "Gateway" if section.is_none() && target.group.as_deref().is_none_or(|g| g == crate::gateway_api::GROUP) => {
            let key = format!("{namespace}/{}", target.name);
            if linker.mesh.gateways.iter().any(|g| g.key() == key && matches!(g.served_by, crate::gateway::ServedBy::Name { .. })) {
                return Some(AttachedTo::Gateway(key));
            }
        }
        "Service" => {
            let host = linker.mesh.settings.service_host(&target.name, namespace);
            let service = linker.mesh.services.get(&host).and_then(|all| all.first()).cloned();
            match (service, section) {
                (Some(_), None) => return Some(AttachedTo::Service { host, port: None }),
                (Some(service), Some(name)) => {
                    let named = service.service.ports.iter().find(|p| p.name == name || p.number.to_string() == name);
                    if let Some(port) = named {
                        return Some(AttachedTo::Service { host, port: Some(port.number) });
                    }
                }
                (None, _) => {}
            }
        }
        kind @ ("HTTPRoute" | "GRPCRoute" | "VirtualService") if exists(linker, kind) => {
            return Some(AttachedTo::Route(RouteReference {
                kind: kind.into(),
                namespace: namespace.into(),
                name: target.name.clone(),
                rule: section.unwrap_or_default().into(),
            }));
        }
        _ => {}
    }
    let name = section.map_or_else(|| target.name.clone(), |section| format!("{}, section {section}", target.name));
    linker.report(diag::limit_target_not_found(at, &target.kind, &name));
    None
}

/// Alternatives of a limit; `None` when one of them cannot be used: the others alone would cover what nobody meant.
pub(crate) fn matches(
    linker: &mut Linker<'_>,
    document: &Document,
    list: &[Spanned<weft_api::gateway_api::HttpRouteMatch>],
) -> Option<Vec<HttpMatch>> {
    list.iter().map(|m| crate::api_route::http_match(linker, m, &m.origin(&document.origin))).collect()
}

/// The parts of a key; `None` when one of them lacks what it needs.
pub(crate) fn key(linker: &mut Linker<'_>, document: &Document, parts: &weft::Key) -> Option<Vec<KeyPart>> {
    parts.iter().map(|part| key_part(linker, part, &part.origin(&document.origin))).collect()
}

fn key_part(linker: &mut Linker<'_>, part: &weft::KeyPart, at: &Origin) -> Option<KeyPart> {
    let mut needed = |value: &Option<String>, field: &str| {
        if value.as_ref().is_none_or(String::is_empty) {
            linker.report(diag::limit_unusable(at.clone(), &format!("a key part by {} needs `{field}`", part.by.as_str())));
        }
        value.clone().filter(|v| !v.is_empty())
    };
    let (by, descriptor) = match part.by {
        weft::KeySource::Principal => (KeySource::Principal, "principal".to_owned()),
        weft::KeySource::Namespace => (KeySource::Namespace, "namespace".into()),
        weft::KeySource::ServiceAccount => (KeySource::ServiceAccount, "service_account".into()),
        weft::KeySource::RemoteAddress => (KeySource::RemoteAddress, "remote_address".into()),
        weft::KeySource::Route => (KeySource::Route, "route".into()),
        weft::KeySource::Method => (KeySource::Method, "method".into()),
        weft::KeySource::Path => (KeySource::Path, "path".into()),
        weft::KeySource::Host => (KeySource::Host, "host".into()),
        weft::KeySource::Header => {
            let name = needed(&part.name, "name")?.to_ascii_lowercase();
            (KeySource::Header(name.clone()), name)
        }
        weft::KeySource::Claim => {
            let name = needed(&part.name, "name")?;
            (KeySource::Claim(name.clone()), name)
        }
        weft::KeySource::Constant => (KeySource::Constant(needed(&part.value, "value")?), "generic_key".into()),
    };
    Some(KeyPart { by, descriptor: part.descriptor.clone().unwrap_or(descriptor) })
}

/// The name of the part of a policy at `index`, unless the user gave one.
pub(crate) fn part_name(given: Option<&str>, index: usize) -> String {
    given.map_or_else(|| index.to_string(), str::to_owned)
}

/// All documents of a kind, as links need them.
pub(crate) fn of_kind<'a, T: 'a>(linker: &Linker<'a>, pick: impl Fn(&'a Resource) -> Option<&'a T>) -> Vec<(&'a Document, &'a T)> {
    linker.documents(pick).into_iter().map(|(_, document, spec)| (document, spec)).collect()
}
