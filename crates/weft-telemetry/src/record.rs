//! The record of one request or connection, made by the proxy in one place and read by access log, metrics, edges and `weft why`.

use crate::{Outcome, ResponseFlag};
use serde::{Deserialize, Serialize};
use weft_model::Origin;

/// Which side of the hop wrote the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reporter {
    /// The caller's proxy (also a gateway).
    #[default]
    Source,
    /// The callee's proxy.
    Destination,
}

/// One end of a hop, as far as it is known. Empty texts mean unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Party {
    /// Workload name, e.g. `reviews-v2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Canonical service, e.g. `reviews`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Canonical revision, e.g. `v2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Proven identity, `spiffe://…`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub principal: String,
}

/// The decision of an authorization policy about the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDecision {
    /// `namespace/name` of the policy.
    pub policy: String,
    /// Let through?
    pub allowed: bool,
    /// The rule that matched, or the policy whose rules did not.
    pub origin: Origin,
    /// In words: `DENY rule matched`, `no ALLOW rule matched`, `plain text to a STRICT port`.
    pub reason: String,
}

/// One attempt at an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Endpoint address.
    pub endpoint: String,
    /// Workload behind it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// `200`, `connect refused`, `reset before headers`, `per-try time-out`, `TLS: …`.
    pub outcome: String,
    /// Time it took, in microseconds.
    pub duration_us: u64,
}

/// A timer that ended the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timer {
    /// `route timeout`, `per-try timeout`, `connect timeout`, `fault delay`.
    pub name: String,
    /// Its length, in milliseconds.
    pub limit_ms: u64,
    /// Who set it.
    pub origin: Origin,
}

/// TLS of the hop as this side saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRecord {
    /// e.g. `TLSv1_3`.
    pub version: String,
    /// Key exchange group, e.g. `X25519MLKEM768`.
    pub group: String,
    /// Identity of the peer's certificate.
    pub peer: String,
    /// End of the peer's certificate, seconds since 1970.
    pub peer_not_after_unix_s: i64,
}

/// Everything about one request (or one TCP connection, with `protocol` `tcp` and no status).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestRecord {
    /// `x-request-id`: the same on every hop.
    pub id: String,
    /// W3C trace id, 32 hex digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// Span id of this hop, 16 hex digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub span_id: String,
    /// Parent span.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent_span_id: String,
    /// Id of the workload whose proxy wrote it.
    pub proxy: String,
    /// Side.
    pub reporter: Reporter,
    /// Start, milliseconds since 1970.
    pub start_unix_ms: u64,
    /// Length, in microseconds.
    pub duration_us: u64,
    /// `HTTP/1.1`, `HTTP/2`, `tcp`.
    pub protocol: String,
    /// True when the request is gRPC.
    #[serde(default)]
    pub grpc: bool,
    /// Method.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// Path with query, as it came in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Authority.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// `user-agent`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// `x-forwarded-for` as it came in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub forwarded_for: String,
    /// Status sent downstream; 0 for TCP, or when the caller left first.
    pub status: u16,
    /// gRPC status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// Flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<ResponseFlag>,
    /// Envoy's `response_code_details`: `via_upstream`, `route_not_found`, `rbac_access_denied_matched_policy[..]`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// gRPC messages of the request.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub request_messages: u64,
    /// gRPC messages of the response.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub response_messages: u64,
    /// Caller.
    pub source: Party,
    /// Callee.
    pub destination: Party,
    /// Host of the service that was called, fully qualified.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub destination_service: String,
    /// TLS of the mesh hop; `None`: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsRecord>,
    /// Name of the route.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// Where the route was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_origin: Option<Origin>,
    /// Authorization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyDecision>,
    /// What the policies that are only watched (`istio.io/dry-run`) would have decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<PolicyDecision>,
    /// AUDIT policies that match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audited: Vec<PolicyDecision>,
    /// Cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Attempts, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Timer that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// What caused a failure beyond route, policy and timer: the DestinationRule whose limit was reached or that ejected an
    /// endpoint, the route with a planted fault, the PeerAuthentication that asked for TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Origin>,
    /// Address of the downstream peer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub downstream: String,
    /// SNI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sni: String,
    /// How the protocol of an opaque connection was found out: `declared`, `tls`, `bytes`, `time-out` or `learned`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detected: String,
}

/// What a record counts as in metrics and edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolKind {
    /// HTTP of any version that is not gRPC.
    Http,
    /// gRPC.
    Grpc,
    /// Opaque TCP.
    Tcp,
}

impl ProtocolKind {
    /// `http`, `grpc` or `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl RequestRecord {
    /// What it counts as.
    pub fn kind(&self) -> ProtocolKind {
        match (self.grpc, self.protocol.as_str()) {
            (true, _) => ProtocolKind::Grpc,
            (false, "tcp") => ProtocolKind::Tcp,
            _ => ProtocolKind::Http,
        }
    }
    /// Did it fail, as health is counted?
    pub fn is_failure(&self) -> bool {
        Outcome::of(self).is_failure()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}
