//! Types that several Gateway API resources use.

use super::Filter;
use crate::read::Spanned;

object! {
    /// What a route attaches to.
    pub struct ParentReference {
        /// API group; absent: `gateway.networking.k8s.io`. The core group is written `""`.
        group: Option<String> = "group",
        /// Kind; absent: `Gateway`. `Service` makes it a mesh route.
        kind: Option<String> = "kind",
        /// Namespace; absent: that of the route.
        namespace: Option<String> = "namespace",
        /// Name.
        name: String = "name",
        /// Listener, or port name of a Service.
        section_name: Option<String> = "sectionName",
        /// Port.
        port: Option<u16> = "port",
    }
}

impl ParentReference {
    /// The kind, with its default.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Gateway")
    }
    /// The group, with its default.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or("gateway.networking.k8s.io")
    }
}

object! {
    /// Where a route sends to, and how large a share.
    pub struct BackendRef {
        /// API group; absent: the core group.
        group: Option<String> = "group",
        /// Kind; absent: `Service`.
        kind: Option<String> = "kind",
        /// Namespace; absent: that of the route. Another namespace needs a ReferenceGrant.
        namespace: Option<String> = "namespace",
        /// Name.
        name: String = "name",
        /// Port; required for a Service.
        port: Option<u16> = "port",
        /// Share of the sum of weights; absent: 1.
        weight: Option<u32> = "weight",
        /// Filters for requests to this backend.
        filters: Vec<Spanned<Filter>> = "filters",
    }
}

impl BackendRef {
    /// The kind, with its default.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Service")
    }
    /// The group, with its default.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }
}

object! {
    /// A reference to an object without weight: the target of a mirror.
    pub struct BackendObjectReference {
        /// API group; absent: the core group.
        group: Option<String> = "group",
        /// Kind; absent: `Service`.
        kind: Option<String> = "kind",
        /// Namespace; absent: that of the route.
        namespace: Option<String> = "namespace",
        /// Name.
        name: String = "name",
        /// Port; required for a Service.
        port: Option<u16> = "port",
    }
}

impl BackendObjectReference {
    /// The kind, with its default.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Service")
    }
    /// The group, with its default.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }
}

object! {
    /// A reference to a secret.
    pub struct SecretReference {
        /// API group; absent: the core group.
        group: Option<String> = "group",
        /// Kind; absent: `Secret`.
        kind: Option<String> = "kind",
        /// Namespace; absent: that of the resource.
        namespace: Option<String> = "namespace",
        /// Name.
        name: String = "name",
    }
}

object! {
    /// A reference to an object of an implementation's own.
    pub struct LocalReference {
        /// API group.
        group: String = "group",
        /// Kind.
        kind: String = "kind",
        /// Name.
        name: String = "name",
    }
}

choice! {
    /// How a header or query parameter is matched.
    pub enum ValueMatchType {
        /// Equal.
        Exact = "Exact",
        /// As a regular expression, whole.
        RegularExpression = "RegularExpression",
    }
}

object! {
    /// A header or query parameter and its value.
    pub struct ValueMatch {
        /// How; absent: `Exact`.
        kind: Option<ValueMatchType> = "type",
        /// Name.
        name: String = "name",
        /// Value.
        value: String = "value",
    }
}
