//! Beside the traffic: the admin endpoint and the program's DNS.

use crate::fixture::{Mesh, cluster, get, inbound, loopback, send, service};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    net::{TcpListener, UdpSocket},
    sync::{Arc, Mutex},
};
use weft_proxy::{ProxyConfig, SetLogLevel, control::Needed};

#[tokio::test]
async fn the_admin_endpoint_tells_what_runs_and_hides_what_is_secret() {
    let listener = TcpListener::bind(loopback()).expect("bound");
    let at = listener.local_addr().expect("address");
    let level = Arc::new(Mutex::new(String::new()));
    let set = level.clone();
    let set_log_level = SetLogLevel(Arc::new(move |wanted: &str| {
        *set.lock().expect("one user") = wanted.to_owned();
        if wanted == "loud" { Err("`loud` is not a level".into()) } else { Ok(()) }
    }));
    let config = ProxyConfig { admin: Some(listener), set_log_level: Some(set_log_level), ..ProxyConfig::default() };
    let tls = json!({ "certificates": [{ "certificate": "CERT", "private_key": "SECRET" }] });
    let gateway = json!({ "type": "GatewayListeners", "value": { "listeners": [
        { "name": "https", "port": 443, "protocol": "HTTPS", "hosts": ["*"], "tls": tls, "origin": crate::fixture::origin("Gateway", 3) }
    ] } });
    let proxy = Mesh::new().start("productpage", config, at, vec![service("HTTP"), cluster("", json!({})), gateway]);
    let call = |method: &str, path: &str, host: &str, body: &'static str| {
        send(at, Request::builder().method(method).uri(path).header("host", host).body(Full::from(body)).expect("legal"))
    };
    assert_eq!(call("GET", "/healthz/ready", "localhost", "").await.status, 200);
    let answer = call("GET", "/config", "127.0.0.1:1", "").await;
    let shown: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(shown["identity"], "spiffe://cluster.local/ns/default/sa/productpage");
    assert!(answer.body.contains("\"line\": 3") && answer.body.contains("(not shown)") && !answer.body.contains("SECRET"));
    assert_eq!(call("PUT", "/log-level", "localhost", "debug\n").await.status, 200);
    assert_eq!(*level.lock().expect("one user"), "debug");
    assert_eq!(call("PUT", "/log-level", "localhost", "loud").await.status, 400);
    assert_eq!(call("GET", "/config", "evil.example", "").await.status, 403, "DNS rebinding");
    assert_eq!(call("GET", "/nothing", "localhost", "").await.status, 404);
    drop(proxy);
}

#[tokio::test]
async fn metrics_have_the_standard_names() {
    let admin = TcpListener::bind(loopback()).expect("bound");
    let at = admin.local_addr().expect("address");
    let program = crate::fixture::echo_program(false).await;
    let listener = TcpListener::bind(loopback()).expect("bound");
    let inside = listener.local_addr().expect("address");
    let socket = weft_proxy::InboundSocket {
        workload_port: program.port(),
        listeners: vec![listener],
        advertise: inside,
        protocol: weft_model::Protocol::Http,
        program: weft_proxy::Program::Host(program.ip()),
    };
    let config = ProxyConfig { admin: Some(admin), inbound: vec![socket], ..ProxyConfig::default() };
    let mut proxy = Mesh::new().start("reviews", config, inside, vec![inbound("reviews", program.port(), "PERMISSIVE")]);
    assert_eq!(send(inside, get("/")).await.status, 200);
    proxy.record(|r| r.status == 200).await;
    let answer = send(at, Request::get("/stats/prometheus").header("host", "localhost").body(Full::default()).expect("legal")).await;
    assert!(answer.body.contains("istio_requests_total{reporter=\"destination\""), "{}", answer.body);
    assert!(answer.body.contains("destination_workload=\"reviews-v1\""), "{}", answer.body);
}

/// A question for the A records of `name` (RFC 1035 §4.1).
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("short"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[tokio::test]
async fn names_of_the_mesh_have_addresses_and_others_do_not() {
    let udp = UdpSocket::bind(loopback()).expect("bound");
    let at = udp.local_addr().expect("address");
    let dns = weft_wire::capture::DnsSockets { udp, tcp: TcpListener::bind(loopback()).expect("bound") };
    let config = ProxyConfig { dns: Some(dns), ..ProxyConfig::default() };
    let mut proxy = Mesh::new().start("productpage", config, at, vec![service("HTTP")]);
    let ask = |name: &'static str| async move {
        let socket = tokio::net::UdpSocket::bind(loopback()).await.expect("bound");
        socket.send_to(&question(name), at).await.expect("sent");
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await.expect("answered");
        (answer[3] & 15, answer[length - 4..length].to_vec())
    };
    for name in ["reviews", "reviews.default", crate::fixture::REVIEWS] {
        assert_eq!(ask(name).await, (0, vec![240, 240, 0, 1]), "{name}");
    }
    let unknown = async {
        let asked = proxy.needs.recv().await.expect("asked");
        assert_eq!(asked.root, weft_model::Root::Host("example.com".into()));
        asked.answer.send(Needed::Unknown).expect("waits");
    };
    let ((code, _), ()) = tokio::join!(ask("example.com"), unknown);
    assert_eq!(code, 3);
    // Remembered for a moment: nobody is asked again.
    assert_eq!(ask("example.com").await.0, 3);
}
