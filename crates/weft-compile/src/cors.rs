//! Cross-origin rules of both APIs in the model's form.

use crate::{diag, istio_http::pattern, link::Linker};
use weft_api::{gateway_api, istio};
use weft_model::{Cors, Origin, StringMatch};

/// Istio's `corsPolicy`.
pub(crate) fn of_istio(linker: &mut Linker<'_>, spec: &istio::CorsPolicy, at: &Origin) -> Cors {
    let mut origins = Vec::new();
    for origin in &spec.allow_origins {
        origins.extend(match origin {
            istio::StringMatch::Exact(text) if text == "*" => Some(StringMatch::Present),
            istio::StringMatch::Exact(text) => Some(StringMatch::Exact(text.clone())),
            istio::StringMatch::Prefix(text) => Some(StringMatch::Prefix(text.clone())),
            istio::StringMatch::Regex(text) => pattern(linker, text, at).map(StringMatch::Regex),
            // An empty condition would allow every origin, which nobody wrote.
            istio::StringMatch::Present => None,
        });
    }
    let older = |text: &String| if text == "*" { StringMatch::Present } else { StringMatch::Exact(text.clone()) };
    origins.extend(spec.allow_origin.iter().map(older));
    let cors = Cors {
        origins,
        methods: spec.allow_methods.clone(),
        headers: spec.allow_headers.clone(),
        exposed: spec.expose_headers.clone(),
        max_age_s: spec.max_age.map(|age| age.as_secs()),
        credentials: spec.allow_credentials == Some(true),
        forward_unmatched: spec.unmatched_preflights != Some(istio::UnmatchedPreflights::Ignore),
        origin: at.clone(),
    };
    checked(linker, cors, at)
}

/// The Gateway API's filter: `*` and `https://*.example.com` are its wildcards.
pub(crate) fn of_gateway_api(linker: &mut Linker<'_>, spec: &gateway_api::HttpCorsFilter, at: &Origin) -> Cors {
    let mut origins = Vec::new();
    for text in &spec.allow_origins {
        origins.extend(match text.as_str() {
            "*" => Some(StringMatch::Present),
            text if text.contains('*') => {
                // A wildcard stands for one or more labels, never for another scheme, port or path.
                let expression = text.split('*').map(crate::authorization_rule::escape).collect::<Vec<_>>().join("[a-zA-Z0-9.-]+");
                pattern(linker, &expression, at).map(StringMatch::Regex)
            }
            text => Some(StringMatch::Exact(text.to_owned())),
        });
    }
    let cors = Cors {
        origins,
        methods: spec.allow_methods.clone(),
        headers: spec.allow_headers.clone(),
        exposed: spec.expose_headers.clone(),
        max_age_s: Some(spec.max_age.and_then(|age| u64::try_from(age).ok()).unwrap_or(5)),
        credentials: spec.allow_credentials == Some(true),
        forward_unmatched: false,
        origin: at.clone(),
    };
    checked(linker, cors, at)
}

fn checked(linker: &mut Linker<'_>, mut cors: Cors, at: &Origin) -> Cors {
    if cors.credentials && cors.origins.contains(&StringMatch::Present) {
        linker.report(diag::cors_any_with_credentials(at.clone()));
    }
    let mut legal = |words: &mut Vec<String>| {
        words.retain(|word| {
            let token = http::HeaderName::from_bytes(word.as_bytes()).is_ok();
            if !token {
                linker.report(diag::bad_header(at.clone(), word));
            }
            token
        });
    };
    legal(&mut cors.methods);
    legal(&mut cors.headers);
    legal(&mut cors.exposed);
    cors
}
