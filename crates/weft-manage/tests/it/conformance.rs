//! Answers have the form that the document promises.

use crate::{Api, document, schema::violations};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use weft_control::{JoinGrant, Nack, ProxyRole, ProxyStatus, ResourceStatus};
use weft_model::{Origin, Protocol, Root};
use weft_std::clock;
use weft_telemetry::{Attempt, EdgeAggregator, Party, PolicyDecision, Reporter, RequestRecord, ResponseFlag, Timer, TlsRecord};

const SHOP: &str = include_str!("../../../../examples/shop/shop.yaml");
const PROXY: &str = "shop%2F";

/// Compares an answer with the schema of its status.
fn check(path: &str, method: &str, answer: &crate::Answer) {
    let document = document();
    let responses = &document["paths"][path][method]["responses"];
    let mut response = responses.get(answer.status.as_str()).unwrap_or(&responses["default"]);
    if let Some(name) = response.get("$ref").and_then(Value::as_str) {
        response = document.pointer(name.trim_start_matches('#')).expect("is in the document");
    }
    let schema = &response["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path} has no schema for {}", answer.status);
    let wrong = violations(&document, schema, &answer.json(), &format!("{method} {path}"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A mesh with something of everything in it. Returns the id of a proxy, percent-encoded.
async fn furnish(api: &Api) -> String {
    let applied = api.call("POST", "/apply?source=shop.yaml", SHOP).await;
    assert_eq!(applied.status, StatusCode::OK, "{}", String::from_utf8_lossy(&applied.body));
    check("/apply", "post", &applied);
    let parts = api.control.parts();
    let labels = [("app", "reviews"), ("version", "v1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let grant = JoinGrant {
        namespace: "shop".into(),
        service_account: "reviews".into(),
        workload: "reviews-v1".into(),
        labels,
        ..JoinGrant::default()
    };
    let workload = parts.registry.enrol(&grant, clock::unix_ms()).await.expect("enrols");
    let address = "127.0.0.1:15006".parse().expect("address");
    let port = weft_compile::RegisteredPort { port: 9080, address, protocol: Protocol::Http, name: "http".into() };
    parts.registry.register(workload.clone(), vec![port], true, ProxyRole::Sidecar, clock::unix_ms()).await.expect("registers");
    let nack = Nack { version: "x".into(), field: "f".into(), message: "no".into() };
    let status = ProxyStatus {
        id: workload.id.clone(),
        namespace: "shop".into(),
        workload: "reviews-v1".into(),
        identity: workload.identity.to_string(),
        roots: BTreeSet::from([Root::Own, Root::Host("reviews".into())]),
        problems: vec![weft_control::ProxyProblem { message: "port 80 is taken".into(), ..weft_control::ProxyProblem::default() }],
        resources: [("inbound".to_owned(), ResourceStatus { nack: Some(nack), ..ResourceStatus::default() })].into(),
        ..ProxyStatus::default()
    };
    // The session is kept open by leaking it: it belongs to this test's process.
    std::mem::forget(parts.proxies.connect(status, clock::unix_ms()));
    let mut edges = EdgeAggregator::default();
    for (id, status) in [("a", 200), ("b", 503), ("c", 403)] {
        for reporter in [Reporter::Source, Reporter::Destination] {
            edges.observe_owned(record(id, status, reporter));
        }
    }
    parts.telemetry.report(edges.take(), clock::unix_ms());
    workload.id.replace('/', "%2F")
}

/// A record with every field set.
fn record(id: &str, status: u16, reporter: Reporter) -> RequestRecord {
    let origin = Origin {
        kind: "VirtualService".into(),
        namespace: "shop".into(),
        name: "reviews".into(),
        file: "shop.yaml".into(),
        line: 3,
        field: "spec".into(),
    };
    let party = |service: &str| Party {
        workload: format!("{service}-v1"),
        namespace: "shop".into(),
        service: service.into(),
        version: "v1".into(),
        principal: format!("spiffe://cluster.local/ns/shop/sa/{service}"),
    };
    RequestRecord {
        id: id.into(),
        trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
        proxy: "shop/reviews-v1-1".into(),
        reporter,
        start_unix_ms: clock::unix_ms(),
        duration_us: 1_500,
        protocol: "HTTP/2".into(),
        grpc: true,
        grpc_status: Some(0),
        method: "GET".into(),
        path: "/reviews/1".into(),
        authority: "reviews".into(),
        status,
        flags: if status == 503 { vec![ResponseFlag::UpstreamConnectionFailure] } else { Vec::new() },
        details: "via_upstream".into(),
        source: party("web"),
        destination: party("reviews"),
        destination_service: "reviews.shop.svc.cluster.local".into(),
        tls: Some(TlsRecord {
            version: "TLSv1_3".into(),
            group: "X25519MLKEM768".into(),
            peer: "spiffe://x/ns/y/sa/z".into(),
            peer_not_after_unix_s: 1,
        }),
        route: "shop/reviews/0".into(),
        route_origin: Some(origin.clone()),
        policy: Some(PolicyDecision {
            policy: "shop/allow".into(),
            allowed: status != 403,
            origin: origin.clone(),
            reason: "DENY rule matched".into(),
        }),
        cluster: "outbound|9080||reviews.shop.svc.cluster.local".into(),
        attempts: vec![Attempt { endpoint: "127.0.0.1:1".into(), workload: String::new(), outcome: "200".into(), duration_us: 1 }],
        timer: Some(Timer { name: "route timeout".into(), limit_ms: 1, origin }),
        ..RequestRecord::default()
    }
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let api = Api::start().await;
    let proxy = furnish(&api).await;
    assert!(proxy.starts_with(PROXY), "{proxy}");
    let mut watch = api.control.subscribe();
    watch.wait_for(|m| m.mesh.workloads.len() == 1).await.expect("lives");
    let config = format!("/proxies/{proxy}/config");
    for (path, ask) in [
        ("/health", "/health?window=30"),
        ("/graph", "/graph"),
        ("/services", "/services"),
        ("/services/{namespace}/{name}", "/services/shop/reviews"),
        ("/workloads", "/workloads"),
        ("/requests", "/requests?status=&service=reviews&limit=10"),
        ("/requests/last", "/requests/last?status=5xx"),
        ("/requests/{id}", "/requests/c"),
        ("/resources", "/resources"),
        ("/resources/{kind}/{namespace}/{name}", "/resources/service/shop/reviews"),
        ("/diagnostics", "/diagnostics"),
        ("/proxies", "/proxies"),
        ("/proxies/{id}/config", config.as_str()),
        ("/checks", "/checks"),
        ("/version", "/version"),
    ] {
        let answer = api.get(ask).await;
        assert_eq!(answer.status, StatusCode::OK, "{ask}: {}", String::from_utf8_lossy(&answer.body));
        check(path, "get", &answer);
    }
    api.control.shutdown().await;
}

#[tokio::test]
async fn what_is_sent_is_answered_as_the_document_says() {
    let api = Api::start().await;
    let proxy = furnish(&api).await;
    let explain = json!({ "authority": "reviews.shop", "sourceNamespace": "shop", "port": 9080, "path": "/" });
    let answer = api.call("POST", "/explain", explain.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
    check("/explain", "post", &answer);
    let grant = json!({ "namespace": "shop", "serviceAccount": "x", "workload": "x", "ttlS": 60 });
    let token = api.call("POST", "/join-tokens", grant.to_string()).await;
    assert_eq!(token.status, StatusCode::OK);
    check("/join-tokens", "post", &token);
    let level = api.call("PUT", &format!("/proxies/{proxy}/log-level"), "{\"level\":\"debug\"}").await;
    assert_eq!(level.status, StatusCode::OK, "{}", String::from_utf8_lossy(&level.body));
    check("/proxies/{id}/log-level", "put", &level);
    let deleted = api.call("DELETE", "/resources/Service/shop/reviews", "").await;
    assert_eq!(deleted.status, StatusCode::OK, "{}", String::from_utf8_lossy(&deleted.body));
    check("/resources/{kind}/{namespace}/{name}", "delete", &deleted);
    let stopped = api.call("POST", "/shutdown", "").await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED);
    assert!(api.stopped.load(std::sync::atomic::Ordering::SeqCst));
    api.control.shutdown().await;
}

#[tokio::test]
async fn errors_are_as_the_document_says() {
    let api = Api::start().await;
    for (method, path, ask, body, status) in [
        ("get", "/services/{namespace}/{name}", "/services/shop/none", "", 404),
        ("get", "/requests/{id}", "/requests/none", "", 404),
        ("get", "/requests/last", "/requests/last", "", 404),
        ("get", "/requests", "/requests?status=many", "", 400),
        ("get", "/proxies/{id}/config", "/proxies/none/config", "", 404),
        ("put", "/proxies/{id}/log-level", "/proxies/none/log-level", "{\"level\":\"debug\"}", 404),
        ("put", "/proxies/{id}/log-level", "/proxies/none/log-level", "{\"level\":\"\"}", 400),
        ("get", "/resources/{kind}/{namespace}/{name}", "/resources/Service/shop/none", "", 404),
        ("delete", "/resources/{kind}/{namespace}/{name}", "/resources/Service/shop/none", "", 404),
        ("post", "/explain", "/explain", "{", 400),
        ("post", "/join-tokens", "/join-tokens", "{\"namespace\":\"a/b\",\"serviceAccount\":\"x\",\"workload\":\"x\"}", 400),
        ("post", "/apply", "/apply", "kind: [", 422),
    ] {
        let answer = api.call(&method.to_uppercase(), ask, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {ask}: {}", String::from_utf8_lossy(&answer.body));
        check(path, method, &answer);
    }
    api.control.shutdown().await;
}
