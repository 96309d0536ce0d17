//! What outsiders say about themselves: it reaches neither the program nor a policy, at each boundary and in both directions.

use crate::fixture::{
    Answer, Mesh, Pair, TestProxy, cluster, echo_program, endpoints, inbound, inbound_with, loopback, merge, origin, program, publish,
    route, send, send2, text,
};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use weft_proxy::{GatewayPorts, ProxyConfig, Role};

/// Headers that only the mesh may set.
const OURS: [&str; 16] = [
    "x-envoy-original-path",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-envoy-downstream-service-cluster",
    "x-envoy-decorator-operation",
    "x-envoy-max-retries",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "forwarded",
    "x-real-ip",
    "x-weft-peer",
    "x-weft-anything",
];

const FORGED_CERTIFICATE: &str = "By=spiffe://cluster.local/ns/default/sa/reviews;URI=spiffe://cluster.local/ns/default/sa/root";

fn forged(headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get("http://reviews/").header("host", "reviews").body(Full::default()).expect("legal");
    for name in OURS {
        request.headers_mut().insert(name, "forged".parse().expect("value"));
    }
    for (name, value) in headers {
        request.headers_mut().append(name.parse::<http::HeaderName>().expect("name"), value.parse().expect("value"));
    }
    request
}

fn saw(answer: &Answer, name: &str) -> String {
    let all: Vec<&str> = answer.headers.get_all(format!("x-saw-{name}")).iter().filter_map(|v| v.to_str().ok()).collect();
    all.join(" | ")
}

/// None of what was forged is in what the program got.
fn nothing_forged(answer: &Answer) {
    let seen: Vec<String> = answer.headers.iter().filter(|(_, v)| v.as_bytes() == b"forged").map(|(n, _)| n.to_string()).collect();
    assert!(seen.is_empty(), "the program was told {seen:?}");
}

fn settings(of: Value) -> Value {
    let mut value = json!({ "origin": origin("ConfigMap", 1) });
    merge(&mut value, of);
    json!({ "type": "Settings", "value": value })
}

/// A gateway with `more` before a pair's server.
struct Edge {
    pair: Pair,
    proxy: TestProxy,
    at: SocketAddr,
}

impl Edge {
    async fn new(program: SocketAddr, more: Vec<Value>) -> Self {
        let pair = Pair::new(program);
        let ports = GatewayPorts { ip: loopback().ip(), map: [(80, loopback())].into(), low_port_shift: 0 };
        let config = ProxyConfig { name: "gateway".into(), role: Role::Gateway, gateway: Some(ports), ..ProxyConfig::default() };
        let values = Self::values(&pair, more);
        let proxy = pair.mesh.start("gateway", config, loopback(), values);
        let wait = async {
            loop {
                if let Some(state) = proxy.handle.as_ref().expect("runs").gateway_ports().remove(&80) {
                    return state.expect("open");
                }
                tokio::task::yield_now().await;
            }
        };
        let at = tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the port is seen to");
        Self { pair, proxy, at }
    }

    fn values(pair: &Pair, more: Vec<Value>) -> Vec<Value> {
        let listener = json!({ "name": "l", "port": 80, "protocol": "HTTP", "hosts": ["*"], "origin": origin("Gateway", 2) });
        let own = vec![
            json!({ "type": "GatewayListeners", "value": { "listeners": [listener] } }),
            json!({ "type": "RouteTable", "value": { "name": "gateway/80", "hosts": [{ "hosts": ["*"], "routes": [route(&[("", 1)], json!({}))] }] } }),
            cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
        ];
        [own, more].concat()
    }

    fn publish(&self, more: Vec<Value>) {
        assert!(publish(&self.proxy.shared, Self::values(&self.pair, more)).is_empty());
    }
}

fn policy(action: &str, rule: Value) -> Value {
    let mut rule = rule;
    merge(&mut rule, json!({ "origin": origin("AuthorizationPolicy", 2) }));
    json!({ "type": "Authorization", "value": {
        "name": "default/test", "action": action, "rules": [rule], "origin": origin("AuthorizationPolicy", 1)
    }})
}

/// ALLOW where a header that only the mesh may set has a value.
fn if_header(name: &str) -> Value {
    policy("ALLOW", json!({ "when": [{ "key": { "header": name }, "values": { "any": [{ "exact": "forged" }] } }] }))
}

