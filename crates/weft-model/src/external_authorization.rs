//! External authorization: a service that is asked whether a request may go on (Envoy's ext_authz), and what of its answer counts.

use crate::{ClusterName, Origin, StringMatch};
use serde::{Deserialize, Serialize};

/// A service that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalAuthorization {
    /// Name of the provider.
    pub name: String,
    /// Where it is; `None`: it does not exist, so that nothing is let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// How it is asked.
    pub protocol: ExternalProtocol,
    /// Longest wait, in milliseconds.
    pub timeout_ms: u64,
    /// Let through when it gives no answer?
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub fail_open: bool,
    /// Status when it gives no answer.
    pub status_on_error: u16,
    /// Are routes matched by the headers that it set? Else by those that the request came with.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub clear_route_cache: bool,
    /// How much of the body it sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<CheckedBody>,
    /// Where it was written.
    pub origin: Origin,
}

/// How a service is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExternalProtocol {
    /// `envoy.service.auth.v3.Authorization/Check`. All headers go along, or those of the list when there is one.
    Grpc {
        /// Headers of the request that go along; none: all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        request_headers: Vec<StringMatch>,
    },
    /// The request's own method and path, without its body unless asked; 200 lets through.
    Http {
        /// Put before the path.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        path_prefix: String,
        /// Headers of the request that go along, besides Host and Content-Length.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        request_headers: Vec<StringMatch>,
        /// Headers that are added.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        additional_headers: Vec<(String, String)>,
        /// Headers of the answer that an allowed request gets.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        to_upstream: Vec<StringMatch>,
        /// Headers of the answer that an allowed caller gets.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        to_downstream_on_allow: Vec<StringMatch>,
        /// Headers of the answer that a refused caller gets; none: all.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        to_downstream_on_deny: Vec<StringMatch>,
    },
}

/// How much of a body goes into a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedBody {
    /// Longest, in bytes.
    pub bytes_max: u32,
    /// Send the beginning of a longer one? Else it is refused with 413.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub partial: bool,
    /// As bytes, not as text?
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub as_bytes: bool,
}
