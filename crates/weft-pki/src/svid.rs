//! The certificate and key of this process, and the shared cell from which every handshake takes the current one.

use crate::{
    KeyAndCsr, PeerError, TrustBundle,
    bundle::certificates,
    files::{self, FileError},
    mesh_tls::{ClientConfigs, provider},
    verify::Leaf,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fmt::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use weft_model::SpiffeId;

/// An X.509 SVID: a certificate that proves an identity, and its private key.
#[derive(Clone)]
pub struct Svid {
    id: SpiffeId,
    key_pem: String,
    issued_at_ms: u64,
    not_after_s: u64,
    serial: String,
    pub(crate) certified: Arc<CertifiedKey>,
}

/// Why a certificate and a key do not make an SVID.
#[derive(Debug, thiserror::Error)]
pub enum SvidError {
    /// File trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate is not a workload's.
    #[error("the certificate that was issued is not usable: {0}")]
    Leaf(Box<PeerError>),
    /// Key and certificate do not belong together, or the file is damaged.
    #[error("{0}")]
    Damaged(String),
}

impl From<PeerError> for SvidError {
    fn from(error: PeerError) -> Self {
        Self::Leaf(Box::new(error))
    }
}

impl Svid {
    /// Of the key that was generated, the chain that the CA answered (DER, leaf first) and the time of signing.
    ///
    /// # Errors
    /// When the chain is empty, its leaf is no workload certificate, or it certifies another key.
    pub fn new(made: KeyAndCsr, chain: Vec<Vec<u8>>, issued_at_ms: u64) -> Result<Self, SvidError> {
        Self::assemble(made.key_pem, chain.into_iter().map(CertificateDer::from).collect(), issued_at_ms)
    }

    fn assemble(key_pem: String, chain: Vec<CertificateDer<'static>>, issued_at_ms: u64) -> Result<Self, SvidError> {
        let leaf = Leaf::parse(chain.first().ok_or(PeerError::NoCertificate)?)?;
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| SvidError::Damaged(format!("the private key: {error}")))?;
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| SvidError::Damaged(format!("certificate and key do not belong together: {error}")))?;
        Ok(Self {
            id: leaf.id,
            key_pem,
            issued_at_ms,
            not_after_s: leaf.not_after_s.try_into().unwrap_or_default(),
            serial: leaf.serial,
            certified: Arc::new(certified),
        })
    }

    /// Whom it proves.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// When it was signed, milliseconds since 1970.
    pub fn issued_at_ms(&self) -> u64 {
        self.issued_at_ms
    }

    /// End of its life, seconds since 1970.
    pub fn not_after_s(&self) -> u64 {
        self.not_after_s
    }

    /// Serial number in hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// How long it lives in all, from its signing.
    pub fn lifetime(&self) -> Duration {
        Duration::from_millis((self.not_after_s * 1000).saturating_sub(self.issued_at_ms))
    }

    /// Is it still valid at this wall-clock time since 1970?
    pub fn is_valid_at(&self, unix: Duration) -> bool {
        unix.as_secs() <= self.not_after_s
    }

    /// Keeps certificate and key in one file of mode 0600, so that they can never be from different rotations.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let mut text = format!("issued-at-ms: {}\n{}\n", self.issued_at_ms, self.key_pem.trim_end());
        for der in &self.certified.cert {
            text.push_str(&pem_block("CERTIFICATE", der));
        }
        files::write_private(path, text.as_bytes())
    }

    /// Loads what [`Svid::save`] kept. It may have expired since: ask [`Svid::is_valid_at`].
    ///
    /// # Errors
    /// When the file is not there, open to others, or damaged; the text names the file.
    pub fn load(path: &Path) -> Result<Self, SvidError> {
        let text = files::read_private(path)?;
        let damaged = |reason: &dyn std::fmt::Display| {
            SvidError::Damaged(format!("{} is damaged: {reason}; remove it and join again with a new token", path.display()))
        };
        let issued = text.lines().next().and_then(|line| line.strip_prefix("issued-at-ms: ")).and_then(|number| number.parse().ok());
        let issued_at_ms = issued.ok_or_else(|| damaged(&"the time of issue is missing"))?;
        let key_begin = text.find("-----BEGIN PRIVATE KEY").ok_or_else(|| damaged(&"the private key is missing"))?;
        let chain_begin = text.find("-----BEGIN CERT").ok_or_else(|| damaged(&"the certificate is missing"))?;
        if chain_begin < key_begin {
            return Err(damaged(&"the key must come first"));
        }
        let chain = certificates(&text[chain_begin..]).map_err(|error| damaged(&error))?;
        Self::assemble(text[key_begin..chain_begin].to_owned(), chain, issued_at_ms).map_err(|error| damaged(&error))
    }
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid").field("id", &self.id).field("not_after_s", &self.not_after_s).finish_non_exhaustive()
    }
}

