//! Damaged and hostile input: the right answer, and the next caller is none the worse.

use crate::fixture::{Mesh, Pair, echo_program, get, send};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use weft_proxy::{ExplicitListener, ProxyConfig};

/// Sends bytes and reads until the proxy closes, or for two seconds.
async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    // The proxy may close before it has read all.
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

#[tokio::test]
async fn too_many_header_bytes_are_431() {
    let mut pair = Pair::new(echo_program(false).await);
    let huge = format!("GET / HTTP/1.1\r\nhost: reviews\r\nx-big: {}\r\n\r\n", "a".repeat(100_000));
    assert_eq!(status(&raw(pair.client.address, huge.as_bytes()).await), "431");
    assert_eq!(pair.client.record(|r| r.status == 431).await.details, "request_headers_too_large");
    let many: String = (0..200).map(|i| format!("x-{i}: 1\r\n")).collect();
    assert_eq!(status(&raw(pair.client.address, format!("GET / HTTP/1.1\r\nhost: reviews\r\n{many}\r\n").as_bytes()).await), "431");
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let pair = Pair::new(echo_program(false).await);
    for (what, head) in [
        ("two lengths", "POST / HTTP/1.1\r\nhost: reviews\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        ("a bad length", "POST / HTTP/1.1\r\nhost: reviews\r\ncontent-length: +5\r\n\r\nhello"),
        ("another coding", "POST / HTTP/1.1\r\nhost: reviews\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: reviews\r\nhost: other\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("a user in the host", "GET / HTTP/1.1\r\nhost: a@reviews\r\n\r\n"),
        ("a path above the root", "GET /../x HTTP/1.1\r\nhost: reviews\r\n\r\n"),
        ("an encoded NUL", "GET /%00 HTTP/1.1\r\nhost: reviews\r\n\r\n"),
        ("a space in a name", "GET / HTTP/1.1\r\nhost : reviews\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1\r\nhost: reviews\r\nx: 1\r\n 2\r\n\r\n"),
    ] {
        let answer = raw(pair.client.address, head.as_bytes()).await;
        assert_eq!(status(&answer), "400", "{what}: {answer}");
    }
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
}

/// RFC 9112 §6.1 lets a server take the chunks and drop the length; who sends both means harm, and is refused.
#[tokio::test]
async fn a_length_beside_chunks_is_refused() {
    let pair = Pair::new(echo_program(false).await);
    let both = "POST /a HTTP/1.1\r\nhost: reviews\r\ncontent-length: 50\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let smuggled = format!("{both}GET /b HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n");
    let answer = raw(pair.client.address, smuggled.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "what follows is never read: {answer}");
    assert_eq!(send(pair.client.address, get("/c")).await.body, "GET /c reviews 0");
}

#[tokio::test]
async fn a_half_sent_request_does_not_hold_a_connection_for_ever() {
    let mesh = Mesh::new();
    let listener = std::net::TcpListener::bind(crate::fixture::loopback()).expect("bound");
    let address = listener.local_addr().expect("address");
    let config = ProxyConfig {
        explicit: vec![ExplicitListener { host: "reviews".into(), port: 80, listeners: vec![listener] }],
        header_timeout: Some(Duration::from_millis(100)),
        ..ProxyConfig::default()
    };
    let _proxy = mesh.start("productpage", config, address, vec![crate::fixture::service("HTTP")]);
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: rev").await.expect("written");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "the proxy closes it");
}

#[tokio::test]
async fn a_caller_who_leaves_is_recorded_as_such() {
    let mut pair = Pair::new(crate::fixture::program(false, |_| std::future::pending()).await);
    let mut stream = TcpStream::connect(pair.client.address).await.expect("connected");
    stream.write_all(b"GET /left HTTP/1.1\r\nhost: reviews\r\n\r\n").await.expect("written");
    // The request has arrived when the other side's proxy holds a connection for it.
    let describe = pair.server.handle.as_ref().expect("runs");
    while describe.describe().await[0]["connections"] == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    let record = pair.client.record(|r| r.path == "/left").await;
    assert_eq!((record.status, record.flags.as_slice()), (0, &[weft_telemetry::ResponseFlag::DownstreamClosed][..]));
}

#[tokio::test]
async fn http2_upgrades_through_the_proxy_are_not_started() {
    let pair = Pair::new(echo_program(false).await);
    let asked =
        b"GET / HTTP/1.1\r\nhost: reviews\r\nconnection: upgrade, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = raw(pair.client.address, asked).await;
    assert_eq!(status(&answer), "200");
    assert!(!answer.contains("x-saw-upgrade"), "{answer}");
}

#[tokio::test]
async fn draining_finishes_what_is_under_way() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let slow = crate::fixture::program(false, move |_| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.expect("told");
            crate::fixture::text(200, "done")
        }
    })
    .await;
    let mut pair = Pair::new(slow);
    let to = pair.client.address;
    let under_way = tokio::spawn(send(to, get("/")));
    let handle = pair.client.handle.take().expect("runs");
    while handle.describe().await[0]["connections"] == 0 {
        tokio::task::yield_now().await;
    }
    let drained = tokio::spawn(handle.drain(Duration::from_secs(5)));
    while TcpStream::connect(to).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.send_replace(true);
    assert_eq!(under_way.await.expect("no panic").body, "done");
    assert_eq!(drained.await.expect("no panic"), weft_std::Drained::Complete);
}
