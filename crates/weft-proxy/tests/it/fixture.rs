//! A mesh of hand: an authority, programs, proxies with views, and a client.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, sync::mpsc};
use weft_model::{ModelValue, SpiffeId, View};
use weft_pki::{Authority, KeyAndCsr, Svid, SvidState};
use weft_proxy::{
    ExplicitListener, InboundSocket, Program, ProxyConfig, ProxyHandle, Shared,
    control::{NeedRequest, Needs},
};
use weft_telemetry::{Report, RequestRecord};

pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A certificate authority and what it signs.
pub(crate) struct Mesh {
    pub authority: Authority,
}

/// One proxy with what a test wants of it.
pub(crate) struct TestProxy {
    pub handle: Option<ProxyHandle>,
    pub shared: Arc<Shared>,
    pub reports: mpsc::Receiver<Report>,
    pub needs: mpsc::Receiver<NeedRequest>,
    /// Where it listens: the inbound or explicit address.
    pub address: SocketAddr,
    records: Vec<RequestRecord>,
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(crate) fn identity(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "default", account).expect("legal")
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self { authority: Authority::ephemeral("cluster.local").expect("made") }
    }

    pub(crate) fn svid(&self, account: &str) -> SvidState {
        let state = SvidState::new(self.authority.bundle());
        let made = KeyAndCsr::generate().expect("made");
        let issued = self.authority.sign_workload(&identity(account), made.csr_der(), Duration::from_secs(600)).expect("signed");
        state.install(Svid::new(made, issued.chain, issued.issued_at_ms).expect("fits"));
        state
    }

    pub(crate) fn start(&self, account: &str, config: ProxyConfig, address: SocketAddr, values: Vec<Value>) -> TestProxy {
        let (needs, needs_receiver) = Needs::channel();
        let (reports, reports_receiver) = mpsc::channel(1024);
        let shared = Shared::new(self.svid(account), needs, reports);
        publish(&shared, values);
        let config = ProxyConfig { workers: 1, report_interval: Some(Duration::from_millis(10)), ..config };
        let handle = weft_proxy::serve(config, shared.clone()).expect("started");
        TestProxy { handle: Some(handle), shared, reports: reports_receiver, needs: needs_receiver, address, records: Vec::new() }
    }

    /// The proxy in front of a program that listens on `program`.
    pub(crate) fn server(&self, account: &str, program: SocketAddr, values: Vec<Value>) -> TestProxy {
        let listener = TcpListener::bind(loopback()).expect("bound");
        let address = listener.local_addr().expect("address");
        let inbound = InboundSocket {
            workload_port: program.port(),
            listeners: vec![listener],
            advertise: address,
            protocol: weft_model::Protocol::Auto,
            program: Program::Host(program.ip()),
        };
        let config = ProxyConfig { name: account.into(), inbound: vec![inbound], ..ProxyConfig::default() };
        self.start(account, config, address, values)
    }

    /// The proxy of a caller, with a local port for port 80 of `reviews`.
    pub(crate) fn client(&self, account: &str, values: Vec<Value>) -> TestProxy {
        let listener = TcpListener::bind(loopback()).expect("bound");
        let address = listener.local_addr().expect("address");
        let explicit = ExplicitListener { host: "reviews".into(), port: 80, listeners: vec![listener] };
        let config = ProxyConfig { name: account.into(), explicit: vec![explicit], ..ProxyConfig::default() };
        self.start(account, config, address, values)
    }
}

/// Publishes what a view of `values` builds to.
pub(crate) fn publish(shared: &Shared, values: Vec<Value>) -> Vec<weft_proxy::Rejection> {
    let (snapshot, rejections) = weft_proxy::snapshot::build(&view(values), Some(&shared.snapshot()));
    shared.publish(snapshot, 1);
    rejections
}

pub(crate) fn view(values: Vec<Value>) -> View {
    let mut view = View::default();
    for value in values {
        let text = value.to_string();
        view.insert(serde_json::from_value::<ModelValue>(value).unwrap_or_else(|e| unreachable!("{e}: {text}")));
    }
    view
}

pub(crate) const REVIEWS: &str = "reviews.default.svc.cluster.local";

/// Where a value was written, for tests of provenance.
pub(crate) fn origin(kind: &str, line: u32) -> Value {
    json!({ "kind": kind, "namespace": "default", "name": "test", "file": "test.yaml", "line": line })
}

/// The workload of a server proxy, with one port.
pub(crate) fn inbound(account: &str, port: u16, mtls: &str) -> Value {
    inbound_with(account, port, mtls, "AUTO")
}

pub(crate) fn inbound_with(account: &str, port: u16, mtls: &str, protocol: &str) -> Value {
    json!({ "type": "Inbound", "value": {
        "workload": {
            "id": format!("default/{account}-1"), "name": format!("{account}-v1"), "namespace": "default",
            "identity": identity(account).to_string(), "labels": { "app": account, "version": "v1" }, "origin": origin("Workload", 1)
        },
        "ports": [{ "port": port, "protocol": protocol, "mtls": mtls, "mtls_origin": origin("PeerAuthentication", 7), "service": REVIEWS }],
        "default_mtls": mtls, "default_mtls_origin": origin("PeerAuthentication", 7)
    }})
}

pub(crate) fn service(protocol: &str) -> Value {
    json!({ "type": "Service", "value": {
        "host": REVIEWS, "namespace": "default", "name": "reviews", "aliases": ["reviews", "reviews.default"],
        "addresses": ["240.240.0.1"], "ports": [{ "number": 80, "name": "web", "protocol": protocol }],
        "origin": origin("Service", 1)
    }})
}

