//! Server TLS of gateways: which certificates are shown, and what is asked of clients.

use crate::{
    diag,
    gateway_api::GROUP,
    link::Linker,
    reference_grant::{Grants, Referrer},
    secret,
};
use weft_api::{Document, Spanned, gateway_api, istio};
use weft_model::{ClientCertificates, GatewayTls, KeyPair, Origin, Pem, TlsVersion};

/// Annotation by which all ports of a Gateway expect the PROXY protocol.
const PROXY_PROTOCOL_ANNOTATION: &str = "weft.dev/proxy-protocol";

/// Does every connection to this Gateway begin with a PROXY protocol header?
pub(crate) fn expects_proxy_protocol(linker: &mut Linker<'_>, document: &Document) -> bool {
    match document.meta.annotations.get(PROXY_PROTOCOL_ANNOTATION).map(String::as_str) {
        None | Some("off") => false,
        Some("on") => true,
        Some(other) => {
            linker.report(diag::bad_annotation(document.origin.clone(), PROXY_PROTOCOL_ANNOTATION, other, "on or off"));
            false
        }
    }
}

/// The TLS of an Istio server; `None`, with a diagnostic, when something that it needs does not exist.
pub(crate) fn istio(linker: &mut Linker<'_>, document: &Document, server: &Spanned<istio::Server>, origin: &Origin) -> Option<GatewayTls> {
    let Some(spec) = &server.tls else {
        linker.report(diag::no_certificate(origin.clone(), ""));
        return None;
    };
    let at = spec.origin(&document.origin);
    let namespace = document.meta.namespace.as_str();
    let version = |v: Option<istio::TlsProtocol>| match v {
        None | Some(istio::TlsProtocol::Auto | istio::TlsProtocol::V10 | istio::TlsProtocol::V11) => None,
        Some(istio::TlsProtocol::V12) => Some(TlsVersion::V12),
        Some(istio::TlsProtocol::V13) => Some(TlsVersion::V13),
    };
    let mut tls = GatewayTls {
        version_min: version(spec.min_protocol_version),
        version_max: version(spec.max_protocol_version),
        cipher_suites: spec.cipher_suites.iter().map(|s| s.value.clone()).filter(|s| SUITES.contains(&s.as_str())).collect(),
        ..GatewayTls::default()
    };
    let unknown = spec.cipher_suites.iter().filter(|s| !SUITES.contains(&s.value.as_str()));
    for suite in unknown {
        linker.report(diag::unknown_cipher_suite(suite.origin(&document.origin), &suite.value, &SUITES.join(", ")));
    }
    let mode = spec.mode.unwrap_or(istio::ServerTlsMode::Simple);
    if mode == istio::ServerTlsMode::IstioMutual {
        return Some(GatewayTls { mesh: true, ..tls });
    }
    tls.certificates = istio_certificates(linker, namespace, spec, &at)?;
    if matches!(mode, istio::ServerTlsMode::Mutual | istio::ServerTlsMode::OptionalMutual) {
        let (ca, crl) = istio_roots(linker, namespace, spec);
        let Some(ca) = ca else {
            linker.report(diag::no_client_roots(at));
            return None;
        };
        tls.clients = Some(ClientCertificates {
            required: mode == istio::ServerTlsMode::Mutual,
            ca,
            crl,
            subject_alt_names: spec.subject_alt_names.clone(),
            spki: spec.verify_certificate_spki.clone(),
            hashes: spec.verify_certificate_hash.clone(),
            insecure: spec.insecure_skip_verify,
        });
    }
    Some(tls)
}

/// Suites of TLS 1.2 that the proxy has.
const SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

