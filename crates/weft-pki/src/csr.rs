//! A fresh private key with the request to certify it, and the reading of such a request.

use crate::limits::CSR_BYTES_MAX;
use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair, PublicKey};

/// A new P-256 key and a signing request that proves its possession. The request names nobody: the identity is attested by
/// whoever hands it to the CA.
pub struct KeyAndCsr {
    pub(crate) key_pem: String,
    csr_der: Vec<u8>,
}

/// Why a signing request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too long to look at.
    #[error("the signing request has {0} bytes; {CSR_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Not a PKCS #10 request that we read.
    #[error("the signing request cannot be read: {0}")]
    Malformed(String),
    /// The proof of possession is wrong.
    #[error("the signing request is not signed by the key that it names")]
    NotPossessed,
    /// Weak or unknown key.
    #[error("the key of the signing request is of a kind that is not accepted; use ECDSA P-256, P-384 or Ed25519")]
    KeyKind,
    /// Key or randomness could not be made.
    #[error("a key could not be generated: {0}")]
    Generate(String),
}

impl KeyAndCsr {
    /// Generates both.
    ///
    /// # Errors
    /// Only when the system has no randomness.
    pub fn generate() -> Result<Self, CsrError> {
        let failed = |error: rcgen::Error| CsrError::Generate(error.to_string());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(failed)?;
        Ok(Self { key_pem: key.serialize_pem(), csr_der: csr.der().to_vec() })
    }

    /// The request in DER, to be sent to the CA.
    pub fn csr_der(&self) -> &[u8] {
        &self.csr_der
    }
}

impl std::fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyAndCsr(key not shown)")
    }
}

/// The public key of a request whose signature proves that the sender has the private one. Everything else in it is ignored.
pub(crate) fn proven_public_key(csr_der: &[u8]) -> Result<PublicKey, CsrError> {
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(CsrError::TooLarge(csr_der.len()));
    }
    let request = CertificateSigningRequestParams::from_der(&csr_der.into()).map_err(|error| match error {
        rcgen::Error::InvalidCertificationRequestSignature => CsrError::NotPossessed,
        rcgen::Error::UnsupportedSignatureAlgorithm => CsrError::KeyKind,
        other => CsrError::Malformed(other.to_string()),
    })?;
    let accepted = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    match accepted.contains(&rcgen::PublicKeyData::algorithm(&request.public_key)) {
        true => Ok(request.public_key),
        false => Err(CsrError::KeyKind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_its_key() {
        let made = KeyAndCsr::generate().expect("generated");
        proven_public_key(made.csr_der()).expect("proves");

        let mut forged = made.csr_der().to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(proven_public_key(&forged), Err(CsrError::NotPossessed));
    }

    #[test]
    fn garbage_is_an_error() {
        let good = KeyAndCsr::generate().expect("generated").csr_der;
        for cut in 0..good.len() {
            assert!(proven_public_key(&good[..cut]).is_err());
        }
        let honest = proven_public_key(&good).expect("proves");
        for position in 0..good.len() {
            let mut bent = good.clone();
            bent[position] = bent[position].wrapping_add(17);
            // Parts outside of the signed body may be bent without harm; the key that comes out is the proven one or none.
            if let Ok(key) = proven_public_key(&bent) {
                assert_eq!(key, honest, "byte {position}");
            }
        }
        assert_eq!(proven_public_key(&vec![0x30; CSR_BYTES_MAX + 1]), Err(CsrError::TooLarge(CSR_BYTES_MAX + 1)));
        let rsa_or_other = b"-----BEGIN CERTIFICATE REQUEST-----";
        assert!(matches!(proven_public_key(rsa_or_other), Err(CsrError::Malformed(_))));
    }
}
