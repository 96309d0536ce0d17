//! Types that several of Weft's resources use.

use crate::read::Spanned;

object! {
    /// An object that a policy is attached to, in the policy's namespace.
    pub struct TargetReference {
        /// API group; absent: that of the kind.
        group: Option<String> = "group",
        /// `Service`, `HTTPRoute`, `GRPCRoute`, `VirtualService` or `Gateway`.
        kind: String = "kind",
        /// Name.
        name: String = "name",
        /// A rule of a route by its name, or a port of a Service by its name; absent: all.
        section_name: Option<String> = "sectionName",
    }
}

object! {
    /// One part of what requests are told apart by.
    pub struct KeyPart {
        /// What of the request.
        by: KeySource = "by",
        /// Name of the header or claim.
        name: Option<String> = "name",
        /// The text of a `Constant`.
        value: Option<String> = "value",
        /// Name of the entry that Envoy's rate limit service is told; absent: Envoy's name for it.
        descriptor: Option<String> = "descriptor",
    }
}

choice! {
    /// What of a request tells it from others.
    pub enum KeySource {
        /// The caller's whole identity.
        Principal = "Principal",
        /// The namespace of the caller's identity: its tenant.
        Namespace = "Namespace",
        /// Namespace and service account of the caller's identity.
        ServiceAccount = "ServiceAccount",
        /// The address at the other end of the connection.
        RemoteAddress = "RemoteAddress",
        /// The rule that the request takes.
        Route = "Route",
        /// The method.
        Method = "Method",
        /// The path, without query.
        Path = "Path",
        /// The host that is called.
        Host = "Host",
        /// The first value of a header.
        Header = "Header",
        /// A claim of the caller's JWT.
        Claim = "Claim",
        /// A fixed text.
        Constant = "Constant",
    }
}

/// Key parts, each with its line.
pub type Key = Vec<Spanned<KeyPart>>;
