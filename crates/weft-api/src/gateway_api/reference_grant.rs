//! `ReferenceGrant`: who may refer to the resources of a namespace.

object! {
    /// `gateway.networking.k8s.io ReferenceGrant`: resources of other namespaces that may refer to resources of this one.
    pub struct ReferenceGrant {
        /// Who may refer.
        from: Vec<ReferenceGrantFrom> = "from",
        /// To what.
        to: Vec<ReferenceGrantTo> = "to",
    }
}

object! {
    /// Who may refer.
    pub struct ReferenceGrantFrom {
        /// API group; empty for the core group.
        group: String = "group",
        /// Kind.
        kind: String = "kind",
        /// Namespace.
        namespace: String = "namespace",
    }
}

object! {
    /// What may be referred to.
    pub struct ReferenceGrantTo {
        /// API group; empty for the core group.
        group: String = "group",
        /// Kind.
        kind: String = "kind",
        /// Name; absent: all.
        name: Option<String> = "name",
    }
}
