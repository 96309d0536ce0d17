//! What routes do at the running proxy: CORS, deadlines, fallback, hedging, edits, and how often a request may be sent.

use crate::fixture::{
    Pair, TestProxy, cluster, cluster_name, echo_program, endpoints, get, inbound, loopback, merge, origin, program, publish, route, send,
    send2, service, table, text,
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use weft_telemetry::ResponseFlag;

/// A request to `reviews` with these headers.
fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(path).header("host", "reviews");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::default()).expect("legal")
}

/// A caller's proxy with `rules` for clusters `""` and `v2`, which lead straight to programs.
fn client(pair: &Pair, rules: Vec<Value>, of: &[(&str, SocketAddr)]) {
    let mut values = vec![inbound("productpage", 9080, "PERMISSIVE"), service("HTTP"), table(rules)];
    for (subset, address) in of {
        values.push(cluster(subset, json!({ "protocol": "HTTP" })));
        values.push(endpoints(subset, &[(*address, None)]));
    }
    assert_eq!(publish(&pair.client.shared, values), []);
}

/// A program that answers with `status` and counts.
async fn counted(status: u16) -> (SocketAddr, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let address = program(false, move |request: Request<Incoming>| {
        seen.fetch_add(1, Relaxed);
        async move {
            let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            text(status, format!("{status} {}", String::from_utf8_lossy(&body)))
        }
    })
    .await;
    (address, count)
}

async fn silent() -> (SocketAddr, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let address = program(false, move |_| {
        seen.fetch_add(1, Relaxed);
        std::future::pending()
    })
    .await;
    (address, count)
}

async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    listener.local_addr().expect("address")
}

fn cors(forward: bool) -> Value {
    json!({ "cors": {
        "origins": [{ "regex": "https://[a-z]+\\.example\\.com" }], "methods": ["GET", "PUT"], "exposed": ["x-total"], "max_age_s": 60,
        "credentials": true, "forward_unmatched": forward, "origin": origin("VirtualService", 12)
    }, "matches": [{ "method": { "exact": "PUT" } }] })
}

#[tokio::test]
async fn preflights_are_answered_here_and_origins_are_echoed_only_when_allowed() {
    let (address, count) = counted(200).await;
    let pair = Pair::new(address);
    client(&pair, vec![route(&[("", 1)], cors(false))], &[("", address)]);
    let ask = |origin: &str| request("OPTIONS", "/", &[("origin", origin), ("access-control-request-method", "PUT")]);
    let answer = send(pair.client.address, ask("https://shop.example.com")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://shop.example.com"));
    assert_eq!((answer.header("access-control-allow-methods"), answer.header("access-control-max-age")), ("GET,PUT", "60"));
    assert_eq!((answer.header("access-control-allow-credentials"), answer.header("vary")), ("true", "origin"));
    for other in ["https://shop.example.com.evil.net", "https://evil.net", "null", "http://shop.example.com"] {
        let answer = send(pair.client.address, ask(other)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""), "{other}");
    }
    assert_eq!(count.load(Relaxed), 0, "no preflight reached the program");
    let answer = send(pair.client.address, request("PUT", "/", &[("origin", "https://shop.example.com")])).await;
    assert_eq!(
        (answer.header("access-control-allow-origin"), answer.header("access-control-expose-headers")),
        ("https://shop.example.com", "x-total")
    );
    let answer = send(pair.client.address, request("PUT", "/", &[("origin", "https://evil.net")])).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
    let answer = send(pair.client.address, request("PUT", "/", &[])).await;
    assert_eq!((answer.status, answer.header("vary")), (200, ""));
}

#[tokio::test]
async fn an_upstream_speaks_of_origins_only_where_it_is_asked() {
    let speaks = program(false, |_| async {
        let mut response = text(200, "own");
        response.headers_mut().insert("access-control-allow-origin", "*".parse().expect("value"));
        response
    })
    .await;
    let pair = Pair::new(speaks);
    for (forward, other) in [(true, "*"), (false, "")] {
        let mut rule = cors(forward);
        merge(&mut rule, json!({ "matches": [] }));
        client(&pair, vec![route(&[("", 1)], rule)], &[("", speaks)]);
        let get = |origin: &str| request("GET", "/", &[("origin", origin)]);
        assert_eq!(
            send(pair.client.address, get("https://a.example.com")).await.header("access-control-allow-origin"),
            "https://a.example.com"
        );
        assert_eq!(send(pair.client.address, get("https://evil.net")).await.header("access-control-allow-origin"), other);
        let ask = request("OPTIONS", "/", &[("origin", "https://evil.net"), ("access-control-request-method", "PUT")]);
        assert_eq!(send(pair.client.address, ask).await.body, if forward { "own" } else { "" });
    }
}

