//! TLS that is not the mesh's own: what a gateway shows to clients and asks of them, and what a proxy shows to servers outside.

use serde::{Deserialize, Serialize};

/// Text in PEM, or the file of the proxy's machine that holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Pem {
    /// The text itself.
    Text(String),
    /// A path that the proxy reads, again and again: a changed file is a changed certificate.
    File {
        /// Absolute path.
        file: String,
    },
}

impl Default for Pem {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Pem {
    /// Is there neither text nor file?
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

/// A certificate chain, leaf first, with its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyPair {
    /// Chain.
    pub certificate: Pem,
    /// Key. Sent only to proxies that use it.
    pub private_key: Pem,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// What a gateway asks of its clients' certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientCertificates {
    /// Must a client show one (MUTUAL), or may it come without (OPTIONAL_MUTUAL)? One that is shown is checked either way.
    pub required: bool,
    /// Roots.
    pub ca: Pem,
    /// Certificates that were taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<Pem>,
    /// Names (DNS, URI, mail, address) of which the certificate must have one; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of the public key (SPKI), base64, of which the certificate's must be one. Together with `hashes`: either suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spki: Vec<String>,
    /// SHA-256 of the certificate in lower-case hexadecimal digits without colons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<String>,
    /// Check, but let failures through without an identity (Gateway API `AllowInsecureFallback`).
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub insecure: bool,
}

/// Server TLS at the edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GatewayTls {
    /// Certificates that are shown: one, or two of different algorithms (RSA and ECDSA). None with `mesh`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<KeyPair>,
    /// The mesh's mutual TLS (`ISTIO_MUTUAL`): the gateway's own identity, and clients of the mesh only.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub mesh: bool,
    /// What is asked of clients; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientCertificates>,
    /// Lowest version; `None`: 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_min: Option<TlsVersion>,
    /// Highest version; `None`: 1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_max: Option<TlsVersion>,
    /// Suites of TLS 1.2 that are offered, by their OpenSSL names; empty: all that are safe. TLS 1.3 keeps its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
}

/// How a proxy checks a server outside of the mesh, and what it shows to it. With `UpstreamTls::Simple`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TlsOrigination {
    /// Roots; `None`: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Pem>,
    /// Certificates that were taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<Pem>,
    /// What is shown to a server that asks (`MUTUAL`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<KeyPair>,
    /// Names of which the server's certificate must have one; empty: the name that is called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// Nothing is checked.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub insecure_skip_verify: bool,
    /// Why nothing may be sent: a certificate that was asked for does not exist. Empty when all is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
}
