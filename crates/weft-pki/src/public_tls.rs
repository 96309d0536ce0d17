//! Ordinary TLS at the edge of the mesh: a gateway's server certificate, and calls to servers with public names.

use crate::{
    bundle::certificates,
    edge_tls::{ClientChecks, ServerChecks, ServerDemand},
    mesh_tls::{Alpn, provider},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};
use weft_model::TlsVersion;

/// Where Linux distributions keep the system's roots, as one PEM file.
const SYSTEM_ROOTS: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// Why a configuration for ordinary TLS cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicTlsError {
    /// The certificate chain is broken.
    #[error("the certificate chain cannot be read: {0}")]
    Chain(String),
    /// The key is broken.
    #[error("the private key cannot be read: {0}")]
    Key(String),
    /// They do not fit.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(String),
    /// There is nothing to verify the other side with.
    #[error("no root certificates: {0}")]
    Roots(String),
    /// A list of revoked certificates is broken.
    #[error("the revocation list cannot be read: {0}")]
    Crl(String),
    /// The versions or suites leave nothing to speak.
    #[error("no TLS can be spoken: {0}")]
    Nothing(String),
}

/// A certificate that a server shows, and for which hosts.
#[derive(Debug, Clone, Copy)]
pub struct PublicCertificate<'a> {
    /// Exact names, `*.suffix`, or `*`.
    pub hosts: &'a [String],
    /// The chain in PEM, leaf first.
    pub chain_pem: &'a str,
    /// The key in PEM.
    pub key_pem: &'a str,
}

/// What a server accepts, beside its certificates.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerSettings<'a> {
    /// Lowest and highest version; `None`: 1.2 and 1.3.
    pub versions: (Option<TlsVersion>, Option<TlsVersion>),
    /// Suites of TLS 1.2 by their OpenSSL names; empty: all.
    pub cipher_suites: &'a [String],
}

/// A server that shows the certificate of the host that a client names, and the first one when it names none.
///
/// Sessions are resumed only where no certificate is asked of clients: a resumed session is good without a look at one, and would
/// outlive a revocation. Tickets are bound to the server name by the TLS library, and to the certificates by being of this
/// configuration, which a change replaces.
///
/// # Errors
/// When there is none, or a certificate or key cannot be read or do not fit.
pub fn server_config(
    certificates: &[PublicCertificate<'_>],
    settings: &ServerSettings<'_>,
    clients: Option<Arc<ClientChecks>>,
    alpn: &[Alpn],
) -> Result<Arc<ServerConfig>, PublicTlsError> {
    let keys: Result<Vec<_>, _> = certificates.iter().map(|one| Ok((one.hosts.to_vec(), certified(one)?))).collect();
    let by_host = ByHost { keys: keys? };
    if by_host.keys.is_empty() {
        return Err(PublicTlsError::Chain("no certificate is given".into()));
    }
    let versions = versions(settings)?;
    let builder = ServerConfig::builder_with_provider(provider_with(settings)?)
        .with_protocol_versions(&versions)
        .map_err(|error| PublicTlsError::Nothing(error.to_string()))?;
    let stateless = clients.is_none();
    let builder = match clients {
        Some(checks) => builder.with_client_cert_verifier(checks),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(by_host));
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_str().into()).collect();
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    if stateless && let Ok(ticketer) = rustls::crypto::aws_lc_rs::Ticketer::new() {
        // One ticket is enough for one later connection, and each costs an encryption and a record.
        (config.ticketer, config.send_tls13_tickets) = (ticketer, 1);
    }
    Ok(Arc::new(config))
}

fn versions(settings: &ServerSettings<'_>) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, PublicTlsError> {
    let (min, max) = (settings.versions.0.unwrap_or(TlsVersion::V12), settings.versions.1.unwrap_or(TlsVersion::V13));
    let all = [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)];
    let chosen: Vec<_> = all.into_iter().filter(|(v, _)| (min..=max).contains(v)).map(|(_, version)| version).collect();
    match chosen.is_empty() {
        true => Err(PublicTlsError::Nothing("the lowest version is above the highest".into())),
        false => Ok(chosen),
    }
}

