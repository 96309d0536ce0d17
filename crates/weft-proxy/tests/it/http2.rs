//! What HTTP/2 brings along: WebSockets by extended CONNECT (RFC 8441) in all combinations, tunnels, limits and malformed input.

use crate::fixture::{Pair, cluster, echo_program, endpoints, loopback, program, route, service, table, text};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha1::{Digest as _, Sha1};
use std::{net::SocketAddr, rc::Rc};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::{LocalSet, spawn_local},
};
use weft_proxy::ProxyConfig;
use weft_wire::http2::{self, Protocol, SendRequest, Tunnel, TunnelBody, tunnel};

/// A program's side of a WebSocket: turns every four bytes round, and says goodbye when the other side has said all.
async fn turn_round(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let mut bytes = [0; 4];
    while io.read_exact(&mut bytes).await.is_ok() {
        bytes.reverse();
        io.write_all(&bytes).await.expect("written");
    }
    io.write_all(b"bye").await.expect("half-close leaves the other direction open");
    io.shutdown().await.expect("shut down");
}

async fn exercise(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    for _ in 0..3 {
        io.write_all(b"abcd").await.expect("written");
        let mut back = [0; 4];
        io.read_exact(&mut back).await.expect("read");
        assert_eq!(&back, b"dcba");
    }
    io.shutdown().await.expect("shut down");
    let mut rest = String::new();
    io.read_to_string(&mut rest).await.expect("read");
    assert_eq!(rest, "bye");
}

/// RFC 6455 §4.2.2, as a server computes it.
fn accept(headers: &HeaderMap) -> String {
    let key = headers["sec-websocket-key"].as_bytes();
    STANDARD.encode(Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize())
}

/// Speaks HTTP/1.1: 101, unless the path asks for something else.
async fn websocket_program() -> SocketAddr {
    program(false, |mut request: Request<Incoming>| async move {
        assert_eq!((request.method().as_str(), &request.headers()["sec-websocket-version"]), ("GET", &"13".parse().expect("value")));
        if request.uri().path() == "/forbidden" {
            return text(403, "no");
        }
        let accept = if request.uri().path() == "/wrong" { "nonsense".into() } else { accept(request.headers()) };
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { turn_round(TokioIo::new(upgrade.await.expect("upgraded"))).await });
        let mut response = text(101, "");
        for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)] {
            response.headers_mut().insert(name, value.parse().expect("value"));
        }
        response
    })
    .await
}

/// Speaks HTTP/2 with RFC 8441.
async fn websocket_program2() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            spawn_local(http2::serve(stream, Rc::default(), |request: Request<http2::Body>| async move {
                assert_eq!((request.method().as_str(), request.uri().path()), ("CONNECT", "/chat"));
                assert_eq!(request.extensions().get(), Some(&Protocol("websocket".parse().expect("value"))));
                assert!(!request.headers().contains_key("sec-websocket-key"), "HTTP/2 knows no key (RFC 8441 §5)");
                let (writer, outgoing) = tunnel();
                spawn_local(turn_round(Tunnel::new(request.into_body(), writer)));
                let mut response = Response::new(outgoing);
                response.headers_mut().insert("sec-websocket-protocol", "chat".parse().expect("value"));
                response
            }));
        }
    });
    address
}

async fn connect<B: http_body::Body<Data = Bytes> + Unpin + 'static>(to: SocketAddr) -> SendRequest<B> {
    let (sender, connection) = http2::handshake(TcpStream::connect(to).await.expect("connected"), Rc::default());
    spawn_local(async move { connection.await.ok() });
    sender
}

async fn ask(to: SocketAddr, path: &str, protocol: &str) -> (Response<http2::Body>, http2::TunnelWriter) {
    let sender = connect::<TunnelBody>(to).await;
    sender.settings().await;
    assert_eq!(sender.takes_extended_connect(), Some(true));
    let (writer, outgoing) = tunnel();
    let request = Request::connect(format!("http://reviews{path}")).header("sec-websocket-version", "13").header("origin", "http://x");
    let request = request.extension(Protocol(protocol.parse().expect("value"))).body(outgoing).expect("legal");
    (sender.send(Box::new(request)).await.expect("answered"), writer)
}