fn istio_certificates(linker: &mut Linker<'_>, namespace: &str, spec: &istio::ServerTlsSettings, at: &Origin) -> Option<Vec<KeyPair>> {
    let names: Vec<&str> = spec.credential_name.iter().chain(&spec.credential_names).map(String::as_str).take(2).collect();
    if !names.is_empty() {
        let mut pairs = Vec::new();
        for name in names {
            // Istio's form for gateway credentials of Kubernetes.
            let name = name.strip_prefix("kubernetes://").unwrap_or(name);
            let (namespace, name) = name.split_once('/').filter(|(n, _)| *n == namespace).unwrap_or((namespace, name));
            pairs.push(secret::certificate(linker, std::iter::once((namespace, name)), at)?);
        }
        return Some(pairs);
    }
    let file = |path: &str| Pem::File { file: path.to_owned() };
    let listed = spec.tls_certificates.iter().take(2);
    let listed = listed.map(|c| KeyPair { certificate: file(&c.server_certificate), private_key: file(&c.private_key) });
    let mut pairs: Vec<KeyPair> = listed.collect();
    if let (Some(certificate), Some(key)) = (&spec.server_certificate, &spec.private_key) {
        pairs.insert(0, KeyPair { certificate: file(certificate), private_key: file(key) });
    }
    if pairs.is_empty() {
        linker.report(diag::no_certificate(at.clone(), ""));
        return None;
    }
    Some(pairs)
}

/// Roots and revocation list for clients: `caCertCredentialName`, then what stands beside the certificate, then files.
fn istio_roots(linker: &Linker<'_>, namespace: &str, spec: &istio::ServerTlsSettings) -> (Option<Pem>, Option<Pem>) {
    let file = |path: &String| Pem::File { file: path.clone() };
    if let Some(name) = &spec.ca_cert_credential_name {
        let found = secret::roots(linker, "Secret", namespace, name).or_else(|| secret::roots(linker, "ConfigMap", namespace, name));
        return (found, secret::revoked(linker, namespace, name));
    }
    for name in spec.credential_name.iter().chain(&spec.credential_names) {
        let beside = format!("{name}-cacert");
        for name in [beside.as_str(), name] {
            if let Some(found) = secret::roots(linker, "Secret", namespace, name) {
                return (Some(found), secret::revoked(linker, namespace, name));
            }
        }
    }
    let listed = spec.tls_certificates.iter().find_map(|c| c.ca_certificates.as_ref());
    (spec.ca_certificates.as_ref().or(listed).map(file), spec.ca_crl.as_ref().map(file))
}

/// What a Gateway (Gateway API) asks of the clients of a port: `Ok(None)` nothing; `Err` when it asks and its roots do not exist.
pub(crate) fn frontend_validation(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    spec: &gateway_api::Gateway,
    port: u16,
) -> Result<Option<ClientCertificates>, ()> {
    let Some(frontend) = spec.tls.as_ref().and_then(|t| t.frontend.as_ref()) else { return Ok(None) };
    let own = frontend.per_port.iter().find(|p| p.port == port).map(|p| &p.tls);
    let Some(validation) = own.or(frontend.default.as_ref()).and_then(|t| t.validation.as_ref()) else { return Ok(None) };
    let mut roots = String::new();
    for reference in &validation.ca_certificate_refs {
        let at = reference.origin(&document.origin);
        match ca_reference(linker, grants, document, "Gateway", reference) {
            Some(Pem::Text(text)) => {
                roots.push_str(&text);
                roots.push('\n');
            }
            Some(Pem::File { .. }) | None => linker.report(diag::no_roots(at, &reference.kind, &reference.name)),
        }
    }
    if roots.is_empty() {
        linker.report(diag::no_client_roots(validation.origin(&document.origin)));
        return Err(());
    }
    let insecure = validation.mode == Some(gateway_api::ValidationMode::AllowInsecureFallback);
    Ok(Some(ClientCertificates { required: !insecure, ca: Pem::Text(roots), insecure, ..ClientCertificates::default() }))
}

/// The roots that a reference names; one in another namespace needs a grant.
fn ca_reference(
    linker: &mut Linker<'_>,
    grants: &Grants<'_>,
    document: &Document,
    kind: &'static str,
    reference: &Spanned<gateway_api::CaReference>,
) -> Option<Pem> {
    let own = document.meta.namespace.as_str();
    let namespace = reference.namespace.as_deref().unwrap_or(own);
    let from = Referrer { group: GROUP, kind, namespace: own };
    if !grants.allow(from, "", &reference.kind, namespace, &reference.name) {
        let at = reference.origin(&document.origin);
        linker.report(diag::not_granted(at, &reference.kind, namespace, &reference.name, kind, own));
        return None;
    }
    secret::roots(linker, &reference.kind, namespace, &reference.name)
}
