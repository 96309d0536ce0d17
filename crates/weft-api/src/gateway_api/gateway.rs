//! `GatewayClass` and `Gateway`: the edge of the mesh.

use super::SecretReference;
use crate::read::Spanned;
use std::collections::BTreeMap;

object! {
    /// `gateway.networking.k8s.io GatewayClass`: who makes gateways of this class work.
    pub struct GatewayClass {
        /// The controller; Weft's is `weft.dev/gateway-controller`.
        controller_name: Spanned<String> = "controllerName",
        /// For people.
        description: Option<String> = "description",
        /// Settings of the controller's own.
        parameters_ref: Option<serde_json::Value> = "parametersRef",
    }
    later ["parametersRef"]
}

object! {
    /// `gateway.networking.k8s.io Gateway`: ports at the edge.
    pub struct Gateway {
        /// The class.
        gateway_class_name: Spanned<String> = "gatewayClassName",
        /// Its ports.
        listeners: Vec<Spanned<Listener>> = "listeners",
        /// Labels and annotations for what the controller makes.
        infrastructure: Option<serde_json::Value> = "infrastructure",
        /// What is asked of clients of all its HTTPS and TLS listeners.
        tls: Option<GatewayTlsConfig> = "tls",
    }
    later ["addresses", "allowedListeners", "defaultScope", "infrastructure"]
}

object! {
    /// TLS of a whole Gateway.
    pub struct GatewayTlsConfig {
        /// Towards clients.
        frontend: Option<FrontendTls> = "frontend",
    }
    later ["backend"]
}

object! {
    /// What is asked of clients.
    pub struct FrontendTls {
        /// Of all ports.
        default: Option<FrontendTlsPort> = "default",
        /// Of single ports, in place of that.
        per_port: Vec<Spanned<FrontendTlsOfPort>> = "perPort",
    }
}

object! {
    /// What is asked of clients of one port.
    pub struct FrontendTlsOfPort {
        /// The port.
        port: u16 = "port",
        /// What is asked.
        tls: FrontendTlsPort = "tls",
    }
}

object! {
    /// What is asked of clients.
    pub struct FrontendTlsPort {
        /// Of their certificates; absent: nothing.
        validation: Option<Spanned<FrontendValidation>> = "validation",
    }
}

object! {
    /// How client certificates are checked.
    pub struct FrontendValidation {
        /// ConfigMaps or Secrets with `ca.crt`.
        ca_certificate_refs: Vec<Spanned<CaReference>> = "caCertificateRefs",
        /// Absent: `AllowValidOnly`.
        mode: Option<ValidationMode> = "mode",
    }
}

object! {
    /// A reference to roots.
    pub struct CaReference {
        /// API group; the core group is written `""`.
        group: Option<String> = "group",
        /// `ConfigMap` or `Secret`.
        kind: String = "kind",
        /// Name.
        name: String = "name",
        /// Namespace; absent: that of the resource.
        namespace: Option<String> = "namespace",
    }
}

choice! {
    /// What happens to a client without a good certificate.
    pub enum ValidationMode {
        /// It is refused.
        AllowValidOnly = "AllowValidOnly",
        /// It is let through, without an identity.
        AllowInsecureFallback = "AllowInsecureFallback",
    }
}

object! {
    /// One port and host of a gateway.
    pub struct Listener {
        /// Name, unique in the gateway.
        name: String = "name",
        /// Host or `*.suffix`; absent: every host.
        hostname: Option<Spanned<String>> = "hostname",
        /// Port.
        port: u16 = "port",
        /// `HTTP`, `HTTPS`, `TLS`, `TCP` or `UDP`, or a word of the implementation's.
        protocol: Spanned<String> = "protocol",
        /// TLS towards clients.
        tls: Option<Spanned<ListenerTls>> = "tls",
        /// Routes that may attach; absent: those of the same namespace.
        allowed_routes: Option<AllowedRoutes> = "allowedRoutes",
    }
}

object! {
    /// TLS of a listener.
    pub struct ListenerTls {
        /// Absent: `Terminate`.
        mode: Option<TlsMode> = "mode",
        /// Secrets with certificate and key.
        certificate_refs: Vec<Spanned<SecretReference>> = "certificateRefs",
    }
    later ["options"]
}

choice! {
    /// Is TLS ended at the gateway?
    pub enum TlsMode {
        /// Yes.
        Terminate = "Terminate",
        /// No; routed by SNI.
        Passthrough = "Passthrough",
    }
}

object! {
    /// Routes that may attach to a listener.
    pub struct AllowedRoutes {
        /// From which namespaces; absent: the same.
        namespaces: Option<RouteNamespaces> = "namespaces",
        /// Of which kinds; empty: those that fit the protocol.
        kinds: Vec<RouteGroupKind> = "kinds",
    }
}

object! {
    /// Namespaces of routes.
    pub struct RouteNamespaces {
        /// Absent: `Same`.
        from: Option<FromNamespaces> = "from",
        /// For `Selector`: labels of the namespace.
        selector: Option<NamespaceSelector> = "selector",
    }
}

choice! {
    /// Namespaces of routes.
    pub enum FromNamespaces {
        /// All.
        All = "All",
        /// Those with some labels.
        Selector = "Selector",
        /// That of the gateway.
        Same = "Same",
        /// None.
        None = "None",
    }
}

object! {
    /// Labels of a namespace (`metav1.LabelSelector`).
    pub struct NamespaceSelector {
        /// Labels that must be equal.
        match_labels: BTreeMap<String, String> = "matchLabels",
        /// Further conditions.
        match_expressions: Vec<LabelExpression> = "matchExpressions",
    }
}

object! {
    /// A condition on a label.
    pub struct LabelExpression {
        /// The label.
        key: String = "key",
        /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
        operator: LabelOperator = "operator",
        /// Values for `In` and `NotIn`.
        values: Vec<String> = "values",
    }
}

choice! {
    /// A condition on a label.
    pub enum LabelOperator {
        /// The value is one of these.
        In = "In",
        /// It is not, or the label is absent.
        NotIn = "NotIn",
        /// The label is there.
        Exists = "Exists",
        /// The label is absent.
        DoesNotExist = "DoesNotExist",
    }
}

object! {
    /// A kind of route.
    pub struct RouteGroupKind {
        /// Absent: `gateway.networking.k8s.io`.
        group: Option<String> = "group",
        /// Kind.
        kind: String = "kind",
    }
}
