//! Secrets and ConfigMaps with certificates, as far as gateways and TLS origination need them. They are read from the documents'
//! JSON: neither is a resource of the mesh.

use crate::{diag, link::Linker};
use base64::Engine;
use weft_api::Document;
use weft_model::{KeyPair, Origin, Pem};

/// The first certificate of `names` (`namespace`, `name`) that exists and can be read; a diagnostic when there is none.
pub(crate) fn certificate<'a>(
    linker: &mut Linker<'_>,
    names: impl Iterator<Item = (&'a str, &'a str)>,
    origin: &Origin,
) -> Option<KeyPair> {
    let mut wanted = Vec::new();
    for (namespace, name) in names {
        if let Some(pair) = key_pair(linker, namespace, name) {
            return Some(pair);
        }
        wanted.push(format!("{namespace}/{name}"));
    }
    linker.report(diag::no_certificate(origin.clone(), &wanted.join(", ")));
    None
}

/// Certificate and key of a Secret: `tls.crt` and `tls.key`, or Istio's `cert` and `key`.
pub(crate) fn key_pair(linker: &Linker<'_>, namespace: &str, name: &str) -> Option<KeyPair> {
    let secret = object(linker, "Secret", namespace, name)?;
    let certificate = text(secret, "tls.crt").or_else(|| text(secret, "cert"))?;
    let private_key = text(secret, "tls.key").or_else(|| text(secret, "key"))?;
    let looks_right = certificate.contains("-----BEGIN CERTIFICATE-----") && private_key.contains("PRIVATE KEY-----");
    looks_right.then_some(KeyPair { certificate: Pem::Text(certificate), private_key: Pem::Text(private_key) })
}

/// Roots of a Secret or a ConfigMap: `ca.crt`, or Istio's `cacert`.
pub(crate) fn roots(linker: &Linker<'_>, kind: &str, namespace: &str, name: &str) -> Option<Pem> {
    let object = object(linker, kind, namespace, name)?;
    let found = text(object, "ca.crt").or_else(|| text(object, "cacert"))?;
    found.contains("-----BEGIN CERTIFICATE-----").then_some(Pem::Text(found))
}

/// The list of revoked certificates of a Secret: `ca.crl`, or `crl`.
pub(crate) fn revoked(linker: &Linker<'_>, namespace: &str, name: &str) -> Option<Pem> {
    let object = object(linker, "Secret", namespace, name)?;
    text(object, "ca.crl").or_else(|| text(object, "crl")).filter(|t| !t.trim().is_empty()).map(Pem::Text)
}

fn object<'a>(linker: &Linker<'a>, kind: &str, namespace: &str, name: &str) -> Option<&'a Document> {
    let documents: &'a [std::sync::Arc<Document>] = &linker.inputs.documents;
    let is = |d: &Document| d.meta.kind == kind && d.meta.api_version == "v1" && d.meta.namespace == namespace && d.meta.name == name;
    documents.iter().find(|d| is(d)).map(|d| &**d)
}

/// A value: of `stringData`, of a ConfigMap's `data`, or of a Secret's `data` in base64.
fn text(object: &Document, name: &str) -> Option<String> {
    let value = |field: &str| object.json.get(field).and_then(|d| d.get(name)).and_then(|v| v.as_str());
    if let Some(plain) = value("stringData") {
        return Some(plain.to_owned());
    }
    let written = value("data")?;
    if object.meta.kind == "ConfigMap" {
        return Some(written.to_owned());
    }
    let compact: String = written.chars().filter(|c| !c.is_whitespace()).collect();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(compact).ok()?).ok()
}
