//! Secrets of type TLS, as far as gateways need them. They are read from the document's JSON: a Secret is no resource of the mesh.

use crate::{diag, link::Linker};
use base64::Engine;
use weft_api::Document;
use weft_model::{GatewayTls, Origin};

/// The first certificate of `names` (`namespace`, `name`) that exists and can be read; a diagnostic when there is none.
pub(crate) fn certificate<'a>(
    linker: &mut Linker<'_>,
    names: impl Iterator<Item = (&'a str, &'a str)>,
    origin: &Origin,
) -> Option<GatewayTls> {
    let mut wanted = Vec::new();
    for (namespace, name) in names {
        let secret = linker
            .inputs
            .documents
            .iter()
            .find(|d| d.meta.kind == "Secret" && d.meta.api_version == "v1" && d.meta.namespace == namespace && d.meta.name == name);
        if let Some(tls) = secret.and_then(|s| pair(s)) {
            return Some(tls);
        }
        wanted.push(format!("{namespace}/{name}"));
    }
    linker.report(diag::no_certificate(origin.clone(), &wanted.join(", ")));
    None
}

/// `tls.crt` and `tls.key` (or Istio's `cert` and `key`), from `data` or `stringData`.
fn pair(secret: &Document) -> Option<GatewayTls> {
    let text = |name: &str| {
        let plain = secret.json.get("stringData").and_then(|d| d.get(name)).and_then(|v| v.as_str()).map(str::to_owned);
        plain.or_else(|| {
            let encoded = secret.json.get("data")?.get(name)?.as_str()?;
            let compact: String = encoded.chars().filter(|c| !c.is_whitespace()).collect();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(compact).ok()?).ok()
        })
    };
    let certificate_pem = text("tls.crt").or_else(|| text("cert"))?;
    let private_key_pem = text("tls.key").or_else(|| text("key"))?;
    let looks_right = certificate_pem.contains("-----BEGIN CERTIFICATE-----") && private_key_pem.contains("PRIVATE KEY-----");
    looks_right.then_some(GatewayTls { certificate_pem, private_key_pem })
}
