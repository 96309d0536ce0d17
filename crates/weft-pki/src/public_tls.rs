//! Ordinary TLS at the edge of the mesh: a gateway's server certificate, and calls to servers with public names.

use crate::{
    bundle::certificates,
    mesh_tls::{Alpn, provider},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

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
    /// There is nothing to verify a server with.
    #[error("no root certificates: {0}")]
    Roots(String),
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

/// A server that shows the certificate of the host that a client names, and the first one when it names none.
///
/// # Errors
/// When there is none, or a certificate or key cannot be read or do not fit.
pub fn server_config(certificates: &[PublicCertificate<'_>], alpn: &[Alpn]) -> Result<Arc<ServerConfig>, PublicTlsError> {
    let keys: Result<Vec<_>, _> = certificates.iter().map(|one| Ok((one.hosts.to_vec(), certified(one)?))).collect();
    let by_host = ByHost { keys: keys? };
    if by_host.keys.is_empty() {
        return Err(PublicTlsError::Chain("no certificate is given".into()));
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_host));
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_str().into()).collect();
    Ok(Arc::new(config))
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
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let exact = |hosts: &[String]| hosts.iter().any(|host| name.is_some_and(|name| host.eq_ignore_ascii_case(name)));
        let wildcard = |hosts: &[String]| hosts.iter().any(|host| name.is_some_and(|name| matches_wildcard(host, name)));
        let with = |wanted: &dyn Fn(&[String]) -> bool| self.keys.iter().find(|(hosts, _)| wanted(hosts));
        with(&exact).or_else(|| with(&wildcard)).or_else(|| self.keys.first()).map(|(_, key)| key.clone())
    }
}

fn matches_wildcard(pattern: &str, name: &str) -> bool {
    let Some(suffix) = pattern.strip_prefix("*.") else { return false };
    let Some(label) = name.len().checked_sub(suffix.len() + 1) else { return false };
    label > 0 && name.as_bytes()[label] == b'.' && name.as_bytes()[label + 1..].eq_ignore_ascii_case(suffix.as_bytes())
}

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// A client that verifies a server's name against `roots_pem`, or against the system's roots when that is `None`. The latter are
/// read once.
///
/// # Errors
/// When there are no usable roots.
pub fn client_config(roots_pem: Option<&str>, alpn: &[Alpn]) -> Result<Arc<ClientConfig>, PublicTlsError> {
    static SYSTEM: Mutex<BTreeMap<Vec<Alpn>, Arc<ClientConfig>>> = Mutex::new(BTreeMap::new());
    let Some(pem) = roots_pem else {
        let mut kept = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(alpn) {
            return Ok(config.clone());
        }
        let config = client_with(system_roots(), alpn)?;
        kept.insert(alpn.into(), config.clone());
        return Ok(config);
    };
    let roots = roots(certificates(pem).map_err(|error| PublicTlsError::Roots(error.to_string()))?);
    client_with(roots, alpn)
}

fn client_with(roots: RootCertStore, alpn: &[Alpn]) -> Result<Arc<ClientConfig>, PublicTlsError> {
    if roots.is_empty() {
        return Err(PublicTlsError::Roots(format!("none of {} holds any; install ca-certificates", SYSTEM_ROOTS.join(", "))));
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_str().into()).collect();
    Ok(Arc::new(config))
}

fn system_roots() -> RootCertStore {
    let found = SYSTEM_ROOTS.iter().find_map(|path| CertificateDer::pem_file_iter(Path::new(path)).ok());
    roots(found.into_iter().flatten().flatten())
}

/// Roots that cannot be read are left out: a system's list often has some that no library takes.
fn roots(ders: impl IntoIterator<Item = CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(ders);
    store
}
