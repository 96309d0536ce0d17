//! Every probe of the golden fixtures, sent through a running proxy: what the evaluators say is what the bytes do.
//!
//! The view is the fixture's own, with three changes: every cluster leads to an echo server (each by an address of its own, so that
//! it can be told which one was chosen), planned faults and questions to services that decide are left out, and every rule adds its name to its answers.

use crate::fixture::{Answer, Mesh, TestProxy, loopback, send, whole};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Version};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};
use tokio::net::TcpStream;
use weft_model::{Protocol, SpiffeId};
use weft_pki::{Alpn, KeyAndCsr, Svid, SvidState};
use weft_proxy::{GatewayPorts, InboundSocket, Program, ProxyConfig, Role};
use weft_test::live::{self, Ask, LiveProbe};
use weft_wire::tls::ClientTls;

/// Name of the rule that answered.
const RULE: &str = "x-probe-rule";
/// Nothing listens there: a request that is let through ends as 503.
const NO_PROGRAM: Ipv4Addr = Ipv4Addr::new(127, 77, 77, 77);

#[tokio::test]
async fn probes_of_all_goldens_do_in_bytes_what_the_fixtures_say() {
    let mesh = Mesh::new();
    let echo = Echo::start().await;
    let (mut asked, mut left_out, mut wrong) = (0, 0, String::new());
    for probe in live::probes() {
        let got = match &probe.ask {
            Ask::Inbound { request, .. } if request.headers.contains_key("source-ip") => Verdict::LeftOut,
            Ask::Inbound { .. } => inbound(&mesh, &probe).await,
            Ask::Outbound(request) => outbound(&mesh, &echo, &probe, request).await,
            Ask::Gateway(request) if request.scheme == "https" => Verdict::LeftOut,
            Ask::Gateway(request) => gateway(&mesh, &echo, &probe, request).await,
        };
        match got {
            Verdict::LeftOut => left_out += 1,
            Verdict::As => asked += 1,
            Verdict::Else(what) => writeln!(wrong, "{}\n  fixture: {}\n  proxy:   {what}", probe.name, probe.answer).expect("a String"),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // Source addresses other than loopback, TLS at the edge, hosts outside of the mesh: other tests send those.
    assert!(asked > 100 && left_out * 4 < asked, "{asked} asked, {left_out} left out");
}

enum Verdict {
    As,
    Else(String),
    LeftOut,
}

/// A server on many addresses of the loopback network.
struct Echo {
    port: u16,
}

impl Echo {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("bound");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let at = stream.local_addr().expect("connected").ip().to_string();
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let mut response = http::Response::new(Full::new(Bytes::new()));
                    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
                    response.headers_mut().insert("x-echo-at", HeaderValue::from_str(&at).expect("an address"));
                    response.headers_mut().insert("x-echo-path", HeaderValue::from_str(&path).expect("a path"));
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { port }
    }

    /// The view as it is published, and which address stands for which cluster.
    fn prepare(&self, probe: &LiveProbe) -> (Vec<Value>, BTreeMap<String, String>) {
        let mut values: Vec<Value> =
            probe.view.values.values().map(|v| serde_json::to_value(&*v.value).expect("values are JSON")).collect();
        values.retain(|v| v["type"] != "Endpoints");
        let mut clusters = BTreeMap::new();
        let mut endpoints = Vec::new();
        for value in &mut values {
            match value["type"].as_str() {
                Some("Cluster") => {
                    let name = value["value"]["name"].as_str().expect("named").to_owned();
                    let ip = Ipv4Addr::new(127, 1, 0, u8::try_from(clusters.len() + 1).expect("few clusters"));
                    for field in ["tls", "outlier", "limits", "balancing"] {
                        value["value"].as_object_mut().expect("an object").remove(field);
                    }
                    value["value"]["tls"] = json!("DISABLE");
                    value["value"]["protocol"] = json!("HTTP");
                    let endpoint = json!({ "address": SocketAddr::from((ip, self.port)).to_string() });
                    endpoints.push(json!({ "type": "Endpoints", "value": { "cluster": name, "endpoints": [endpoint] } }));
                    clusters.insert(ip.to_string(), name);
                }
                Some("RouteTable") => name_rules(&mut value["value"]),
                _ => {}
            }
        }
        values.extend(endpoints);
        (values, clusters)
    }
}

fn name_rules(table: &mut Value) {
    let hosts = table["hosts"].as_array_mut().expect("hosts");
    for route in hosts.iter_mut().flat_map(|h| h["routes"].as_array_mut().expect("routes")) {
        let name = route["name"].clone();
        let fields = route.as_object_mut().expect("an object");
        fields.remove("fault");
        fields.remove("external_auth");
        let edits = fields.entry("response_headers").or_insert_with(|| json!({}));
        let add = edits.as_object_mut().expect("an object").entry("add").or_insert_with(|| json!([]));
        add.as_array_mut().expect("a list").push(json!([RULE, name]));
    }
}

async fn outbound(mesh: &Mesh, echo: &Echo, probe: &LiveProbe, request: &live::Request) -> Verdict {
    let (values, clusters) = echo.prepare(probe);
    let listener = TcpListener::bind(loopback()).expect("bound");
    let address = listener.local_addr().expect("address");
    let mut proxy = mesh.start("caller", ProxyConfig { http_proxy: vec![listener], ..ProxyConfig::default() }, address, values);
    // Nobody answers questions for hosts that the view does not have.
    proxy.needs.close();
    let uri = format!("http://{}{}", request.authority, request.path);
    verdict(&probe.answer, &send(address, built(request, &uri)).await, &clusters)
}

async fn gateway(mesh: &Mesh, echo: &Echo, probe: &LiveProbe, request: &live::Request) -> Verdict {
    let (values, clusters) = echo.prepare(probe);
    let ports = GatewayPorts { ip: loopback().ip(), map: (1..=65_535).map(|port| (port, loopback())).collect(), low_port_shift: 0 };
    let config = ProxyConfig { role: Role::Gateway, gateway: Some(ports), ..ProxyConfig::default() };
    let mut proxy = mesh.start("gateway", config, loopback(), values);
    proxy.needs.close();
    let Some(at) = opened(&proxy, request.port).await else {
        return if probe.answer == "no HTTP port" { Verdict::As } else { Verdict::Else("the port is not open".into()) };
    };
    verdict(&probe.answer, &send(at, built(request, &request.path)).await, &clusters)
}

async fn opened(proxy: &TestProxy, port: u16) -> Option<SocketAddr> {
    let mut states = proxy.handle.as_ref().expect("runs").follow_gateway_ports();
    let wait = async {
        loop {
            if let Some(state) = states.borrow_and_update().get(&port).cloned() {
                return state.ok();
            }
            states.changed().await.ok()?;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.ok().flatten()
}

fn built(request: &live::Request, uri: &str) -> Request<Full<Bytes>> {
    let mut made = Request::builder().method(request.method.as_str()).uri(uri).body(Full::default()).expect("legal");
    *made.headers_mut() = request.headers.clone();
    if !request.headers.contains_key("host") {
        made.headers_mut().insert("host", HeaderValue::from_str(&request.authority).expect("an authority"));
    }
    made
}

/// Does the answer do what the fixture's text says?
fn verdict(text: &str, answer: &Answer, clusters: &BTreeMap<String, String>) -> Verdict {
    let cluster = clusters.get(answer.header("x-echo-at")).cloned().unwrap_or_default();
    let got = format!(
        "{} {cluster} rule {:?} path {:?} location {:?} {}",
        answer.status,
        answer.header(RULE),
        answer.header("x-echo-path"),
        answer.header("location"),
        answer.body.lines().next().unwrap_or_default()
    );
    if ["no such service", "no HTTP port"].contains(&text) {
        return if answer.status >= 400 { Verdict::As } else { Verdict::Else(got) };
    }
    let words: Vec<&str> = text.split([' ', ',']).collect();
    let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied();
    let named: Vec<&&str> = words.iter().filter(|w| w.starts_with("outbound|")).collect();
    let status: Option<u16> =
        words.first().filter(|w| w.len() == 3).or_else(|| words.get(1).filter(|_| words[0] == "respond")).and_then(|w| w.parse().ok());
    let forwarded = !cluster.is_empty() && named.iter().any(|w| **w == cluster);
    // `1/4`: a share of several targets.
    let weighted = words.iter().any(|w| w.len() == 3 && w.contains('/'));
    let right = match (status, named.is_empty()) {
        (Some(status), true) => answer.status == status && cluster.is_empty(),
        // Weighted between a destination and a reference that leads nowhere, in either order.
        (Some(status), false) => answer.status == status || forwarded,
        (None, _) => forwarded || (weighted && words.contains(&answer.status.to_string().as_str())),
    };
    let redirected = status.is_none_or(|s| !(300..400).contains(&s) || words.get(1) == Some(&answer.header("location")));
    let ruled = !forwarded || after("route").is_none_or(|name| name == answer.header(RULE));
    let rewritten = !forwarded
        || after("as").filter(|w| w.starts_with('/')).is_none_or(|path| answer.header("x-echo-path").split('?').next() == Some(path));
    if right && redirected && ruled && rewritten { Verdict::As } else { Verdict::Else(got) }
}

async fn inbound(mesh: &Mesh, probe: &LiveProbe) -> Verdict {
    let Ask::Inbound { peer, port, request } = &probe.ask else { return Verdict::LeftOut };
    // Claims cannot be written as a token, other domains have another authority, and who is asked is tested by itself.
    let elsewhere = peer.as_ref().is_some_and(|peer| peer.trust_domain() != "cluster.local");
    if request.headers.contains_key("claims") || elsewhere || probe.answer.contains("; asks ") {
        return Verdict::LeftOut;
    }
    let listener = TcpListener::bind(loopback()).expect("bound");
    let address = listener.local_addr().expect("address");
    let values = probe.view.values.values().map(|v| serde_json::to_value(&*v.value).expect("values are JSON")).collect();
    let socket = InboundSocket {
        workload_port: *port,
        listeners: vec![listener],
        advertise: address,
        protocol: Protocol::Auto,
        program: Program::Host(NO_PROGRAM.into()),
    };
    let _proxy = mesh.start("callee", ProxyConfig { inbound: vec![socket], ..ProxyConfig::default() }, address, values);
    let answer = match peer {
        Some(peer) => over_mutual_tls(mesh, address, peer, request).await,
        None => Some(send(address, built(request, &request.path)).await),
    };
    let refused = answer.as_ref().is_none_or(|a| a.body.contains("plain text to a STRICT port"));
    let got =
        answer.as_ref().map_or_else(|| "closed".to_owned(), |a| format!("{} {}", a.status, a.body.lines().next().unwrap_or_default()));
    let (status, body) = answer.map(|a| (a.status, a.body)).unwrap_or_default();
    let right = match probe.answer.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["closed:", ..] => refused,
        ["allowed" | "allowed,", ..] => status == 503 && !refused,
        ["403", "denied", "by", policy, ..] | ["403", "not", "allowed", "by", policy, ..] => status == 403 && body.contains(policy),
        [code, ..] => code.parse() == Ok(status),
        [] => false,
    };
    if right { Verdict::As } else { Verdict::Else(got) }
}

/// `None`: closed.
async fn over_mutual_tls(mesh: &Mesh, address: SocketAddr, peer: &SpiffeId, request: &live::Request) -> Option<Answer> {
    let state = SvidState::new(mesh.authority.bundle());
    let made = KeyAndCsr::generate().expect("made");
    let issued = mesh.authority.sign_workload(peer, made.csr_der(), Duration::from_secs(600)).ok()?;
    state.install(Svid::new(made, issued.chain, issued.issued_at_ms).expect("fits"));
    let tls = ClientTls::mesh(&state, &crate::fixture::identity("callee"), &[Alpn::WeftHttp1]);
    let stream = TcpStream::connect(address).await.expect("connected");
    let secured = tls.connect(stream, weft_std::clock::now() + Duration::from_secs(10)).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(secured.stream)).await.ok()?;
    tokio::spawn(async move { connection.await.ok() });
    let mut request = built(request, &request.path);
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(HeaderName::from_static("x-weft-peer"), HeaderValue::from_static("caller;default;caller;v1"));
    Some(whole(sender.send_request(request).await.ok()?).await)
}
