//! Retries, time-outs, ejection, limits: when a request is sent again, and when it must not be.

use crate::fixture::{Pair, cluster, echo_program, endpoints, get, inbound, loopback, program, publish, route, send, service, table, text};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};
use weft_telemetry::ResponseFlag;

/// A program that fails `failures` times with 503, then answers; and its count.
async fn flaky(failures: u32) -> (SocketAddr, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let address = program(false, move |request: Request<Incoming>| {
        let n = seen.fetch_add(1, Relaxed);
        async move {
            let body = request.into_body().collect().await.expect("whole").to_bytes();
            if n < failures { text(503, "no") } else { text(200, body) }
        }
    })
    .await;
    (address, count)
}

fn retry(on: serde_json::Value) -> serde_json::Value {
    json!({ "retry": { "attempts": 2, "on": on, "backoff_ms": 1 } })
}

#[tokio::test]
async fn a_covered_failure_is_tried_again_with_its_body() {
    let (address, count) = flaky(2).await;
    let mut pair = Pair::with(address, "STRICT", "AUTO", retry(json!({ "gatewayError": true })), json!({}));
    let request = Request::put("/").header("host", "reviews").body(Full::from("again")).expect("legal");
    let answer = send(pair.client.address, request).await;
    assert_eq!((answer.status, answer.body.as_str(), count.load(Relaxed)), (200, "again", 3));
    let record = pair.client.record(|_| true).await;
    let outcomes: Vec<&str> = record.attempts.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(outcomes, ["503", "503", "200"]);
    assert_eq!(record.bytes_received, 5);
}

#[tokio::test]
async fn what_is_not_idempotent_goes_once_unless_the_status_is_named() {
    let (address, count) = flaky(9).await;
    let pair = Pair::with(address, "STRICT", "AUTO", retry(json!({ "fiveXx": true })), json!({}));
    let post = || Request::post("/").header("host", "reviews").body(Full::from("pay")).expect("legal");
    assert_eq!(send(pair.client.address, post()).await.status, 503);
    assert_eq!(count.load(Relaxed), 1);
    let (address, count) = flaky(1).await;
    let pair = Pair::with(address, "STRICT", "AUTO", retry(json!({ "status": [503] })), json!({}));
    assert_eq!(send(pair.client.address, post()).await.status, 200);
    assert_eq!(count.load(Relaxed), 2);
}

#[tokio::test]
async fn a_long_body_makes_a_request_final() {
    let (address, count) = flaky(1).await;
    let pair = Pair::with(address, "STRICT", "AUTO", retry(json!({ "fiveXx": true })), json!({}));
    let request = Request::put("/").header("host", "reviews").body(Full::from(vec![1_u8; 200_000])).expect("legal");
    assert_eq!(send(pair.client.address, request).await.status, 503);
    assert_eq!(count.load(Relaxed), 1);
}

/// A local address on which nobody listens.
async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    listener.local_addr().expect("address")
}

#[tokio::test]
async fn no_connection_is_provably_unsent_and_goes_elsewhere() {
    let pair = Pair::new(echo_program(false).await);
    publish(
        &pair.client.shared,
        vec![
            service("AUTO"),
            table(vec![route(&[("", 1)], retry(json!({ "connectFailure": true })))]),
            cluster("", json!({ "balancing": "ROUND_ROBIN" })),
            endpoints("", &[(nobody().await, Some("reviews")), (pair.server.address, Some("reviews"))]),
        ],
    );
    for _ in 0..6 {
        let request = Request::post("/").header("host", "reviews").body(Full::from("once")).expect("legal");
        assert_eq!(send(pair.client.address, request).await.status, 200);
    }
}

#[tokio::test]
async fn an_unreachable_upstream_is_said_so() {
    let mut pair = Pair::new(echo_program(false).await);
    publish(
        &pair.client.shared,
        vec![service("AUTO"), table(vec![route(&[("", 1)], json!({}))]), cluster("", json!({})), endpoints("", &[(nobody().await, None)])],
    );
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("[UF at the caller's proxy]"), "{}", answer.body);
    let record = pair.client.record(|_| true).await;
    assert_eq!(record.flags, [ResponseFlag::UpstreamConnectionFailure]);
    // The program behind the other proxy is gone: the callee's side says so, the caller passes it on.
    let mut pair = Pair::new(nobody().await);
    assert_eq!(send(pair.client.address, get("/")).await.status, 503);
    assert_eq!(pair.server.record(|_| true).await.flags, [ResponseFlag::UpstreamConnectionFailure]);
    assert_eq!(pair.client.record(|_| true).await.details, "via_upstream");
}

/// A program that never answers.
async fn silent() -> SocketAddr {
    program(false, |_| std::future::pending()).await
}

#[tokio::test]
async fn the_route_time_out_names_its_rule() {
    let mut pair = Pair::with(silent().await, "STRICT", "AUTO", json!({ "timeout_ms": 40 }), json!({}));
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(answer.status, 504);
    let record = pair.client.record(|_| true).await;
    let timer = record.timer.expect("named");
    assert_eq!((timer.name.as_str(), timer.limit_ms, timer.origin.line), ("route timeout", 40, 9));
    assert_eq!(record.flags, [ResponseFlag::UpstreamTimeout]);
    assert_eq!(pair.server.record(|_| true).await.flags, [ResponseFlag::DownstreamClosed]);
}

