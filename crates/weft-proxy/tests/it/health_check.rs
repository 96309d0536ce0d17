//! Active health checks: HTTP, TCP and gRPC, over the way that requests go.

use crate::{
    balancing::{client, values},
    fixture::{
        Mesh, TestProxy, cluster, endpoints, get, inbound, inbound_with, loopback, origin, program, publish, route, send, service, table,
        text,
    },
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;
use weft_telemetry::ResponseFlag;

/// A program whose health can be switched, and what it was asked.
#[derive(Clone, Default)]
struct Patient {
    ill: Arc<AtomicBool>,
    asked: Arc<Notify>,
    checks: Arc<AtomicU32>,
}

impl Patient {
    fn check(&self) -> bool {
        self.checks.fetch_add(1, Relaxed);
        self.asked.notify_one();
        !self.ill.load(Relaxed)
    }

    /// Answers `/healthz` by its health, everything else with its name.
    async fn http(&self, name: &'static str) -> SocketAddr {
        let patient = self.clone();
        program(false, move |request: Request<Incoming>| {
            let patient = patient.clone();
            async move {
                match request.uri().path() {
                    "/healthz" => text(if patient.check() { 200 } else { 500 }, ""),
                    _ => text(200, name),
                }
            }
        })
        .await
    }

    /// Waits until the proxy thinks so of the endpoint, looking whenever the program was asked.
    async fn until(&self, proxy: &TestProxy, address: SocketAddr, fails: bool) {
        loop {
            if state(proxy, address).await["failsHealthCheck"] == fails {
                return;
            }
            self.asked.notified().await;
        }
    }
}

async fn state(proxy: &TestProxy, address: SocketAddr) -> Value {
    let described = proxy.handle.as_ref().expect("running").describe().await;
    let endpoints = described[0]["clusters"][0]["endpoints"].as_array().cloned().unwrap_or_default();
    endpoints.into_iter().find(|e| e["address"] == address.to_string()).unwrap_or_default()
}

fn check(probe: Value) -> Value {
    json!({ "health_check": {
        "probe": probe, "interval_ms": 10, "timeout_ms": 2000, "healthy_threshold": 2, "unhealthy_threshold": 2,
        "origin": origin("BackendPolicy", 11)
    }})
}

#[tokio::test]
async fn an_ill_endpoint_gets_no_requests_until_it_is_well() {
    let (one, other) = (Patient::default(), Patient::default());
    let (first, second) = (one.http("one").await, other.http("other").await);
    let mut proxy = client(check(json!({ "http": { "path": "/healthz" } })), &[first, second]);
    one.until(&proxy, first, false).await;
    one.ill.store(true, Relaxed);
    one.until(&proxy, first, true).await;
    for _ in 0..10 {
        assert_eq!(send(proxy.address, get("/")).await.body, "other");
    }
    assert_eq!(state(&proxy, first).await["lastHealthCheck"], "status 500");
    // Both ill: refused, and the record names the policy.
    other.ill.store(true, Relaxed);
    other.until(&proxy, second, true).await;
    let refused = send(proxy.address, get("/refused")).await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("active health check"), "{}", refused.body);
    let record = proxy.record(|r| r.path == "/refused").await;
    assert_eq!(record.flags, [ResponseFlag::NoHealthyUpstream]);
    assert_eq!(record.cause.expect("a cause").line, 11);
    one.ill.store(false, Relaxed);
    one.until(&proxy, first, false).await;
    assert_eq!(send(proxy.address, get("/")).await.body, "one");
    // Without the policy nobody is known to be ill, and nobody is asked.
    publish(&proxy.shared, values(json!({ "balancing": "ROUND_ROBIN" }), &[first, second]));
    let both: Vec<String> = vec![send(proxy.address, get("/")).await.body, send(proxy.address, get("/")).await.body];
    assert!(both.contains(&"other".to_owned()), "{both:?}");
}

#[tokio::test]
async fn checks_go_over_mutual_tls_to_the_program_behind_the_proxy() {
    let patient = Patient::default();
    let address = patient.http("one").await;
    let mesh = Mesh::new();
    let mut server = mesh.server("reviews", address, vec![inbound_with("reviews", address.port(), "STRICT", "HTTP")]);
    let values = vec![
        inbound("productpage", 9080, "PERMISSIVE"),
        service("HTTP"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", check(json!({ "http": { "path": "/healthz", "headers": [["x-check", "yes"]] } }))),
        endpoints("", &[(server.address, Some("reviews"))]),
    ];
    let proxy = mesh.client("productpage", values);
    patient.ill.store(true, Relaxed);
    patient.until(&proxy, server.address, true).await;
    let record = server.record(|r| r.path == "/healthz").await;
    assert_eq!(record.source.principal, "spiffe://cluster.local/ns/default/sa/productpage");
    assert_eq!(record.user_agent, "weft-health-check");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_fails_its_tcp_check() {
    let patient = Patient::default();
    let open = patient.http("open").await;
    let closed = tokio::net::TcpListener::bind(loopback()).await.expect("bound").local_addr().expect("address");
    let proxy = client(check(json!("tcp")), &[open, closed]);
    while state(&proxy, closed).await["failsHealthCheck"] != true {
        tokio::task::yield_now().await;
    }
    assert_eq!(state(&proxy, open).await["failsHealthCheck"], false);
    for _ in 0..10 {
        assert_eq!(send(proxy.address, get("/")).await.body, "open");
    }
}

#[tokio::test]
async fn grpc_health_is_asked_as_grpc_says() {
    let patient = Patient::default();
    let of = patient.clone();
    let address = program(true, move |request: Request<Incoming>| {
        let patient = of.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.expect("whole").to_bytes();
            let asked = path == "/grpc.health.v1.Health/Check" && body.as_ref() == [0, 0, 0, 0, 3, 0x0a, 1, b'a'];
            let serving = asked && patient.check();
            let answer = Bytes::from(vec![0, 0, 0, 0, 2, 8, if serving { 1 } else { 2 }]);
            let mut response = Response::new(Full::new(answer).boxed());
            response.headers_mut().insert("content-type", "application/grpc".parse().expect("value"));
            response
        }
    })
    .await;
    let mut of_cluster = check(json!({ "grpc": "a" }));
    of_cluster["protocol"] = json!("GRPC");
    let proxy = client(of_cluster, &[address]);
    patient.until(&proxy, address, false).await;
    patient.ill.store(true, Relaxed);
    patient.until(&proxy, address, true).await;
    patient.ill.store(false, Relaxed);
    patient.until(&proxy, address, false).await;
}

#[tokio::test]
async fn too_few_well_means_all() {
    let patient = Patient::default();
    let address = patient.http("one").await;
    patient.ill.store(true, Relaxed);
    let mut of_cluster = check(json!({ "http": { "path": "/healthz" } }));
    of_cluster["panic_percent"] = json!(50);
    let proxy = client(of_cluster, &[address]);
    patient.until(&proxy, address, true).await;
    assert_eq!(send(proxy.address, get("/")).await.body, "one");
}
