//! What MeshConfig says of routes that say nothing themselves. Read before any route is linked.

use crate::{link::Linker, mesh::Mesh};
use weft_api::Resource;
use weft_model::Retry;

/// Defaults of routes.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteDefaults {
    retry: Option<Retry>,
    /// `exportTo` of VirtualServices; empty: all namespaces.
    pub(crate) export_to: Vec<String>,
}

/// Reads them; a ConfigMap elsewhere than in the root namespace is reported where its other settings are read.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for document in linker.inputs.documents.iter() {
        let Resource::ConfigMap(map) = &document.resource else { continue };
        let Some(config) = map.data.mesh.as_ref().filter(|_| document.meta.namespace == linker.mesh.settings.root_namespace) else {
            continue;
        };
        if let Some(policy) = &config.default_http_retry_policy {
            let at = policy.origin(&document.origin);
            linker.mesh.route_defaults.retry = Some(crate::istio_http::retries(linker, policy, &at));
        }
        linker.mesh.route_defaults.export_to.clone_from(&config.default_virtual_service_export_to);
    }
}

impl Mesh {
    /// The retries of a route that says nothing of them.
    pub(crate) fn default_retry(&self) -> Retry {
        self.route_defaults.retry.clone().unwrap_or_else(Retry::built_in)
    }
}
