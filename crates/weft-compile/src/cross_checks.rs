//! Findings that need the whole mesh: two resources that are right by themselves and wrong together.

use crate::{diag, link::Linker, mesh::Mesh};
use weft_api::Diagnostic;
use weft_model::{MtlsMode, UpstreamTls, selects};

/// Checks the finished mesh.
pub(crate) fn check(linker: &mut Linker<'_>) {
    let mut found = plain_text_to_strict(&linker.mesh);
    found.extend(policies_without_workload(&linker.mesh));
    linker.diagnostics.extend(found);
}

/// A DestinationRule that asks for plain text towards workloads that refuse it: every request would fail.
fn plain_text_to_strict(mesh: &Mesh) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for rule in mesh.destination_rules.by_namespace.values().flat_map(|n| n.exact.values().flatten()) {
        let whole = rule.policy.iter().chain(rule.subsets.values().filter_map(|s| s.policy.as_ref()));
        let plain = whole
            .clone()
            .flat_map(|p| p.ports.values())
            .chain(whole)
            .any(|p| p.tls.as_ref().is_some_and(|t| t.mode == UpstreamTls::Disable));
        if !plain {
            continue;
        }
        let services = mesh.services.get(&rule.host.to_string()).into_iter().flatten();
        let strict = services.flat_map(|s| s.endpoints.values().flatten()).find_map(|e| {
            let labels = &mesh.workloads.get(&e.endpoint.workload)?.registered.workload.labels;
            let (mode, origin) = mesh.mtls_mode(&e.endpoint.namespace, labels, Some(e.endpoint.target_port));
            (mode == MtlsMode::Strict).then_some(origin)
        });
        found.extend(strict.map(|origin| diag::plain_text_to_strict(rule.origin.clone(), &rule.host.to_string(), &origin)));
    }
    found
}

/// A policy whose selector chooses nothing that runs or is declared: probably a slip in a label.
fn policies_without_workload(mesh: &Mesh) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for policy in mesh.authorizations.values().flatten().filter(|p| !p.selector.is_empty() && p.targets.is_empty()) {
        let here = |namespace: &str| policy.namespace.as_deref().is_none_or(|n| n == namespace);
        let mut running = mesh.all_workloads().filter(|w| here(&w.namespace)).peekable();
        if running.peek().is_none() {
            // Nothing runs there yet: nothing can be said.
            continue;
        }
        let chosen = running.any(|w| selects(&policy.selector, &w.labels));
        let declared = mesh.declared.iter().any(|d| here(&d.namespace) && selects(&policy.selector, &d.labels));
        if !chosen && !declared {
            found.push(diag::policy_selects_nothing(policy.policy.origin.clone(), &policy.selector));
        }
    }
    found
}