#[tokio::test]
async fn a_slow_try_is_given_up_for_another() {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let slow_once = program(false, move |_| {
        let n = seen.fetch_add(1, Relaxed);
        async move { if n == 0 { std::future::pending().await } else { text(200, "second") } }
    })
    .await;
    let rule = json!({ "retry": { "attempts": 1, "on": { "fiveXx": true }, "per_try_timeout_ms": 40, "backoff_ms": 1 } });
    let mut pair = Pair::with(slow_once, "STRICT", "AUTO", rule, json!({}));
    assert_eq!(send(pair.client.address, get("/")).await.body, "second");
    let record = pair.client.record(|_| true).await;
    assert_eq!(record.attempts[0].outcome, "per-try time-out of 40 ms");
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_alone() {
    let pair = Pair::new(echo_program(false).await);
    let (bad, count) = flaky(1_000).await;
    let sick = pair.mesh.server("reviews", bad, vec![inbound("reviews", bad.port(), "STRICT")]);
    let outlier = json!({ "outlier": {
        "consecutive_5xx": 3, "consecutive_gateway_errors": 0, "base_ejection_ms": 600_000, "interval_ms": 1000,
        "ejection_percent_max": 50, "origin": { "kind": "DestinationRule", "name": "o" }
    }, "balancing": "ROUND_ROBIN" });
    publish(
        &pair.client.shared,
        vec![
            service("AUTO"),
            table(vec![route(&[("", 1)], json!({}))]),
            cluster("", outlier),
            endpoints("", &[(sick.address, Some("reviews")), (pair.server.address, Some("reviews"))]),
        ],
    );
    let mut failed = 0;
    for _ in 0..20 {
        failed += u32::from(send(pair.client.address, get("/")).await.status == 503);
    }
    assert_eq!((failed, count.load(Relaxed)), (3, 3));
    let described = pair.client.handle.as_ref().expect("runs").describe().await;
    let state = described[0]["clusters"][0]["endpoints"].as_array().expect("list").iter().find(|e| !e["ejectedForMs"].is_null());
    assert_eq!(state.expect("one is ejected")["address"], sick.address.to_string());
    let metrics = pair.client.handle.as_ref().expect("runs").counters();
    let line = format!(r#"weft_endpoint_ejections_total{{cluster="{}",reason="consecutive_5xx"}} 1"#, crate::fixture::cluster_name(""));
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test]
async fn limits_refuse_what_is_too_much_and_name_the_rule() {
    let limits = json!({ "limits": { "requests_max": 1 } });
    let mut pair = Pair::with(silent().await, "STRICT", "AUTO", json!({ "timeout_ms": 300 }), limits);
    let (first, second) = tokio::join!(send(pair.client.address, get("/1")), send(pair.client.address, get("/2")));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [503, 504]);
    let record = pair.client.record(|r| r.status == 503).await;
    assert_eq!(record.flags, [ResponseFlag::UpstreamOverflow]);
    assert_eq!(record.cause.expect("named").kind, "DestinationRule");
}

#[tokio::test]
async fn one_connection_serves_one_request_at_a_time_and_the_rest_waits() {
    let limits = json!({ "limits": { "connections_max": 1 } });
    let mut pair = Pair::with(echo_program(false).await, "STRICT", "HTTP", json!({}), limits);
    let to = pair.client.address;
    let all: Vec<_> = (0..8).map(|_| tokio::spawn(send(to, get("/")))).collect();
    for one in all {
        assert_eq!(one.await.expect("no panic").status, 200);
    }
    let limits = json!({ "limits": { "connections_max": 1, "pending_requests_max": 0 } });
    pair = Pair::with(silent().await, "STRICT", "HTTP", json!({ "timeout_ms": 300 }), limits);
    let (first, second) = tokio::join!(send(pair.client.address, get("/1")), send(pair.client.address, get("/2")));
    assert_eq!(first.status.min(second.status), 503);
    assert_eq!(pair.client.record(|r| r.status == 503).await.flags, [ResponseFlag::UpstreamOverflow]);
}

#[tokio::test]
async fn a_broken_answer_is_never_sent_again() {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Relaxed);
            let mut head = [0; 16];
            stream.read_exact(&mut head).await.expect("read");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.expect("written");
        }
    });
    let mut pair = Pair::with(address, "STRICT", "AUTO", retry(json!({ "fiveXx": true, "reset": true })), json!({}));
    let stream = tokio::net::TcpStream::connect(pair.client.address).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.await.ok() });
    let response = sender.send_request(get("/")).await.expect("the head comes");
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err(), "a cut body is not passed off as whole");
    assert_eq!(count.load(Relaxed), 1);
    let record = pair.client.record(|_| true).await;
    assert_eq!(record.flags, [ResponseFlag::UpstreamClosed]);
}

#[tokio::test]
async fn retry_remote_localities_leaves_the_locality_that_failed() {
    let pair = Pair::new(echo_program(false).await);
    let (bad, count) = flaky(1_000).await;
    let (near, far) = (bad, echo_program(false).await);
    let also_near = flaky(1_000).await;
    let at = |address: SocketAddr, locality: &str| json!({ "address": address.to_string(), "locality": locality });
    let endpoints = json!({ "type": "Endpoints", "value": { "cluster": crate::fixture::cluster_name(""), "endpoints":
        [at(near, "region/near"), at(also_near.0, "region/near"), at(far, "region/far")] } });
    let rule = json!({ "retry": { "attempts": 1, "on": { "fiveXx": true }, "backoff_ms": 1, "remote_localities": true } });
    publish(
        &pair.client.shared,
        vec![service("HTTP"), table(vec![route(&[("", 1)], rule)]), cluster("", json!({ "balancing": "ROUND_ROBIN" })), endpoints],
    );
    for _ in 0..12 {
        assert_eq!(send(pair.client.address, get("/")).await.status, 200, "the second attempt is in the other locality");
    }
    assert!(count.load(Relaxed) + also_near.1.load(Relaxed) > 0, "the first attempt went to the near ones too");
}
