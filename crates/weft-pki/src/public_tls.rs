//! Ordinary TLS at the edge of the mesh: a gateway's server certificate, and calls to servers with public names.

use crate::{
    bundle::{BundleError, certificates},
    mesh_tls::{Alpn, provider},
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{path::Path, sync::Arc};

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

/// A server that shows this certificate (PEM) to everybody: TLS termination at a gateway.
///
/// # Errors
/// When certificate or key cannot be read or do not fit.
pub fn server_config(chain_pem: &str, key_pem: &str, alpn: &[Alpn]) -> Result<Arc<ServerConfig>, PublicTlsError> {
    let chain = certificates(chain_pem).map_err(|error| PublicTlsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(PublicTlsError::Chain("it holds no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| PublicTlsError::Key(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| PublicTlsError::Pair(error.to_string()))?;
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_str().into()).collect();
    Ok(Arc::new(config))
}

/// A client that verifies a server's name against `roots_pem`, or against the system's roots when that is `None`.
///
/// # Errors
/// When there are no usable roots.
pub fn client_config(roots_pem: Option<&str>, alpn: &[Alpn]) -> Result<Arc<ClientConfig>, PublicTlsError> {
    let roots = match roots_pem {
        Some(pem) => roots(certificates(pem).map_err(|error: BundleError| PublicTlsError::Roots(error.to_string()))?),
        None => system_roots(),
    };
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
