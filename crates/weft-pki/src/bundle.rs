//! Trust bundles: which roots may vouch for identities of which trust domain.

use crate::{
    limits::CHAIN_LENGTH_MAX,
    mesh_tls::provider,
    verify::{Leaf, PeerError, chain_error, root_trust_domain},
};
use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use std::{collections::BTreeMap, sync::Arc};
use weft_model::SpiffeId;
use weft_std::clock;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// The roots of the own trust domain and of those it is federated with. A root vouches for its own trust domain only.
#[derive(Clone, Default)]
pub struct TrustBundle {
    domains: BTreeMap<String, Roots>,
}

#[derive(Clone)]
struct Roots {
    pem: String,
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// Why a bundle cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// No certificate in the text.
    #[error("the trust bundle of {0} holds no certificate")]
    Empty(String),
    /// Not PEM, or a certificate in it is not one.
    #[error("the trust bundle cannot be read: {0}")]
    Malformed(String),
}

/// Which side the peer is on: it decides the purpose that its certificate must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerSide {
    Server,
    Client,
}

impl TrustBundle {
    /// The bundle of one trust domain, from PEM with one or more root certificates.
    ///
    /// # Errors
    /// When the text holds no certificate or a broken one.
    pub fn from_pem(trust_domain: &str, pem: &str) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        bundle.insert_pem(trust_domain, pem)?;
        Ok(bundle)
    }

    /// The bundle of the one trust domain that all roots in `pem` name in their URI, as the roots of an [`crate::Authority`] do.
    ///
    /// # Errors
    /// When the text holds no certificate or a broken one, or a root names no trust domain or another one than the first.
    pub fn from_roots(pem: &str) -> Result<Self, BundleError> {
        let mut domain = None;
        for der in certificates(pem)? {
            let (_, root) = X509Certificate::from_der(&der).map_err(|error| BundleError::Malformed(error.to_string()))?;
            let named = root_trust_domain(&root).map_err(|error| BundleError::Malformed(error.to_string()))?;
            if *domain.get_or_insert_with(|| named.clone()) != named {
                return Err(BundleError::Malformed(format!("it holds roots of several trust domains, {named} among them")));
            }
        }
        let domain = domain.ok_or_else(|| BundleError::Empty("the mesh".into()))?;
        Self::from_pem(&domain, pem)
    }

    /// Adds or replaces the roots of a trust domain.
    ///
    /// # Errors
    /// When the text holds no certificate or a broken one; the bundle is then unchanged.
    pub fn insert_pem(&mut self, trust_domain: &str, pem: &str) -> Result<(), BundleError> {
        let malformed = |error: &dyn std::fmt::Display| BundleError::Malformed(error.to_string());
        let mut store = RootCertStore::empty();
        for der in certificates(pem)? {
            store.add(der).map_err(|error| malformed(&error))?;
        }
        if store.is_empty() {
            return Err(BundleError::Empty(trust_domain.into()));
        }
        let store = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(store.clone(), provider()).build().map_err(|error| malformed(&error))?;
        self.domains.insert(trust_domain.into(), Roots { pem: pem.into(), store, clients });
        Ok(())
    }

    /// The trusted domains, in order.
    pub fn trust_domains(&self) -> impl Iterator<Item = &str> {
        self.domains.keys().map(String::as_str)
    }

    /// The roots of a trust domain in PEM.
    pub fn pem(&self, trust_domain: &str) -> Option<&str> {
        self.domains.get(trust_domain).map(|roots| roots.pem.as_str())
    }

    /// Checks a chain (DER, leaf first) as a server's, now, and answers whom it proves.
    ///
    /// # Errors
    /// When it proves nobody of a trusted domain.
    pub fn check_chain(&self, chain: &[Vec<u8>]) -> Result<SpiffeId, PeerError> {
        let ders: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let (leaf, rest) = ders.split_first().ok_or(PeerError::NoCertificate)?;
        self.verify(leaf, rest, PeerSide::Server, UnixTime::since_unix_epoch(clock::unix()))
    }

    /// The whole check of a peer: form of the leaf, trust domain, chain, dates, purpose.
    pub(crate) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: PeerSide,
        now: UnixTime,
    ) -> Result<SpiffeId, PeerError> {
        if intermediates.len() >= CHAIN_LENGTH_MAX {
            return Err(PeerError::Malformed(format!("more than {CHAIN_LENGTH_MAX} certificates")));
        }
        let leaf = Leaf::parse(end_entity)?;
        let Some(roots) = self.domains.get(leaf.id.trust_domain()) else {
            let trusted = self.trust_domains().collect::<Vec<_>>().join(", ");
            return Err(PeerError::OtherTrustDomain { id: leaf.id, trusted });
        };
        let checked = match side {
            PeerSide::Client => roots.clients.verify_client_cert(end_entity, intermediates, now).map(|_| ()),
            PeerSide::Server => ParsedCertificate::try_from(end_entity).and_then(|parsed| {
                let algorithms = provider().signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, algorithms)
            }),
        };
        checked.map_err(|error| chain_error(&leaf, &error, now))?;
        Ok(leaf.id)
    }
}

