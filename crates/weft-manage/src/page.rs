//! The page: sign-in, the embedded files, and the headers that keep them safe.

use crate::{ApiError, ManageState, session::cookie};
use axum::{
    Json,
    extract::{Request, State, rejection::JsonRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use rust_embed::RustEmbed;
use serde::Deserialize;

/// The built page; empty when it was not built.
#[derive(RustEmbed)]
#[folder = "../../ui/dist"]
#[allow_missing = true]
struct Dist;

/// What is shown when the page was not built.
const FALLBACK: &str = include_str!("fallback.html");

#[derive(Debug, Deserialize)]
pub(crate) struct SignIn {
    token: String,
}

/// Trades the token for a session cookie.
pub(crate) async fn sign_in(State(state): State<ManageState>, body: Result<Json<SignIn>, JsonRejection>) -> Result<Response, ApiError> {
    let Json(sign_in) = body.map_err(|error| ApiError::bad_request(error.body_text()).fix("send {\"token\": \"…\"}"))?;
    let session = state.sessions.sign_in(&sign_in.token).ok_or_else(ApiError::unauthorized)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie(&session))]).into_response())
}

/// Files of the page. Any other path is the page's own business; with `?token=` the visitor is signed in and sent to the same
/// path without it, so that the token stays in no history.
pub(crate) async fn page(State(state): State<ManageState>, method: Method, uri: Uri) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("{method} is not possible here"))
            .into_response();
    }
    if let Some((token, rest)) = uri.query().and_then(split_token) {
        let path = if uri.path().starts_with("//") { "/" } else { uri.path() };
        let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
        return match state.sessions.sign_in(&token) {
            Some(session) => ([(header::SET_COOKIE, cookie(&session))], Redirect::to(&target)).into_response(),
            None => Redirect::to(&target).into_response(),
        };
    }
    let path = uri.path().trim_start_matches('/');
    match Dist::get(path).filter(|_| !path.is_empty()) {
        Some(file) => file_response(path, file.data.into_owned()),
        // A missing asset must not be answered with the page: browsers would run it as a script.
        None if path.starts_with("assets/") => ApiError::not_found(format!("file /{path}")).into_response(),
        None => match Dist::get("index.html") {
            Some(index) => file_response("index.html", index.data.into_owned()),
            None => file_response("index.html", FALLBACK.as_bytes().to_vec()),
        },
    }
}

/// The token of a query, and the query without it.
fn split_token(query: &str) -> Option<(String, String)> {
    let (found, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("token="));
    let token = found.first()?.strip_prefix("token=")?;
    Some((token.to_owned(), rest.join("&")))
}

fn file_response(path: &str, bytes: Vec<u8>) -> Response {
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    };
    // Files below assets/ have their hash in their name.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)], bytes).into_response()
}

/// No frames, no guessing of types, nothing from elsewhere.
pub(crate) async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::split_token;

    #[test]
    fn the_token_leaves_the_query() {
        assert_eq!(split_token("token=abc"), Some(("abc".into(), String::new())));
        assert_eq!(split_token("a=1&token=abc&b=2"), Some(("abc".into(), "a=1&b=2".into())));
        assert_eq!(split_token("a=1"), None);
    }
}
