//! Documents: one resource with its metadata, its provenance and its text.

use crate::{Diagnostic, gateway_api, istio, kubernetes, weft};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write};
use weft_model::Origin;

/// What a text held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// The resources, in the order of the text. One that could not be read is here as [`Resource::Invalid`] if it has a name.
    pub documents: Vec<Document>,
    /// What is wrong or worth knowing, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Is there an error among the diagnostics?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// One resource as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Kind, namespace, name, labels.
    pub meta: ObjectMeta,
    /// Kind, namespace, name, file, and the line on which the document starts.
    pub origin: Origin,
    /// The typed value.
    pub resource: Resource,
    /// The text of this document alone. Parsing it with [`crate::parse_at`] and `first_line` gives the same document again.
    pub raw: String,
    /// Line of the file on which `raw` starts, from 1.
    pub first_line: u32,
    /// The whole document as JSON, `status` included.
    pub json: serde_json::Value,
}

impl Document {
    /// SHA-256, in hex, of what the document says: equal for two texts that differ in comments, order of fields or layout only.
    ///
    /// `status`, and the metadata that a server writes, are left out, so that the hash changes when the user changes something.
    pub fn hash(&self) -> String {
        const SERVER_SIDE: [&str; 5] = ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"];
        let mut json = self.json.clone();
        if let Some(object) = json.as_object_mut() {
            object.shift_remove("status");
            if let Some(meta) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                for name in SERVER_SIDE {
                    meta.shift_remove(name);
                }
            }
        }
        json.sort_all_objects();
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(json.to_string().as_bytes()) {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
    /// What identifies the resource: group, kind, namespace and name. Versions of one kind are one resource.
    pub fn key(&self) -> (String, String, String, String) {
        let group = self.meta.api_version.split_once('/').map_or("", |(group, _)| group);
        (group.into(), self.meta.kind.clone(), self.meta.namespace.clone(), self.meta.name.clone())
    }
}

/// What every resource has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// E.g. `networking.istio.io/v1`.
    pub api_version: String,
    /// E.g. `VirtualService`.
    pub kind: String,
    /// Empty for kinds without namespace; `default` when a namespaced resource names none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `creationTimestamp`, when a server wrote one: RFC 3339 in UTC, so that text order is time order.
    pub created: Option<String>,
    /// Order of creation where specifications say "oldest first". The parser counts documents; a store puts its own number here.
    pub order: u64,
}

/// A typed resource.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "a document is shared behind an Arc and its text is larger still")]
pub enum Resource {
    /// Gateway API `GatewayClass`.
    GatewayClass(gateway_api::GatewayClass),
    /// Gateway API `Gateway`.
    Gateway(gateway_api::Gateway),
    /// Gateway API `HTTPRoute`.
    HttpRoute(gateway_api::HttpRoute),
    /// Gateway API `GRPCRoute`.
    GrpcRoute(gateway_api::GrpcRoute),
    /// Gateway API `TLSRoute`.
    TlsRoute(gateway_api::TlsRoute),
    /// Gateway API `TCPRoute`.
    TcpRoute(gateway_api::TcpRoute),
    /// Gateway API `BackendTLSPolicy`.
    BackendTlsPolicy(gateway_api::BackendTlsPolicy),
    /// Gateway API `ReferenceGrant`.
    ReferenceGrant(gateway_api::ReferenceGrant),
    /// Istio `VirtualService`.
    VirtualService(istio::VirtualService),
    /// Istio `DestinationRule`.
    DestinationRule(istio::DestinationRule),
    /// Istio `Gateway`.
    IstioGateway(istio::Gateway),
    /// Istio `ServiceEntry`.
    ServiceEntry(istio::ServiceEntry),
    /// Istio `WorkloadEntry`.
    WorkloadEntry(istio::WorkloadEntry),
    /// Istio `AuthorizationPolicy`.
    AuthorizationPolicy(istio::AuthorizationPolicy),
    /// Istio `PeerAuthentication`.
    PeerAuthentication(istio::PeerAuthentication),
    /// Istio `RequestAuthentication`.
    RequestAuthentication(istio::RequestAuthentication),
    /// Kubernetes `Service`.
    Service(kubernetes::Service),
    /// Kubernetes `ServiceAccount`.
    ServiceAccount(kubernetes::ServiceAccount),
    /// Kubernetes `Namespace`.
    Namespace(kubernetes::Namespace),
    /// Kubernetes `Secret`.
    Secret(kubernetes::Secret),
    /// Istio `Telemetry`.
    Telemetry(istio::Telemetry),
    /// Kubernetes `ConfigMap`.
    ConfigMap(kubernetes::ConfigMap),
    /// Kubernetes `Deployment`.
    Deployment(kubernetes::Deployment),
    /// Kubernetes `Pod`.
    Pod(kubernetes::Pod),
    /// Weft's `BackendPolicy`.
    BackendPolicy(weft::BackendPolicy),
    /// Weft's `Workload`.
    Workload(weft::Workload),
    /// Weft's `RoutePolicy`.
    RoutePolicy(weft::RoutePolicy),
    /// Weft's `RateLimit`.
    RateLimit(weft::RateLimit),
    /// Weft's `ConcurrencyPolicy`.
    ConcurrencyPolicy(weft::ConcurrencyPolicy),
    /// A kind that Weft does not act on; a diagnostic says so.
    Unknown,
    /// A known kind whose content could not be read; an error says why. It has no effect, but its absence may be worth guarding
    /// against: an authorization policy that cannot be read must not leave its workloads open.
    Invalid,
}
