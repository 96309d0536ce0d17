//! Rate limits at the running proxy: who is refused, what is said, and what is left alone.

use crate::fixture::{
    Answer, Pair, cluster, echo_program, endpoints, get, inbound, merge, origin, publish, route, send, send2, service, table,
};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use weft_telemetry::ResponseFlag;

/// A policy with one local limit of 2 requests in an hour, changed by `limit`.
fn policy(scope: Value, limit: Value, extra: Value) -> Value {
    let mut rule = json!({
        "name": "few", "counted": { "local": { "requests": 2, "per_ms": 3_600_000, "burst": 2 } }, "origin": origin("RateLimit", 7)
    });
    merge(&mut rule, limit);
    let mut value = json!({ "name": "default/limit", "scope": scope, "limits": [rule], "origin": origin("RateLimit", 1) });
    merge(&mut value, extra);
    json!({ "type": "RateLimit", "value": value })
}

async fn with(limit: Value, extra: Value) -> Pair {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    publish(&pair.server.shared, vec![inbound("reviews", program.port(), "STRICT"), policy(json!({ "own": true }), limit, extra)]);
    pair
}

fn by_user(name: &str) -> Request<Full<bytes::Bytes>> {
    Request::builder().uri("/").header("host", "reviews").header("x-user", name).body(Full::default()).expect("legal")
}

async fn statuses(pair: &Pair, requests: Vec<Request<Full<bytes::Bytes>>>) -> Vec<u16> {
    let mut all = Vec::new();
    for request in requests {
        all.push(send(pair.client.address, request).await.status);
    }
    all
}

#[tokio::test]
async fn a_refusal_says_when_to_come_again_and_which_limit_it_was() {
    let mut pair = with(json!({}), json!({})).await;
    assert_eq!(statuses(&pair, vec![get("/"), get("/")]).await, [200, 200]);
    let refused: Answer = send(pair.client.address, get("/")).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| (1700..=1800).contains(&s)), "{refused:?}");
    assert_eq!(refused.header("x-ratelimit-limit"), "2, 2;w=3600");
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert!(refused.body.contains("rate limited: few of default/limit allows 2 requests"), "{}", refused.body);
    let record = pair.server.record(|r| r.status == 429).await;
    assert_eq!(record.flags, [ResponseFlag::RateLimited]);
    assert_eq!(record.details, "request_rate_limited[default/limit/few]");
    assert_eq!(record.cause.expect("a cause").line, 7);
    // The caller's proxy passes it on as the callee's answer.
    assert_eq!(pair.client.record(|r| r.status == 429).await.details, "via_upstream");
}

#[tokio::test]
async fn keys_have_buckets_of_their_own_and_a_missing_header_is_one_key() {
    let pair = with(json!({ "key": [{ "by": { "header": "x-user" }, "descriptor": "x-user" }] }), json!({})).await;
    let three = |name: &str| vec![by_user(name), by_user(name), by_user(name)];
    assert_eq!(statuses(&pair, three("ann")).await, [200, 200, 429]);
    assert_eq!(statuses(&pair, three("bob")).await, [200, 200, 429]);
    assert_eq!(statuses(&pair, vec![get("/"), get("/a"), get("/b")]).await, [200, 200, 429]);
}

#[tokio::test]
async fn only_what_matches_counts() {
    let pair = with(json!({ "matches": [{ "path": { "segmentPrefix": "/api" } }] }), json!({})).await;
    assert_eq!(
        statuses(&pair, vec![get("/api/a"), get("/open"), get("/api"), get("/open"), get("/api/b")]).await,
        [200, 200, 200, 200, 429]
    );
}

#[tokio::test]
async fn a_shadow_counts_and_refuses_nothing() {
    let pair = with(json!({}), json!({ "shadow": true })).await;
    assert_eq!(statuses(&pair, (0..5).map(|_| get("/")).collect()).await, [200; 5]);
    let metrics = pair.server.handle.as_ref().expect("runs").counters();
    let line = r#"weft_limit_decisions_total{policy="default/limit",limit="few",decision="shadow"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn answers_tell_how_the_limit_stands_if_asked_to() {
    let pair = with(json!({}), json!({ "headers": "always" })).await;
    let first = send(pair.client.address, get("/")).await;
    assert_eq!((first.status, first.header("x-ratelimit-remaining")), (200, "1"));
    assert_eq!(send(pair.client.address, get("/")).await.header("x-ratelimit-remaining"), "0");
}

#[tokio::test]
async fn grpc_is_told_in_its_own_words() {
    let pair = with(json!({ "counted": { "local": { "requests": 1, "per_ms": 60_000, "burst": 1 } } }), json!({})).await;
    let call = || {
        let builder = Request::builder().method("POST").uri("http://reviews/a.B/C").header("content-type", "application/grpc");
        builder.body(Full::default()).expect("legal")
    };
    send2(pair.client.address, call()).await;
    let refused = send2(pair.client.address, call()).await;
    assert_eq!((refused.status, refused.header("grpc-status")), (200, "8"));
}

#[tokio::test]
async fn a_route_is_limited_at_the_caller_and_others_are_not() {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    let scope = json!({ "routes": [{ "kind": "VirtualService", "namespace": "default", "name": "test", "rule": "slow" }] });
    let slow = route(&[("", 1)], json!({ "name": "slow", "matches": [{ "path": { "prefix": "/slow" } }] }));
    let values = vec![
        inbound("productpage", 9080, "PERMISSIVE"),
        service("AUTO"),
        table(vec![slow, route(&[("", 1)], json!({}))]),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
        policy(scope, json!({ "key": [{ "by": "principal", "descriptor": "principal" }] }), json!({})),
    ];
    assert_eq!(publish(&pair.client.shared, values), []);
    let paths = ["/slow", "/x", "/slow", "/x", "/slow", "/x"];
    assert_eq!(statuses(&pair, paths.map(get).into()).await, [200, 200, 200, 200, 429, 200]);
}

