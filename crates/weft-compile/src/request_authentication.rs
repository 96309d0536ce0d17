//! RequestAuthentication: issuers with their keys, and the workloads that believe them.

use crate::{
    authorization::{Protected, ScopedPolicy, targets},
    diag,
    link::Linker,
    mesh::Mesh,
};
use std::sync::Arc;
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{JwtRule, Origin, RequestAuthentication, TokenLocation, read_jwks};

/// Longest time to fetch keys where nothing is written, in milliseconds (Istio's default).
const FETCH_TIMEOUT_MS: u64 = 5_000;

/// Where the keys of an issuer are published. The control plane fetches them: this crate does no I/O.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySource {
    /// Of the JWK set, or of the issuer's OpenID configuration.
    pub url: String,
    /// Does `url` name the configuration, which then says where the keys are (OpenID Connect Discovery 1.0 §4)?
    pub discovery: bool,
    /// Longest time to fetch, in milliseconds.
    pub timeout_ms: u64,
}

impl Mesh {
    /// The policies that apply to a workload, in order; all of their rules count.
    pub(crate) fn request_authentications_for<'a>(&'a self, to: &'a Protected<'a>) -> impl Iterator<Item = &'a Arc<RequestAuthentication>> {
        let near = ["", to.namespace].into_iter().filter_map(|namespace| self.request_authentications.get(namespace));
        near.flatten().filter(|a| a.applies(to)).map(|a| &a.policy)
    }
}

/// Links all of them. One that cannot be read believes nobody, so that a token is refused and never taken unchecked.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for document in linker.inputs.documents.iter().filter(|d| d.meta.kind == "RequestAuthentication") {
        let Resource::RequestAuthentication(spec) = &document.resource else { continue };
        let targets = targets(linker, document, spec.target_refs.iter().chain(&spec.target_ref));
        let selector = spec.selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default();
        if !selector.is_empty() && !targets.is_empty() {
            linker.report(diag::selector_beside_targets(document.origin.clone()));
        }
        let rules = spec.jwt_rules.iter().map(|spec| rule(linker, document, spec)).collect();
        let name = format!("{}/{}", document.meta.namespace, document.meta.name);
        let policy = RequestAuthentication { name, rules, origin: document.origin.clone() };
        let scoped = ScopedPolicy::new(linker, document, selector, targets, policy);
        linker.mesh.request_authentications.entry(scoped.key()).or_default().push(scoped);
    }
}

fn rule(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::JwtRule>) -> JwtRule {
    let origin = spec.origin(&document.origin);
    if spec.issuer.is_empty() {
        linker.report(diag::issuer_missing(origin.clone()));
    }
    let (keys, no_keys) = match keys(linker, spec, &origin) {
        Ok(keys) => (keys, String::new()),
        Err(why) => (Vec::new(), why),
    };
    let mut claim_headers: Vec<(String, Vec<String>)> = Vec::new();
    for out in &spec.output_claim_to_headers {
        let name = out.header.to_ascii_lowercase();
        let at = out.origin(&document.origin);
        if !is_output_header(&name) || claim_headers.iter().any(|(other, _)| *other == name) {
            linker.report(diag::bad_output_header(at, &out.header));
        } else {
            claim_headers.push((name, out.claim.split('.').map(str::to_owned).collect()));
        }
    }
    let payload_header = spec.output_payload_to_header.clone().unwrap_or_default().to_ascii_lowercase();
    let payload_header = match payload_header.is_empty() || is_output_header(&payload_header) {
        true => payload_header,
        false => {
            linker.report(diag::bad_output_header(origin.clone(), &payload_header));
            String::new()
        }
    };
    JwtRule {
        issuer: spec.issuer.clone(),
        audiences: spec.audiences.clone(),
        keys,
        no_keys,
        locations: locations(linker, spec, &origin),
        required: spec.presence == Some(istio::TokenPresence::Required),
        forward_token: spec.forward_original_token,
        payload_header,
        claim_headers,
        space_delimited: spec.space_delimited_claims.clone(),
        origin,
    }
}

/// Names that a rule may set: none that HTTP or the proxy itself needs.
fn is_output_header(name: &str) -> bool {
    const RESERVED: [&str; 8] =
        ["host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "x-forwarded-client-cert", "x-request-id"];
    let legal = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    legal && !RESERVED.contains(&name) && !name.starts_with("x-weft-")
}

/// Where tokens may stand: as written, else in `Authorization` and in `access_token` (RFC 6750 §2.1 and §2.3).
fn locations(linker: &mut Linker<'_>, spec: &istio::JwtRule, at: &Origin) -> Vec<TokenLocation> {
    let mut found = Vec::new();
    for header in &spec.from_headers {
        match header.name.parse::<http::HeaderName>() {
            Ok(name) => {
                let prefix = header.prefix.clone().unwrap_or_default();
                found.push(TokenLocation::Header { name: name.as_str().to_owned(), prefix });
            }
            Err(_) => linker.report(diag::bad_header(at.clone(), &header.name)),
        }
    }
    found.extend(spec.from_params.iter().cloned().map(TokenLocation::Param));
    found.extend(spec.from_cookies.iter().cloned().map(TokenLocation::Cookie));
    if spec.from_headers.is_empty() && found.is_empty() {
        found.push(TokenLocation::Header { name: "authorization".into(), prefix: "Bearer ".into() });
        found.push(TokenLocation::Param("access_token".into()));
    }
    found
}

/// The keys: inline, else what was fetched; never any other.
fn keys(linker: &mut Linker<'_>, spec: &istio::JwtRule, at: &Origin) -> Result<Vec<weft_model::Jwk>, String> {
    let uri = spec.jwks_uri.as_ref().or(spec.jwks_uri_old.as_ref()).filter(|uri| !uri.is_empty());
    if let Some(text) = spec.jwks.as_ref().filter(|text| !text.is_empty()) {
        if uri.is_some() {
            linker.report(diag::two_key_sources(at.clone()));
        }
        return read_jwks(text).inspect_err(|why| linker.report(diag::bad_jwks(at.clone(), why)));
    }
    let timeout_ms = spec.timeout.map_or(FETCH_TIMEOUT_MS, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    let source = match uri {
        Some(uri) => KeySource { url: uri.clone(), discovery: false, timeout_ms },
        None => {
            let url = format!("{}/.well-known/openid-configuration", spec.issuer.trim_end_matches('/'));
            KeySource { url, discovery: true, timeout_ms }
        }
    };
    let fetched = linker.inputs.key_sets.get(&source.url).cloned();
    let keys = match fetched {
        Some(Ok(text)) => read_jwks(&text),
        Some(Err(why)) => Err(why),
        None => Err("they have not been fetched yet".into()),
    };
    if let Err(why) = &keys {
        linker.report(diag::no_keys(at.clone(), &source.url, why));
    }
    linker.mesh.key_sources.insert(source);
    keys
}
