//! AuthorizationPolicy: which workloads a policy is for, and its rules in the model's form.

use crate::{diag, link::Linker, mesh::Mesh};
use std::sync::Arc;
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{Authorization, AuthorizationAction, AuthorizationRule, ExternalAuthorization, ExternalProtocol, Labels, selects};

/// A policy and where it applies.
#[derive(Debug, Clone)]
pub(crate) struct ScopedPolicy<T> {
    /// Namespace; `None`: all (root namespace).
    pub(crate) namespace: Option<String>,
    /// Workloads; empty: all of the namespace. Not used with `targets`.
    pub(crate) selector: Labels,
    /// Objects that it is bound to instead.
    pub(crate) targets: Vec<PolicyTarget>,
    /// The policy.
    pub(crate) policy: Arc<T>,
}

/// An object that a policy is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PolicyTarget {
    /// A Gateway (Gateway API), `ns/name`.
    Gateway(String),
    /// Every gateway of a class.
    GatewayClass(String),
    /// The workloads behind a service, by host.
    Service(String),
    /// Something that does not exist or is not supported.
    Nothing,
}

/// The workload that is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protected<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: &'a Labels,
    /// Hosts of the services that lead to it.
    pub(crate) services: &'a [String],
    /// `ns/name` and class of the Gateway API gateways that it serves.
    pub(crate) gateways: &'a [(String, String)],
}

impl PolicyTarget {
    /// Does it lead to this workload?
    pub(crate) fn is_of(&self, to: &Protected<'_>) -> bool {
        match self {
            Self::Gateway(key) => to.gateways.iter().any(|(name, _)| name == key),
            Self::GatewayClass(class) => to.gateways.iter().any(|(_, c)| c == class),
            Self::Service(host) => to.services.contains(host),
            Self::Nothing => false,
        }
    }
}

impl<T> ScopedPolicy<T> {
    /// The policy of a document; in the root namespace it holds for all namespaces.
    pub(crate) fn new(linker: &Linker<'_>, document: &Document, selector: Labels, targets: Vec<PolicyTarget>, policy: T) -> Self {
        let namespace = document.meta.namespace.clone();
        let namespace = (namespace != linker.mesh.settings.root_namespace).then_some(namespace);
        Self { namespace, selector, targets, policy: Arc::new(policy) }
    }
    /// Where it stands among all policies: its namespace, or nothing for all namespaces.
    pub(crate) fn key(&self) -> String {
        self.namespace.clone().unwrap_or_default()
    }
    /// Does the policy apply to this workload?
    pub(crate) fn applies(&self, to: &Protected<'_>) -> bool {
        if !self.targets.is_empty() {
            return self.targets.iter().any(|target| target.is_of(to));
        }
        self.namespace.as_deref().is_none_or(|n| n == to.namespace) && selects(&self.selector, to.labels)
    }
}

impl Mesh {
    /// The policies that apply to a workload: those for all namespaces, then those of its own, oldest first.
    pub(crate) fn authorizations_for<'a>(&'a self, to: &'a Protected<'a>) -> impl Iterator<Item = &'a Arc<Authorization>> {
        let near = ["", to.namespace].into_iter().filter_map(|namespace| self.authorizations.get(namespace));
        near.flatten().filter(|a| a.applies(to)).map(|a| &a.policy)
    }
}

/// Links all policies. One that could not be read keeps its workloads closed, as far as its selector can still be seen.
pub(crate) fn link(linker: &mut Linker<'_>) {
    let documents = linker.inputs.documents.iter().filter(|d| d.meta.kind == "AuthorizationPolicy");
    for document in documents {
        let linked = match &document.resource {
            Resource::AuthorizationPolicy(spec) => policy(linker, document, spec),
            Resource::Invalid => closed(linker, document),
            _ => None,
        };
        if let Some(policy) = linked {
            linker.mesh.authorizations.entry(policy.key()).or_default().push(policy);
        }
    }
}

/// An unreadable policy: an ALLOW that allows nothing, or a DENY that denies everything.
fn closed(linker: &mut Linker<'_>, document: &Document) -> Option<ScopedPolicy<Authorization>> {
    if document.json.pointer("/spec/action").and_then(|a| a.as_str()) == Some("AUDIT") {
        // It would never have refused anything.
        return None;
    }
    linker.report(diag::policy_fails_closed(document.origin.clone(), "it could not be read"));
    let spec = document.json.get("spec");
    let labels = spec.and_then(|s| s.get("selector")?.get("matchLabels")?.as_object());
    let selector = labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
    let action = match spec.and_then(|s| s.get("action")?.as_str()) {
        None | Some("ALLOW") => AuthorizationAction::Allow,
        Some(_) => AuthorizationAction::Deny,
    };
    let rules = match action {
        AuthorizationAction::Allow | AuthorizationAction::Audit | AuthorizationAction::Custom => Vec::new(),
        AuthorizationAction::Deny => vec![AuthorizationRule { origin: document.origin.clone(), ..Default::default() }],
    };
    Some(scoped(linker, document, selector, Vec::new(), action, rules))
}

