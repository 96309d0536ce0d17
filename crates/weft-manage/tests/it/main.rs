//! The API as a whole: what the document promises, who may ask, and what the page gets.

#![allow(clippy::panic, reason = "tests")]

mod authorization;
mod conformance;
mod journey;
mod page;
mod schema;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tower::ServiceExt;
use weft_control::{Control, ControlConfig};
use weft_manage::ManageState;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const OPENAPI: &str = include_str!("../../../../openapi/weft.json");

/// A control plane and its API, without a socket for the API.
struct Api {
    _state: tempfile::TempDir,
    control: Control,
    router: Router,
    stopped: Arc<AtomicBool>,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Api {
    async fn start() -> Self {
        let state = tempfile::tempdir().expect("temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let control = Control::start(ControlConfig::new(state.path(), listener)).await.expect("starts");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        let router = weft_manage::router(ManageState::new(control.clone(), TOKEN, move || stop.store(true, Ordering::SeqCst)));
        Self { _state: state, control, router, stopped }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router answers always");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("whole body").to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// With the token.
    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        self.send(request(method, path).header(header::AUTHORIZATION, authorization).body(body.into()).expect("legal")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Body::empty()).await
    }
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    let path = if path.starts_with("/api") || path == "/" || path.starts_with("/?") { path.to_owned() } else { format!("/api/v1{path}") };
    Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:1").header(header::CONTENT_TYPE, "application/json")
}

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("the document is JSON")
}

/// All operations of the document: method, path as written, and whether it needs the token.
fn operations() -> Vec<(String, String, bool)> {
    let document = document();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if ["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                let open = operation.get("security").and_then(Value::as_array).is_some_and(Vec::is_empty);
                operations.push((method.to_uppercase(), path.clone(), !open));
            }
        }
    }
    operations
}
