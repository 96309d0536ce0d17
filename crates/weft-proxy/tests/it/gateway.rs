//! A gateway: ports that come and go with the configuration, hosts, redirects, TLS, headers from outside.

use crate::fixture::{Mesh, Pair, TestProxy, cluster, echo_program, endpoints, loopback, origin, publish, route, send};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use weft_proxy::{GatewayPorts, ProxyConfig, Role};

fn listeners(of: &[(u16, &str, Value)]) -> Value {
    let listeners: Vec<Value> = of
        .iter()
        .map(|(port, host, extra)| {
            let mut one = json!({ "name": "l", "port": port, "protocol": "HTTP", "hosts": [host], "origin": origin("Gateway", 2) });
            crate::fixture::merge(&mut one, extra.clone());
            one
        })
        .collect();
    json!({ "type": "GatewayListeners", "value": { "listeners": listeners } })
}

fn table(port: u16, host: &str) -> Value {
    json!({ "type": "RouteTable", "value": { "name": format!("gateway/{port}"), "hosts": [{ "hosts": [host], "routes": [route(&[("", 1)], json!({}))] }] } })
}

fn gateway(mesh: &Mesh, values: Vec<Value>) -> TestProxy {
    let map = [80, 81, 443].map(|port| (port, loopback())).into();
    let ports = GatewayPorts { ip: loopback().ip(), map, low_port_shift: 0 };
    let config = ProxyConfig { name: "gateway".into(), role: Role::Gateway, gateway: Some(ports), ..ProxyConfig::default() };
    mesh.start("gateway", config, loopback(), values)
}

