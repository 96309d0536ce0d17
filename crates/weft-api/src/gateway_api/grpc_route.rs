//! `GRPCRoute`: how gRPC calls are routed.

use super::{BackendRef, Filter, ParentReference, ValueMatch, ValueMatchType};
use crate::read::Spanned;

object! {
    /// `gateway.networking.k8s.io GRPCRoute`: how gRPC calls are routed, at a gateway or (parent `Service`) in the mesh.
    pub struct GrpcRoute {
        /// What it attaches to.
        parent_refs: Vec<Spanned<ParentReference>> = "parentRefs",
        /// Hosts; empty: those of the parent.
        hostnames: Vec<Spanned<String>> = "hostnames",
        /// Rules.
        rules: Vec<Spanned<GrpcRouteRule>> = "rules",
    }
    later ["useDefaultGateways"]
}

object! {
    /// One rule.
    pub struct GrpcRouteRule {
        /// Name.
        name: Option<String> = "name",
        /// Alternatives; empty: every call.
        matches: Vec<Spanned<GrpcRouteMatch>> = "matches",
        /// What is done on the way.
        filters: Vec<Spanned<Filter>> = "filters",
        /// Weighted targets.
        backend_refs: Vec<Spanned<BackendRef>> = "backendRefs",
    }
    later ["sessionPersistence"]
}

object! {
    /// One alternative: all conditions that are given must hold.
    pub struct GrpcRouteMatch {
        /// Service and method.
        method: Option<GrpcMethodMatch> = "method",
        /// Metadata.
        headers: Vec<ValueMatch> = "headers",
    }
}

object! {
    /// A condition on service and method; at least one of them is given.
    pub struct GrpcMethodMatch {
        /// How; absent: `Exact`.
        kind: Option<ValueMatchType> = "type",
        /// Service, e.g. `shop.Cart`.
        service: Option<String> = "service",
        /// Method, e.g. `Add`.
        method: Option<String> = "method",
    }
}
