//! Status: what proxies say about the configuration, joined with what the compiler says. Pure.

use crate::{CompiledMesh, ProxyStatus, RegistryEntry, control::compile_role, engine::sort_worst_first};
use std::collections::BTreeMap;
use weft_api::Diagnostic;
use weft_compile::ProxyIdentity;
use weft_model::{Origin, ResourceName};

/// All findings, worst first: the compiler's, and what connected proxies refuse or cannot carry out.
pub(crate) fn diagnostics(mesh: &CompiledMesh, proxies: &[ProxyStatus]) -> Vec<Diagnostic> {
    let mut all = mesh.diagnostics.clone();
    for proxy in proxies.iter().filter(|proxy| proxy.connected) {
        all.extend(proxy.problems.iter().map(|problem| crate::diag::not_working(&proxy.id, problem)));
        let refused: Vec<_> = proxy.nacks().collect();
        if refused.is_empty() {
            continue;
        }
        let origins = origins_of(mesh, proxy);
        for (name, nack) in refused {
            let origin =
                origins.get(name).cloned().unwrap_or_else(|| Origin { kind: "Proxy".into(), name: proxy.id.clone(), ..Origin::default() });
            all.push(crate::diag::refused(&proxy.id, name, &nack.field, &nack.message, origin));
        }
    }
    sort_worst_first(&mut all);
    all
}

/// The object behind each resource of a proxy's view, so that a refusal points to a line that a user wrote.
fn origins_of(mesh: &CompiledMesh, proxy: &ProxyStatus) -> BTreeMap<String, Origin> {
    let Some(identity) = identity_of(proxy, None) else { return BTreeMap::new() };
    let view = weft_compile::project(&mesh.mesh, &identity, &proxy.roots).view;
    let origin = |(name, versioned): (&ResourceName, &weft_model::Versioned)| {
        let json = serde_json::to_value(&*versioned.value).ok()?;
        Some((name.to_string(), first_origin(&json)?))
    };
    view.values.iter().filter_map(origin).collect()
}

/// The first origin in a value, outermost first: every value carries one, at a depth of its own.
fn first_origin(json: &serde_json::Value) -> Option<Origin> {
    if let Some(origin) = json.get("origin").and_then(|origin| serde_json::from_value::<Origin>(origin.clone()).ok())
        && !origin.is_built_in()
    {
        return Some(origin);
    }
    match json {
        serde_json::Value::Object(fields) => fields.values().find_map(first_origin),
        serde_json::Value::Array(items) => items.iter().find_map(first_origin),
        _ => None,
    }
}

/// Who a proxy is, as the compiler asks: from the registry where it is there, else from its session.
pub(crate) fn identity_of(proxy: &ProxyStatus, entry: Option<&RegistryEntry>) -> Option<ProxyIdentity> {
    Some(ProxyIdentity {
        workload_id: proxy.id.clone(),
        namespace: proxy.namespace.clone(),
        labels: entry.map(|entry| entry.workload.labels.clone()).unwrap_or_default(),
        identity: proxy.identity.parse().ok()?,
        role: compile_role(proxy.role),
    })
}
