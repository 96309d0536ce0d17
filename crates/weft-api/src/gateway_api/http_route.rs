//! `HTTPRoute`: how HTTP requests are routed.

use super::{BackendRef, Filter, ParentReference, ValueMatch};
use crate::read::Spanned;
use std::time::Duration;

object! {
    /// `gateway.networking.k8s.io HTTPRoute`: how HTTP requests are routed, at a gateway or (parent `Service`) in the mesh.
    pub struct HttpRoute {
        /// What it attaches to.
        parent_refs: Vec<Spanned<ParentReference>> = "parentRefs",
        /// Hosts; empty: those of the parent.
        hostnames: Vec<Spanned<String>> = "hostnames",
        /// Rules. An absent list is one rule that matches everything and has no backend.
        rules: Vec<Spanned<HttpRouteRule>> = "rules",
    }
    later ["useDefaultGateways"]
}

object! {
    /// One rule.
    pub struct HttpRouteRule {
        /// Name.
        name: Option<String> = "name",
        /// Alternatives; empty: every request.
        matches: Vec<Spanned<HttpRouteMatch>> = "matches",
        /// What is done on the way.
        filters: Vec<Spanned<Filter>> = "filters",
        /// Weighted targets; empty without a redirect: 500.
        backend_refs: Vec<Spanned<BackendRef>> = "backendRefs",
        /// Time limits.
        timeouts: Option<Spanned<HttpRouteTimeouts>> = "timeouts",
        /// Retries (experimental channel).
        retry: Option<Spanned<HttpRouteRetry>> = "retry",
    }
    later ["sessionPersistence"]
}

object! {
    /// One alternative: all conditions that are given must hold.
    pub struct HttpRouteMatch {
        /// Path.
        path: Option<HttpPathMatch> = "path",
        /// Headers.
        headers: Vec<ValueMatch> = "headers",
        /// Query parameters.
        query_params: Vec<ValueMatch> = "queryParams",
        /// Method.
        method: Option<HttpMethod> = "method",
    }
}

object! {
    /// A condition on the path.
    pub struct HttpPathMatch {
        /// How; absent: `PathPrefix`.
        kind: Option<PathMatchType> = "type",
        /// Value; absent: `/`.
        value: Option<String> = "value",
    }
}

choice! {
    /// How a path is matched.
    pub enum PathMatchType {
        /// Equal.
        Exact = "Exact",
        /// By whole segments.
        PathPrefix = "PathPrefix",
        /// As a regular expression.
        RegularExpression = "RegularExpression",
    }
}

choice! {
    /// An HTTP method.
    pub enum HttpMethod {
        /// GET.
        Get = "GET",
        /// HEAD.
        Head = "HEAD",
        /// POST.
        Post = "POST",
        /// PUT.
        Put = "PUT",
        /// DELETE.
        Delete = "DELETE",
        /// CONNECT.
        Connect = "CONNECT",
        /// OPTIONS.
        Options = "OPTIONS",
        /// TRACE.
        Trace = "TRACE",
        /// PATCH.
        Patch = "PATCH",
    }
}

object! {
    /// Time limits of a rule.
    pub struct HttpRouteTimeouts {
        /// For the whole exchange; zero: none.
        request: Option<Duration> = "request",
        /// For one attempt; zero: none.
        backend_request: Option<Duration> = "backendRequest",
    }
}

object! {
    /// Retries of a rule.
    pub struct HttpRouteRetry {
        /// Statuses that are tried again.
        codes: Vec<u16> = "codes",
        /// How many retries.
        attempts: Option<u32> = "attempts",
        /// Wait before a retry.
        backoff: Option<Duration> = "backoff",
    }
}
