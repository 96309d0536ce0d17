//! Checks of certificates that are not the mesh's: a gateway's clients, and servers outside that a proxy calls.
//!
//! A chain is judged by roots and revocation lists, then by what the leaf itself says: its names, its key, its fingerprint.

use crate::{
    bundle::certificates,
    mesh_tls::provider,
    public_tls::{PublicTlsError, system_roots},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime, pem::PemObject};
use std::{fmt::Write, net::IpAddr, sync::Arc};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// What is asked of a client's certificate at the edge.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientDemand<'a> {
    /// Must it show one?
    pub required: bool,
    /// Roots in PEM.
    pub ca_pem: &'a str,
    /// Revocation lists in PEM.
    pub crl_pem: Option<&'a str>,
    /// Names, one of which it must have; empty: any.
    pub names: &'a [String],
    /// SHA-256 of keys (SPKI) in base64 …
    pub spki: &'a [String],
    /// … and of certificates in hexadecimal, one of which it must have, where any is given.
    pub hashes: &'a [String],
    /// Failures are let through, without an identity.
    pub insecure: bool,
}

/// What is asked of a server outside, and what is shown to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerDemand<'a> {
    /// Roots in PEM; `None`: the system's.
    pub ca_pem: Option<&'a str>,
    /// Revocation lists in PEM.
    pub crl_pem: Option<&'a str>,
    /// Chain and key in PEM, shown when asked for.
    pub certificate: Option<(&'a str, &'a str)>,
    /// Names, one of which it must have; empty: the name that is called.
    pub names: &'a [String],
    /// Nothing is checked.
    pub insecure: bool,
}

/// Why a certificate is refused although its chain is good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeafError {
    #[error("the certificate cannot be read: {0}")]
    Malformed(String),
    #[error("the certificate is for {shown}, and none of {wanted} was proved")]
    Names { shown: String, wanted: String },
    #[error("neither the certificate's key nor its fingerprint is one of those that are accepted")]
    Fingerprint,
}

impl From<LeafError> for Error {
    fn from(error: LeafError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}

/// The refusal behind a failed handshake, in words.
pub(crate) fn leaf_error(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref::<LeafError>().map(ToString::to_string),
        _ => None,
    }
}

/// A client that has shown a good certificate at the edge. It is no identity of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeClient {
    chain: Vec<CertificateDer<'static>>,
    /// Its subject, as RFC 4514 writes it.
    pub subject: String,
    /// Its names: DNS, URI, mail and address, in this order of kinds.
    pub names: Vec<String>,
    /// The value of `x-forwarded-client-cert` for its requests (Envoy's form: Hash, Cert, Subject, URI, DNS).
    pub forwarded: String,
}

impl EdgeClient {
    /// Reads a chain, leaf first.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.first()?;
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let names = Names::of(&certificate).ok()?;
        let subject = certificate.subject().to_string();
        let mut forwarded = format!("Hash={};Cert=\"{}\"", sha256_hex(leaf), url_encoded_pem(leaf));
        let quoted = subject.replace('\\', "\\\\").replace('"', "\\\"");
        let legal = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b';' | b',' | b'='));
        if quoted.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            let _ = write!(forwarded, ";Subject=\"{quoted}\"");
        }
        for (key, list) in [("URI", &names.uri), ("DNS", &names.dns)] {
            for name in list.iter().filter(|n| legal(n)) {
                let _ = write!(forwarded, ";{key}={name}");
            }
        }
        Some(Self { chain: chain.iter().map(|c| c.clone().into_owned()).collect(), subject, names: names.all().collect(), forwarded })
    }
}

/// Judges clients of a gateway.
#[derive(Debug)]
pub struct ClientChecks {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
    spki: Vec<String>,
    hashes: Vec<String>,
    insecure: bool,
}

impl ClientChecks {
    /// # Errors
    /// When there are no roots, or a list cannot be read.
    pub fn new(demand: &ClientDemand<'_>) -> Result<Self, PublicTlsError> {
        let roots = roots_of(demand.ca_pem)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        if let Some(crl) = demand.crl_pem {
            builder = builder.with_crls(crls(crl)?).only_check_end_entity_revocation();
        }
        if !demand.required {
            builder = builder.allow_unauthenticated();
        }
        Ok(Self {
            chain: builder.build().map_err(|error| PublicTlsError::Roots(error.to_string()))?,
            names: demand.names.to_vec(),
            spki: demand.spki.to_vec(),
            hashes: demand.hashes.iter().map(|h| h.replace(':', "").to_ascii_lowercase()).collect(),
            insecure: demand.insecure,
        })
    }

    /// Is the certificate good, at this moment?
    fn judge(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        self.chain.verify_client_cert(leaf, intermediates, now)?;
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| LeafError::Malformed(error.to_string()))?;
        if !self.spki.is_empty() || !self.hashes.is_empty() {
            let key = BASE64_STANDARD.encode(sha256(certificate.tbs_certificate.subject_pki.raw));
            if !self.spki.contains(&key) && !self.hashes.contains(&sha256_hex(leaf)) {
                return Err(LeafError::Fingerprint.into());
            }
        }
        check_names(&certificate, &self.names)
    }

    /// The client behind a finished handshake; `None` when it showed no certificate, or one that was let through unproved.
    pub fn client(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<EdgeClient> {
        let chain = chain?;
        let (leaf, rest) = chain.split_first()?;
        if self.insecure && self.judge(leaf, rest, UnixTime::now()).is_err() {
            return None;
        }
        EdgeClient::new(chain)
    }

    /// Would a client that came in under an earlier form still come in? Revocation lists, roots, names and time may have moved on.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn still_good(&self, client: &EdgeClient) -> Result<(), String> {
        let Some((leaf, rest)) = client.chain.split_first() else { return Ok(()) };
        match self.judge(leaf, rest, UnixTime::now()) {
            Err(error) if !self.insecure => Err(crate::explain(&error)),
            _ => Ok(()),
        }
    }
}

