//! Sign-in and the page.

use crate::{Api, TOKEN, request};
use axum::{
    body::Body,
    http::{StatusCode, header},
};

fn cookie_of(answer: &crate::Answer) -> String {
    let set = answer.headers[header::SET_COOKIE].to_str().expect("text").to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    set.split(';').next().expect("first").to_owned()
}

#[tokio::test]
async fn the_token_is_traded_for_a_cookie() {
    let api = Api::start().await;
    let wrong = api.send(request("POST", "/sign-in").body(Body::from("{\"token\":\"wrong\"}")).expect("legal")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let right = api.send(request("POST", "/sign-in").body(Body::from(format!("{{\"token\":\"{TOKEN}\"}}"))).expect("legal")).await;
    assert_eq!(right.status, StatusCode::NO_CONTENT);
    let with = request("GET", "/health").header(header::COOKIE, cookie_of(&right)).body(Body::empty()).expect("legal");
    assert_eq!(api.send(with).await.status, StatusCode::OK);
    api.control.shutdown().await;
}

#[tokio::test]
async fn the_address_that_up_prints_signs_in_and_forgets_the_token() {
    let api = Api::start().await;
    let first = api.send(request("GET", &format!("/?token={TOKEN}&window=60")).body(Body::empty()).expect("legal")).await;
    assert_eq!((first.status, first.headers[header::LOCATION].to_str().expect("text")), (StatusCode::SEE_OTHER, "/?window=60"));
    let page = api.send(request("GET", "/").header(header::COOKIE, cookie_of(&first)).body(Body::empty()).expect("legal")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(String::from_utf8_lossy(&page.body).contains("Weft"));
    for name in ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"] {
        assert!(page.headers.contains_key(name), "{name}");
    }
    let wrong = api.send(request("GET", "/?token=wrong").body(Body::empty()).expect("legal")).await;
    assert!(!wrong.headers.contains_key(header::SET_COOKIE));
    api.control.shutdown().await;
}
