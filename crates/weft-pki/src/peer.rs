//! Who is at the other end of a TLS connection, and how the connection is protected.

use crate::{Alpn, PeerError, verify::Leaf};
use rustls::CommonState;
use weft_model::SpiffeId;

/// A peer that has proved its identity. There is no other way to get one than a completed mutual handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Whom it proved to be.
    pub id: SpiffeId,
    /// End of its certificate's life, seconds since 1970.
    pub not_after_s: u64,
    /// Its certificate's serial number in hexadecimal.
    pub serial: String,
    /// How the connection is protected.
    pub tls: TlsInUse,
}

/// What was negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsInUse {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// Key exchange, e.g. `X25519MLKEM768`.
    pub group: &'static str,
    /// Cipher suite, e.g. `TLS13_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// Application protocol, when it is one of Weft's.
    pub alpn: Option<Alpn>,
}

impl Peer {
    /// The peer of an established connection whose handshake ran under a mesh configuration; `None` when it sent no certificate.
    ///
    /// # Errors
    /// When its certificate cannot be read, which the handshake has checked already.
    pub fn of(state: &CommonState) -> Result<Option<Self>, PeerError> {
        let Some(der) = state.peer_certificates().and_then(|chain| chain.first()) else { return Ok(None) };
        let leaf = Leaf::parse(der)?;
        let not_after_s = leaf.not_after_s.try_into().unwrap_or_default();
        Ok(Some(Self { id: leaf.id, not_after_s, serial: leaf.serial, tls: TlsInUse::of(state) }))
    }
}

impl TlsInUse {
    /// Of an established connection.
    pub fn of(state: &CommonState) -> Self {
        Self {
            version: match state.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "unknown",
            },
            group: state.negotiated_key_exchange_group().and_then(|group| group.name().as_str()).unwrap_or("unknown"),
            cipher: state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            alpn: state.alpn_protocol().and_then(Alpn::from_bytes),
        }
    }
}
