//! Every path of the document is routed, and none answers without the token.

use crate::{Api, TOKEN, operations, request};
use axum::{
    body::Body,
    http::{StatusCode, header},
};

/// A path with something in the place of its parameters.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_operation_needs_the_token() {
    let api = Api::start().await;
    let operations = operations();
    assert!(operations.len() > 20, "the document lists {}", operations.len());
    for (method, path, guarded) in operations {
        for authorization in [None, Some("Bearer wrong"), Some("Basic eDp4"), Some("Bearer "), Some("")] {
            let mut request = request(&method, &filled(&path));
            if let Some(text) = authorization {
                request = request.header(header::AUTHORIZATION, text);
            }
            let answer = api.send(request.body(Body::empty()).expect("legal")).await;
            let expected = if guarded { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
            assert_eq!(answer.status, expected, "{method} {path} with {authorization:?}");
            if guarded {
                assert_eq!(answer.json()["code"], "unauthorized", "{method} {path}");
            }
        }
        let cookie = request(&method, &filled(&path)).header(header::COOKIE, format!("weft_session={TOKEN}"));
        if guarded {
            let answer = api.send(cookie.body(Body::empty()).expect("legal")).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "the token itself is no session: {method} {path}");
        }
    }
    assert!(!api.stopped.load(std::sync::atomic::Ordering::SeqCst), "nobody could stop it");
    api.control.shutdown().await;
}

#[tokio::test]
async fn every_operation_is_routed() {
    let api = Api::start().await;
    for (method, path, _) in operations().into_iter().filter(|(_, path, _)| path != "/events") {
        let answer = api.call(&method, &filled(&path), "").await;
        let routed = answer.status != StatusCode::METHOD_NOT_ALLOWED
            && !(answer.status == StatusCode::NOT_FOUND
                && answer.json()["message"].as_str().is_some_and(|m| m.contains("there is no path")));
        assert!(routed, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
    }
    let unknown = api.get("/nothing").await;
    assert_eq!((unknown.status, unknown.json()["code"].clone()), (StatusCode::NOT_FOUND, "not-found".into()));
    let method = api.call("DELETE", "/health", "").await;
    assert_eq!((method.status, method.json()["code"].clone()), (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed".into()));
    api.control.shutdown().await;
}

#[tokio::test]
async fn a_rebound_name_is_refused_even_with_the_token() {
    let api = Api::start().await;
    for path in ["/api/v1/health", "/", "/api/v1/sign-in"] {
        let mut rebound = request("GET", path).header(header::AUTHORIZATION, format!("Bearer {TOKEN}")).body(Body::empty()).expect("legal");
        rebound.headers_mut().insert(header::HOST, "evil.example:80".parse().expect("legal"));
        let answer = api.send(rebound).await;
        assert_eq!((answer.status, answer.json()["code"].clone()), (StatusCode::MISDIRECTED_REQUEST, "wrong-host".into()), "{path}");
    }
    api.control.shutdown().await;
}

#[tokio::test]
async fn a_page_of_another_port_changes_nothing() {
    let api = Api::start().await;
    let foreign = request("POST", "/shutdown")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::ORIGIN, "http://127.0.0.1:3000");
    let answer = api.send(foreign.body(Body::empty()).expect("legal")).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (StatusCode::FORBIDDEN, "foreign-origin".into()));
    assert!(!api.stopped.load(std::sync::atomic::Ordering::SeqCst));
    api.control.shutdown().await;
}

#[tokio::test]
async fn a_tap_that_cannot_be_is_refused_in_words() {
    let api = Api::start().await;
    for (query, status, said) in [
        ("", StatusCode::BAD_REQUEST, "workload"),
        ("?workload=a&filter=response.code%20%3E%3D", StatusCode::BAD_REQUEST, "not an expression"),
        ("?workload=a&duration=100000", StatusCode::BAD_REQUEST, "duration must be from 1 to 600"),
        ("?workload=a", StatusCode::NOT_FOUND, "workload a"),
    ] {
        let answer = api.get(&format!("/tap{query}")).await;
        assert_eq!(answer.status, status, "{query}");
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(said), "{query}: {message}");
    }
    api.control.shutdown().await;
}