#[tokio::test]
async fn a_gateway_believes_nobody_outside() {
    let edge = Edge::new(echo_program(false).await, Vec::new()).await;
    let headers = [("x-forwarded-for", "10.1.2.3"), ("x-forwarded-proto", "https"), ("x-forwarded-client-cert", FORGED_CERTIFICATE)];
    for answer in [send(edge.at, forged(&headers)).await, send2(edge.at, forged(&headers)).await] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        nothing_forged(&answer);
        assert_eq!((saw(&answer, "x-forwarded-for").as_str(), saw(&answer, "x-forwarded-proto").as_str()), ("127.0.0.1", "http"));
        let certificate = saw(&answer, "x-forwarded-client-cert");
        assert!(certificate.contains("sa/gateway") && !certificate.contains("root"), "{certificate}");
    }
}

/// A policy sees a request without what was forged: no header of ours satisfies it, at the gateway and beside the program.
#[tokio::test]
async fn no_policy_is_told_what_outsiders_forge() {
    let program = echo_program(false).await;
    let edge = Edge::new(program, Vec::new()).await;
    for name in OURS {
        edge.publish(vec![if_header(name)]);
        assert_eq!(send(edge.at, forged(&[])).await.status, 403, "{name} at the gateway");
    }
    edge.publish(Vec::new());
    for name in OURS {
        publish(&edge.pair.server.shared, vec![inbound("reviews", program.port(), "PERMISSIVE"), if_header(name)]);
        assert_eq!(send(edge.at, forged(&[])).await.status, 403, "{name} through the gateway");
        assert_eq!(send(edge.pair.server.address, forged(&[])).await.status, 403, "{name} in plain text");
    }
    // The same rule holds for what anybody may say.
    publish(&edge.pair.server.shared, vec![inbound("reviews", program.port(), "PERMISSIVE"), if_header("x-other")]);
    assert_eq!(send(edge.at, forged(&[("x-other", "forged")])).await.status, 200);
}

#[tokio::test]
async fn plain_text_beside_the_program_is_not_believed() {
    let program = echo_program(false).await;
    let mesh = Mesh::new();
    let server = mesh.server("reviews", program, vec![inbound_with("reviews", program.port(), "PERMISSIVE", "HTTP")]);
    let headers = [("x-forwarded-for", "10.1.2.3"), ("x-forwarded-proto", "https"), ("x-forwarded-client-cert", FORGED_CERTIFICATE)];
    for answer in [send(server.address, forged(&headers)).await, send2(server.address, forged(&headers)).await] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        nothing_forged(&answer);
        assert_eq!((saw(&answer, "x-forwarded-for").as_str(), saw(&answer, "x-forwarded-proto").as_str()), ("127.0.0.1", "http"));
        assert_eq!(saw(&answer, "x-forwarded-client-cert"), "");
    }
}

/// A program cannot speak for the mesh: neither Weft's own headers nor a certificate that it was not shown.
#[tokio::test]
async fn a_program_cannot_claim_another_identity() {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    let answer = send(pair.client.address, forged(&[("x-forwarded-client-cert", FORGED_CERTIFICATE)])).await;
    assert_eq!(answer.status, 200);
    assert_eq!((saw(&answer, "x-weft-peer"), saw(&answer, "x-weft-anything")), (String::new(), String::new()));
    let certificate = saw(&answer, "x-forwarded-client-cert");
    assert!(certificate.contains("sa/productpage") && !certificate.contains("root"), "{certificate}");
    for name in ["x-weft-peer", "x-weft-anything"] {
        publish(&pair.server.shared, vec![inbound("reviews", program.port(), "STRICT"), if_header(name)]);
        assert_eq!(send(pair.client.address, forged(&[])).await.status, 403, "{name}");
    }
    // What it says of addresses moves no policy either.
    let remote = policy("ALLOW", json!({ "from": [{ "remote_ip_blocks": { "any": ["10.0.0.0/8"] } }] }));
    publish(&pair.server.shared, vec![inbound("reviews", program.port(), "STRICT"), remote]);
    assert_eq!(send(pair.client.address, forged(&[("x-forwarded-for", "10.1.2.3")])).await.status, 403);
}

