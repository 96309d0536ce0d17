//! What every request must pass before a handler sees it: a Host that names this machine, and the token.

use crate::{ApiError, ManageState};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::IpAddr;

/// Refuses hosts that do not name this machine: a web site whose name was rebound to 127.0.0.1 is stopped here (421).
pub(crate) async fn host(request: Request, next: Next) -> Response {
    match is_local(request.uri(), request.headers()) {
        true => next.run(request).await,
        false => ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", "the Host header does not name this machine")
            .fix("use the address that `weft up` prints: http://127.0.0.1:<port>")
            .into_response(),
    }
}

/// Refuses requests without the token (401), and changes that another origin's page asks for (403).
pub(crate) async fn token(State(state): State<ManageState>, request: Request, next: Next) -> Response {
    if !state.sessions.allows(request.headers()) {
        return ApiError::unauthorized().into_response();
    }
    if !request.method().is_safe() && is_foreign(request.headers()) {
        return ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", "a page of another origin may not change anything here")
            .fix("use the page that `weft up` prints")
            .into_response();
    }
    next.run(request).await
}

/// A browser says where a request comes from. `SameSite` is not enough: all ports of this machine are one site.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    text(&header::HOST).is_none_or(|host| origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host)))
}

/// The host is `localhost` or a loopback address, with any port; HTTP/2 and absolute forms carry it in the URI.
fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    let authority = match (uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return false,
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(host), None) => match host.to_str() {
            Ok(text) => text,
            Err(_) => return false,
        },
        (None, None, None) => return false,
    };
    let host = weft_model::host_of(authority);
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        let check = |host: &str| {
            is_local(&Uri::from_static("/api/v1/health"), &HeaderMap::from_iter([(header::HOST, host.parse().expect("legal"))]))
        };
        for good in ["127.0.0.1:4780", "localhost", "LOCALHOST:1", "[::1]:80", "weft.localhost:1", "127.8.8.8"] {
            assert!(check(good), "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "0.0.0.0", ""] {
            assert!(!check(bad), "{bad}");
        }
        assert!(!is_local(&Uri::from_static("/"), &HeaderMap::new()));
    }

    #[test]
    fn pages_of_other_ports_are_foreign() {
        let check = |origin: Option<&str>| {
            let mut headers = HeaderMap::from_iter([(header::HOST, "127.0.0.1:4780".parse().expect("legal"))]);
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("legal"));
            }
            is_foreign(&headers)
        };
        assert!(!check(None), "not a browser");
        assert!(!check(Some("http://127.0.0.1:4780")));
        for foreign in ["http://127.0.0.1:3000", "http://localhost:4780", "https://evil.example", "null", ""] {
            assert!(check(Some(foreign)), "{foreign}");
        }
    }
}
