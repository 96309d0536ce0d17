//! The certificate authority of a trust domain, kept in a folder.
//!
//! `root-key.pem` (0600) and `root.pem` live in a folder of mode 0700. The key is written first: a crash between the two leaves
//! a key without certificate, which the next start certifies anew with the same name, so leaves signed before stay valid.

use crate::{
    CsrError, TrustBundle,
    csr::proven_public_key,
    files::{self, FileError},
    limits::LEAF_TTL_S_MIN,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKey, PublicKeyData, SanType, SerialNumber,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use time::OffsetDateTime;
use weft_model::SpiffeId;
use weft_std::clock;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// How long a root certificate lives.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// How far a certificate's begin is back-dated, so that a peer whose clock is behind accepts it. Not counted in its life.
const BACKDATE_S: i64 = 60;

/// The namespace and account of the control plane itself.
const CONTROL_NAMESPACE: &str = "weft-system";
const CONTROL_ACCOUNT: &str = "control";

/// Signs workload certificates of one trust domain.
pub struct Authority {
    trust_domain: String,
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    root_not_after_s: i64,
}

/// A signed certificate on its way to the proxy that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// DER certificates, leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// The identity in the leaf.
    pub id: SpiffeId,
    /// When it was signed, milliseconds since 1970. Half life counts from here.
    pub issued_at_ms: u64,
    /// End of the leaf's life, seconds since 1970.
    pub not_after_s: u64,
    /// Serial number in hexadecimal, for logs and `weft check`.
    pub serial: String,
}

/// Why the authority cannot be loaded or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// File trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is there, but is not what it should be.
    #[error("{path} is damaged: {reason}; restore it from a backup, or move it away to start a new root (every workload must then join again)", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The root certificate is there, its key is not.
    #[error("{certificate} is there but its key {key} is missing; restore the key from a backup, or remove the certificate to start a new root (every workload must then join again)", certificate = certificate.display(), key = key.display())]
    KeyMissing {
        /// The certificate's path.
        certificate: PathBuf,
        /// Where the key should be.
        key: PathBuf,
    },
    /// The folder belongs to another mesh.
    #[error("{path} is the root of trust domain {found}, but {wanted} was asked for; use another state folder or trust domain", path = path.display())]
    OtherTrustDomain {
        /// The certificate's path.
        path: PathBuf,
        /// Its trust domain.
        found: String,
        /// The one asked for.
        wanted: String,
    },
    /// The root is past its end.
    #[error("the root certificate {path} expired at {at}; move it and its key away to start a new root (every workload must then join again)", path = path.display())]
    Expired {
        /// The certificate's path.
        path: PathBuf,
        /// When.
        at: String,
    },
    /// The identity to sign for is of another trust domain.
    #[error("{id} is not in the trust domain {trust_domain} of this authority")]
    ForeignIdentity {
        /// The identity.
        id: SpiffeId,
        /// This authority's trust domain.
        trust_domain: String,
    },
    /// The trust domain is not a legal name.
    #[error("{0}")]
    Name(#[from] weft_model::NameError),
    /// The signing request was refused.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The cryptographic library failed.
    #[error("signing failed: {0}")]
    Sign(String),
}

impl Authority {
    /// Loads the root from `dir`, or makes one there.
    ///
    /// # Errors
    /// When a file is damaged, open to others, expired or of another trust domain, or the folder cannot be written.
    pub fn load_or_create(dir: &Path, trust_domain: &str) -> Result<Self, AuthorityError> {
        Self::load_or_create_at(dir, trust_domain, now())
    }

