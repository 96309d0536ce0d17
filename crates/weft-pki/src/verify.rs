//! What a peer's certificate must be, and why it is refused, in words.

use crate::authority::utc;
use rustls::{CertificateError, OtherError};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use weft_model::SpiffeId;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// Why a peer is not whom it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It sent no certificate although one was asked for.
    #[error("the peer proved no identity: it sent no certificate")]
    NoCertificate,
    /// Its certificate cannot be read.
    #[error("the peer's certificate cannot be read: {0}")]
    Malformed(String),
    /// SPIFFE X509-SVID, section 2: exactly one URI name.
    #[error("the peer's certificate has {0} URI names; one that proves a SPIFFE identity has exactly one")]
    NotOneUri(usize),
    /// The URI is not a SPIFFE identity of the mesh's form.
    #[error("the peer's certificate names no workload: {0}")]
    NotSpiffe(String),
    /// SPIFFE X509-SVID, section 4: a leaf must not be able to sign, and must be able to prove.
    #[error("the certificate of {id} is not a workload's: {reason}")]
    NotALeaf {
        /// The identity in it.
        id: SpiffeId,
        /// What is wrong.
        reason: &'static str,
    },
    /// No root is known for its trust domain.
    #[error("certificate from another trust domain: the peer shows {id}, but only {trusted} is trusted")]
    OtherTrustDomain {
        /// The identity in it.
        id: SpiffeId,
        /// The domains that are trusted.
        trusted: String,
    },
    /// The name is right, but the root is not ours.
    #[error("the certificate of {id} is not signed by the root that is trusted for {domain}; was the root replaced, or is it of another mesh of the same name?", domain = id.trust_domain())]
    UnknownIssuer {
        /// The identity in it.
        id: SpiffeId,
    },
    /// Too old.
    #[error("the certificate of {id} expired at {at} (now {now})")]
    Expired {
        /// The identity in it.
        id: SpiffeId,
        /// End of its life.
        at: String,
        /// This side's clock.
        now: String,
    },
    /// Too young: a clock is wrong.
    #[error("the certificate of {id} is valid only from {from} on (now {now}); check the clocks")]
    NotYetValid {
        /// The identity in it.
        id: SpiffeId,
        /// Begin of its life.
        from: String,
        /// This side's clock.
        now: String,
    },
    /// Any other reason of the path check.
    #[error("the certificate of {id} is refused: {reason}")]
    Refused {
        /// The identity in it.
        id: SpiffeId,
        /// The reason of the TLS library.
        reason: String,
    },
    /// Somebody, but not the one asked for.
    #[error("peer proved {proved} but {expected} was expected")]
    Unexpected {
        /// Who it is.
        proved: Box<SpiffeId>,
        /// Who it should be.
        expected: Box<SpiffeId>,
    },
}

/// The refusal behind a failed handshake of this side, if that is why it failed.
pub fn peer_error(error: &rustls::Error) -> Option<&PeerError> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref::<PeerError>(),
        rustls::Error::NoCertificatesPresented => Some(&PeerError::NoCertificate),
        _ => None,
    }
}

/// A TLS error in words for people.
pub fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, Error};
    if let Some(refusal) = peer_error(error) {
        return refusal.to_string();
    }
    if let Some(refusal) = crate::edge_tls::leaf_error(error) {
        return refusal;
    }
    match error {
        Error::InvalidCertificate(CertificateError::Revoked) => "the certificate was revoked".into(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the certificate is not signed by a root that is trusted".into()
        }
        Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
            "no revocation list is of the certificate's issuer, so that it may have been revoked".into()
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => "the certificate expired".into(),
        Error::AlertReceived(Alert::CertificateRequired) => "the peer wants a certificate and this side has none yet".into(),
        Error::AlertReceived(Alert::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            "the two sides have no application protocol in common (is the other side a Weft proxy?)".into()
        }
        Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::UnsupportedCertificate),
        ) => format!("the peer refused this side's certificate ({alert:?}); its log says why"),
        Error::AlertReceived(alert) => format!("the peer ended the handshake ({alert:?})"),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => format!("the peer does not speak TLS: {error}"),
        other => other.to_string(),
    }
}

/// What is read of a peer's leaf.
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    pub(crate) not_before_s: i64,
    pub(crate) not_after_s: i64,
    pub(crate) serial: String,
}

impl Leaf {
    /// Reads and checks the form that the SPIFFE X509-SVID specification asks of a leaf. The chain is checked elsewhere.
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let malformed = |error: &dyn std::fmt::Display| PeerError::Malformed(error.to_string());
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(PeerError::Malformed("there are bytes after its end".into()));
        }
        let names = uri_names(&certificate)?;
        let [uri] = names.as_slice() else { return Err(PeerError::NotOneUri(names.len())) };
        let id: SpiffeId = uri.parse().map_err(|error: weft_model::NameError| PeerError::NotSpiffe(error.to_string()))?;
        let usage = certificate.key_usage().map_err(|error| malformed(&error))?;
        let reason = match usage.map(|usage| usage.value) {
            _ if certificate.is_ca() => Some("it is a CA"),
            None => Some("it states no key usage"),
            Some(usage) if usage.key_cert_sign() || usage.crl_sign() => Some("it may sign certificates"),
            Some(usage) if !usage.digital_signature() => Some("it may not make digital signatures"),
            Some(_) => None,
        };
        if let Some(reason) = reason {
            return Err(PeerError::NotALeaf { id, reason });
        }
        let validity = certificate.validity();
        Ok(Self {
            id,
            not_before_s: validity.not_before.timestamp(),
            not_after_s: validity.not_after.timestamp(),
            serial: certificate.raw_serial_as_string(),
        })
    }
}

/// The trust domain that a root names in its URI.
pub(crate) fn root_trust_domain(root: &X509Certificate<'_>) -> Result<String, PeerError> {
    let names = uri_names(root)?;
    let [uri] = names.as_slice() else { return Err(PeerError::NotOneUri(names.len())) };
    let domain = uri.strip_prefix("spiffe://").filter(|domain| !domain.contains('/'));
    domain.map(str::to_owned).ok_or_else(|| PeerError::NotSpiffe(format!("{uri:?} is not a trust domain")))
}

fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, PeerError> {
    let names = certificate.subject_alternative_name().map_err(|error| PeerError::Malformed(error.to_string()))?;
    let all = names.iter().flat_map(|names| &names.value.general_names);
    Ok(all.filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None }).collect())
}

/// Puts the path check's error into words, with the identity that the leaf shows.
pub(crate) fn chain_error(leaf: &Leaf, error: &rustls::Error, now: UnixTime) -> PeerError {
    use CertificateError as E;
    let (id, now) = (leaf.id.clone(), utc(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)));
    match error {
        rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
            PeerError::Expired { id, at: utc(leaf.not_after_s), now }
        }
        rustls::Error::InvalidCertificate(E::NotValidYet | E::NotValidYetContext { .. }) => {
            PeerError::NotYetValid { id, from: utc(leaf.not_before_s), now }
        }
        rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => PeerError::UnknownIssuer { id },
        other => PeerError::Refused { id, reason: other.to_string() },
    }
}

impl From<PeerError> for rustls::Error {
    fn from(error: PeerError) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
    }
}
