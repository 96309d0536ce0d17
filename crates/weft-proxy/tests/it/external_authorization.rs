//! External authorization over HTTP and gRPC, against services in this process.

use crate::fixture::{Body, Pair, TestProxy, echo_program, get, inbound, merge, origin, program, publish, send, text};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use prost::Message as _;
use serde_json::{Value, json};
use std::{collections::HashMap, net::SocketAddr};
use weft_telemetry::ResponseFlag;

const ASK: &str = "outbound|9191||ask.default.svc.cluster.local";

/// A CUSTOM policy about `/ask*` whose provider is at `service`.
fn policies(program: SocketAddr, service: Option<SocketAddr>, protocol: Value, more: Value) -> Vec<Value> {
    let mut provider = json!({
        "name": "ask", "cluster": ASK, "protocol": protocol, "timeout_ms": 5000, "status_on_error": 403, "origin": origin("ConfigMap", 4)
    });
    merge(&mut provider, more);
    let grpc = provider["protocol"].get("grpc").is_some();
    let rule = json!([{ "to": [{ "paths": { "any": [{ "prefix": "/ask" }] } }], "origin": origin("AuthorizationPolicy", 8) }]);
    let endpoints: Vec<Value> = service.iter().map(|address| json!({ "address": address.to_string() })).collect();
    vec![
        inbound("reviews", program.port(), "STRICT"),
        json!({ "type": "Authorization", "value": { "name": "default/ask", "action": "CUSTOM", "rules": rule, "provider": provider, "origin": origin("AuthorizationPolicy", 1) } }),
        json!({ "type": "Cluster", "value": { "name": ASK, "protocol": if grpc { "GRPC" } else { "HTTP" }, "origin": origin("Service", 3) } }),
        json!({ "type": "Endpoints", "value": { "cluster": ASK, "endpoints": endpoints } }),
    ]
}

async fn asking(service: Option<SocketAddr>, protocol: Value, more: Value) -> Pair {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    assert!(publish(&pair.server.shared, policies(program, service, protocol, more)).is_empty());
    pair
}

/// Lets through who is called alice, and says what it saw.
async fn http_service() -> SocketAddr {
    program(false, |request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let allowed = header("x-user") == "alice" || body == "let me in";
        let mut response = if allowed { text(200, "") } else { text(302, "log in first") };
        let seen = format!("{} {} {} {}{}", parts.method, parts.uri, header("host"), header("x-from"), header("cookie"));
        for (name, value) in [("x-seen", seen.as_str()), ("location", "/login"), ("set-cookie", "a=1"), ("x-secret", "s")] {
            response.headers_mut().insert(http::HeaderName::from_static(name), value.parse().expect("value"));
        }
        response
    })
    .await
}

fn http_protocol() -> Value {
    json!({ "http": {
        "path_prefix": "/check", "request_headers": [{ "prefix": "x-us" }], "additional_headers": [["x-from", "mesh"]],
        "to_upstream": [{ "exact": "x-seen" }], "to_downstream_on_allow": [{ "exact": "x-secret" }],
        "to_downstream_on_deny": [{ "exact": "location" }, { "prefix": "set-" }],
    } })
}

fn of(user: &str, path: &str) -> Request<Full<Bytes>> {
    let mut request = get(path);
    request.headers_mut().insert("x-user", user.parse().expect("value"));
    request.headers_mut().insert("cookie", "c=1".parse().expect("value"));
    request
}

#[tokio::test]
async fn an_http_service_allows_and_refuses_in_its_own_words() {
    let mut pair = asking(Some(http_service().await), http_protocol(), json!({})).await;
    let answer = send(pair.client.address, of("alice", "/ask?q=1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("x-saw-x-seen"), "GET /check/ask?q=1 reviews mesh", "no cookie: it is not on the list");
    assert_eq!(answer.header("x-secret"), "s", "headersToDownstreamOnAllow");
    let answer = send(pair.client.address, of("bob", "/ask")).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("location")), (302, "log in first", "/login"));
    assert_eq!((answer.header("set-cookie"), answer.header("x-secret")), ("a=1", ""));
    let record = pair.server.record(|r| r.status == 302).await;
    assert_eq!((record.flags.as_slice(), record.details.as_str()), (&[ResponseFlag::Unauthorized][..], "ext_authz_denied"));
    assert_eq!(record.policy.map(|p| (p.policy, p.origin.line)), Some(("default/ask".into(), 8)));
    // A path that no rule names is not asked about.
    assert_eq!(send(pair.client.address, of("bob", "/other")).await.status, 200);
}