fn scoped(
    linker: &Linker<'_>,
    document: &Document,
    selector: Labels,
    targets: Vec<PolicyTarget>,
    action: AuthorizationAction,
    rules: Vec<AuthorizationRule>,
) -> ScopedPolicy<Authorization> {
    let dry_run = document.meta.annotations.get("istio.io/dry-run").is_some_and(|v| v == "true");
    let name = format!("{}/{}", document.meta.namespace, document.meta.name);
    let authorization = Authorization { name, action, rules, dry_run, provider: None, origin: document.origin.clone() };
    ScopedPolicy::new(linker, document, selector, targets, authorization)
}

fn policy(linker: &mut Linker<'_>, document: &Document, spec: &istio::AuthorizationPolicy) -> Option<ScopedPolicy<Authorization>> {
    let action = match spec.action {
        None | Some(istio::AuthorizationAction::Allow) => AuthorizationAction::Allow,
        Some(istio::AuthorizationAction::Deny) => AuthorizationAction::Deny,
        Some(istio::AuthorizationAction::Custom) => AuthorizationAction::Custom,
        Some(istio::AuthorizationAction::Audit) => AuthorizationAction::Audit,
    };
    let targets = targets(linker, document, spec.target_refs.iter().chain(&spec.target_ref));
    let mut rules = Vec::new();
    for (index, rule) in spec.rules.iter().enumerate() {
        rules.push(crate::authorization_rule::rule(linker, document, index, rule));
    }
    if action == AuthorizationAction::Deny && rules.is_empty() {
        linker.report(diag::deny_without_rules(document.origin.clone()));
    }
    let selector = spec.selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default();
    if !selector.is_empty() && !targets.is_empty() {
        linker.report(diag::selector_beside_targets(document.origin.clone()));
    }
    let mut scoped = scoped(linker, document, selector, targets, action, rules);
    if action == AuthorizationAction::Custom {
        let provider = provider(linker, document, spec);
        Arc::make_mut(&mut scoped.policy).provider = Some(Box::new(provider));
    }
    Some(scoped)
}

/// The provider that a CUSTOM policy names. One that does not exist answers nothing, and so lets nothing through.
fn provider(linker: &mut Linker<'_>, document: &Document, spec: &istio::AuthorizationPolicy) -> ExternalAuthorization {
    let name = spec.provider.as_ref().and_then(|p| p.name.clone()).unwrap_or_default();
    if let Some(known) = linker.mesh.providers.get(&name) {
        return known.clone();
    }
    let known: Vec<&str> = linker.mesh.providers.keys().map(String::as_str).collect();
    let finding = diag::unknown_provider(document.origin.clone(), &name, &known);
    linker.report(finding);
    ExternalAuthorization {
        name,
        cluster: None,
        protocol: ExternalProtocol::Grpc { request_headers: Vec::new() },
        timeout_ms: 0,
        fail_open: false,
        clear_route_cache: false,
        status_on_error: 403,
        body: None,
        origin: document.origin.clone(),
    }
}

/// The objects that a policy is bound to.
pub(crate) fn targets<'a>(
    linker: &mut Linker<'_>,
    document: &Document,
    references: impl Iterator<Item = &'a Spanned<istio::PolicyTargetReference>>,
) -> Vec<PolicyTarget> {
    references.map(|target| policy_target(linker, document, target)).collect()
}

pub(crate) fn policy_target(linker: &mut Linker<'_>, document: &Document, target: &Spanned<istio::PolicyTargetReference>) -> PolicyTarget {
    let namespace = document.meta.namespace.as_str();
    let at = target.origin(&document.origin);
    let gateway_api = target.group.as_deref() == Some("gateway.networking.k8s.io");
    match (target.kind.as_str(), gateway_api) {
        ("Gateway", true) => {
            let key = format!("{namespace}/{}", target.name);
            if !linker.mesh.gateways.iter().any(|g| g.key() == key && matches!(g.served_by, crate::gateway::ServedBy::Name { .. })) {
                linker.report(diag::policy_target_not_found(at, "Gateway", &key));
            }
            PolicyTarget::Gateway(key)
        }
        ("GatewayClass", true) if namespace == linker.mesh.settings.root_namespace => PolicyTarget::GatewayClass(target.name.clone()),
        ("GatewayClass", true) => {
            linker.report(diag::class_target_elsewhere(at, &linker.mesh.settings.root_namespace));
            PolicyTarget::Nothing
        }
        ("Service", false) => {
            let host = linker.mesh.settings.service_host(&target.name, namespace);
            if !linker.mesh.services.contains_key(&host) {
                linker.report(diag::policy_target_not_found(at, "Service", &host));
            }
            PolicyTarget::Service(host)
        }
        ("ServiceEntry", _) => match linker.hosts_of_entry(namespace, &target.name) {
            Some(host) => PolicyTarget::Service(host),
            None => {
                linker.report(diag::policy_target_not_found(at, "ServiceEntry", &target.name));
                PolicyTarget::Nothing
            }
        },
        (kind, _) => {
            linker.report(diag::policy_target_not_found(at, kind, &target.name));
            PolicyTarget::Nothing
        }
    }
}

impl Linker<'_> {
    /// The first host of a ServiceEntry, by the object's name.
    fn hosts_of_entry(&self, namespace: &str, name: &str) -> Option<String> {
        let entries = self.documents(|r| if let Resource::ServiceEntry(e) = r { Some(e) } else { None });
        let entry = entries.into_iter().find(|(_, d, _)| d.meta.namespace == namespace && d.meta.name == name);
        entry.and_then(|(_, _, e)| e.hosts.first().map(|h| h.value.clone()))
    }
}