fn pem_block(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut block = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        // Writing into a String cannot fail.
        writeln!(block, "{}", String::from_utf8_lossy(line)).ok();
    }
    block + &format!("-----END {label}-----\n")
}

/// The current SVID and trust bundle of this process. Cloning shares them. Handshakes read them at their begin, so a rotation
/// needs no new configuration and disturbs no connection.
#[derive(Clone, Debug)]
pub struct SvidState {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clients: Arc<ClientConfigs>,
}

/// What handshakes read.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) svid: ArcSwapOption<Svid>,
    pub(crate) bundle: ArcSwap<TrustBundle>,
    generation: AtomicU64,
}

impl SvidState {
    /// Without an SVID yet: such a process can join (as a client without certificate) but serve nobody.
    pub fn new(bundle: TrustBundle) -> Self {
        let shared = Shared { svid: ArcSwapOption::empty(), bundle: ArcSwap::from_pointee(bundle), generation: AtomicU64::new(0) };
        Self { shared: Arc::new(shared), clients: Arc::default() }
    }

    /// Replaces the SVID. New handshakes use it from now on.
    pub fn install(&self, svid: Svid) {
        self.shared.svid.store(Some(Arc::new(svid)));
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces the trust bundle. New handshakes use it from now on; there is no resumption that could pass it by.
    pub fn install_bundle(&self, bundle: TrustBundle) {
        self.shared.bundle.store(Arc::new(bundle));
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The SVID in use.
    pub fn svid(&self) -> Option<Arc<Svid>> {
        self.shared.svid.load_full()
    }

    /// The trust bundle in use.
    pub fn bundle(&self) -> Arc<TrustBundle> {
        self.shared.bundle.load_full()
    }

    /// Counts replacements, for status.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    fn svid(authority: &Authority) -> Svid {
        authority.server_certificate(Duration::from_secs(3600)).expect("signed")
    }

    #[test]
    fn is_kept_in_one_file_and_damage_is_named() {
        let authority = Authority::ephemeral("cluster.local").expect("made");
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("svid.pem");
        let made = svid(&authority);
        made.save(&path).expect("kept");
        let loaded = Svid::load(&path).expect("loaded");
        assert_eq!((loaded.id(), loaded.issued_at_ms(), loaded.serial()), (made.id(), made.issued_at_ms(), made.serial()));
        assert!(loaded.is_valid_at(weft_std::clock::unix()));

        let text = files::read_private(&path).expect("read");
        for length in (0..text.len() - 1).step_by(7) {
            files::write_private(&path, &text.as_bytes()[..length]).expect("written");
            let error = Svid::load(&path).expect_err("cut").to_string();
            assert!(error.contains("svid.pem is damaged"), "{error}");
        }
    }

    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let authority = Authority::ephemeral("cluster.local").expect("made");
        let (mine, other) = (KeyAndCsr::generate().expect("generated"), KeyAndCsr::generate().expect("generated"));
        let issued = authority.sign_workload(&authority.control_id(), other.csr_der(), Duration::from_secs(60)).expect("signed");
        let error = Svid::new(mine, issued.chain, issued.issued_at_ms).expect_err("other key").to_string();
        assert!(error.contains("do not belong together"), "{error}");
    }
}
