//! Settings of the mesh that every proxy needs: how paths are brought into one form, and what is believed of those in front.

use crate::Origin;
use serde::{Deserialize, Serialize};

/// The settings. A view without them means the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxySettings {
    /// How paths are brought into one form.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub path_normalization: PathNormalization,
    /// Proxies in front of a gateway whose `x-forwarded-for` is believed.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`; `None`: set anew at gateways, added to beside programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_details: Option<ClientCertificateDetails>,
    /// Where it was written.
    pub origin: Origin,
}

/// How much of a path is normalised, before anything looks at it. Policy, routing and the upstream see the same path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// Nothing; what is never legal is still refused.
    None,
    /// RFC 3986 §6.2.2: unreserved characters are decoded, `\` becomes `/`, dot segments go.
    #[default]
    Base,
    /// Also `//` becomes `/`.
    MergeSlashes,
    /// Also `%2F` and `%5C` become `/`.
    DecodeAndMergeSlashes,
    /// As `MergeSlashes`, and what another program could read in another way is refused: encoded slashes, double encoding,
    /// overlong UTF-8, path parameters (`;`), controls, and header names with underscores.
    Strict,
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientCertificateDetails {
    /// Removed.
    Sanitize,
    /// Passed on over mutual TLS, else removed.
    ForwardOnly,
    /// Passed on over mutual TLS with the caller's own added, else removed.
    AppendForward,
    /// Replaced by the caller's own.
    SanitizeSet,
    /// Passed on, whoever sent it.
    AlwaysForwardOnly,
}
