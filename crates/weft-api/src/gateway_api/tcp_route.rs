//! `TCPRoute` and `TLSRoute`: how connections are routed whose bytes are not read.

use super::{BackendRef, ParentReference};
use crate::read::Spanned;

object! {
    /// `gateway.networking.k8s.io TCPRoute`: how connections are routed, at a gateway or (parent `Service`) in the mesh.
    pub struct TcpRoute {
        /// What it attaches to.
        parent_refs: Vec<Spanned<ParentReference>> = "parentRefs",
        /// Rules.
        rules: Vec<Spanned<TcpRouteRule>> = "rules",
    }
    later ["useDefaultGateways"]
}

object! {
    /// `gateway.networking.k8s.io TLSRoute`: the same for TLS, by server name.
    pub struct TlsRoute {
        /// What it attaches to.
        parent_refs: Vec<Spanned<ParentReference>> = "parentRefs",
        /// Server names; empty: those of the parent.
        hostnames: Vec<Spanned<String>> = "hostnames",
        /// Rules.
        rules: Vec<Spanned<TcpRouteRule>> = "rules",
    }
    later ["useDefaultGateways"]
}

object! {
    /// One rule.
    pub struct TcpRouteRule {
        /// Name.
        name: Option<String> = "name",
        /// Weighted targets.
        backend_refs: Vec<Spanned<BackendRef>> = "backendRefs",
    }
}
