//! `BackendTLSPolicy`: TLS towards the backends of a Service.

use super::CaReference;
use crate::read::Spanned;
use std::collections::BTreeMap;

object! {
    /// `gateway.networking.k8s.io BackendTLSPolicy`: TLS towards the backends of a Service.
    pub struct BackendTlsPolicy {
        /// Services.
        target_refs: Vec<Spanned<BackendPolicyTarget>> = "targetRefs",
        /// How the backends prove who they are.
        validation: Spanned<BackendTlsValidation> = "validation",
        /// Of implementations.
        options: BTreeMap<String, String> = "options",
    }
    later ["options"]
}

object! {
    /// A Service, or one of its ports.
    pub struct BackendPolicyTarget {
        /// API group; the core group is written `""`.
        group: Option<String> = "group",
        /// Kind: `Service`.
        kind: String = "kind",
        /// Name.
        name: String = "name",
        /// Name of the port; absent: all ports.
        section_name: Option<String> = "sectionName",
    }
}

object! {
    /// How backends prove who they are.
    pub struct BackendTlsValidation {
        /// ConfigMaps with `ca.crt`.
        ca_certificate_refs: Vec<Spanned<CaReference>> = "caCertificateRefs",
        /// The machine's own roots.
        well_known_ca_certificates: Option<WellKnownCaCertificates> = "wellKnownCACertificates",
        /// Server name that is sent and, where no other names are listed, must be proved.
        hostname: Spanned<String> = "hostname",
        /// Names of which one must be proved.
        subject_alt_names: Vec<SubjectAltName> = "subjectAltNames",
    }
}

choice! {
    /// Roots that need not be written down.
    pub enum WellKnownCaCertificates {
        /// The machine's.
        System = "System",
    }
}

object! {
    /// A name that may be proved.
    pub struct SubjectAltName {
        /// `Hostname` or `URI`.
        kind: String = "type",
        /// With `Hostname`.
        hostname: Option<String> = "hostname",
        /// With `URI`.
        uri: Option<String> = "uri",
    }
}