#[tokio::test]
async fn answers_take_nothing_of_the_mesh_outside() {
    let program = program(false, |_| async {
        let mut response = text(200, "");
        for name in ["x-weft-reject", "x-weft-anything", "x-envoy-upstream-service-time", "x-envoy-decorator-operation", "x-own"] {
            response.headers_mut().insert(name, "forged".parse().expect("value"));
        }
        response
    })
    .await;
    let edge = Edge::new(program, Vec::new()).await;
    let names = |answer: &Answer| -> Vec<String> {
        answer.headers.iter().filter(|(_, v)| v.as_bytes() == b"forged").map(|(n, _)| n.to_string()).collect()
    };
    assert_eq!(names(&send(edge.at, forged(&[])).await), ["x-own"], "outside");
    for at in [edge.pair.client.address, edge.pair.server.address] {
        publish(&edge.pair.server.shared, vec![inbound("reviews", program.port(), "PERMISSIVE")]);
        let told = names(&send(at, forged(&[])).await);
        assert!(!told.iter().any(|name| name.starts_with("x-weft-")), "{told:?}");
    }
}

/// Each believed proxy adds the address of its own client: the policy's `remoteIp` is the one that the outermost of them added.
#[tokio::test]
async fn the_address_of_the_client_is_the_one_that_believed_proxies_added() {
    let edge = Edge::new(echo_program(false).await, Vec::new()).await;
    let allow = policy("ALLOW", json!({ "from": [{ "remote_ip_blocks": { "any": ["10.0.0.0/8"] } }] }));
    let here = policy("ALLOW", json!({ "from": [{ "remote_ip_blocks": { "any": ["127.0.0.0/8"] } }] }));
    for (proxies, list, allowed, forwarded) in [
        // Nobody is believed: the list is made anew.
        (0, "10.0.0.1", false, "127.0.0.1"),
        (1, "10.0.0.1", true, "10.0.0.1, 127.0.0.1"),
        // The client wrote the first itself.
        (1, "10.0.0.1, 192.0.2.1", false, "10.0.0.1, 192.0.2.1, 127.0.0.1"),
        (1, "192.0.2.1,10.0.0.1", true, "192.0.2.1, 10.0.0.1, 127.0.0.1"),
        (2, "10.0.0.1, 192.0.2.1", true, "10.0.0.1, 192.0.2.1, 127.0.0.1"),
        (2, "10.9.9.9, 192.0.2.9, 192.0.2.1", false, "10.9.9.9, 192.0.2.9, 192.0.2.1, 127.0.0.1"),
        // Fewer than there should be, or no address: nobody's.
        (2, "10.0.0.1", false, "10.0.0.1, 127.0.0.1"),
        (1, "10.0.0.1.evil", false, "10.0.0.1.evil, 127.0.0.1"),
    ] {
        edge.publish(vec![settings(json!({ "trusted_proxies": proxies })), allow.clone()]);
        let request = || forged(&[("x-forwarded-for", list)]);
        let answer = send(edge.at, request()).await;
        assert_eq!(answer.status == 200, allowed, "{proxies} proxies, {list}: {}", answer.body);
        edge.publish(vec![settings(json!({ "trusted_proxies": proxies }))]);
        let answer = send(edge.at, request()).await;
        assert_eq!(saw(&answer, "x-forwarded-for"), forwarded, "{proxies} proxies");
        nothing_forged(&answer);
    }
    edge.publish(vec![settings(json!({ "trusted_proxies": 2 })), here]);
    assert_eq!(send(edge.at, forged(&[("x-forwarded-for", "10.0.0.1")])).await.status, 200, "then it is the connection's");
}

