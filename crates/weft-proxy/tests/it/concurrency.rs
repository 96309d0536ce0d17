//! Bulkheads, adaptive concurrency and admission control at the running proxy.

use crate::fixture::{
    Body, Mesh, Pair, TestProxy, cluster, endpoints, get, identity, inbound, origin, program, publish, route, send, service, table, text,
};
use http::{Request, Response};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;
use weft_telemetry::ResponseFlag;

fn policy(scope: Value, parts: Value) -> Value {
    let mut value = json!({ "name": "default/narrow", "scope": scope, "origin": origin("ConcurrencyPolicy", 1) });
    crate::fixture::merge(&mut value, parts);
    json!({ "type": "Concurrency", "value": value })
}

/// A program that answers `/slow` only when the test adds a permit, and everything else at once.
async fn gated() -> (SocketAddr, Arc<Semaphore>, Arc<AtomicUsize>) {
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (of_program, count) = (gate.clone(), waiting.clone());
    let address = program(false, move |request: Request<_>| {
        let (gate, waiting) = (of_program.clone(), count.clone());
        async move {
            if request.uri().path() == "/slow" {
                waiting.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.expect("open").forget();
            }
            text(200, "done") as Response<Body>
        }
    })
    .await;
    (address, gate, waiting)
}

fn caller(mesh: &Mesh, account: &str, server: &TestProxy) -> TestProxy {
    let values = vec![
        inbound(account, 9080, "PERMISSIVE"),
        service("AUTO"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", json!({})),
        endpoints("", &[(server.address, Some("reviews"))]),
    ];
    mesh.client(account, values)
}

#[tokio::test]
async fn a_saturated_caller_leaves_the_places_of_the_others_alone() {
    let (address, gate, waiting) = gated().await;
    let mut pair = Pair::new(address);
    let bulkhead = json!({ "bulkheads": [{
        "name": "per-caller", "requests": 3, "key": [{ "by": "principal", "descriptor": "principal" }], "origin": origin("ConcurrencyPolicy", 5)
    }]});
    publish(&pair.server.shared, vec![inbound("reviews", address.port(), "STRICT"), policy(json!({ "own": true }), bulkhead)]);
    let other = caller(&pair.mesh, "modest", &pair.server);
    let greedy = pair.client.address;
    let stuck: Vec<_> = (0..3).map(|_| tokio::spawn(send(greedy, get("/slow")))).collect();
    while waiting.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    let refused = send(greedy, get("/fast")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("3 requests are under way in bulkhead per-caller of default/narrow"), "{}", refused.body);
    let record = pair.server.record(|r| r.status == 503).await;
    assert_eq!(
        (record.flags.as_slice(), record.details.as_str()),
        (&[ResponseFlag::Overload][..], "bulkhead_full[default/narrow/per-caller]")
    );
    assert_eq!(record.cause.expect("a cause").line, 5);
    assert_eq!(record.source.principal, identity("productpage").to_string());
    // Two hundred of the other caller, none refused.
    for _ in 0..200 {
        assert_eq!(send(other.address, get("/fast")).await.status, 200);
    }
    gate.add_permits(3);
    for request in stuck {
        assert_eq!(request.await.expect("no panic").status, 200);
    }
    assert_eq!(send(greedy, get("/fast")).await.status, 200, "the places were given back");
}

#[tokio::test]
async fn places_of_callers_that_leave_are_given_back() {
    let (address, _gate, waiting) = gated().await;
    let mut pair = Pair::new(address);
    let bulkhead = json!({ "bulkheads": [{ "name": "one", "requests": 1, "origin": origin("ConcurrencyPolicy", 5) }]});
    publish(&pair.server.shared, vec![inbound("reviews", address.port(), "STRICT"), policy(json!({ "own": true }), bulkhead)]);
    for round in 1..=3 {
        let stuck = tokio::spawn(send(pair.client.address, get("/slow")));
        while waiting.load(Ordering::SeqCst) < round {
            tokio::task::yield_now().await;
        }
        assert_eq!(send(pair.client.address, get("/fast")).await.status, 503);
        stuck.abort();
        pair.server.record(|r| r.path == "/slow").await;
    }
    assert_eq!(send(pair.client.address, get("/fast")).await.status, 200);
}

#[tokio::test]
async fn an_adaptive_limit_sheds_beyond_it() {
    let (address, gate, waiting) = gated().await;
    let pair = Pair::new(address);
    let adaptive = json!({ "adaptive": {
        "requests_min": 2, "requests_max": 4, "by": { "gradient": { "tolerance_percent": 50 } }, "origin": origin("ConcurrencyPolicy", 6)
    }});
    publish(&pair.server.shared, vec![inbound("reviews", address.port(), "STRICT"), policy(json!({ "own": true }), adaptive)]);
    let stuck: Vec<_> = (0..4).map(|_| tokio::spawn(send(pair.client.address, get("/slow")))).collect();
    while waiting.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    let refused = send(pair.client.address, get("/fast")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("4 requests are under way, and more would only wait"), "{}", refused.body);
    gate.add_permits(4);
    for request in stuck {
        assert_eq!(request.await.expect("no panic").status, 200);
    }
    assert_eq!(send(pair.client.address, get("/fast")).await.status, 200);
}

#[tokio::test]
async fn admission_control_sheds_at_the_caller_while_the_callee_fails() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let address = program(false, move |_: Request<_>| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move { text(500, "broken") as Response<Body> }
    })
    .await;
    let mut pair = Pair::new(address);
    let admission = json!({ "admission": {
        "success_ppm": 950_000, "aggression_milli": 1000, "window_ms": 60_000, "rejection_max_ppm": 800_000, "requests_per_second_min": 0,
        "origin": origin("ConcurrencyPolicy", 8)
    }});
    let values = vec![
        inbound("productpage", 9080, "PERMISSIVE"),
        service("AUTO"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
        policy(json!({ "services": [crate::fixture::REVIEWS] }), admission),
    ];
    publish(&pair.client.shared, values);
    let mut shed = 0;
    for _ in 0..200 {
        shed += usize::from(send(pair.client.address, get("/")).await.status == 503);
    }
    assert!((100..=190).contains(&shed), "{shed} of 200 were shed");
    assert_eq!(calls.load(Ordering::SeqCst), 200 - shed, "what was shed reached nobody");
    let record = pair.client.record(|r| r.status == 503).await;
    assert_eq!(record.details, "denied_by_admission_control[default/narrow]");
}