#[tokio::test]
async fn a_new_snapshot_keeps_the_counts_of_a_limit_that_is_still_the_same() {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    let values = |line: u64| {
        let other = json!({ "name": "other", "counted": { "local": { "requests": 99, "per_ms": line, "burst": 9 } }, "origin": origin("RateLimit", 9) });
        let mut policy = policy(json!({ "own": true }), json!({}), json!({}));
        policy["value"]["limits"].as_array_mut().expect("a list").push(other);
        vec![inbound("reviews", program.port(), "STRICT"), policy]
    };
    publish(&pair.server.shared, values(1000));
    assert_eq!(statuses(&pair, vec![get("/"), get("/"), get("/")]).await, [200, 200, 429]);
    publish(&pair.server.shared, values(2000));
    assert_eq!(statuses(&pair, vec![get("/")]).await, [429]);
}

/// A rate limit service that allows two requests for each descriptor, and counts what it was asked.
async fn limit_service(delay: bool) -> (std::net::SocketAddr, std::sync::Arc<std::sync::Mutex<Vec<Vec<u8>>>>) {
    use http_body_util::{BodyExt as _, StreamBody};
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::<Vec<u8>>::new()));
    let seen = asked.clone();
    let address = crate::fixture::program(true, move |request: Request<hyper::body::Incoming>| {
        let seen = seen.clone();
        async move {
            assert_eq!(request.uri().path(), "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
            let question = request.into_body().collect().await.expect("whole").to_bytes().to_vec();
            let before = {
                let mut seen = seen.lock().expect("no panic");
                seen.push(question.clone());
                seen.iter().filter(|q| **q == question).count()
            };
            if delay {
                std::future::pending::<()>().await;
            }
            // overall_code = OK or OVER_LIMIT; one status: limit 2 per MINUTE, remaining, reset in 7 s.
            let code = if before <= 2 { 1 } else { 2 };
            let status = [0x08, code, 0x12, 4, 0x08, 2, 0x10, 2, 0x18, 0, 0x22, 2, 0x08, 7];
            let mut message = vec![0x08, code, 0x12, u8::try_from(status.len()).expect("short")];
            message.extend(status);
            let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).expect("short")];
            framed.extend(message);
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames = [
                Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from(framed))),
                Ok(http_body::Frame::trailers(trailers)),
            ];
            let body = crate::fixture::Body::new(StreamBody::new(futures_util::stream::iter(frames)));
            let mut response = http::Response::new(body);
            response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
            response
        }
    })
    .await;
    (address, asked)
}

/// A server proxy that asks the service at `address`, with `service` changed.
async fn with_service(address: std::net::SocketAddr, service: Value) -> Pair {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    let mut of = json!({ "cluster": crate::fixture::cluster_name(""), "domain": "shop", "timeout_ms": 5000 });
    merge(&mut of, service);
    let key = json!([{ "by": { "header": "x-user" }, "descriptor": "user" }, { "by": { "constant": "c" }, "descriptor": "generic_key" }]);
    let limit = json!({ "key": key, "counted": { "service": of } });
    let values = vec![
        inbound("reviews", program.port(), "STRICT"),
        policy(json!({ "own": true }), limit, json!({})),
        cluster("", json!({ "protocol": "GRPC" })),
        endpoints("", &[(address, None)]),
    ];
    assert_eq!(publish(&pair.server.shared, values), []);
    pair
}

#[tokio::test]
async fn envoys_rate_limit_service_is_asked_and_obeyed() {
    let (address, asked) = limit_service(false).await;
    let pair = with_service(address, json!({})).await;
    assert_eq!(statuses(&pair, vec![by_user("ann"), by_user("ann"), by_user("bob")]).await, [200, 200, 200]);
    let refused = send(pair.client.address, by_user("ann")).await;
    assert_eq!(refused.status, 429);
    assert_eq!((refused.header("x-ratelimit-limit"), refused.header("retry-after")), ("2, 2;w=60", "7"));
    // A request without the header has no descriptor: as with Envoy, the limit does not hold.
    assert_eq!(statuses(&pair, vec![get("/"), get("/"), get("/")]).await, [200, 200, 200]);
    let asked = asked.lock().expect("no panic");
    assert_eq!(asked.len(), 4);
    let text = String::from_utf8_lossy(&asked[0]).into_owned();
    assert!(["shop", "user", "ann", "generic_key"].iter().all(|part| text.contains(part)), "{text:?}");
}

#[tokio::test]
async fn a_service_that_cannot_be_asked_allows_or_refuses_as_it_is_told() {
    let gone: std::net::SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address");
    let pair = with_service(gone, json!({})).await;
    assert_eq!(statuses(&pair, vec![by_user("ann")]).await, [200]);
    let mut pair = with_service(gone, json!({ "fail_closed": true })).await;
    assert_eq!(statuses(&pair, vec![by_user("ann")]).await, [500]);
    assert_eq!(pair.server.record(|r| r.status == 500).await.details, "rate_limiter_error[default/limit/few]");
    let (slow, _) = limit_service(true).await;
    let pair = with_service(slow, json!({ "timeout_ms": 20 })).await;
    assert_eq!(statuses(&pair, vec![by_user("ann")]).await, [200]);
}
