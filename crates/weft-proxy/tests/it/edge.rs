//! Layer 4 and TLS: what a gateway asks of clients, what servers outside must prove, the PROXY protocol, tunnels, and connections
//! that end when they may not go on.

use crate::fixture::{Mesh, Pair, TestProxy, cluster, echo_program, endpoints, loopback, merge, origin, publish, route, send, whole};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyPair, RevokedCertParams};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weft_pki::{
    Alpn,
    edge_tls::{ClientDemand, ServerDemand},
    public_tls::{PublicCertificate, ServerSettings},
};
use weft_proxy::{GatewayPorts, ProxyConfig, Role};
use weft_std::clock;
use weft_telemetry::{ResponseFlag, details};
use weft_wire::tls::{ClientTls, ServerTls};

/// An authority of the outside world.
struct Outside(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
type Pair2 = (String, String);

impl Outside {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("legal");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made")).expect("signed"))
    }
    fn pem(&self) -> String {
        self.0.pem()
    }
    fn issue(&self, name: &str, serial: u64, year_end: i32) -> Pair2 {
        let key = KeyPair::generate().expect("made");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("legal");
        params.serial_number = Some(serial.into());
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year_end, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }
    fn revoke(&self, serials: &[u64]) -> String {
        let now = rcgen::date_time_ymd(2024, 1, 1);
        let one = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(one).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).expect("signed").pem().expect("PEM")
    }
}

fn gateway(mesh: &Mesh, values: Vec<Value>) -> TestProxy {
    let map = [80, 443, 5432].map(|port| (port, loopback())).into();
    let ports = GatewayPorts { ip: loopback().ip(), map, low_port_shift: 0 };
    let config = ProxyConfig { name: "gateway".into(), role: Role::Gateway, gateway: Some(ports), ..ProxyConfig::default() };
    mesh.start("gateway", config, loopback(), values)
}

