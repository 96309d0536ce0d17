//! The kinds that Weft reads, and what it says about the others.

use crate::document::Resource;
use crate::node::{Node, Value};
use crate::read::{Path, Read, Reader, closest};
use crate::{gateway_api, istio, kubernetes, weft};

/// A kind that is read.
pub(crate) struct Kind {
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    /// Kind.
    pub(crate) kind: &'static str,
    /// Versions, the newest first.
    pub(crate) versions: &'static [&'static str],
    /// Does it live in a namespace?
    pub(crate) namespaced: bool,
    /// Are fields beside `spec` fine?
    pub(crate) open: bool,
    /// Are the fields of the API in the resource itself, not in `spec`?
    pub(crate) whole: bool,
    /// Reads the spec.
    pub(crate) read: fn(&Node, &Path<'_>, &mut Reader) -> Option<Resource>,
}

impl Kind {
    /// `group/version` of the newest version.
    pub(crate) fn api_version(&self) -> String {
        match (self.group, self.versions.first().copied().unwrap_or_default()) {
            ("", version) => version.into(),
            (group, version) => format!("{group}/{version}"),
        }
    }
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const ISTIO_NETWORKING: &str = "networking.istio.io";
const ISTIO_SECURITY: &str = "security.istio.io";

macro_rules! kind {
    ($group:expr, $kind:literal, [$($version:literal),*], $variant:ident, $type:ty $(, $option:ident = $value:literal)*) => {{
        #[allow(unused_mut, reason = "most kinds have no options")]
        let mut kind = Kind {
            group: $group,
            kind: $kind,
            versions: &[$($version),*],
            namespaced: true,
            open: false,
            whole: false,
            read: |node, at, reader| <$type as Read>::read(node, at, reader).map(Resource::$variant),
        };
        $(kind.$option = $value;)*
        kind
    }};
}

/// Every kind that is read.
pub(crate) const KINDS: &[Kind] = &[
    kind!(GATEWAY_API, "GatewayClass", ["v1", "v1beta1"], GatewayClass, gateway_api::GatewayClass, namespaced = false),
    kind!(GATEWAY_API, "Gateway", ["v1", "v1beta1"], Gateway, gateway_api::Gateway),
    kind!(GATEWAY_API, "HTTPRoute", ["v1", "v1beta1"], HttpRoute, gateway_api::HttpRoute),
    kind!(GATEWAY_API, "GRPCRoute", ["v1"], GrpcRoute, gateway_api::GrpcRoute),
    kind!(GATEWAY_API, "TLSRoute", ["v1", "v1alpha3", "v1alpha2"], TlsRoute, gateway_api::TlsRoute),
    kind!(GATEWAY_API, "TCPRoute", ["v1", "v1alpha2"], TcpRoute, gateway_api::TcpRoute),
    kind!(GATEWAY_API, "BackendTLSPolicy", ["v1", "v1alpha3"], BackendTlsPolicy, gateway_api::BackendTlsPolicy),
    kind!(GATEWAY_API, "ReferenceGrant", ["v1", "v1beta1"], ReferenceGrant, gateway_api::ReferenceGrant),
    kind!(ISTIO_NETWORKING, "VirtualService", ["v1", "v1beta1", "v1alpha3"], VirtualService, istio::VirtualService),
    kind!(ISTIO_NETWORKING, "DestinationRule", ["v1", "v1beta1", "v1alpha3"], DestinationRule, istio::DestinationRule),
    kind!(ISTIO_NETWORKING, "Gateway", ["v1", "v1beta1", "v1alpha3"], IstioGateway, istio::Gateway),
    kind!(ISTIO_NETWORKING, "ServiceEntry", ["v1", "v1beta1", "v1alpha3"], ServiceEntry, istio::ServiceEntry),
    kind!(ISTIO_NETWORKING, "WorkloadEntry", ["v1", "v1beta1", "v1alpha3"], WorkloadEntry, istio::WorkloadEntry),
    kind!(ISTIO_SECURITY, "AuthorizationPolicy", ["v1", "v1beta1"], AuthorizationPolicy, istio::AuthorizationPolicy),
    kind!(ISTIO_SECURITY, "PeerAuthentication", ["v1", "v1beta1"], PeerAuthentication, istio::PeerAuthentication),
    kind!(ISTIO_SECURITY, "RequestAuthentication", ["v1", "v1beta1"], RequestAuthentication, istio::RequestAuthentication),
    kind!("", "Service", ["v1"], Service, kubernetes::Service),
    kind!("", "ServiceAccount", ["v1"], ServiceAccount, kubernetes::ServiceAccount, open = true),
    kind!("", "Namespace", ["v1"], Namespace, kubernetes::Namespace, namespaced = false, open = true),
    kind!("", "Secret", ["v1"], Secret, kubernetes::Secret, whole = true),
    kind!("telemetry.istio.io", "Telemetry", ["v1", "v1alpha1"], Telemetry, istio::Telemetry),
    kind!("", "ConfigMap", ["v1"], ConfigMap, kubernetes::ConfigMap, whole = true),
    kind!("", "Pod", ["v1"], Pod, kubernetes::Pod),
    kind!("apps", "Deployment", ["v1"], Deployment, kubernetes::Deployment),
    kind!("weft.dev", "RoutePolicy", ["v1alpha1"], RoutePolicy, weft::RoutePolicy),
    kind!("weft.dev", "BackendPolicy", ["v1alpha1"], BackendPolicy, weft::BackendPolicy),
    kind!("weft.dev", "Workload", ["v1alpha1"], Workload, weft::Workload),
    kind!("weft.dev", "RateLimit", ["v1alpha1"], RateLimit, weft::RateLimit),
    kind!("weft.dev", "ConcurrencyPolicy", ["v1alpha1"], ConcurrencyPolicy, weft::ConcurrencyPolicy),
];

/// Kinds of the followed APIs that are not acted on yet, by group.
const LATER: &[(&str, &[&str])] = &[
    (GATEWAY_API, &["UDPRoute", "ListenerSet", "BackendLBPolicy"]),
    ("gateway.networking.x-k8s.io", &["XMesh", "XBackendTrafficPolicy", "XBackend", "XListenerSet"]),
    (ISTIO_NETWORKING, &["Sidecar", "EnvoyFilter", "WorkloadGroup", "ProxyConfig"]),
    ("extensions.istio.io", &["WasmPlugin", "TrafficExtension"]),
    ("install.istio.io", &["IstioOperator"]),
    ("split.smi-spec.io", &["TrafficSplit"]),
    ("access.smi-spec.io", &["TrafficTarget"]),
    ("specs.smi-spec.io", &["HTTPRouteGroup", "TCPRoute", "UDPRoute"]),
    ("apps", &["StatefulSet", "DaemonSet", "ReplicaSet"]),
    ("batch", &["Job", "CronJob"]),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("", &["Endpoints", "ReplicationController"]),
    ("discovery.k8s.io", &["EndpointSlice"]),
];

/// Kubernetes' own groups: what is in them and not named above says nothing about traffic.
const KUBERNETES_GROUPS: &[&str] = &["", "apps", "batch", "policy", "autoscaling", "kustomize.config.k8s.io"];

/// What Weft makes of a group and kind.
pub(crate) enum Found {
    /// It is read.
    Known(&'static Kind),
    /// It is for later.
    Later,
    /// It says nothing about traffic. Does it live in a namespace, as far as is known?
    WithoutEffect(bool),
    /// It is not known; perhaps something else was meant.
    Unknown(Option<String>),
}

impl Found {
    /// The namespace of an object that names none; `None` when the kind is in no namespace.
    pub(crate) fn default_namespace(&self) -> Option<&'static str> {
        match self {
            Self::Known(kind) => kind.namespaced.then_some("default"),
            Self::Later | Self::WithoutEffect(true) => Some("default"),
            // Whether these have a namespace is not known: what is written holds.
            Self::WithoutEffect(false) | Self::Unknown(_) => Some(""),
        }
    }
}

/// Looks a kind up.
pub(crate) fn find(group: &str, kind: &str) -> Found {
    if let Some(known) = KINDS.iter().find(|k| k.group == group && k.kind == kind) {
        return Found::Known(known);
    }
    if LATER.iter().any(|(g, kinds)| *g == group && kinds.contains(&kind)) {
        return Found::Later;
    }
    let same_kind = KINDS.iter().filter(|k| k.kind == kind).map(|k| format!("apiVersion: {}", k.api_version())).collect::<Vec<_>>();
    if !same_kind.is_empty() && !KUBERNETES_GROUPS.contains(&group) {
        return Found::Unknown(Some(same_kind.join(" or ")));
    }
    let siblings = KINDS.iter().filter(|k| k.group == group).map(|k| k.kind);
    if let Some(meant) = closest(kind, siblings) {
        return Found::Unknown(Some(format!("kind: {meant}")));
    }
    match KUBERNETES_GROUPS.contains(&group) || (group.ends_with(".k8s.io") && group != GATEWAY_API) {
        true => Found::WithoutEffect(KUBERNETES_GROUPS.contains(&group) && !matches!(kind, "Node" | "PersistentVolume")),
        false => Found::Unknown((!same_kind.is_empty()).then(|| same_kind.join(" or "))),
    }
}

/// An object without fields, for a resource without `spec`.
pub(crate) fn empty_object(line: u32) -> Node {
    Node { line, bytes: (0, 0), column: 0, value: Value::Object(Vec::new()) }
}
