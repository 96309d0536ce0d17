//! TLS between proxies, and between proxies and the control plane: TLS 1.3 only, mutual, post-quantum hybrid first.
//!
//! The configurations hold no certificate. They look into the [`SvidState`] at each handshake, so they are made once. Session
//! resumption is off on both sides: a resumed session would be good without a look at certificates, and so outlive a trust bundle.

use crate::{PeerError, SvidState, bundle::PeerSide, limits::CLIENT_CONFIGS_MAX, svid::Shared};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};
use weft_model::SpiffeId;

/// The name given to rustls for a mesh peer. It is neither sent nor checked: the peer's SPIFFE identity is its name.
pub const MESH_SERVER_NAME: &str = "mesh.invalid";

/// Application protocols of the mesh. A client offers exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// HTTP/1.1 between proxies.
    WeftHttp1,
    /// HTTP/2 and gRPC between proxies.
    WeftH2,
    /// Opaque bytes between proxies.
    WeftTcp,
    /// HTTP/2 to and from the control plane, and at gateways.
    H2,
    /// HTTP/1.1 at gateways.
    Http11,
}

impl Alpn {
    const ALL: [Self; 5] = [Self::WeftHttp1, Self::WeftH2, Self::WeftTcp, Self::H2, Self::Http11];

    /// The three protocols that a proxy's inbound listener accepts.
    pub const MESH: [Self; 3] = [Self::WeftHttp1, Self::WeftH2, Self::WeftTcp];

    /// As it stands in the handshake (RFC 7301).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WeftHttp1 => "weft-http/1.1",
            Self::WeftH2 => "weft-h2",
            Self::WeftTcp => "weft-tcp",
            Self::H2 => "h2",
            Self::Http11 => "http/1.1",
        }
    }

    /// The protocol of this name.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.as_str().as_bytes() == name)
    }
}

/// Must a client show a certificate?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Yes: the handshake fails without one.
    Required,
    /// It may come without (to join with a token); one that it shows is checked all the same.
    Optional,
}

impl SvidState {
    /// How this process serves the mesh. Make it once and keep it: it follows rotations by itself.
    pub fn server_config(&self, alpn: &[Alpn], auth: ClientAuth) -> Arc<ServerConfig> {
        let verifier = Arc::new(ClientVerifier { shared: self.shared.clone(), auth });
        let resolver = Arc::new(CurrentSvid { shared: self.shared.clone() });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(resolver);
        config.alpn_protocols = wire_names(alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }

    /// How this process calls a peer that must prove to be `expected`. Kept per identity and protocols, and shared.
    pub fn client_config(&self, expected: &SpiffeId, alpn: &[Alpn]) -> Arc<ClientConfig> {
        if let Some(config) = self.clients.find(expected, alpn) {
            return config;
        }
        let verifier = Arc::new(ServerVerifier { shared: self.shared.clone(), expected: expected.clone() });
        let resolver = Arc::new(CurrentSvid { shared: self.shared.clone() });
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(resolver);
        config.alpn_protocols = wire_names(alpn);
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        self.clients.keep(expected, alpn, Arc::new(config))
    }
}

/// The cryptography of the mesh, made once. No process-wide default is installed or needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let mut provider = aws_lc_rs::default_provider();
        // AES-128 first: as strong as the certificates' P-256, and cheaper. X25519MLKEM768 is first among the groups.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        Arc::new(provider)
    };
    PROVIDER.get_or_init(make).clone()
}

fn wire_names(alpn: &[Alpn]) -> Vec<Vec<u8>> {
    alpn.iter().map(|alpn| alpn.as_str().into()).collect()
}

/// Client configurations by expected identity. Bounded: an overflow costs new configurations, never correctness.
#[derive(Debug, Default)]
pub(crate) struct ClientConfigs {
    by_peer: RwLock<BTreeMap<SpiffeId, Vec<KeptConfig>>>,
}

#[derive(Debug)]
struct KeptConfig {
    alpn: Vec<Alpn>,
    config: Arc<ClientConfig>,
}

impl ClientConfigs {
    fn find(&self, expected: &SpiffeId, alpn: &[Alpn]) -> Option<Arc<ClientConfig>> {
        let by_peer = self.by_peer.read().unwrap_or_else(PoisonError::into_inner);
        by_peer.get(expected)?.iter().find(|kept| kept.alpn == alpn).map(|kept| kept.config.clone())
    }

    fn keep(&self, expected: &SpiffeId, alpn: &[Alpn], config: Arc<ClientConfig>) -> Arc<ClientConfig> {
        let mut by_peer = self.by_peer.write().unwrap_or_else(PoisonError::into_inner);
        if by_peer.len() >= CLIENT_CONFIGS_MAX {
            by_peer.clear();
        }
        by_peer.entry(expected.clone()).or_default().push(KeptConfig { alpn: alpn.into(), config: config.clone() });
        config
    }
}

/// Shows the SVID of the moment, on either side.
#[derive(Debug)]
struct CurrentSvid {
    shared: Arc<Shared>,
}

impl CurrentSvid {
    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.shared.svid.load().as_ref().map(|svid| svid.certified.clone())
    }
}

impl ResolvesServerCert for CurrentSvid {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl ResolvesClientCert for CurrentSvid {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
    fn has_certs(&self) -> bool {
        self.shared.svid.load().is_some()
    }
}

/// Checks a server: it must be exactly the expected identity. The server name of TLS is not looked at.
#[derive(Debug)]
struct ServerVerifier {
    shared: Arc<Shared>,
    expected: SpiffeId,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let proved = self.shared.bundle.load().verify(end_entity, intermediates, PeerSide::Server, now)?;
        match proved == self.expected {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(PeerError::Unexpected { proved: proved.into(), expected: self.expected.clone().into() }.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Checks a client: any identity of a trusted domain; what it may do is decided by authorization policies.
#[derive(Debug)]
struct ClientVerifier {
    shared: Arc<Shared>,
    auth: ClientAuth,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a client has one SVID, and the roots may change while the list is borrowed.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.shared.bundle.load().verify(end_entity, intermediates, PeerSide::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn only_tls13() -> Error {
    Error::General("the mesh speaks TLS 1.3 only".into())
}