async fn opened(proxy: &TestProxy, port: u16) -> SocketAddr {
    let handle = proxy.handle.as_ref().expect("runs");
    let wait = async {
        loop {
            match handle.gateway_ports().remove(&port) {
                Some(state) => return state.expect("open"),
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the port is seen to")
}

fn listeners(of: Vec<Value>) -> Value {
    let named = of.into_iter().enumerate().map(|(index, extra)| {
        let mut one =
            json!({ "name": format!("l{index}"), "port": 443, "protocol": "HTTPS", "hosts": ["*"], "origin": origin("Gateway", 2) });
        merge(&mut one, extra);
        one
    });
    json!({ "type": "GatewayListeners", "value": { "listeners": named.collect::<Vec<_>>() } })
}

fn web(port: u16) -> Value {
    json!({ "type": "RouteTable", "value": { "name": format!("gateway/{port}"), "hosts": [{ "hosts": ["*"], "routes": [route(&[("", 1)], json!({}))] }] } })
}

fn connections(port: u16, sni: &[&str]) -> Value {
    let target = json!({ "backend": { "cluster": crate::fixture::cluster_name("") }, "weight": 1 });
    let mut route = json!({ "targets": [target], "origin": origin("TCPRoute", 5) });
    if !sni.is_empty() {
        merge(&mut route, json!({ "sni": sni }));
    }
    json!({ "type": "TcpRoutes", "value": { "host": "gateway", "port": port, "routes": [route] } })
}

fn shown((chain, key): &Pair2, clients: Value) -> Value {
    let mut tls = json!({ "certificates": [{ "certificate": chain, "private_key": key }] });
    if !clients.is_null() {
        merge(&mut tls, json!({ "clients": clients }));
    }
    tls
}

fn client_tls(name: &str, roots: &str, certificate: Option<&Pair2>, alpn: &[Alpn]) -> ClientTls {
    let certificate = certificate.map(|(chain, key)| (chain.as_str(), key.as_str()));
    ClientTls::outside(name, &ServerDemand { ca_pem: Some(roots), certificate, ..ServerDemand::default() }, alpn).expect("usable")
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// An HTTP/1 connection over TLS.
async fn https(at: SocketAddr, tls: &ClientTls) -> Result<Sender, String> {
    let stream = TcpStream::connect(at).await.expect("connected");
    let secured = tls.connect(stream, clock::now() + Duration::from_secs(5)).await.map_err(|e| e.to_string())?;
    let io = hyper_util::rt::TokioIo::new(secured.stream);
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

async fn ask(sender: &mut Sender, host: &str) -> Result<crate::fixture::Answer, String> {
    let request = Request::get("/").header("host", host).body(Full::default()).expect("legal");
    Ok(whole(sender.send_request(request).await.map_err(|e| e.to_string())?).await)
}

#[tokio::test]
async fn a_gateway_asks_clients_for_certificates_and_takes_them_back() {
    let pair = Pair::new(echo_program(false).await);
    let (ca, other) = (Outside::new(), Outside::new());
    let (secure, open) = (ca.issue("secure.example", 1, 2090), ca.issue("open.example", 2, 2090));
    let (alice, mallory) = (ca.issue("alice.example", 3, 2090), other.issue("alice.example", 4, 2090));
    let values = |crl: &str| {
        let clients = json!({ "required": true, "ca": ca.pem(), "crl": crl, "subject_alt_names": ["alice.example"] });
        vec![
            listeners(vec![
                json!({ "hosts": ["secure.example"], "tls": shown(&secure, clients) }),
                json!({ "hosts": ["open.example"], "tls": shown(&open, Value::Null) }),
            ]),
            web(443),
            cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
        ]
    };
    let mut proxy = gateway(&pair.mesh, values(&ca.revoke(&[77])));
    let at = opened(&proxy, 443).await;
    let call = |name: &'static str, certificate: Option<Pair2>| {
        let tls = client_tls(name, &ca.pem(), certificate.as_ref(), &[Alpn::Http11]);
        async move {
            let mut sender = https(at, &tls).await?;
            let answer = ask(&mut sender, name).await?;
            Ok::<_, String>((sender, answer))
        }
    };
    for wrong in [None, Some(mallory), Some(open.clone())] {
        assert!(call("secure.example", wrong).await.is_err(), "only Alice, of the right authority, comes in");
        let record = proxy.record(|r| r.flags == [ResponseFlag::DownstreamProtocol]).await;
        assert!(record.attempts.first().is_some_and(|a| a.outcome.contains("certificate")), "{:?}", record.attempts);
    }
    let (mut kept, answer) = call("secure.example", Some(alice.clone())).await.expect("Alice comes in");
    let said = answer.header("x-saw-x-forwarded-client-cert");
    assert!(said.starts_with("Hash=") && said.contains("DNS=alice.example") && said.contains("Subject=\"CN=alice.example\""), "{said}");

    // A name that asks for less opens no way to one that asks for more.
    let (mut sender, answer) = call("open.example", None).await.expect("everybody comes in");
    assert_eq!(answer.status, 200);
    assert_eq!(ask(&mut sender, "secure.example").await.expect("answered").status, 421);

    // The kept connection is judged again for each request.
    publish(&proxy.shared, values(&ca.revoke(&[3])));
    let revoked = async {
        loop {
            let answer = ask(&mut kept, "secure.example").await.expect("answered");
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), revoked).await.expect("it takes effect");
    assert_eq!((answer.status, answer.body.contains("revoked")), (403, true), "{}", answer.body);
    let record = proxy.record(|r| r.status == 403).await;
    assert_eq!(record.details, details::CLIENT_CERTIFICATE);
    assert!(call("secure.example", Some(alice)).await.is_err(), "a new connection does not come in");
    assert_eq!(call("open.example", None).await.expect("not affected").1.status, 200);
}

/// A program that sends everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn connections_are_routed_at_a_gateway_ended_passed_on_and_plain() {
    let ca = Outside::new();
    let (ended, inner) = (ca.issue("ended.example", 1, 2090), ca.issue("passed.example", 2, 2090));
    let program = echo().await;
    let mesh = Mesh::new();
    let values = vec![
        listeners(vec![
            json!({ "hosts": ["ended.example"], "protocol": "TLS", "tls": shown(&ended, Value::Null) }),
            json!({ "hosts": ["*.local"], "protocol": "TLS", "auto_passthrough": true }),
            json!({ "hosts": ["passed.example"], "protocol": "TLS" }),
            json!({ "port": 5432, "protocol": "TCP" }),
        ]),
        connections(443, &["ended.example"]),
        connections(5432, &[]),
        cluster("", json!({ "protocol": "TCP" })),
        endpoints("", &[(program, None)]),
    ];
    let mut proxy = gateway(&mesh, values);
    let (tls_at, tcp_at) = (opened(&proxy, 443).await, opened(&proxy, 5432).await);
    // TLS that ends here.
    let tls = client_tls("ended.example", &ca.pem(), None, &[]);
    let stream = TcpStream::connect(tls_at).await.expect("connected");
    let mut stream = tls.connect(stream, clock::now() + Duration::from_secs(5)).await.expect("trusted").stream;
    stream.write_all(b"hello").await.expect("sent");
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.expect("answered");
    assert_eq!(&back, b"hello");
    drop(stream);
    let record = proxy.record(|r| r.sni == "ended.example").await;
    assert_eq!((record.cluster.as_str(), record.bytes_sent), (crate::fixture::cluster_name("").as_str(), 5));
    // A plain port.
    let mut stream = TcpStream::connect(tcp_at).await.expect("connected");
    stream.write_all(b"plain").await.expect("sent");
    stream.read_exact(&mut back).await.expect("answered");
    assert_eq!(&back, b"plain");
    // A name that no rule takes, and one that names no cluster.
    for name in ["passed.example", "outbound_.81_._.x.local", "x.local"] {
        let tls = client_tls(name, &ca.pem(), None, &[]);
        let stream = TcpStream::connect(tls_at).await.expect("connected");
        assert!(tls.connect(stream, clock::now() + Duration::from_secs(5)).await.is_err(), "{name}");
        let record = proxy.record(|r| r.sni == name).await;
        assert!(matches!(record.flags.as_slice(), [ResponseFlag::NoRoute | ResponseFlag::NoCluster]), "{name}: {:?}", record.flags);
    }
    // Passed on: the certificate is the server's own behind it.
    let server = secured_echo(&inner, None).await;
    publish(
        &proxy.shared,
        vec![
            listeners(vec![
                json!({ "hosts": ["passed.example"], "protocol": "TLS" }),
                json!({ "hosts": ["*.local"], "protocol": "TLS", "auto_passthrough": true }),
            ]),
            connections(443, &["passed.example"]),
            cluster("", json!({ "protocol": "TLS" })),
            endpoints("", &[(server, None)]),
        ],
    );
    let tls = client_tls("passed.example", &ca.pem(), None, &[]);
    let through = async {
        loop {
            let stream = TcpStream::connect(tls_at).await.expect("connected");
            if let Ok(secured) = tls.connect(stream, clock::now() + Duration::from_secs(5)).await {
                return secured.stream;
            }
        }
    };
    let mut stream = tokio::time::timeout(Duration::from_secs(5), through).await.expect("passed on");
    stream.write_all(b"inner").await.expect("sent");
    stream.read_exact(&mut back).await.expect("answered");
    assert_eq!(&back, b"inner");
}

/// A TLS server that sends everything back; it may ask for client certificates of an authority.
async fn secured_echo((chain, key): &Pair2, clients: Option<&str>) -> SocketAddr {
    let hosts = ["*".to_owned()];
    let certificate = PublicCertificate { hosts: &hosts, chain_pem: chain, key_pem: key };
    let demand = clients.map(|ca_pem| ClientDemand { required: true, ca_pem, ..ClientDemand::default() });
    let tls = ServerTls::edge(&[certificate], &ServerSettings::default(), demand.as_ref(), &[]).expect("usable");
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(secured) = tls.accept(stream, clock::now() + Duration::from_secs(5)).await else { return };
                let (mut read, mut write) = tokio::io::split(secured.stream);
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    address
}

/// Says something and returns all that comes, without closing its own side.
async fn listen_to(to: SocketAddr, say: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let mut back = Vec::new();
    stream.write_all(say).await.ok();
    stream.read_to_end(&mut back).await.ok();
    back
}

/// A caller's proxy with an opaque cluster.
fn caller(mesh: &Mesh, of_cluster: Value, at: Value) -> TestProxy {
    let mut c = json!({ "protocol": "TCP" });
    merge(&mut c, of_cluster);
    let list = json!({ "type": "Endpoints", "value": { "cluster": crate::fixture::cluster_name(""), "endpoints": [{ "address": at }] } });
    mesh.client(
        "productpage",
        vec![crate::fixture::inbound("productpage", 9080, "PERMISSIVE"), crate::fixture::service("TCP"), cluster("", c), list],
    )
}

/// Says something and returns the answer, empty when the connection is closed first.
async fn talk(to: SocketAddr, say: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let mut back = Vec::new();
    if stream.write_all(say).await.is_ok() && stream.shutdown().await.is_ok() {
        stream.read_to_end(&mut back).await.ok();
    }
    back
}

#[tokio::test]
async fn servers_outside_must_prove_who_they_are() {
    let (mesh, ca, other) = (Mesh::new(), Outside::new(), Outside::new());
    let (right, expired, revoked) = (ca.issue("db.example", 1, 2090), ca.issue("db.example", 2, 2021), ca.issue("db.example", 3, 2090));
    let (foreign, client) = (other.issue("db.example", 4, 2090), ca.issue("me.example", 5, 2090));
    let crl = ca.revoke(&[3]);
    let trust = |extra: Value| {
        let mut one = json!({ "ca": ca.pem() });
        merge(&mut one, extra);
        json!({ "tls": "SIMPLE", "sni": "db.example", "origination": one })
    };
    let own = json!({ "certificate": { "certificate": client.0, "private_key": client.1 } });
    let cases: Vec<(&str, &Pair2, bool, Value, &str)> = vec![
        ("the right name", &right, false, trust(json!({})), ""),
        (
            "another name is expected",
            &right,
            false,
            json!({ "tls": "SIMPLE", "sni": "x.example", "origination": { "ca": ca.pem() } }),
            "not valid for",
        ),
        ("one of the listed names", &right, false, trust(json!({ "subject_alt_names": ["a.example", "db.example"] })), ""),
        ("none of the listed names", &right, false, trust(json!({ "subject_alt_names": ["a.example"] })), "none of a.example was proved"),
        ("another authority", &foreign, false, trust(json!({})), "not signed by a root"),
        ("too old", &expired, false, trust(json!({})), "expired"),
        ("revoked", &revoked, false, trust(json!({ "crl": crl })), "revoked"),
        ("not revoked", &right, false, trust(json!({ "crl": crl })), ""),
        ("nobody checks", &foreign, false, trust(json!({ "insecure_skip_verify": true })), ""),
        ("a client certificate", &right, true, trust(own), ""),
        ("a missing Secret", &right, false, trust(json!({ "missing": "no usable Secret default/x" })), "no usable Secret default/x"),
    ];
    for (what, certificate, asks, tls, refusal) in cases {
        let server = secured_echo(certificate, asks.then(|| ca.pem()).as_deref()).await;
        let mut proxy = caller(&mesh, tls, json!(server.to_string()));
        let back = talk(proxy.address, b"hello").await;
        let record = proxy.record(|_| true).await;
        let outcome = record.attempts.last().map(|a| a.outcome.clone()).unwrap_or_default();
        assert_eq!(back.as_slice(), if refusal.is_empty() { b"hello".as_slice() } else { b"" }, "{what}: {outcome}");
        assert!(refusal.is_empty() || (outcome.contains(refusal) && record.flags == [ResponseFlag::UpstreamTls]), "{what}: {outcome}");
    }
    // A server that asks for a certificate and gets none says so when the first bytes are read.
    let server = secured_echo(&right, Some(&ca.pem())).await;
    let proxy = caller(&mesh, trust(json!({})), json!(server.to_string()));
    assert!(talk(proxy.address, b"hello").await.is_empty(), "nothing is echoed");
}

#[tokio::test]
async fn certificates_in_files_are_read() {
    let (mesh, ca) = (Mesh::new(), Outside::new());
    let folder = tempfile::tempdir().expect("made");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).expect("written");
    let server = secured_echo(&ca.issue("db.example", 1, 2090), None).await;
    let tls = json!({ "tls": "SIMPLE", "sni": "db.example", "origination": { "ca": { "file": file } } });
    let proxy = caller(&mesh, tls, json!(server.to_string()));
    assert_eq!(talk(proxy.address, b"hello").await, b"hello");
}

#[tokio::test]
async fn the_proxy_protocol_is_believed_where_it_is_expected_only() {
    let pair = Pair::new(echo_program(false).await);
    let values = vec![
        listeners(vec![json!({ "port": 80, "protocol": "HTTP", "proxy_protocol": true })]),
        web(80),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
    ];
    let mut proxy = gateway(&pair.mesh, values);
    let at = opened(&proxy, 80).await;
    let request = "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    let said = listen_to(at, format!("PROXY TCP4 192.0.2.9 198.51.100.1 1234 80\r\n{request}").as_bytes()).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("x-saw-x-forwarded-for: 192.0.2.9\r\n"), "{said}");
    assert_eq!(proxy.record(|r| r.status == 200).await.downstream, "192.0.2.9:1234");
    assert!(listen_to(at, request.as_bytes()).await.is_empty(), "without a header nothing is answered");
    assert_eq!(proxy.record(|r| r.details == details::PROXY_PROTOCOL).await.flags, [ResponseFlag::DownstreamProtocol]);
}

#[tokio::test]
async fn the_endpoint_is_told_whose_connection_it_is() {
    let (mesh, program) = (Mesh::new(), echo().await);
    for version in ["V1", "V2"] {
        let proxy = caller(&mesh, json!({ "proxy_protocol": version }), json!(program.to_string()));
        let back = talk(proxy.address, b"hello").await;
        let (header, length) = weft_wire::proxy_protocol::parse(&back).expect("a header").expect("whole");
        assert!(matches!(header, weft_wire::proxy_protocol::ProxyHeader::Client(from, _) if from.ip() == loopback().ip()), "{header:?}");
        assert_eq!(&back[length..], b"hello");
    }
}

#[tokio::test]
async fn a_tunnel_is_asked_for_and_its_refusal_told() {
    let mesh = Mesh::new();
    for (answer, heard) in [("HTTP/1.1 200 OK\r\n\r\n", "hi there"), ("HTTP/1.1 403 Forbidden\r\n\r\n", "")] {
        let outside = TcpListener::bind(loopback()).await.expect("bound");
        let address = outside.local_addr().expect("address");
        let asked = tokio::spawn(async move {
            let (mut stream, _) = outside.accept().await.expect("called");
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                bytes.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(format!("{answer}hi there").as_bytes()).await.expect("answered");
            String::from_utf8(bytes).expect("text")
        });
        let tunnel = json!({ "tunnel": { "method": "CONNECT", "host": "2001:db8::1", "port": 5432 } });
        let mut proxy = caller(&mesh, tunnel, json!(address.to_string()));
        assert_eq!(talk(proxy.address, b"").await, heard.as_bytes());
        assert_eq!(asked.await.expect("asked"), "CONNECT [2001:db8::1]:5432 HTTP/1.1\r\nHost: [2001:db8::1]:5432\r\n\r\n");
        let record = proxy.record(|_| true).await;
        let refused = record.attempts.iter().any(|a| a.outcome.contains("403 Forbidden"));
        assert_eq!(refused, heard.is_empty(), "{:?}", record.attempts);
    }
}

#[tokio::test]
async fn open_connections_end_when_a_policy_refuses_them_and_the_record_names_it() {
    let program = echo().await;
    let mut pair = Pair::with(program, "STRICT", "TCP", json!({}), json!({}));
    let mut stream = TcpStream::connect(pair.client.address).await.expect("connected");
    stream.write_all(b"a").await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("answered"), b'a');
    let own = || crate::fixture::inbound_with("reviews", program.port(), "STRICT", "TCP");
    let allow = json!({ "type": "Authorization", "value": {
        "name": "default/some", "action": "ALLOW", "origin": origin("AuthorizationPolicy", 4),
        "rules": [{ "from": [{ "namespaces": { "any": [{ "exact": "default" }] } }], "origin": origin("AuthorizationPolicy", 6) }],
    } });
    // A policy that lets it in changes nothing.
    publish(&pair.server.shared, vec![own(), allow]);
    stream.write_all(b"b").await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("answered"), b'b');
    let deny = json!({ "type": "Authorization", "value": {
        "name": "default/none", "action": "DENY", "origin": origin("AuthorizationPolicy", 14), "rules": [{ "origin": origin("AuthorizationPolicy", 16) }],
    } });
    publish(&pair.server.shared, vec![own(), deny]);
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.expect("it ends");
    assert!(matches!(ended, Ok(0) | Err(_)));
    let record = pair.server.record(|_| true).await;
    assert_eq!((record.details.as_str(), record.bytes_sent), (details::REVOKED, 2));
    let decision = record.policy.expect("the policy is named");
    assert_eq!((decision.policy.as_str(), decision.allowed, decision.origin.line), ("default/none", false, 16));
}

