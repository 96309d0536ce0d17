//! PeerAuthentication: the mutual TLS mode of a workload's port. Workload before namespace before root; the oldest at each.

use crate::{diag, link::Linker, mesh::Mesh};
use std::collections::BTreeMap;
use weft_api::{Resource, istio};
use weft_model::{Labels, MtlsMode, Origin, selects};

/// All of them, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerAuthentications {
    pub(crate) by_namespace: BTreeMap<String, Vec<LinkedPeerAuthentication>>,
}

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct LinkedPeerAuthentication {
    /// Workloads; empty: the whole namespace.
    pub(crate) selector: Labels,
    /// Mode; `None` inherits.
    pub(crate) mode: Option<(MtlsMode, Origin)>,
    /// By workload port.
    pub(crate) ports: BTreeMap<u16, (Option<MtlsMode>, Origin)>,
    /// Where it was written.
    pub(crate) origin: Origin,
}

impl Mesh {
    /// The mode of a workload's port (`None`: of a port that is not listed), and who set it.
    pub fn mtls_mode(&self, namespace: &str, labels: &Labels, port: Option<u16>) -> (MtlsMode, Origin) {
        let of = |ns: &str| self.peer_authentications.by_namespace.get(ns).map(Vec::as_slice).unwrap_or_default();
        let wide = |ns: &str| of(ns).iter().find(|p| p.selector.is_empty());
        let root = self.settings.root_namespace.as_str();
        let workload =
            (namespace != root).then(|| of(namespace).iter().find(|p| !p.selector.is_empty() && selects(&p.selector, labels))).flatten();
        let by_port = workload.zip(port).and_then(|(p, port)| match p.ports.get(&port) {
            Some((Some(mode), origin)) => Some((*mode, origin.clone())),
            Some((None, _)) | None => None,
        });
        by_port
            .or_else(|| workload.and_then(|p| p.mode.clone()))
            .or_else(|| wide(namespace).and_then(|p| p.mode.clone()))
            .or_else(|| wide(root).and_then(|p| p.mode.clone()))
            .unwrap_or_else(|| (MtlsMode::Permissive, Origin::built_in("mutual TLS is PERMISSIVE by default")))
    }
}

/// Links all of them.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (_, document, spec) in linker.documents(|r| if let Resource::PeerAuthentication(p) = r { Some(p) } else { None }) {
        let namespace = document.meta.namespace.clone();
        let selector = spec.selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default();
        if !selector.is_empty() && namespace == linker.mesh.settings.root_namespace {
            linker.report(diag::root_selector_ignored(document.origin.clone()));
            continue;
        }
        if selector.is_empty() && !spec.port_level_mtls.0.is_empty() {
            linker.report(diag::port_modes_without_selector(document.origin.clone()));
        }
        let mode = |m: &istio::MutualTls| match m.mode {
            None | Some(istio::PeerTlsMode::Unset) => None,
            Some(istio::PeerTlsMode::Disable) => Some(MtlsMode::Disable),
            Some(istio::PeerTlsMode::Permissive) => Some(MtlsMode::Permissive),
            Some(istio::PeerTlsMode::Strict) => Some(MtlsMode::Strict),
        };
        let linked = LinkedPeerAuthentication {
            mode: spec.mtls.as_ref().and_then(|m| Some((mode(&m.value)?, m.origin(&document.origin)))),
            ports: match selector.is_empty() {
                true => BTreeMap::new(),
                false => spec.port_level_mtls.0.iter().map(|(p, m)| (*p, (mode(&m.value), m.origin(&document.origin)))).collect(),
            },
            selector,
            origin: document.origin.clone(),
        };
        let same = linker.mesh.peer_authentications.by_namespace.entry(namespace).or_default();
        if let Some(first) = same.iter().find(|p| p.selector == linked.selector) {
            linker.diagnostics.push(diag::peer_authentication_twice(linked.origin.clone(), &first.origin));
        }
        same.push(linked);
    }
}
