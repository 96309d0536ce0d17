//! Inputs → mesh: each kind in its own module, in an order in which everything that is referred to is already there.

use crate::{Inputs, Mesh, diag};
use weft_api::{Diagnostic, Document, Resource};
use weft_model::{HostPattern, Origin};

/// The mesh, and what is wrong or worth knowing about the resources it was made of.
#[derive(Debug, Clone, Default)]
pub struct Linked {
    /// The mesh.
    pub mesh: Mesh,
    /// Findings, in order of file and line.
    pub diagnostics: Vec<Diagnostic>,
}

/// Links everything with everything. Never fails: what cannot be used is left out, with a diagnostic.
pub fn link(inputs: &Inputs) -> Linked {
    let mut linker = Linker { inputs, mesh: Mesh { settings: inputs.settings.clone(), ..Mesh::default() }, diagnostics: Vec::new() };
    crate::catalog::link(&mut linker);
    crate::route_defaults::link(&mut linker);
    crate::destination_rule::link(&mut linker);
    crate::backend_policy::link(&mut linker);
    crate::istio_gateway::link(&mut linker);
    crate::virtual_service::link(&mut linker);
    crate::gateway_api::link(&mut linker);
    crate::client_tls::link(&mut linker);
    crate::route_policy::link(&mut linker);
    crate::mesh_config::link(&mut linker);
    crate::authorization::link(&mut linker);
    crate::request_authentication::link(&mut linker);
    crate::peer_authentication::link(&mut linker);
    crate::rate_limit::link(&mut linker);
    crate::concurrency::link(&mut linker);
    crate::telemetry::link(&mut linker);
    crate::cross_checks::check(&mut linker);
    linker.diagnostics.sort_by(|a, b| (&a.origin.file, a.origin.line, &a.code).cmp(&(&b.origin.file, b.origin.line, &b.code)));
    linker.diagnostics.dedup();
    Linked { mesh: linker.mesh, diagnostics: linker.diagnostics }
}

/// The mesh under construction.
pub(crate) struct Linker<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) mesh: Mesh,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl<'a> Linker<'a> {
    /// All documents of one kind with their age (place among all documents), oldest first.
    pub(crate) fn documents<T: 'a>(&self, pick: impl Fn(&'a Resource) -> Option<&'a T>) -> Vec<(usize, &'a Document, &'a T)> {
        let documents: &'a [std::sync::Arc<Document>] = &self.inputs.documents;
        documents.iter().enumerate().filter_map(|(age, d)| pick(&d.resource).map(|r| (age, d.as_ref(), r))).collect()
    }
    /// Notes a finding.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
    /// A host as a resource in `namespace` writes it, in full. Short names get the namespace and the cluster's domain; wildcards and
    /// names with a dot stand as they are, except that `name.namespace` and `name.namespace.svc` of a known service are completed.
    pub(crate) fn full_host(&mut self, text: &str, namespace: &str, origin: &Origin) -> Option<HostPattern> {
        let name = text.to_ascii_lowercase();
        let full = if name.contains(['.', '*', ':']) { name } else { self.mesh.settings.service_host(&name, namespace) };
        match full.parse::<HostPattern>() {
            Ok(HostPattern::Exact(host)) => {
                let domain = &self.mesh.settings.cluster_domain;
                let longer = [format!("{host}.svc.{domain}"), format!("{host}.{domain}")];
                let known = !self.mesh.services.contains_key(host.as_str());
                let completed = longer.into_iter().filter(|_| known).find(|h| self.mesh.services.contains_key(h));
                Some(completed.and_then(|h| h.parse().ok()).map_or(HostPattern::Exact(host), HostPattern::Exact))
            }
            Ok(pattern) => Some(pattern),
            Err(why) => {
                self.report(diag::bad_host(origin.clone(), &why.to_string()));
                None
            }
        }
    }
}

impl Linker<'_> {
    /// A known host that was probably meant: the same first label, or one that differs little.
    pub(crate) fn near_host(&self, host: &str) -> Option<String> {
        let first = |h: &str| h.split('.').next().unwrap_or_default().to_owned();
        let wanted = first(host);
        let mut near = self.mesh.services.keys().filter(|k| {
            let known = first(k);
            known == wanted || (known.len() > 3 && close(&known, &wanted))
        });
        near.next().cloned()
    }
}

/// One letter too many, too few or wrong?
fn close(a: &str, b: &str) -> bool {
    let same_head = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let same_tail = a.bytes().rev().zip(b.bytes().rev()).take_while(|(x, y)| x == y).count();
    a.len().abs_diff(b.len()) <= 1 && same_head + same_tail + 1 >= a.len().max(b.len())
}