impl ClientCertVerifier for ClientChecks {
    fn offer_client_auth(&self) -> bool {
        true
    }
    fn client_auth_mandatory(&self) -> bool {
        !self.insecure && self.chain.client_auth_mandatory()
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.judge(end_entity, intermediates, now) {
            Err(error) if !self.insecure => Err(error),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Judges servers outside of the mesh.
#[derive(Debug)]
pub(crate) struct ServerChecks {
    /// `None`: nothing is checked.
    chain: Option<Arc<WebPkiServerVerifier>>,
    names: Vec<String>,
}

impl ServerChecks {
    pub(crate) fn new(demand: &ServerDemand<'_>) -> Result<Self, PublicTlsError> {
        let names = demand.names.to_vec();
        if demand.insecure {
            return Ok(Self { chain: None, names });
        }
        let roots = match demand.ca_pem {
            Some(pem) => roots_of(pem)?,
            None => system_roots()?,
        };
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        if let Some(crl) = demand.crl_pem {
            builder = builder.with_crls(crls(crl)?).only_check_end_entity_revocation();
        }
        Ok(Self { chain: Some(builder.build().map_err(|error| PublicTlsError::Roots(error.to_string()))?), names })
    }
}

impl ServerCertVerifier for ServerChecks {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let verified = chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if self.names.is_empty() {
            return verified;
        }
        match verified {
            // The name is looked at last: the chain is good, and the names that are accepted are others.
            Ok(_) | Err(Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => {
                let (_, certificate) = X509Certificate::from_der(end_entity).map_err(|error| LeafError::Malformed(error.to_string()))?;
                check_names(&certificate, &self.names).map(|()| ServerCertVerified::assertion())
            }
            Err(error) => Err(error),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The names of a leaf.
#[derive(Default)]
struct Names {
    dns: Vec<String>,
    uri: Vec<String>,
    other: Vec<String>,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, LeafError> {
        let found = certificate.subject_alternative_name().map_err(|error| LeafError::Malformed(error.to_string()))?;
        let mut names = Self::default();
        for name in found.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::URI(name) => names.uri.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => names.other.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.other.extend(address(bytes).map(|ip| ip.to_string())),
                _ => {}
            }
        }
        Ok(names)
    }
    fn all(&self) -> impl Iterator<Item = String> {
        self.dns.iter().chain(&self.uri).chain(&self.other).cloned()
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Has the leaf one of the names? DNS names are compared without case, and one of the certificate may be a wildcard.
fn check_names(certificate: &X509Certificate<'_>, wanted: &[String]) -> Result<(), Error> {
    if wanted.is_empty() {
        return Ok(());
    }
    let names = Names::of(certificate)?;
    let dns = |name: &String| wanted.iter().any(|w| w.eq_ignore_ascii_case(name) || crate::public_tls::matches_wildcard(name, w));
    if names.dns.iter().any(dns) || names.uri.iter().chain(&names.other).any(|name| wanted.contains(name)) {
        return Ok(());
    }
    let shown: Vec<String> = names.all().take(8).collect();
    Err(LeafError::Names { shown: shown.join(", "), wanted: wanted.join(", ") }.into())
}

fn roots_of(pem: &str) -> Result<RootCertStore, PublicTlsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(pem).map_err(|error| PublicTlsError::Roots(error.to_string()))?);
    match store.is_empty() {
        true => Err(PublicTlsError::Roots("the text holds no usable one".into())),
        false => Ok(store),
    }
}

fn crls(pem: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, PublicTlsError> {
    let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        Ok(_) => Err(PublicTlsError::Crl("it holds none".into())),
        Err(error) => Err(PublicTlsError::Crl(error.to_string())),
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    provider_sha256().start_and_hash(bytes)
}

fn sha256_hex(bytes: &[u8]) -> String {
    sha256(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// SHA-256 of the TLS library, so that no second implementation is linked.
fn provider_sha256() -> Hash {
    let suites = &provider().cipher_suites;
    let hash = suites.iter().find_map(|suite| match suite {
        rustls::SupportedCipherSuite::Tls13(suite) if suite.common.hash_provider.output_len() == 32 => Some(suite.common.hash_provider),
        _ => None,
    });
    Hash(hash.expect("TLS_AES_128_GCM_SHA256 is mandatory in TLS 1.3"))
}

struct Hash(&'static dyn rustls::crypto::hash::Hash);

impl Hash {
    fn start_and_hash(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.hash(bytes).as_ref().to_vec()
    }
}

/// The certificate in PEM, percent-encoded as Envoy does it.
fn url_encoded_pem(der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    let mut encoded = String::with_capacity(pem.len() + pem.len() / 8);
    for byte in pem.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => {
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}
