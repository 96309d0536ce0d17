//! Who may connect without mutual TLS: the modes of PeerAuthentication.

use serde::{Deserialize, Serialize};

/// What an inbound port accepts. Inheritance (workload > namespace > mesh) is resolved before this value exists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// Plain text only; mutual TLS is not offered.
    Disable,
    /// Both: mutual TLS when the peer offers it, else plain text without identity.
    #[default]
    Permissive,
    /// Mutual TLS only. Plain text is refused.
    Strict,
}

impl MtlsMode {
    /// May a connection in plain text be served?
    pub fn accepts_plaintext(self) -> bool {
        !matches!(self, Self::Strict)
    }
    /// May a connection with mutual TLS be served?
    pub fn accepts_mtls(self) -> bool {
        !matches!(self, Self::Disable)
    }
}