async fn opened(proxy: &TestProxy, port: u16) -> Result<SocketAddr, String> {
    let handle = proxy.handle.as_ref().expect("runs");
    let wait = async {
        loop {
            if let Some(state) = handle.gateway_ports().remove(&port) {
                return state;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the port is seen to")
}

fn get(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).body(Full::default()).expect("legal")
}

#[tokio::test]
async fn ports_open_and_close_and_hosts_are_told_apart() {
    let pair = Pair::new(echo_program(false).await);
    let upstream = || vec![cluster("", json!({})), endpoints("", &[(pair.server.address, Some("reviews"))])];
    let with = |of: Vec<Value>| [upstream(), of].concat();
    let mut proxy = gateway(&pair.mesh, with(vec![listeners(&[(80, "shop.example", json!({}))]), table(80, "shop.example")]));
    let at = opened(&proxy, 80).await.expect("open");
    assert_eq!(send(at, get("shop.example", "/a")).await.body, "GET /a shop.example 0");
    assert_eq!(send(at, get("other.example", "/a")).await.status, 404);
    let record = proxy.record(|r| r.status == 404).await;
    assert_eq!(record.flags, [weft_telemetry::ResponseFlag::NoRoute]);

    publish(&proxy.shared, with(vec![listeners(&[(81, "*", json!({}))]), table(81, "*")]));
    let next = opened(&proxy, 81).await.expect("open");
    assert_eq!(send(next, get("any.example", "/")).await.status, 200);
    let closed = async {
        while tokio::net::TcpStream::connect(at).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("port 80 closes");
}

#[tokio::test]
async fn what_comes_from_outside_is_not_believed() {
    let pair = Pair::new(echo_program(false).await);
    let values = vec![
        listeners(&[(80, "*", json!({}))]),
        table(80, "*"),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
    ];
    let proxy = gateway(&pair.mesh, values);
    let at = opened(&proxy, 80).await.expect("open");
    let mut request = get("a.example", "/");
    for name in ["x-forwarded-for", "x-forwarded-client-cert", "x-envoy-original-path", "x-weft-peer", "x-request-id", "x-forwarded-proto"]
    {
        request.headers_mut().insert(name, "forged".parse().expect("value"));
    }
    let answer = send(at, request).await;
    let saw = |name: &str| answer.header(&format!("x-saw-{name}")).to_owned();
    assert_eq!((saw("x-forwarded-for"), saw("x-forwarded-proto")), ("127.0.0.1".into(), "http".into()));
    assert_eq!((saw("x-envoy-original-path"), saw("x-weft-peer")), (String::new(), String::new()));
    assert!(saw("x-forwarded-client-cert").contains("sa/gateway"));
    assert!(!saw("x-request-id").is_empty() && saw("x-request-id") != "forged");
}

#[tokio::test]
async fn a_port_in_use_harms_no_other() {
    let pair = Pair::new(echo_program(false).await);
    let taken = std::net::TcpListener::bind(loopback()).expect("bound");
    let map = [(80, taken.local_addr().expect("address")), (81, loopback())].into();
    let ports = GatewayPorts { ip: loopback().ip(), map, low_port_shift: 0 };
    let config = ProxyConfig { name: "gateway".into(), role: Role::Gateway, gateway: Some(ports), ..ProxyConfig::default() };
    let values = vec![
        listeners(&[(80, "*", json!({})), (81, "*", json!({}))]),
        table(81, "*"),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
    ];
    let proxy = pair.mesh.start("gateway", config, loopback(), values);
    let at = opened(&proxy, 81).await.expect("open");
    assert!(opened(&proxy, 80).await.expect_err("taken").contains("in use"));
    assert_eq!(send(at, get("a", "/")).await.status, 200);

    // Once the other program has ended, the port is opened without another change of the configuration.
    let mut states = proxy.handle.as_ref().expect("runs").follow_gateway_ports();
    let closed = states.borrow_and_update().get(&80).and_then(|state| state.clone().err()).expect("told");
    assert!(closed.fix.contains("--gateway 80="), "{}", closed.fix);
    assert_eq!((closed.address, closed.origin.kind.as_str()), (taken.local_addr().expect("address"), "Gateway"));
    drop(taken);
    let open = states.wait_for(|states| states.get(&80).is_some_and(Result::is_ok));
    tokio::time::timeout(Duration::from_secs(10), open).await.expect("tried again").expect("runs");
}

#[tokio::test]
async fn plain_text_is_sent_to_https() {
    let pair = Pair::new(echo_program(false).await);
    let values = vec![listeners(&[(80, "*", json!({ "https_redirect": true }))]), table(80, "*")];
    let proxy = gateway(&pair.mesh, values);
    let at = opened(&proxy, 80).await.expect("open");
    let answer = send(at, get("a.example:8080", "/x?y=1")).await;
    assert_eq!((answer.status, answer.header("location")), (301, "https://a.example/x?y=1"));
}

/// A certificate for `host`, and its key.
fn certificate(host: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).expect("made");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn tls_ends_at_the_edge_with_the_certificate_of_the_host() {
    use weft_pki::Alpn;
    use weft_wire::tls::ClientTls;
    let pair = Pair::new(echo_program(false).await);
    let (one, two) = (certificate("one.example"), certificate("two.example"));
    let tls = |(chain, key): &(String, String)| json!({ "protocol": "HTTPS", "tls": { "certificates": [{ "certificate": chain, "private_key": key }] } });
    let of = |first: &(String, String)| {
        vec![
            listeners(&[(443, "one.example", tls(first)), (443, "two.example", tls(&two))]),
            table(443, "*"),
            cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
        ]
    };
    let proxy = gateway(&pair.mesh, of(&one));
    let at = opened(&proxy, 443).await.expect("open");
    let call = |host: &'static str, root: String, alpn: Alpn| async move {
        let stream = tokio::net::TcpStream::connect(at).await.expect("connected");
        let client = ClientTls::public(host, Some(&root), &[alpn]).expect("usable");
        let secured = client.connect(stream, weft_std::clock::now() + Duration::from_secs(5)).await.map_err(|e| e.to_string())?;
        let io = hyper_util::rt::TokioIo::new(secured.stream);
        let uri = format!("https://{host}/");
        let answer = if alpn == Alpn::H2 {
            let request = Request::get(uri).body(Full::<Bytes>::default()).expect("legal");
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("ready");
            tokio::spawn(async move { connection.await.ok() });
            sender.send_request(request).await.expect("answered")
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("ready");
            tokio::spawn(async move { connection.await.ok() });
            sender.send_request(get(host, "/")).await.expect("answered")
        };
        Ok::<_, String>(crate::fixture::whole(answer).await)
    };
    for alpn in [Alpn::Http11, Alpn::H2] {
        for (host, root) in [("one.example", &one.0), ("two.example", &two.0)] {
            let answer = call(host, root.clone(), alpn).await.expect("trusted");
            assert_eq!((answer.status, answer.header("x-saw-x-forwarded-proto")), (200, "https"));
        }
    }
    // A new certificate is shown without closing the port; a broken one leaves the last good in use.
    let fresh = certificate("one.example");
    publish(&proxy.shared, of(&fresh));
    let renewed = async {
        while call("one.example", fresh.0.clone(), Alpn::Http11).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), renewed).await.expect("shown");
    publish(&proxy.shared, of(&("not PEM".into(), "not PEM".into())));
    assert_eq!(call("one.example", fresh.0.clone(), Alpn::Http11).await.expect("trusted").status, 200);
}

#[tokio::test]
async fn policies_that_select_the_gateway_are_enforced_at_the_gateway() {
    let pair = Pair::new(echo_program(false).await);
    let mesh_values = vec![cluster("", json!({})), endpoints("", &[(pair.server.address, Some("reviews"))])];
    let deny = json!({ "type": "Authorization", "value": {
        "name": "istio-system/no-admin", "action": "DENY", "origin": origin("AuthorizationPolicy", 4),
        "rules": [{ "to": [{ "paths": { "any": [{ "prefix": "/admin" }] } }], "origin": origin("AuthorizationPolicy", 9) }],
    } });
    let own = vec![listeners(&[(80, "*", json!({}))]), table(80, "*"), deny];
    let mut proxy = gateway(&pair.mesh, [mesh_values, own].concat());
    let at = opened(&proxy, 80).await.expect("open");
    assert_eq!(send(at, get("shop.example", "/a")).await.status, 200);
    let denied = send(at, get("shop.example", "/x/../admin")).await;
    assert_eq!(denied.status, 403, "{}", denied.body);
    let record = proxy.record(|r| r.status == 403).await;
    let decision = record.policy.expect("the decision is told");
    assert_eq!((decision.policy.as_str(), decision.origin.line), ("istio-system/no-admin", 9));
    assert!(record.attempts.is_empty(), "nothing was sent on: {:?}", record.attempts);
}

/// A browser asks without credentials whether it may: it is answered before the gateway asks who it is, and only there.
#[tokio::test]
async fn preflights_are_answered_before_authorization() {
    let pair = Pair::new(echo_program(false).await);
    let deny = json!({ "type": "Authorization", "value": {
        "name": "default/deny", "action": "DENY", "rules": [{ "origin": origin("AuthorizationPolicy", 4) }], "origin": origin("AuthorizationPolicy", 3)
    }});
    let cors = json!({ "cors": { "origins": [{ "exact": "https://a.example" }], "methods": ["PUT"], "origin": origin("HTTPRoute", 7) } });
    let rules = json!({ "type": "RouteTable", "value": {
        "name": "gateway/80", "hosts": [{ "hosts": ["*"], "routes": [route(&[("", 1)], cors)] }]
    }});
    let upstream = endpoints("", &[(pair.server.address, Some("reviews"))]);
    let proxy = gateway(&pair.mesh, vec![listeners(&[(80, "*", json!({}))]), rules, cluster("", json!({})), upstream, deny]);
    let at = opened(&proxy, 80).await.expect("open");
    let ask = |origin: &str, method: &str| {
        let builder = Request::builder().method(method).uri("/").header("host", "a.example").header("origin", origin);
        builder.header("access-control-request-method", "PUT").body(Full::default()).expect("legal")
    };
    let answer = send(at, ask("https://a.example", "OPTIONS")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "https://a.example"));
    let answer = send(at, ask("https://evil.example", "OPTIONS")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
    assert_eq!(send(at, ask("https://a.example", "PUT")).await.status, 403, "the request itself is judged");
}

/// What steers Envoy's router is for the mesh alone: from outside it changes nothing and goes no further.
#[tokio::test]
async fn nobody_outside_steers_retries_or_deadlines() {
    let pair = Pair::new(echo_program(false).await);
    let upstream = endpoints("", &[(pair.server.address, Some("reviews"))]);
    let proxy = gateway(&pair.mesh, vec![listeners(&[(80, "*", json!({}))]), table(80, "*"), cluster("", json!({})), upstream]);
    let at = opened(&proxy, 80).await.expect("open");
    let mut request = get("a.example", "/");
    let steering = [
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-max-retries",
        "x-envoy-retry-on",
        "x-envoy-attempt-count",
        "x-envoy-upstream-rq-timeout-ms",
    ];
    for name in steering {
        request.headers_mut().insert(name, "1".parse().expect("value"));
    }
    let answer = send(at, request).await;
    assert_eq!(answer.status, 200);
    for name in steering {
        assert_eq!(answer.header(&format!("x-saw-{name}")), "", "{name}");
    }
}

#[tokio::test]
async fn a_route_is_looked_up_again_only_where_the_service_that_authorizes_asks_for_it() {
    let pair = Pair::new(echo_program(false).await);
    let service = crate::fixture::program(false, |_| async {
        let mut response = crate::fixture::text(200, "");
        response.headers_mut().insert("x-tier", "gold".parse().expect("value"));
        response
    })
    .await;
    const ASK: &str = "outbound|9191||ask.default.svc.cluster.local";
    let values = |clear: bool| {
        let provider = json!({
            "name": "ask", "cluster": ASK, "protocol": { "http": { "to_upstream": [{ "exact": "x-tier" }] } }, "timeout_ms": 5000,
            "status_on_error": 403, "clear_route_cache": clear, "origin": origin("ConfigMap", 4)
        });
        let gold = json!({ "matches": [{ "headers": [{ "name": "x-tier", "value": { "exact": "gold" } }] }], "action": { "respond": { "status": 200, "body": "gold" } } });
        let routes = vec![route(&[("", 1)], gold), route(&[("", 1)], json!({}))];
        vec![
            listeners(&[(80, "*", json!({}))]),
            json!({ "type": "RouteTable", "value": { "name": "gateway/80", "hosts": [{ "hosts": ["*"], "routes": routes }] } }),
            cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
            json!({ "type": "Authorization", "value": { "name": "default/ask", "action": "CUSTOM", "rules": [{ "origin": origin("AuthorizationPolicy", 8) }], "provider": provider, "origin": origin("AuthorizationPolicy", 1) } }),
            json!({ "type": "Cluster", "value": { "name": ASK, "protocol": "HTTP", "origin": origin("Service", 3) } }),
            json!({ "type": "Endpoints", "value": { "cluster": ASK, "endpoints": [{ "address": service.to_string() }] } }),
        ]
    };
    let proxy = gateway(&pair.mesh, values(false));
    let at = opened(&proxy, 80).await.expect("open");
    let answer = send(at, get("shop.example", "/a")).await;
    assert_eq!((answer.body.as_str(), answer.header("x-saw-x-tier")), ("GET /a shop.example 0", "gold"), "the upstream sees the header");
    publish(&proxy.shared, values(true));
    assert_eq!(send(at, get("shop.example", "/a")).await.body, "gold");
}

#[tokio::test]
async fn a_route_may_name_a_service_that_authorizes_its_requests() {
    let pair = Pair::new(echo_program(false).await);
    let service = crate::fixture::program(false, |request: Request<hyper::body::Incoming>| async move {
        let user = request.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let mut response = crate::fixture::text(if user == "alice" { 200 } else { 401 }, "who are you");
        response.headers_mut().insert("x-seen", format!("{} {}", request.uri(), request.headers().len()).parse().expect("value"));
        response
    })
    .await;
    const ASK: &str = "outbound|9191||ask.default.svc.cluster.local";
    let provider = |cluster: Value| {
        json!({ "external_auth": {
            "name": "ask", "cluster": cluster, "protocol": { "http": { "path_prefix": "/check", "request_headers": [{ "exact": "authorization" }], "to_upstream": [{ "exact": "x-seen" }] } },
            "timeout_ms": 5000, "status_on_error": 500, "origin": origin("HTTPRoute", 14)
        }, "matches": [{ "path": { "segmentPrefix": "/ask" } }] })
    };
    let values = |cluster: Value, at: Vec<Value>| {
        let routes = vec![route(&[("", 1)], provider(cluster)), route(&[("", 1)], json!({}))];
        vec![
            listeners(&[(80, "*", json!({}))]),
            json!({ "type": "RouteTable", "value": { "name": "gateway/80", "hosts": [{ "hosts": ["*"], "routes": routes }] } }),
            crate::fixture::cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
            json!({ "type": "Cluster", "value": { "name": ASK, "protocol": "HTTP", "origin": origin("Service", 3) } }),
            json!({ "type": "Endpoints", "value": { "cluster": ASK, "endpoints": at } }),
        ]
    };
    let mut proxy = gateway(&pair.mesh, values(json!(ASK), vec![json!({ "address": service.to_string() })]));
    let at = opened(&proxy, 80).await.expect("open");
    let of = |user: &str, path: &str| {
        let mut request = get("shop.example", path);
        request.headers_mut().insert("cookie", "c=1".parse().expect("value"));
        request.headers_mut().insert("authorization", user.parse().expect("value"));
        request
    };
    let answer = send(at, of("alice", "/ask?q=1")).await;
    assert_eq!((answer.status, answer.header("x-saw-x-seen")), (200, "/check/ask?q=1 2"), "it sees host and authorization, no cookie");
    let answer = send(at, of("bob", "/ask")).await;
    assert_eq!((answer.status, answer.body.as_str()), (401, "who are you"));
    let record = proxy.record(|r| r.status == 401).await;
    assert_eq!(record.policy.map(|p| (p.policy, p.origin.line)), Some(("default/test/0".into(), 14)));
    assert_eq!(send(at, of("bob", "/other")).await.status, 200, "other routes are not asked about");
    publish(&proxy.shared, values(Value::Null, Vec::new()));
    assert_eq!(send(at, of("alice", "/ask")).await.status, 500, "a service that does not exist lets nothing through");
    publish(&proxy.shared, values(json!(ASK), Vec::new()));
    assert_eq!(send(at, of("alice", "/ask")).await.status, 500, "nor does one that cannot be reached");
}