    fn load_or_create_at(dir: &Path, trust_domain: &str, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        control_id(trust_domain)?;
        files::private_dir(dir)?;
        let (key_path, root_path) = (dir.join("root-key.pem"), dir.join("root.pem"));
        let key = match files::read_private(&key_path) {
            Ok(pem) => Some(KeyPair::from_pem(&pem).map_err(|error| damaged(&key_path, &error))?),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let root_pem = match files::read_public(&root_path) {
            Ok(pem) => Some(pem),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        match (key, root_pem) {
            (Some(key), Some(root_pem)) => Self::load(key, root_pem, &root_path, trust_domain, now),
            (None, Some(_)) => Err(AuthorityError::KeyMissing { certificate: root_path, key: key_path }),
            (key, None) => {
                let key = match key {
                    Some(key) => key,
                    None => {
                        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(sign_error)?;
                        files::write_private(&key_path, key.serialize_pem().as_bytes())?;
                        key
                    }
                };
                let authority = Self::create(key, trust_domain, now)?;
                files::write_public(&root_path, authority.root_pem.as_bytes())?;
                Ok(authority)
            }
        }
    }

    /// A root that lives in memory only, for tests and the bench.
    ///
    /// # Errors
    /// When `trust_domain` is not legal.
    pub fn ephemeral(trust_domain: &str) -> Result<Self, AuthorityError> {
        control_id(trust_domain)?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(sign_error)?;
        Self::create(key, trust_domain, now())
    }

    fn create(key: KeyPair, trust_domain: &str, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params.not_before = now - time::Duration::seconds(BACKDATE_S);
        params.not_after = now + ROOT_LIFETIME;
        params.serial_number = Some(random_serial()?);
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Weft");
        params.distinguished_name.push(DnType::CommonName, format!("Root of {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root_pem = params.self_signed(&key).map_err(sign_error)?.pem();
        let root_not_after_s = params.not_after.unix_timestamp();
        Ok(Self { trust_domain: trust_domain.into(), issuer: Issuer::new(params, key), root_pem, root_not_after_s })
    }

    fn load(key: KeyPair, root_pem: String, path: &Path, trust_domain: &str, now: OffsetDateTime) -> Result<Self, AuthorityError> {
        let ders = crate::bundle::certificates(&root_pem).map_err(|error| damaged(path, &error))?;
        let [der] = ders.as_slice() else { return Err(damaged(path, &"it must hold exactly one certificate")) };
        let (_, root) = X509Certificate::from_der(der).map_err(|error| damaged(path, &error))?;
        let found = crate::verify::root_trust_domain(&root).map_err(|error| damaged(path, &error))?;
        if found != trust_domain {
            return Err(AuthorityError::OtherTrustDomain { path: path.into(), found, wanted: trust_domain.into() });
        }
        if root.public_key().raw != key.subject_public_key_info() {
            return Err(damaged(path, &"it is not the certificate of the key beside it"));
        }
        let root_not_after_s = root.validity().not_after.timestamp();
        if root_not_after_s <= now.unix_timestamp() {
            return Err(AuthorityError::Expired { path: path.into(), at: utc(root_not_after_s) });
        }
        let issuer = Issuer::from_ca_cert_der(der, key).map_err(|error| damaged(path, &error))?;
        Ok(Self { trust_domain: trust_domain.into(), issuer, root_pem, root_not_after_s })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The root certificate in PEM: what proxies trust.
    pub fn bundle_pem(&self) -> &str {
        &self.root_pem
    }

    /// The same as a [`TrustBundle`] of this trust domain.
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&self.trust_domain, &self.root_pem).expect("the root was made or checked by this authority")
    }

    /// End of the root's life, seconds since 1970.
    pub fn root_not_after_s(&self) -> u64 {
        self.root_not_after_s.try_into().unwrap_or_default()
    }

    /// The identity of the control plane: `spiffe://<trust-domain>/ns/weft-system/sa/control`.
    pub fn control_id(&self) -> SpiffeId {
        control_id(&self.trust_domain).expect("checked when the authority was made")
    }

    /// Signs a certificate of identity `id` for the key that the request `csr_der` proves to hold. Names in the request are
    /// ignored: the caller must have attested `id`. `ttl` below 2 s is raised to 2 s; a leaf never outlives the root.
    ///
    /// # Errors
    /// When the request is bad or `id` is of another trust domain.
    pub fn sign_workload(&self, id: &SpiffeId, csr_der: &[u8], ttl: Duration) -> Result<IssuedCertificate, AuthorityError> {
        self.sign_workload_at(id, csr_der, ttl, clock::unix())
    }

    /// [`Authority::sign_workload`] at a given wall-clock time since 1970.
    ///
    /// # Errors
    /// As [`Authority::sign_workload`].
    pub fn sign_workload_at(
        &self,
        id: &SpiffeId,
        csr_der: &[u8],
        ttl: Duration,
        now: Duration,
    ) -> Result<IssuedCertificate, AuthorityError> {
        if id.trust_domain() != self.trust_domain {
            return Err(AuthorityError::ForeignIdentity { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        self.sign(id, &proven_public_key(csr_der)?, ttl, now)
    }

    /// Key and certificate of the control plane's own server, made here since it holds the root anyway.
    ///
    /// # Errors
    /// Only when the cryptographic library fails.
    pub fn server_certificate(&self, ttl: Duration) -> Result<crate::Svid, AuthorityError> {
        let made = crate::KeyAndCsr::generate()?;
        let issued = self.sign_workload(&self.control_id(), made.csr_der(), ttl)?;
        crate::Svid::new(made, issued.chain, issued.issued_at_ms).map_err(|error| AuthorityError::Sign(error.to_string()))
    }

    fn sign(&self, id: &SpiffeId, key: &PublicKey, ttl: Duration, now: Duration) -> Result<IssuedCertificate, AuthorityError> {
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX / 2);
        let ttl_s = i64::try_from(ttl.as_secs().max(LEAF_TTL_S_MIN)).unwrap_or(i64::MAX / 4);
        // X.509 counts whole seconds and `now` was cut to one, so the life is lengthened by one rather than shortened.
        let not_after_s = (now_s + ttl_s + 1).min(self.root_not_after_s);
        let serial = random_serial()?;

        let mut params = CertificateParams::default();
        params.not_before = from_unix(now_s - BACKDATE_S)?;
        params.not_after = from_unix(not_after_s)?;
        params.serial_number = Some(serial.clone());
        params.subject_alt_names = vec![uri(&id.to_string())?];
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(key, &self.issuer).map_err(sign_error)?;
        Ok(IssuedCertificate {
            chain: vec![leaf.der().to_vec()],
            id: id.clone(),
            issued_at_ms: now.as_millis().try_into().unwrap_or(u64::MAX),
            not_after_s: not_after_s.try_into().unwrap_or_default(),
            serial: serial.to_string(),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// `2026-11-21T07:30:00Z`, for messages.
pub(crate) fn utc(unix_s: i64) -> String {
    let rfc3339 = time::format_description::well_known::Rfc3339;
    let date = OffsetDateTime::from_unix_timestamp(unix_s).ok().and_then(|date| date.format(&rfc3339).ok());
    date.unwrap_or_else(|| format!("{unix_s} s since 1970"))
}

fn now() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + clock::unix()
}

fn control_id(trust_domain: &str) -> Result<SpiffeId, weft_model::NameError> {
    SpiffeId::new(trust_domain, CONTROL_NAMESPACE, CONTROL_ACCOUNT)
}

fn from_unix(unix_s: i64) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(unix_s).map_err(|error| AuthorityError::Sign(error.to_string()))
}

fn uri(text: &str) -> Result<SanType, AuthorityError> {
    Ok(SanType::URI(text.try_into().map_err(sign_error)?))
}

fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| AuthorityError::Sign(error.to_string()))?;
    // RFC 5280, 4.1.2.2: positive, and not zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn sign_error(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign(error.to_string())
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> AuthorityError {
    AuthorityError::Damaged { path: path.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyAndCsr;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const DOMAIN: &str = "cluster.local";

    fn id(account: &str) -> SpiffeId {
        SpiffeId::new(DOMAIN, "default", account).expect("legal")
    }

    #[test]
    fn the_root_survives_a_restart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let ca = dir.path().join("ca");
        let first = Authority::load_or_create(&ca, DOMAIN).expect("made");
        let second = Authority::load_or_create(&ca, DOMAIN).expect("loaded");
        assert_eq!(first.bundle_pem(), second.bundle_pem());
        let csr = KeyAndCsr::generate().expect("generated");
        let issued = second.sign_workload(&id("reviews"), csr.csr_der(), Duration::from_secs(60)).expect("signed");
        assert_eq!(first.bundle().check_chain(&issued.chain).expect("chains to the first root"), id("reviews"));

        // A crash after the key was written: the same key is certified again and old leaves stay valid.
        fs::remove_file(ca.join("root.pem")).expect("removed");
        let third = Authority::load_or_create(&ca, DOMAIN).expect("certified again");
        third.bundle().check_chain(&issued.chain).expect("still chains");
    }

    #[test]
    fn bad_state_is_named() {
        type Spoil = fn(&Path);
        let cases: [(&str, Spoil, &str); 7] = [
            (
                "half a key",
                |ca| fs::write(ca.join("root-key.pem"), "-----BEGIN PRIVATE KEY-----\nMIG").expect("w"),
                "root-key.pem is damaged",
            ),
            ("empty key", |ca| fs::write(ca.join("root-key.pem"), "").expect("w"), "root-key.pem is damaged"),
            ("half a root", |ca| fs::write(ca.join("root.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").expect("w"), "root.pem is damaged"),
            ("binary root", |ca| fs::write(ca.join("root.pem"), [0xff, 0xfe]).expect("w"), "root.pem"),
            ("no key", |ca| fs::remove_file(ca.join("root-key.pem")).expect("rm"), "its key"),
            ("open key", |ca| fs::set_permissions(ca.join("root-key.pem"), fs::Permissions::from_mode(0o644)).expect("c"), "chmod 0600"),
            ("open folder", |ca| fs::set_permissions(ca, fs::Permissions::from_mode(0o755)).expect("c"), "chmod 0700"),
        ];
        for (name, spoil, expected) in cases {
            let dir = tempfile::tempdir().expect("temp dir");
            let ca = dir.path().join("ca");
            Authority::load_or_create(&ca, DOMAIN).expect("made");
            spoil(&ca);
            let error = Authority::load_or_create(&ca, DOMAIN).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn another_trust_domain_another_key_and_an_expired_root_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (ca, other) = (dir.path().join("ca"), dir.path().join("other"));
        Authority::load_or_create(&ca, DOMAIN).expect("made");
        Authority::load_or_create(&other, DOMAIN).expect("made");
        let error = Authority::load_or_create(&ca, "elsewhere.org").expect_err("other domain").to_string();
        assert!(error.contains("trust domain cluster.local, but elsewhere.org"), "{error}");
        let late = now() + ROOT_LIFETIME + Duration::from_secs(1);
        let error = Authority::load_or_create_at(&ca, DOMAIN, late).expect_err("expired").to_string();
        assert!(error.contains("expired at 20"), "{error}");
        fs::copy(other.join("root-key.pem"), ca.join("root-key.pem")).expect("copied");
        let error = Authority::load_or_create(&ca, DOMAIN).expect_err("other key").to_string();
        assert!(error.contains("not the certificate of the key"), "{error}");
        assert!(matches!(Authority::load_or_create(&dir.path().join("x"), "Not Legal"), Err(AuthorityError::Name(_))));
    }

    #[test]
    fn life_counts_from_the_signing_and_ends_with_the_root() {
        let authority = Authority::ephemeral(DOMAIN).expect("made");
        let csr = KeyAndCsr::generate().expect("generated");
        let at = Duration::from_millis(clock::unix_ms());
        let sign = |ttl| authority.sign_workload_at(&id("a"), csr.csr_der(), ttl, at).expect("signed");
        let short = sign(Duration::ZERO);
        assert_eq!((short.issued_at_ms, short.not_after_s), (at.as_millis() as u64, at.as_secs() + 3));
        assert_eq!(sign(ROOT_LIFETIME * 2).not_after_s, authority.root_not_after_s());
        assert_ne!(short.serial, sign(Duration::ZERO).serial);

        let foreign = SpiffeId::new("elsewhere.org", "default", "a").expect("legal");
        let refused = authority.sign_workload(&foreign, csr.csr_der(), Duration::from_secs(60));
        assert!(matches!(refused, Err(AuthorityError::ForeignIdentity { .. })));
    }
}