pub(crate) fn cluster_name(subset: &str) -> String {
    format!("outbound|80|{subset}|{REVIEWS}")
}

pub(crate) fn cluster(subset: &str, extra: Value) -> Value {
    let mut value = json!({ "name": cluster_name(subset), "origin": origin("DestinationRule", 3) });
    merge(&mut value, extra);
    json!({ "type": "Cluster", "value": value })
}

/// Endpoints behind mesh proxies, each with the account that it must prove.
pub(crate) fn endpoints(subset: &str, of: &[(SocketAddr, Option<&str>)]) -> Value {
    let endpoints: Vec<Value> = of
        .iter()
        .map(|(address, account)| match account {
            Some(account) => json!({
                "address": address.to_string(), "workload": format!("default/{account}-1"), "workload_name": format!("{account}-v1"),
                "namespace": "default", "version": "v1", "identity": identity(account).to_string(), "tls": "mesh"
            }),
            None => json!({ "address": address.to_string() }),
        })
        .collect();
    json!({ "type": "Endpoints", "value": { "cluster": cluster_name(subset), "endpoints": endpoints } })
}

/// A rule to `targets` (subset, weight), with further fields.
pub(crate) fn route(targets: &[(&str, u32)], extra: Value) -> Value {
    let targets: Vec<Value> =
        targets.iter().map(|(subset, weight)| json!({ "backend": { "cluster": cluster_name(subset) }, "weight": weight })).collect();
    let mut value = json!({ "name": "default/test/0", "action": { "forward": targets }, "origin": origin("VirtualService", 9) });
    merge(&mut value, extra);
    value
}

pub(crate) fn table(routes: Vec<Value>) -> Value {
    json!({ "type": "RouteTable", "value": {
        "name": format!("mesh/{REVIEWS}/80"), "hosts": [{ "hosts": [REVIEWS], "routes": routes }]
    }})
}

pub(crate) fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

impl TestProxy {
    /// The first record that satisfies `wanted`, waited for.
    pub(crate) async fn record(&mut self, wanted: impl Fn(&RequestRecord) -> bool) -> RequestRecord {
        let find = async {
            loop {
                if let Some(at) = self.records.iter().position(&wanted) {
                    return self.records.remove(at);
                }
                let report = self.reports.recv().await.expect("the proxy runs");
                self.records.extend(report.records);
            }
        };
        tokio::time::timeout(Duration::from_secs(10), find).await.expect("the record comes")
    }
}

/// A program that answers with `answer`, over HTTP/1 or HTTP/2.
pub(crate) async fn program<F, R>(http2: bool, answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send,
{
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                let io = TokioIo::new(stream);
                if http2 {
                    hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new()).serve_connection(io, service).await.ok();
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await.ok();
                }
            });
        }
    });
    address
}

pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = StatusCode::from_u16(status).expect("legal");
    response
}

/// A program that says what it got: `METHOD path host` and its headers as `x-saw-…`.
pub(crate) async fn echo_program(http2: bool) -> SocketAddr {
    program(http2, |request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let host = parts.headers.get("host").map(|h| h.to_str().unwrap_or_default().to_owned());
        let host = host.or_else(|| parts.uri.authority().map(ToString::to_string)).unwrap_or_default();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        let mut response = text(200, format!("{} {path} {host} {}", parts.method, body.len()));
        for (name, value) in &parts.headers {
            if let Ok(name) = format!("x-saw-{name}").parse::<http::HeaderName>() {
                response.headers_mut().append(name, value.clone());
            }
        }
        response
    })
    .await
}

/// One answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).header("host", "reviews").body(Full::default()).expect("legal")
}

/// Sends one HTTP/1 request on a connection of its own.
pub(crate) async fn send(to: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(to).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.with_upgrades().await.ok() });
    let response = sender.send_request(request).await.expect("answered");
    whole(response).await
}

/// Sends one HTTP/2 request on a connection of its own.
pub(crate) async fn send2(to: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(to).await.expect("connected");
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.await.ok() });
    whole(sender.send_request(request).await.expect("answered")).await
}

pub(crate) async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.expect("whole");
    let trailers = collected.trailers().cloned();
    let body = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers }
}

/// A client proxy and a server proxy around `program`, with one plain rule.
pub(crate) struct Pair {
    pub mesh: Mesh,
    pub client: TestProxy,
    pub server: TestProxy,
}

impl Pair {
    pub(crate) fn new(program: SocketAddr) -> Self {
        Self::with(program, "STRICT", "AUTO", json!({}), json!({}))
    }

    pub(crate) fn with(program: SocketAddr, mtls: &str, protocol: &str, rule: Value, of_cluster: Value) -> Self {
        let mesh = Mesh::new();
        let server = mesh.server("reviews", program, vec![inbound_with("reviews", program.port(), mtls, protocol)]);
        let values = vec![
            inbound("productpage", 9080, "PERMISSIVE"),
            service(protocol),
            table(vec![route(&[("", 1)], rule)]),
            cluster("", {
                let mut c = json!({ "protocol": protocol });
                merge(&mut c, of_cluster);
                c
            }),
            endpoints("", &[(server.address, Some("reviews"))]),
        ];
        let client = mesh.client("productpage", values);
        Self { mesh, client, server }
    }
}