#[tokio::test]
async fn refusals_of_a_route_can_be_read_by_the_page_that_may() {
    let pair = Pair::new(nobody().await);
    let mut rule = cors(false);
    merge(&mut rule, json!({ "matches": [] }));
    client(&pair, vec![route(&[("", 1)], rule)], &[("", nobody().await)]);
    let answer = send(pair.client.address, request("GET", "/", &[("origin", "https://a.example.com")])).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (503, "https://a.example.com"));
}

#[tokio::test]
async fn a_callers_deadline_bounds_ours_and_shrinks_on_its_way() {
    let echo = echo_program(false).await;
    let mut pair = Pair::with(echo, "STRICT", "HTTP", json!({ "timeout_ms": 60_000 }), json!({}));
    let answer = send(pair.client.address, request("GET", "/", &[("x-envoy-expected-rq-timeout-ms", "5000")])).await;
    let left: u64 = answer.header("x-saw-x-envoy-expected-rq-timeout-ms").parse().expect("told");
    assert!((1..=5000).contains(&left), "{left}");
    let answer = send(pair.client.address, request("GET", "/", &[("x-envoy-expected-rq-timeout-ms", "900000")])).await;
    let left: u64 = answer.header("x-saw-x-envoy-expected-rq-timeout-ms").parse().expect("told");
    assert!((1..=60_000).contains(&left), "a caller cannot make the route's time longer: {left}");
    while pair.client.record(|_| true).await.path != "/" {}
    let (quiet, _) = silent().await;
    client(&pair, vec![route(&[("", 1)], json!({ "timeout_ms": 60_000 }))], &[("", quiet)]);
    let begun = Instant::now();
    let answer = send(pair.client.address, request("GET", "/slow", &[("x-envoy-expected-rq-timeout-ms", "60")])).await;
    assert_eq!(answer.status, 504);
    assert!((Duration::from_millis(60)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let record = pair.client.record(|r| r.path == "/slow").await;
    assert_eq!(record.flags, [ResponseFlag::UpstreamTimeout]);
    assert_eq!(record.timer.expect("named").name, "caller's deadline");
}

#[tokio::test]
async fn grpc_deadlines_are_honoured_and_passed_on() {
    let echo = echo_program(true).await;
    let pair = Pair::with(echo, "STRICT", "GRPC", json!({ "grpc_timeout_max_ms": 4000 }), json!({}));
    let call = |timeout: &str| {
        let builder = Request::post("http://reviews/a.B/C").header("content-type", "application/grpc").header("te", "trailers");
        builder.header("grpc-timeout", timeout).body(Full::default()).expect("legal")
    };
    let answer = send2(pair.client.address, call("2S")).await;
    let left: u64 = answer.header("x-saw-grpc-timeout").trim_end_matches('m').parse().expect("in milliseconds");
    assert!((1..=2000).contains(&left), "{left}");
    let answer = send2(pair.client.address, call("10H")).await;
    let left: u64 = answer.header("x-saw-grpc-timeout").trim_end_matches('m').parse().expect("in milliseconds");
    assert!((1..=4000).contains(&left), "no longer than the route allows: {left}");
    assert_eq!(send2(pair.client.address, call("nonsense")).await.header("x-saw-grpc-timeout"), "nonsense");
    let quiet = program(true, |_| std::future::pending()).await;
    let pair = Pair::with(quiet, "STRICT", "GRPC", json!({}), json!({}));
    assert_eq!(send2(pair.client.address, call("50m")).await.header("grpc-status"), "4", "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn an_idle_stream_is_ended_and_a_moving_one_is_not() {
    let (quiet, _) = silent().await;
    let mut pair = Pair::new(quiet);
    client(&pair, vec![route(&[("", 1)], json!({ "idle_timeout_ms": 50 }))], &[("", quiet)]);
    assert_eq!(send(pair.client.address, get("/idle")).await.status, 504);
    let record = pair.client.record(|r| r.path == "/idle").await;
    assert_eq!((record.flags.as_slice(), record.details.as_str()), (&[ResponseFlag::StreamIdle][..], "stream_idle_timeout"));
}

fn respond(on: Value) -> Value {
    json!({ "fallback": { "on": on, "to": { "respond": { "status": 200, "body": "sorry", "headers": { "set": [["x-fallback", "1"]] } } },
        "origin": origin("RoutePolicy", 21) } })
}

fn second(on: Value) -> Value {
    let target = json!({ "backend": { "cluster": cluster_name("v2") }, "weight": 1,
        "request_headers": { "set": [["x-second", "1"]] }, "response_headers": { "set": [["x-from", "second"]] } });
    json!({ "fallback": { "on": on, "to": { "backend": target }, "origin": origin("RoutePolicy", 21) } })
}

#[tokio::test]
async fn a_fixed_answer_stands_in_for_every_kind_of_failure() {
    let (quiet, _) = silent().await;
    let (bad, _) = counted(500).await;
    let mut pair = Pair::new(bad);
    let cases: [(&str, Value, Value, SocketAddr, Option<ResponseFlag>); 3] = [
        ("/connect", respond(json!({ "connectFailure": true })), json!({}), nobody().await, Some(ResponseFlag::UpstreamConnectionFailure)),
        ("/timeout", respond(json!({ "timeout": true })), json!({ "timeout_ms": 50 }), quiet, Some(ResponseFlag::UpstreamTimeout)),
        ("/status", respond(json!({ "fiveXx": true })), json!({}), bad, None),
    ];
    for (path, mut rule, more, address, flag) in cases {
        merge(&mut rule, more);
        client(&pair, vec![route(&[("", 1)], rule)], &[("", address)]);
        let answer = send(pair.client.address, get(path)).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.header("x-fallback")), (200, "sorry", "1"), "{path}");
        let record = pair.client.record(|r| r.path == path).await;
        assert!(
            record.flags.contains(&ResponseFlag::Fallback) && flag.is_none_or(|f| record.flags.contains(&f)),
            "{path} {:?}",
            record.flags
        );
        assert_eq!((record.details.as_str(), record.cause.expect("named").line), ("fallback_served", 21));
    }
    // No endpoint at all.
    let rule = route(&[("", 1)], respond(json!({ "noEndpoint": true })));
    publish(&pair.client.shared, vec![service("HTTP"), table(vec![rule]), cluster("", json!({})), endpoints("", &[])]);
    assert_eq!(send(pair.client.address, get("/none")).await.body, "sorry");
    // What is not covered stays what it is.
    client(&pair, vec![route(&[("", 1)], respond(json!({ "timeout": true })))], &[("", bad)]);
    assert_eq!(send(pair.client.address, get("/")).await.status, 500);
}

#[tokio::test]
async fn another_backend_takes_over_and_never_for_what_may_have_been_done() {
    let echo = echo_program(false).await;
    let (bad, count) = counted(503).await;
    let mut pair = Pair::new(echo);
    let on = json!({ "connectFailure": true, "fiveXx": true, "timeout": true });
    client(&pair, vec![route(&[("", 1)], second(on.clone()))], &[("", nobody().await), ("v2", echo)]);
    let post = |path: &str| Request::post(path).header("host", "reviews").body(Full::from("once")).expect("legal");
    let answer = send(pair.client.address, post("/unsent")).await;
    assert_eq!(
        (answer.status, answer.body.as_str(), answer.header("x-saw-x-second"), answer.header("x-from")),
        (200, "POST /unsent reviews 4", "1", "second")
    );
    let record = pair.client.record(|r| r.path == "/unsent").await;
    assert!(record.flags.contains(&ResponseFlag::Fallback) && record.cluster.contains("|v2|"), "{record:?}");
    client(&pair, vec![route(&[("", 1)], second(on))], &[("", bad), ("v2", echo)]);
    let answer = send(pair.client.address, post("/done")).await;
    assert_eq!((answer.status, answer.header("x-from")), (503, ""), "a POST that was answered is not sent again");
    assert_eq!(send(pair.client.address, get("/again")).await.header("x-from"), "second", "a GET is");
    client(&pair, vec![route(&[("", 1)], second(json!({ "status": [503] })))], &[("", bad), ("v2", echo)]);
    let answer = send(pair.client.address, post("/named")).await;
    assert_eq!((answer.body.as_str(), answer.header("x-from")), ("POST /named reviews 4", "second"), "the user named 503");
    assert_eq!(count.load(Relaxed), 3);
}

#[tokio::test]
async fn a_slow_answer_is_raced_and_the_loser_is_cancelled() {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let slow_first = program(false, move |_| {
        let n = seen.fetch_add(1, Relaxed);
        async move { if n == 0 { std::future::pending().await } else { text(200, "second") } }
    })
    .await;
    let mut pair = Pair::new(slow_first);
    let hedging = json!({ "hedging": { "delay_ms": 30, "attempts": 1 } });
    client(&pair, vec![route(&[("", 1)], hedging)], &[("", slow_first)]);
    assert_eq!(send(pair.client.address, get("/hedged")).await.body, "second");
    let record = pair.client.record(|r| r.path == "/hedged").await;
    assert_eq!(record.flags, [ResponseFlag::Hedged]);
    let outcomes: Vec<&str> = record.attempts.iter().map(|a| a.outcome.as_str()).collect();
    assert!(outcomes.contains(&"cancelled: another was faster") && outcomes.contains(&"200"), "{outcomes:?}");
    assert_eq!(count.load(Relaxed), 2);
    let (quiet, sent) = silent().await;
    client(&pair, vec![route(&[("", 1)], json!({ "hedging": { "delay_ms": 5, "attempts": 3 }, "timeout_ms": 200 }))], &[("", quiet)]);
    assert_eq!(send(pair.client.address, request("POST", "/post", &[])).await.status, 504);
    assert_eq!(sent.load(Relaxed), 1, "what is not idempotent is never hedged");
    assert_eq!(send(pair.client.address, get("/get")).await.status, 504);
    assert_eq!(sent.load(Relaxed), 1 + 4, "three beside the first");
}

#[tokio::test]
async fn one_request_is_never_sent_more_than_ten_times() {
    let (bad, count) = counted(503).await;
    let mut pair = Pair::new(bad);
    let mirror = json!({ "cluster": cluster_name("v2"), "share": 1_000_000 });
    let mut rule = second(json!({ "fiveXx": true }));
    merge(
        &mut rule,
        json!({
            "retry": { "attempts": 1000, "on": { "fiveXx": true }, "backoff_ms": 0 },
            "hedging": { "delay_ms": 0, "attempts": 1000 },
            "mirrors": vec![mirror; 20],
        }),
    );
    client(&pair, vec![route(&[("", 1)], rule)], &[("", bad), ("v2", bad)]);
    assert_eq!(send(pair.client.address, get("/many")).await.status, 503);
    let _ = pair.client.record(|r| r.path == "/many").await;
    // Copies are sent beside the answer: as many as were allowed arrive, and no more.
    let wait = async {
        while count.load(Relaxed) < 6 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("sent");
    assert!(count.load(Relaxed) <= 10, "{}", count.load(Relaxed));
}

#[tokio::test]
async fn an_upstream_says_how_long_to_wait() {
    let count = Arc::new(AtomicU32::new(0));
    let seen = count.clone();
    let limited = program(false, move |_| {
        let n = seen.fetch_add(1, Relaxed);
        async move {
            let mut response = text(if n == 0 { 429 } else { 200 }, "x");
            response.headers_mut().insert("retry-after", if n == 0 { "0" } else { "9" }.parse().expect("value"));
            response.headers_mut().insert("x-envoy-ratelimited", "true".parse().expect("value"));
            response
        }
    })
    .await;
    let pair = Pair::new(limited);
    let retry = |on: Value| {
        json!({ "retry": { "attempts": 1, "on": on, "backoff_ms": 1, "count_header": true,
            "rate_limited_backoff": { "headers": [["retry-after", "seconds"]], "max_ms": 1000 } } })
    };
    client(&pair, vec![route(&[("", 1)], retry(json!({ "status": [429] })))], &[("", limited)]);
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
    assert_eq!(count.load(Relaxed), 2);
    // Marked as rate limited, but it asks for nine seconds: its answer stands.
    client(&pair, vec![route(&[("", 1)], retry(json!({ "rateLimited": true })))], &[("", limited)]);
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
    assert_eq!(count.load(Relaxed), 3);
    let echo = echo_program(false).await;
    client(&pair, vec![route(&[("", 1)], retry(json!({})))], &[("", echo)]);
    let answer = send(pair.client.address, request("GET", "/", &[("x-envoy-attempt-count", "77")])).await;
    assert_eq!(answer.header("x-saw-x-envoy-attempt-count"), "1");
}

#[tokio::test]
async fn no_retry_begins_that_could_not_end_in_time() {
    let (bad, count) = counted(503).await;
    let pair = Pair::new(bad);
    let rule = json!({ "timeout_ms": 5000, "retry": { "attempts": 3, "on": { "status": [503] }, "backoff_ms": 1,
        "rate_limited_backoff": { "headers": [], "max_ms": 0 } } });
    client(&pair, vec![route(&[("", 1)], rule)], &[("", bad)]);
    assert_eq!(send(pair.client.address, get("/")).await.status, 503);
    assert_eq!(count.load(Relaxed), 4);
    let later = program(false, |_| async {
        let mut response = text(503, "later");
        response.headers_mut().insert("retry-after", "9".parse().expect("value"));
        response
    })
    .await;
    let rule = json!({ "timeout_ms": 5000, "retry": { "attempts": 3, "on": { "status": [503] }, "backoff_ms": 1,
        "rate_limited_backoff": { "headers": [["retry-after", "seconds"]], "max_ms": 60_000 } } });
    client(&pair, vec![route(&[("", 1)], rule)], &[("", later)]);
    let begun = Instant::now();
    assert_eq!(send(pair.client.address, get("/")).await.body, "later");
    assert!(begun.elapsed() < Duration::from_secs(4), "nine seconds were not waited for");
}

#[tokio::test]
async fn destinations_rewrite_redirect_and_copy_for_themselves() {
    let echo = echo_program(false).await;
    let (copy, copies) = counted(200).await;
    let pair = Pair::new(echo);
    let target = |extra: Value| {
        let mut target = json!({ "backend": { "cluster": cluster_name("") }, "weight": 1 });
        merge(&mut target, extra);
        json!({ "action": { "forward": [target] } })
    };
    let prefix = json!({ "prefix": { "matched": "/a", "replacement": "/b", "segments": true } });
    let mirror = json!({ "cluster": cluster_name("v2"), "share": 1_000_000 });
    let both = target(json!({ "rewrite": { "path": prefix, "authority": "one.example.org" }, "mirrors": [mirror],
        "request_headers": { "add": [["x-t", "1"]] } }));
    client(&pair, vec![route(&[], both)], &[("", echo), ("v2", copy)]);
    let answer = send(pair.client.address, get("/a/x?q=1")).await;
    assert_eq!((answer.body.as_str(), answer.header("x-saw-x-t")), ("GET /b/x?q=1 one.example.org 0", "1"));
    let wait = async {
        while copies.load(Relaxed) < 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("copied");
    client(&pair, vec![route(&[], target(json!({ "redirect": { "status": 307, "host": "new.example.org" } })))], &[("", echo)]);
    let answer = send(pair.client.address, get("/r?q=1")).await;
    assert_eq!((answer.status, answer.header("location")), (307, "http://new.example.org/r?q=1"));
}

#[tokio::test]
async fn a_rewrite_cannot_blow_up_and_edits_of_host_are_the_authority() {
    let echo = echo_program(false).await;
    let pair = Pair::new(echo);
    let rewrite = json!({ "rewrite": { "path": { "regex": { "pattern": "(.*)", "substitution": "\\1\\1\\1\\1\\1\\1\\1\\1" } } } });
    client(&pair, vec![route(&[("", 1)], rewrite)], &[("", echo)]);
    assert_eq!(send(pair.client.address, get(&format!("/{}", "a".repeat(4000)))).await.status, 400);
    assert_eq!(send(pair.client.address, get("/a")).await.status, 200);
    let edits = json!({ "request_headers": { "set": [["Host", "other.example.org"], ["X-A", "1"]], "remove": ["x-gone"] } });
    client(&pair, vec![route(&[("", 1)], edits)], &[("", echo)]);
    let answer = send(pair.client.address, request("GET", "/", &[("x-gone", "1"), ("x-a", "0")])).await;
    assert_eq!((answer.body.as_str(), answer.header("x-saw-x-a"), answer.header("x-saw-x-gone")), ("GET / other.example.org 0", "1", ""));
}

#[tokio::test]
async fn fixed_answers_are_bytes() {
    let mut pair = Pair::new(echo_program(false).await);
    let rule =
        route(&[], json!({ "action": { "respond": { "status": 418, "body": "short" } }, "response_headers": { "set": [["x-own", "1"]] } }));
    publish(&pair.client.shared, vec![service("HTTP"), table(vec![rule])]);
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(
        (answer.status, answer.body.as_str(), answer.header("x-own"), answer.header("content-type")),
        (418, "short", "1", "text/plain")
    );
    assert_eq!(record_details(&mut pair.client).await, "direct_response");
}

async fn record_details(proxy: &mut TestProxy) -> String {
    proxy.record(|_| true).await.details
}

/// Many rules go through the index; cookies that come in several lines are one list.
#[tokio::test]
async fn many_rules_and_cookies() {
    let echo = echo_program(true).await;
    let pair = Pair::new(echo);
    let answer = |status: u16, matches: Value| {
        route(&[], json!({ "action": { "respond": { "status": status, "body": "" } }, "matches": [matches] }))
    };
    let mut rules: Vec<Value> = (0..40).map(|n| answer(410, json!({ "path": { "exact": format!("/gone/{n}") } }))).collect();
    rules
        .push(answer(201, json!({ "path": { "segmentPrefix": "/shop" }, "cookies": [{ "name": "user", "value": { "exact": "jason" } }] })));
    rules.push(answer(202, json!({ "path": { "segmentPrefix": "/shop" } })));
    rules.push(answer(204, json!({ "claims": [{ "path": ["group"], "value": { "exact": "a" }, "invert": true }] })));
    publish(&pair.client.shared, vec![service("HTTP"), table(rules)]);
    let status = async |request| send2(pair.client.address, request).await.status;
    let at = |path: &str, cookies: &[&str]| {
        let mut builder = Request::get(format!("http://reviews{path}"));
        for cookie in cookies {
            builder = builder.header("cookie", *cookie);
        }
        builder.body(Full::default()).expect("legal")
    };
    assert_eq!(status(at("/gone/7", &[])).await, 410);
    assert_eq!(status(at("/shop/x", &["a=1", "user=jason"])).await, 201);
    assert_eq!(status(at("/shop", &["user=other"])).await, 202);
    assert_eq!(status(at("/shopping", &[])).await, 204);
}

/// Where in an exchange the upstream breaks off.
#[derive(Debug, Clone, Copy)]
enum Break {
    /// Before it reads.
    AtOnce,
    /// In the middle of the request's head.
    InHead,
    /// After the head, before the body is there.
    InBody,
    /// After the whole request.
    AfterRequest,
    /// In the middle of the answer's head.
    InAnswer,
    /// In the middle of the answer's body.
    InAnswerBody,
}

/// A program that breaks off its first connection, and answers on the others; and how many requests it read whole.
async fn breaking(at: Break) -> (SocketAddr, Arc<AtomicU32>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let whole = Arc::new(AtomicU32::new(0));
    let seen = whole.clone();
    tokio::spawn(async move {
        let mut first = true;
        while let Ok((mut stream, _)) = listener.accept().await {
            let at = std::mem::take(&mut first).then_some(at);
            let seen = seen.clone();
            tokio::spawn(async move {
                let stop = match at {
                    Some(Break::AtOnce) => return,
                    Some(Break::InHead) => 10,
                    _ => usize::MAX,
                };
                let mut read = Vec::new();
                let mut buffer = [0; 512];
                loop {
                    let head = read.windows(4).position(|w| w == b"\r\n\r\n").map(|end| end + 4);
                    if read.len() >= stop || (matches!(at, Some(Break::InBody)) && head.is_some()) {
                        return;
                    }
                    if head.is_some_and(|head| read.len() >= head + 4) {
                        break;
                    }
                    match stream.read(&mut buffer).await {
                        Ok(n) if n > 0 => read.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                seen.fetch_add(1, Relaxed);
                let answer: &[u8] = match at {
                    Some(Break::AfterRequest) => return,
                    Some(Break::InAnswer) => b"HTTP/1.1 200 O",
                    Some(Break::InAnswerBody) => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal",
                    _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                };
                stream.write_all(answer).await.expect("written");
            });
        }
    });
    (address, whole)
}

/// With every condition on, a request that may have been processed is sent again only when it is idempotent, wherever the upstream
/// breaks off; and an answer that has begun is final.
#[tokio::test]
async fn at_no_point_of_an_exchange_is_a_post_sent_twice() {
    let on = json!({ "connectFailure": true, "refusedStream": true, "reset": true, "resetBeforeRequest": true, "gatewayError": true, "fiveXx": true });
    let retry = json!({ "retry": { "attempts": 3, "on": on, "backoff_ms": 1 } });
    for at in [Break::AtOnce, Break::InHead, Break::InBody, Break::AfterRequest, Break::InAnswer, Break::InAnswerBody] {
        for method in ["POST", "PUT"] {
            let (address, whole) = breaking(at).await;
            let pair = Pair::new(address);
            client(&pair, vec![route(&[("", 1)], retry.clone())], &[("", address)]);
            let stream = tokio::net::TcpStream::connect(pair.client.address).await.expect("connected");
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.expect("ready");
            tokio::spawn(async move { connection.await.ok() });
            let request =
                Request::builder().method(method).uri("/").header("host", "reviews").body(Full::<Bytes>::from("body")).expect("legal");
            let response = sender.send_request(request).await.expect("a head comes");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map(|b| b.to_bytes());
            let read = whole.load(Relaxed);
            match (at, method) {
                (Break::InAnswerBody, _) => assert!(status == 200 && body.is_err() && read == 1, "{at:?} {method}: {status} {read}"),
                (_, "PUT") => assert!(status == 200 && read <= 2, "{at:?} {method}: {status} {read}"),
                (Break::AfterRequest | Break::InAnswer, _) => {
                    assert!((502..=503).contains(&status) && read == 1, "{at:?} {method}: {status} {read}")
                }
                // Whether a byte was written is for the connection to know; sent twice it never is.
                _ => assert!(read <= 1, "{at:?} {method}: {status} {read}"),
            }
        }
    }
}

/// How a rule is found among a thousand, with and without the index; and that both find the same.
#[test]
fn a_rule_among_a_thousand() {
    let rules: Vec<Value> = (0..1000)
        .map(|n| route(&[("", 1)], json!({ "name": n.to_string(), "matches": [{ "path": { "segmentPrefix": format!("/api/v{n}") } }] })))
        .collect();
    let weft_model::ModelValue::RouteTable(table) = serde_json::from_value(table(rules)).expect("a table") else { unreachable!("a table") };
    let index = weft_model::RouteIndex::new(&table);
    let headers = http::HeaderMap::new();
    let host = crate::fixture::REVIEWS;
    let head = weft_model::RequestHead {
        method: "GET",
        scheme: "http",
        authority: host,
        host,
        path: "/api/v999/x",
        query: None,
        headers: &headers,
        claims: None,
    };
    let timed = |find: &dyn Fn() -> Option<String>| {
        let begun = Instant::now();
        for _ in 0..200 {
            assert_eq!(find().as_deref(), Some("999"));
        }
        begun.elapsed() / 200
    };
    let slow = timed(&|| table.find(&head).map(|r| r.name.clone()));
    let fast = timed(&|| index.find(&table, &head).map(|r| r.name.clone()));
    assert!(fast < slow, "in order {slow:?}, by index {fast:?}");
    println!("among 1000 rules: in order {slow:?}, by index {fast:?}");
}
