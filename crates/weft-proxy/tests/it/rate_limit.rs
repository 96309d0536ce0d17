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