/// Several lines of the same header are one list.
#[tokio::test]
async fn a_list_in_several_lines_is_one_list() {
    let edge = Edge::new(echo_program(false).await, Vec::new()).await;
    let allow = policy("ALLOW", json!({ "from": [{ "remote_ip_blocks": { "any": ["10.0.0.0/8"] } }] }));
    edge.publish(vec![settings(json!({ "trusted_proxies": 1 })), allow]);
    let lines = |of: &[&'static str]| forged(&of.iter().map(|v| ("x-forwarded-for", *v)).collect::<Vec<_>>());
    assert_eq!(send(edge.at, lines(&["10.0.0.1", "192.0.2.1"])).await.status, 403);
    assert_eq!(send(edge.at, lines(&["192.0.2.1", "10.0.0.1"])).await.status, 200);
}

/// `forwardClientCertDetails` in plain text at a gateway: only `ALWAYS_FORWARD_ONLY` lets a claim through.
#[tokio::test]
async fn claims_of_certificates_pass_only_where_it_is_said() {
    let edge = Edge::new(echo_program(false).await, Vec::new()).await;
    for (mode, kept) in
        [("SANITIZE", false), ("FORWARD_ONLY", false), ("APPEND_FORWARD", false), ("SANITIZE_SET", false), ("ALWAYS_FORWARD_ONLY", true)]
    {
        edge.publish(vec![settings(json!({ "client_certificate_details": mode }))]);
        let answer = send(edge.at, forged(&[("x-forwarded-client-cert", FORGED_CERTIFICATE)])).await;
        let certificate = saw(&answer, "x-forwarded-client-cert");
        assert_eq!((answer.status, certificate.contains("sa/root")), (200, kept), "{mode}: {certificate}");
        nothing_forged(&answer);
    }
}

/// The same beside the program, over mutual TLS: what a gateway passed on stays, goes or is replaced, as the mode says.
#[tokio::test]
async fn beside_the_program_certificates_are_added_passed_on_or_taken_out() {
    let program = echo_program(false).await;
    let edge = Edge::new(program, vec![settings(json!({ "client_certificate_details": "ALWAYS_FORWARD_ONLY" }))]).await;
    for (mode, first, own) in [
        ("SANITIZE", false, false),
        ("FORWARD_ONLY", true, false),
        ("APPEND_FORWARD", true, true),
        ("SANITIZE_SET", false, true),
        ("ALWAYS_FORWARD_ONLY", true, false),
    ] {
        let values = vec![inbound("reviews", program.port(), "STRICT"), settings(json!({ "client_certificate_details": mode }))];
        publish(&edge.pair.server.shared, values);
        let answer = send(edge.at, forged(&[("x-forwarded-client-cert", FORGED_CERTIFICATE)])).await;
        let certificate = saw(&answer, "x-forwarded-client-cert");
        assert_eq!((certificate.contains("sa/root"), certificate.contains("sa/gateway")), (first, own), "{mode}: {certificate}");
    }
}

/// The modes on a running proxy: what the program sees, or that it sees nothing.
#[tokio::test]
async fn each_mode_of_normalisation_shows_the_program_one_form() {
    let edge = Edge::new(echo_program(false).await, Vec::new()).await;
    let modes = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES", "STRICT"];
    let refused = "";
    for (given, want) in [
        ("/a/../b", ["/a/../b", "/b", "/b", "/b", "/b"]),
        ("//a//b", ["//a//b", "//a//b", "/a/b", "/a/b", "/a/b"]),
        ("/a%2fb", ["/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b", refused]),
        ("/a%5Cb", ["/a%5Cb", "/a%5Cb", "/a%5Cb", "/a/b", refused]),
        ("/%61", ["/%61", "/a", "/a", "/a", "/a"]),
        ("/a%252fb", ["/a%252fb", "/a%252fb", "/a%252fb", "/a%252fb", refused]),
        ("/a;x=1/..;/b", ["/a;x=1/..;/b", "/a;x=1/..;/b", "/a;x=1/..;/b", "/a;x=1/..;/b", refused]),
        ("/%c0%af", ["/%c0%af", "/%C0%AF", "/%C0%AF", "/%C0%AF", refused]),
        ("/%0a", ["/%0a", "/%0A", "/%0A", "/%0A", refused]),
        ("/a%00", [refused; 5]),
        ("/a%zz", [refused; 5]),
        ("/../a", ["/../a", refused, refused, refused, refused]),
    ] {
        for (mode, want) in modes.into_iter().zip(want) {
            let of_mode = settings(json!({ "path_normalization": mode }));
            edge.publish(vec![of_mode.clone()]);
            let port = edge.pair.server.shared.snapshot().inbound.as_ref().expect("known").ports[0].port;
            publish(&edge.pair.server.shared, vec![inbound("reviews", port, "STRICT"), of_mode]);
            let request = Request::get(given).header("host", "reviews").body(Full::default()).expect("legal");
            let answer = send(edge.at, request).await;
            let expected = if want.is_empty() { 400 } else { 200 };
            assert_eq!(answer.status, expected, "{mode} {given}: {}", answer.body);
            assert!(want.is_empty() || answer.body.starts_with(&format!("GET {want} ")), "{mode} {given}: {}", answer.body);
        }
    }
}