fn provider_with(settings: &ServerSettings<'_>) -> Result<Arc<rustls::crypto::CryptoProvider>, PublicTlsError> {
    if settings.cipher_suites.is_empty() {
        return Ok(provider());
    }
    let mut own = (*provider()).clone();
    let wanted: Vec<_> = settings.cipher_suites.iter().filter_map(|name| openssl_suite(name)).collect();
    own.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted.contains(&suite.suite()));
    let tls12_wanted = settings.versions.1 == Some(TlsVersion::V12);
    match tls12_wanted && !own.cipher_suites.iter().any(|s| s.tls13().is_none()) {
        true => Err(PublicTlsError::Nothing("none of the cipher suites is known".into())),
        false => Ok(Arc::new(own)),
    }
}

/// The suites of TLS 1.2 that this library has, by the names that Istio's users write.
fn openssl_suite(name: &str) -> Option<rustls::CipherSuite> {
    use rustls::CipherSuite as S;
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256" => S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES256-GCM-SHA384" => S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-CHACHA20-POLY1305" => S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

fn certified(certificate: &PublicCertificate<'_>) -> Result<Arc<CertifiedKey>, PublicTlsError> {
    let chain = certificates(certificate.chain_pem).map_err(|error| PublicTlsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(PublicTlsError::Chain("it holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).map_err(|error| PublicTlsError::Key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(|error| PublicTlsError::Pair(error.to_string()))
}

/// Certificates by the host that a client names.
#[derive(Debug)]
struct ByHost {
    keys: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl ByHost {
    /// Of the certificates for the most specific host that matches, the first whose key the client can check.
    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let exact = |hosts: &[String]| hosts.iter().any(|host| name.is_some_and(|name| host.eq_ignore_ascii_case(name)));
        let wildcard = |hosts: &[String]| hosts.iter().any(|host| name.is_some_and(|name| matches_wildcard(host, name)));
        let first = self.keys.first().map(|(hosts, _)| hosts);
        let same_as_first = |hosts: &[String]| first.is_some_and(|first| first == hosts);
        let with = |wanted: &dyn Fn(&[String]) -> bool| {
            let mut fitting = self.keys.iter().filter(|(hosts, _)| wanted(hosts)).map(|(_, key)| key);
            let first = fitting.clone().next();
            fitting.find(|key| key.key.choose_scheme(schemes).is_some()).or(first)
        };
        with(&exact).or_else(|| with(&wildcard)).or_else(|| with(&same_as_first)).cloned()
    }
}

pub(crate) fn matches_wildcard(pattern: &str, name: &str) -> bool {
    let Some(suffix) = pattern.strip_prefix("*.") else { return false };
    let Some(label) = name.len().checked_sub(suffix.len() + 1) else { return false };
    label > 0 && name.as_bytes()[label] == b'.' && name.as_bytes()[label + 1..].eq_ignore_ascii_case(suffix.as_bytes())
}

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name(), hello.signature_schemes())
    }
}

/// A client that checks servers as `demand` says.
///
/// # Errors
/// When there are no usable roots, or the own certificate cannot be used.
pub fn client_config(demand: &ServerDemand<'_>, alpn: &[Alpn]) -> Result<Arc<ClientConfig>, PublicTlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerChecks::new(demand)?));
    let mut config = match demand.certificate {
        Some((chain_pem, key_pem)) => {
            let shown = certified(&PublicCertificate { hosts: &[], chain_pem, key_pem })?;
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_str().into()).collect();
    Ok(Arc::new(config))
}

/// The roots of this machine, read once.
pub(crate) fn system_roots() -> Result<RootCertStore, PublicTlsError> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    let read = || {
        let found = SYSTEM_ROOTS.iter().find_map(|path| CertificateDer::pem_file_iter(Path::new(path)).ok());
        let mut store = RootCertStore::empty();
        // Roots that cannot be read are left out: a system's list often has some that no library takes.
        store.add_parsable_certificates(found.into_iter().flatten().flatten());
        store
    };
    let roots = SYSTEM.get_or_init(read);
    match roots.is_empty() {
        true => Err(PublicTlsError::Roots(format!("none of {} holds any; install ca-certificates", SYSTEM_ROOTS.join(", ")))),
        false => Ok(roots.clone()),
    }
}
