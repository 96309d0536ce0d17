//! ReferenceGrant: who may refer to the objects of a namespace. References within a namespace need none.

use crate::link::Linker;
use weft_api::{Resource, gateway_api};

/// All grants, with the namespace that gives each.
pub(crate) struct Grants<'a>(Vec<(&'a str, &'a gateway_api::ReferenceGrant)>);

/// An object that refers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Referrer<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

impl<'a> Grants<'a> {
    pub(crate) fn collect(linker: &Linker<'a>) -> Self {
        let all = linker.documents(|r| if let Resource::ReferenceGrant(g) = r { Some(g) } else { None });
        Self(all.into_iter().map(|(_, d, g)| (d.meta.namespace.as_str(), g)).collect())
    }
    /// May `from` refer to `group`/`kind` `name` in `namespace`?
    pub(crate) fn allow(&self, from: Referrer<'_>, group: &str, kind: &str, namespace: &str, name: &str) -> bool {
        let named = |n: &Option<String>| n.as_deref().is_none_or(|n| n.is_empty() || n == name);
        from.namespace == namespace
            || self.0.iter().filter(|(giver, _)| *giver == namespace).any(|(_, grant)| {
                grant.from.iter().any(|f| f.group == from.group && f.kind == from.kind && f.namespace == from.namespace)
                    && grant.to.iter().any(|t| t.group == group && t.kind == kind && named(&t.name))
            })
    }
}