impl std::fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.trust_domains()).finish()
    }
}

/// The certificates of a PEM text; other blocks are skipped.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.map_err(|error| BundleError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, KeyAndCsr};
    use std::time::Duration;

    #[test]
    fn a_root_vouches_for_its_own_domain_only() {
        let (ours, theirs) = (Authority::ephemeral("a.org").expect("made"), Authority::ephemeral("b.org").expect("made"));
        let csr = KeyAndCsr::generate().expect("generated");
        let id = SpiffeId::new("b.org", "default", "x").expect("legal");
        let chain = theirs.sign_workload(&id, csr.csr_der(), Duration::from_secs(60)).expect("signed").chain;

        let error = ours.bundle().check_chain(&chain).expect_err("foreign").to_string();
        assert_eq!(
            error,
            "certificate from another trust domain: the peer shows spiffe://b.org/ns/default/sa/x, but only a.org is trusted"
        );

        let mut federated = ours.bundle();
        federated.insert_pem("b.org", theirs.bundle_pem()).expect("added");
        assert_eq!(federated.check_chain(&chain), Ok(id.clone()));

        // Our own root, filed under their name, does not make their certificates good.
        federated.insert_pem("b.org", ours.bundle_pem()).expect("replaced");
        let error = federated.check_chain(&chain).expect_err("wrong root");
        assert!(matches!(error, PeerError::UnknownIssuer { .. }), "{error}");
    }

    #[test]
    fn a_bent_certificate_proves_nothing() {
        let authority = Authority::ephemeral("a.org").expect("made");
        let csr = KeyAndCsr::generate().expect("generated");
        let id = SpiffeId::new("a.org", "default", "x").expect("legal");
        let chain = authority.sign_workload(&id, csr.csr_der(), Duration::from_secs(60)).expect("signed").chain;
        let bundle = authority.bundle();
        for position in 0..chain[0].len() {
            for change in [0x01, 0x20, 0x80] {
                let mut bent = chain[0].clone();
                bent[position] ^= change;
                bundle.check_chain(&[bent]).expect_err("every byte is signed, or is the signature");
            }
            bundle.check_chain(&[chain[0][..position].to_vec()]).expect_err("cut");
        }
        let longer = [chain[0].as_slice(), &[0]].concat();
        bundle.check_chain(&[longer]).expect_err("bytes after the end");
        assert_eq!(bundle.check_chain(&[]), Err(PeerError::NoCertificate));
        let endless = vec![chain[0].clone(); CHAIN_LENGTH_MAX + 1];
        assert!(matches!(bundle.check_chain(&endless), Err(PeerError::Malformed(_))));
    }

    #[test]
    fn roots_name_their_trust_domain() {
        let (ours, theirs) = (Authority::ephemeral("a.org").expect("made"), Authority::ephemeral("b.org").expect("made"));
        let bundle = TrustBundle::from_roots(ours.bundle_pem()).expect("one domain");
        assert_eq!(bundle.trust_domains().collect::<Vec<_>>(), ["a.org"]);
        assert!(TrustBundle::from_roots(&format!("{}{}", ours.bundle_pem(), theirs.bundle_pem())).is_err());
        assert!(TrustBundle::from_roots("").is_err());
    }

    #[test]
    fn broken_bundles_are_refused() {
        assert_eq!(TrustBundle::from_pem("a.org", "").err(), Some(BundleError::Empty("a.org".into())));
        let half = "-----BEGIN CERTIFICATE-----\nMIIB";
        assert!(matches!(TrustBundle::from_pem("a.org", half), Err(BundleError::Malformed(_))));
        let not_one = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert!(matches!(TrustBundle::from_pem("a.org", not_one), Err(BundleError::Malformed(_))));
    }
}
