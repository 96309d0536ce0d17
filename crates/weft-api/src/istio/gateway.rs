//! `Gateway` (Istio): the ports of gateway workloads.

use crate::read::Spanned;
use std::collections::BTreeMap;

object! {
    /// `networking.istio.io Gateway`: the ports that some gateway workloads open.
    pub struct Gateway {
        /// Labels of the gateway workloads; empty: all.
        selector: BTreeMap<String, String> = "selector",
        /// Its ports.
        servers: Vec<Spanned<Server>> = "servers",
    }
}

object! {
    /// One port of a gateway and the hosts that it serves.
    pub struct Server {
        /// The port.
        port: ServerPort = "port",
        /// Hosts: `[namespace/]name`, where namespace may be `*` or `.`.
        hosts: Vec<Spanned<String>> = "hosts",
        /// TLS towards clients.
        tls: Option<Spanned<ServerTlsSettings>> = "tls",
        /// Name, unique among the servers.
        name: Option<String> = "name",
        /// Address to listen on.
        bind: Option<String> = "bind",
    }
    later ["bind", "defaultEndpoint"]
}

object! {
    /// A port of a server.
    pub struct ServerPort {
        /// Number.
        number: u16 = "number",
        /// `HTTP`, `HTTPS`, `GRPC`, `GRPC-WEB`, `HTTP2`, `MONGO`, `TCP` or `TLS`.
        protocol: Spanned<String> = "protocol",
        /// Name.
        name: Option<String> = "name",
        /// Deprecated.
        target_port: Option<u16> = "targetPort",
    }
}

object! {
    /// TLS towards clients.
    pub struct ServerTlsSettings {
        /// Answer plain HTTP with a redirect to https?
        https_redirect: bool = "httpsRedirect",
        /// Mode; absent: `PASSTHROUGH`.
        mode: Option<ServerTlsMode> = "mode",
        /// Secret with certificate and key.
        credential_name: Option<String> = "credentialName",
        /// Path of the chain.
        server_certificate: Option<String> = "serverCertificate",
        /// Path of the key.
        private_key: Option<String> = "privateKey",
        /// Path of the roots for client certificates.
        ca_certificates: Option<String> = "caCertificates",
        /// Path of the list of revoked client certificates.
        ca_crl: Option<String> = "caCrl",
        /// One or two Secrets with certificate and key, of different algorithms.
        credential_names: Vec<String> = "credentialNames",
        /// One or two certificates in files.
        tls_certificates: Vec<Spanned<TlsCertificate>> = "tlsCertificates",
        /// Secret or ConfigMap with the roots for client certificates.
        ca_cert_credential_name: Option<String> = "caCertCredentialName",
        /// Names that the client must prove one of.
        subject_alt_names: Vec<String> = "subjectAltNames",
        /// SHA-256 of accepted keys, base64.
        verify_certificate_spki: Vec<String> = "verifyCertificateSpki",
        /// SHA-256 of accepted certificates, hexadecimal.
        verify_certificate_hash: Vec<String> = "verifyCertificateHash",
        /// Lowest version; absent: `TLSV1_2`.
        min_protocol_version: Option<TlsProtocol> = "minProtocolVersion",
        /// Highest version; absent: `TLSV1_3`.
        max_protocol_version: Option<TlsProtocol> = "maxProtocolVersion",
        /// Suites of TLS 1.2, by OpenSSL's names.
        cipher_suites: Vec<Spanned<String>> = "cipherSuites",
        /// Check clients, but let failures through.
        insecure_skip_verify: bool = "insecureSkipVerify",
    }
    later ["ecdhCurves"]
}

object! {
    /// A certificate in files.
    pub struct TlsCertificate {
        /// Path of the chain.
        server_certificate: String = "serverCertificate",
        /// Path of the key.
        private_key: String = "privateKey",
        /// Path of the roots for client certificates.
        ca_certificates: Option<String> = "caCertificates",
    }
}

choice! {
    /// A version of TLS.
    pub enum TlsProtocol {
        /// Whatever is best.
        Auto = "TLS_AUTO",
        /// 1.0: not spoken.
        V10 = "TLSV1_0",
        /// 1.1: not spoken.
        V11 = "TLSV1_1",
        /// 1.2.
        V12 = "TLSV1_2",
        /// 1.3.
        V13 = "TLSV1_3",
    }
    later ["TLSV1_0", "TLSV1_1"]
}

choice! {
    /// What TLS is spoken towards clients.
    pub enum ServerTlsMode {
        /// Not ended here; routed by SNI.
        Passthrough = "PASSTHROUGH",
        /// Ended here.
        Simple = "SIMPLE",
        /// Ended here, with a client certificate.
        Mutual = "MUTUAL",
        /// Not ended here; the SNI names the cluster.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// The mesh's mutual TLS.
        IstioMutual = "ISTIO_MUTUAL",
        /// Ended here, with a client certificate if the client has one.
        OptionalMutual = "OPTIONAL_MUTUAL",
    }
}