#[tokio::test]
async fn without_an_answer_nothing_passes_unless_it_is_written() {
    let silent = program(false, |_| async { std::future::pending::<Response<Body>>().await }).await;
    let broken = program(false, |_| async { text(503, "") }).await;
    let gone = { std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address") };
    let ask = async |service: Option<SocketAddr>, more: Value| {
        let mut pair = asking(service, http_protocol(), more).await;
        let status = send(pair.client.address, of("alice", "/ask")).await.status;
        let details = pair.server.record(|_| true).await.details;
        (status, details)
    };
    let failed = |status: u16| (status, "ext_authz_error".to_owned());
    assert_eq!(ask(Some(silent), json!({ "timeout_ms": 50 })).await, failed(403), "slow");
    assert_eq!(ask(Some(broken), json!({ "status_on_error": 503 })).await, failed(503), "its own error");
    assert_eq!(ask(Some(gone), json!({})).await, failed(403), "nobody listens");
    assert_eq!(ask(None, json!({})).await, failed(403), "no endpoint");
    assert_eq!(ask(None, json!({ "cluster": null })).await, failed(403), "no such provider");
    assert_eq!(ask(Some(gone), json!({ "fail_open": true })).await.0, 200, "failOpen");
}

fn post(body: &str) -> Request<Full<Bytes>> {
    Request::post("/ask").header("host", "reviews").body(Full::from(body.to_owned())).expect("legal")
}

#[tokio::test]
async fn bodies_are_shown_up_to_a_limit_and_passed_on_whole() {
    let service = Some(http_service().await);
    let pair = asking(service, http_protocol(), json!({ "body": { "bytes_max": 9 } })).await;
    let answer = send(pair.client.address, post("let me in")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "POST /ask reviews 9"));
    assert_eq!(send(pair.client.address, post("let me in!")).await.status, 413, "longer than the check may hold");
    let pair = asking(service, http_protocol(), json!({ "body": { "bytes_max": 9, "partial": true } })).await;
    let answer = send(pair.client.address, post("let me in, I say")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "POST /ask reviews 16"), "the service saw the beginning, the program all");
}

// ---- gRPC -----------------------------------------------------------------------------------------------------------------------------

macro_rules! message {
    ($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name { $($(#[$meta])* $field: $type,)* }
    };
}
message! { Check { #[prost(message, optional, tag = "1")] attributes: Option<Attributes>, } }
message! { Attributes { #[prost(message, optional, tag = "1")] source: Option<Peer>, #[prost(message, optional, tag = "4")] request: Option<Asked>, } }
message! { Peer { #[prost(string, tag = "4")] principal: String, } }
message! { Asked { #[prost(message, optional, tag = "2")] http: Option<Http>, } }
message! { Http {
    #[prost(string, tag = "2")] method: String,
    #[prost(map = "string, string", tag = "3")] headers: HashMap<String, String>,
    #[prost(string, tag = "4")] path: String,
    #[prost(string, tag = "11")] body: String,
} }
message! { Answer {
    #[prost(message, optional, tag = "1")] status: Option<Status>,
    #[prost(message, optional, tag = "2")] denied: Option<Denied>,
    #[prost(message, optional, tag = "3")] ok: Option<Allowed>,
} }
message! { Status { #[prost(int32, tag = "1")] code: i32, } }
message! { Denied {
    #[prost(message, optional, tag = "1")] status: Option<Status>,
    #[prost(message, repeated, tag = "2")] headers: Vec<Option_>,
    #[prost(string, tag = "3")] body: String,
} }
message! { Allowed {
    #[prost(message, repeated, tag = "2")] headers: Vec<Option_>,
    #[prost(string, repeated, tag = "5")] remove: Vec<String>,
    #[prost(message, repeated, tag = "6")] answer: Vec<Option_>,
} }
message! { Option_ { #[prost(message, optional, tag = "1")] header: Option<Header>, } }
message! { Header { #[prost(string, tag = "1")] key: String, #[prost(string, tag = "2")] value: String, } }

fn told(key: &str, value: &str) -> Option_ {
    Option_ { header: Some(Header { key: key.into(), value: value.into() }) }
}

async fn grpc_service() -> SocketAddr {
    program(true, |request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
        let bytes = request.into_body().collect().await.expect("whole").to_bytes();
        let asked = Check::decode(&bytes[5..]).expect("a check").attributes.expect("attributes");
        let http = asked.request.and_then(|r| r.http).expect("http");
        let principal = asked.source.map(|s| s.principal).unwrap_or_default();
        let answer = match http.headers.get("x-user").map(String::as_str) {
            Some("alice") => Answer {
                status: Some(Status { code: 0 }),
                ok: Some(Allowed {
                    headers: vec![
                        told("x-seen", &format!("{} {} {principal}", http.method, http.path)),
                        told("host", "evil"),
                        told("x-weft-peer", "evil"),
                    ],
                    remove: vec!["cookie".into(), "host".into()],
                    answer: vec![told("x-told", "yes")],
                }),
                denied: None,
            },
            Some("unclear") => Answer::default(),
            _ => Answer {
                status: Some(Status { code: 7 }),
                denied: Some(Denied {
                    status: Some(Status { code: 401 }),
                    headers: vec![told("x-why", "because")],
                    body: "not you".into(),
                }),
                ok: None,
            },
        };
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(answer.encoded_len()).expect("short"));
        answer.encode(&mut framed).expect("fits");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("value"));
        let frames = [Ok(Frame::data(framed.freeze())), Ok(Frame::trailers(trailers))];
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
        response.headers_mut().insert("content-type", "application/grpc".parse().expect("value"));
        response
    })
    .await
}

#[tokio::test]
async fn a_grpc_service_allows_edits_and_refuses() {
    let pair = asking(Some(grpc_service().await), json!({ "grpc": {} }), json!({})).await;
    let client: &TestProxy = &pair.client;
    let answer = send(client.address, of("alice", "/ask/x/../y?q=1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body, "GET /ask/y?q=1 reviews 0", "what was judged is what is sent: a service cannot change the host");
    assert_eq!(answer.header("x-saw-x-seen"), "GET /ask/y?q=1 spiffe://cluster.local/ns/default/sa/productpage");
    assert_eq!((answer.header("x-saw-cookie"), answer.header("x-told")), ("", "yes"));
    let answer = send(client.address, of("bob", "/ask")).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("x-why")), (401, "not you", "because"));
    assert_eq!(send(client.address, of("unclear", "/ask")).await.status, 403, "an answer without a status is none");
}
