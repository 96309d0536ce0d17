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
        /// Names that the client must prove one of.
        subject_alt_names: Vec<String> = "subjectAltNames",
    }
    later [
        "caCertificates", "caCrl", "credentialNames", "tlsCertificates", "caCertCredentialName", "subjectAltNames", "verifyCertificateSpki",
        "verifyCertificateHash", "minProtocolVersion", "maxProtocolVersion", "cipherSuites", "ecdhCurves", "insecureSkipVerify",
    ]
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
    later ["MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
}