#[tokio::test]
async fn opaque_connections_live_as_long_as_they_may() {
    let mesh = Mesh::new();
    let program = echo().await.to_string();
    for (limits, flag) in [
        (json!({ "limits": { "connection_age_ms_max": 30 } }), ResponseFlag::DurationTimeout),
        (json!({ "limits": { "tcp_idle_timeout_ms": 30 } }), ResponseFlag::StreamIdle),
    ] {
        let mut proxy = caller(&mesh, limits, json!(program));
        let mut stream = TcpStream::connect(proxy.address).await.expect("connected");
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.expect("it ends");
        assert!(matches!(ended, Ok(0) | Err(_)));
        assert_eq!(proxy.record(|_| true).await.flags, [flag]);
    }
}

#[tokio::test]
async fn sockets_of_the_machine_and_of_ipv6_are_endpoints_too() {
    let mesh = Mesh::new();
    let folder = tempfile::tempdir().expect("made");
    let path = folder.path().join("db.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.ok();
        }
    });
    let proxy = caller(&mesh, json!({}), json!({ "path": path }));
    assert_eq!(talk(proxy.address, b"local").await, b"local");

    let listener = TcpListener::bind("[::1]:0").await.expect("IPv6 on the loopback interface");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.ok();
        }
    });
    let mut proxy = caller(&mesh, json!({}), json!(address.to_string()));
    assert_eq!(talk(proxy.address, b"six").await, b"six");
    let record = proxy.record(|_| true).await;
    assert_eq!(record.attempts[0].endpoint, format!("[::1]:{}", address.port()));
}