async fn locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn rfc8441_websocket_from_http2_to_a_program_of_http1() {
    locally(async {
        let mut pair = Pair::new(websocket_program().await);
        let (response, writer) = ask(pair.client.address, "/chat", "websocket").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("sec-websocket-accept") && !response.headers().contains_key("upgrade"));
        exercise(Tunnel::new(response.into_body(), writer)).await;
        let record = pair.client.record(|r| r.path == "/chat").await;
        assert_eq!((record.bytes_received, record.bytes_sent), (12, 15));
        assert_eq!(ask(pair.client.address, "/forbidden", "websocket").await.0.status(), 403, "an answer of another kind passes");
        assert_eq!(ask(pair.client.address, "/wrong", "websocket").await.0.status(), 502, "RFC 6455 §4.1: a wrong accept");
        assert_eq!(ask(pair.client.address, "/chat", "connect-udp").await.0.status(), 501);
    })
    .await;
}

#[tokio::test]
async fn rfc8441_websocket_from_http2_to_http2() {
    locally(async {
        let pair = Pair::with(websocket_program2().await, "STRICT", "HTTP2", json!({}), json!({}));
        let (response, writer) = ask(pair.client.address, "/chat", "websocket").await;
        assert_eq!((response.status(), response.headers()["sec-websocket-protocol"].as_bytes()), (StatusCode::OK, &b"chat"[..]));
        exercise(Tunnel::new(response.into_body(), writer)).await;
    })
    .await;
}

#[tokio::test]
async fn rfc8441_websocket_from_http1_to_http2() {
    locally(async {
        let pair = Pair::with(websocket_program2().await, "STRICT", "HTTP2", json!({}), json!({}));
        let stream = TcpStream::connect(pair.client.address).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
        spawn_local(async move { connection.with_upgrades().await.ok() });
        let request = Request::get("/chat").header("host", "reviews").header("connection", "Upgrade").header("upgrade", "websocket");
        let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-websocket-version", "13");
        let response = sender.send_request(request.body(Full::<Bytes>::default()).expect("legal")).await.expect("answered");
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455 §1.3");
        exercise(TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"))).await;
    })
    .await;
}

/// RFC 9113 §8.5: what HTTP/1.1's CONNECT is given, HTTP/2's is given.
#[tokio::test]
async fn connect_opens_a_tunnel_where_a_proxy_is_asked() {
    locally(async {
        let pair = Pair::new(echo_program(false).await);
        let listener = std::net::TcpListener::bind(loopback()).expect("bound");
        let address = listener.local_addr().expect("address");
        let values = vec![
            service("HTTP"),
            table(vec![route(&[("", 1)], json!({}))]),
            cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
        ];
        let config = ProxyConfig { http_proxy: vec![listener], ..ProxyConfig::default() };
        let _proxy = pair.mesh.start("productpage", config, address, values);
        let sender = connect::<TunnelBody>(address).await;
        let (writer, outgoing) = tunnel();
        let request = Request::connect("reviews:80").body(outgoing).expect("legal");
        let response = sender.send(Box::new(request)).await.expect("answered");
        assert_eq!(response.status(), StatusCode::OK);
        let mut io = Tunnel::new(response.into_body(), writer);
        io.write_all(b"GET /tunnel HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n").await.expect("written");
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.expect("read");
        assert!(answer.ends_with("GET /tunnel reviews 0"), "{answer}");
        let (_writer, outgoing) = tunnel();
        let elsewhere = Request::connect("nowhere:80").body(outgoing).expect("legal");
        assert_eq!(sender.send(Box::new(elsewhere)).await.expect("answered").status(), 502);
    })
    .await;
}

/// GOAWAY in two steps: what was sent is served, and the connection ends by itself.
#[tokio::test]
async fn a_drain_says_goodbye_and_serves_what_was_sent() {
    locally(async {
        let (go, wait) = tokio::sync::watch::channel(false);
        let slow = program(true, move |_| {
            let mut wait = wait.clone();
            async move {
                wait.wait_for(|go| *go).await.expect("told");
                text(200, "done")
            }
        })
        .await;
        let mut pair = Pair::new(slow);
        let sender = connect::<Full<Bytes>>(pair.client.address).await;
        let request = |path: &str| Box::new(Request::get(format!("http://reviews{path}")).body(Full::default()).expect("legal"));
        let waiting = spawn_local(sender.send(request("/")));
        let handle = pair.client.handle.take().expect("runs");
        while handle.describe().await[0]["connections"] == 0 {
            tokio::task::yield_now().await;
        }
        let drained = tokio::spawn(handle.drain(std::time::Duration::from_secs(5)));
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
        let late = sender.send(request("/late")).await.expect_err("no new streams");
        assert!(late.unsent.is_some());
        go.send_replace(true);
        let response = waiting.await.expect("joins").expect("answered");
        assert_eq!(response.into_body().collect().await.expect("whole").to_bytes(), "done");
        assert_eq!(drained.await.expect("no panic"), weft_std::Drained::Complete);
    })
    .await;
}