#[tokio::test]
async fn a_gateway_listens_on_ipv6_as_well() {
    let pair = Pair::new(echo_program(false).await);
    let values = vec![
        listeners(vec![json!({ "port": 80, "protocol": "HTTP" })]),
        web(80),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
    ];
    let ports = GatewayPorts {
        ip: "::1".parse().expect("an address"),
        map: [(80, "[::1]:0".parse().expect("an address"))].into(),
        low_port_shift: 0,
    };
    let config = ProxyConfig { name: "gateway".into(), role: Role::Gateway, gateway: Some(ports), ..ProxyConfig::default() };
    let proxy = pair.mesh.start("gateway", config, loopback(), values);
    let at = opened(&proxy, 80).await;
    let request = Request::get("/").header("host", "[2001:db8::1]:80").body(Full::default()).expect("legal");
    let answer = send(at, request).await;
    assert_eq!((answer.status, answer.header("x-saw-x-forwarded-for")), (200, "::1"));
}

/// A DNS server for one name with these addresses, which may change; it never answers while there are none.
async fn names(addresses: std::sync::Arc<std::sync::Mutex<Vec<[u8; 4]>>>) -> weft_wire::resolve::Resolver {
    let udp = tokio::net::UdpSocket::bind(loopback()).await.expect("bound");
    let at = udp.local_addr().expect("address");
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut question).await {
            let now = addresses.lock().expect("not poisoned").clone();
            // The header and the question up to its end; what follows (EDNS) is left out.
            let end = 12 + question[12..length].iter().position(|b| *b == 0).expect("a name") + 5;
            let is_a = question[end - 3] == 1;
            let count = if is_a { now.len() } else { 0 };
            let mut answer = question[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::try_from(count).expect("few"), 0, 0, 0, 0]);
            for ip in now.iter().take(count) {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(ip);
            }
            if !now.is_empty() {
                udp.send_to(&answer, from).await.ok();
            }
        }
    });
    weft_wire::resolve::Resolver::with_servers(vec![at])
}

#[tokio::test]
async fn names_become_endpoints_and_outlive_their_server() {
    let mesh = Mesh::new();
    let program = echo().await;
    let known = std::sync::Arc::new(std::sync::Mutex::new(vec![[127, 0, 0, 1], [127, 0, 0, 2]]));
    let at = json!({ "host": "db.example", "port": program.port() });
    let mut proxy = caller(&mesh, json!({ "dns_trust": "any" }), at.clone());
    proxy.shared.names.use_resolver(names(known.clone()).await);
    assert_eq!(talk(proxy.address, b"first").await, b"first");
    assert_eq!(proxy.record(|_| true).await.attempts[0].endpoint, format!("db.example:{}", program.port()));
    // Every address is an endpoint of its own soon after.
    let by_address = format!("127.0.0.1:{}", program.port());
    let expanded = async {
        loop {
            talk(proxy.address, b"x").await;
            if proxy.record(|_| true).await.attempts.iter().any(|a| a.endpoint == by_address) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), expanded).await.expect("the name becomes its addresses");
    // The server is gone; what was known stays in use.
    known.lock().expect("not poisoned").clear();
    assert_eq!(talk(proxy.address, b"still").await, b"still");

    // A name outside may not stand for this machine.
    known.lock().expect("not poisoned").push([127, 0, 0, 1]);
    let mut proxy = caller(&mesh, json!({}), at);
    proxy.shared.names.use_resolver(names(known).await);
    assert!(talk(proxy.address, b"x").await.is_empty());
    let record = proxy.record(|_| true).await;
    assert_eq!((record.flags.as_slice(), record.details.as_str()), ([ResponseFlag::DnsFailure].as_slice(), details::DNS_FAILURE));
    assert!(record.attempts[0].outcome.contains("this machine"), "{:?}", record.attempts);
}
