//! Opaque bytes over mutual TLS, and detection on ports that declare nothing.

use crate::fixture::{Pair, inbound_with, loopback, origin, publish};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A program that sends a greeting and then everything back.
async fn greeter(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(greeting).await.ok();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    address
}

async fn talk(to: SocketAddr, greeting: &[u8], say: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    let mut heard = vec![0; greeting.len()];
    stream.read_exact(&mut heard).await?;
    assert_eq!(heard, greeting);
    stream.write_all(say).await?;
    stream.shutdown().await?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await?;
    Ok(back)
}

#[tokio::test]
async fn bytes_pass_in_both_directions_and_half_closes_too() {
    let mut pair = Pair::with(greeter(b"").await, "STRICT", "TCP", json!({}), json!({}));
    let said = vec![b'x'; 1_000_000];
    assert_eq!(talk(pair.client.address, b"", &said).await.expect("alive"), said);
    let (source, destination) = (pair.client.record(|_| true).await, pair.server.record(|_| true).await);
    assert_eq!((source.protocol.as_str(), source.bytes_sent, source.bytes_received), ("tcp", 1_000_000, 1_000_000));
    assert!(destination.tls.is_some());
    assert_eq!(destination.source.principal, "spiffe://cluster.local/ns/default/sa/productpage");
}

#[tokio::test]
async fn a_connection_is_counted_when_it_begins_and_when_it_ends() {
    let mut pair = Pair::with(greeter(b"hello").await, "STRICT", "TCP", json!({}), json!({}));
    let mut stream = TcpStream::connect(pair.client.address).await.expect("connected");
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await.expect("greeted");
    let counted = |proxy: &crate::fixture::TestProxy| {
        let metrics = proxy.handle.as_ref().expect("runs").metrics();
        let sum = |of: fn(&weft_telemetry::SeriesCounts) -> u64| metrics.series.values().map(of).sum::<u64>();
        (metrics.series.len(), sum(|c| c.opened), sum(|c| c.requests))
    };
    assert_eq!((counted(&pair.client), counted(&pair.server)), ((1, 1, 0), (1, 1, 0)));
    drop(stream);
    pair.client.record(|_| true).await;
    pair.server.record(|_| true).await;
    // The same series: whoever subtracts the one from the other sees what is open.
    assert_eq!((counted(&pair.client), counted(&pair.server)), ((1, 1, 1), (1, 1, 1)));
}

#[tokio::test]
async fn a_protocol_in_which_the_server_speaks_first_is_detected_as_such() {
    let pair = Pair::with(greeter(b"220 hello\r\n").await, "STRICT", "AUTO", json!({}), json!({}));
    assert_eq!(talk(pair.client.address, b"220 hello\r\n", b"QUIT").await.expect("alive"), b"QUIT");
}

#[tokio::test]
async fn what_is_learnt_of_a_port_saves_the_wait_and_no_judgement() {
    let program = greeter(b"220 hello\r\n").await;
    let mut pair = Pair::with(program, "STRICT", "AUTO", json!({}), json!({}));
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert_eq!(talk(pair.client.address, b"220 hello\r\n", b"QUIT").await.expect("alive"), b"QUIT");
        seen.push(pair.client.record(|_| true).await.detected);
    }
    assert_eq!(seen, ["time-out", "learned"]);
    // A client that does speak is heard at the port all the same: its request is judged as a request is.
    let answer = crate::fixture::send(pair.client.address, crate::fixture::get("/")).await;
    assert!(matches!(answer.status, 502 | 503), "the program does not speak HTTP: {}", answer.status);
    // An ALLOW rule about requests lets no bytes through, and a DENY rule about requests refuses them, however they were found out.
    for action in ["ALLOW", "DENY"] {
        let policy = json!({ "type": "Authorization", "value": {
            "name": "default/requests", "action": action, "origin": origin("AuthorizationPolicy", 4),
            "rules": [{ "to": [{ "methods": { "any": [{ "exact": "GET" }] } }], "origin": origin("AuthorizationPolicy", 6) }],
        } });
        publish(&pair.server.shared, vec![inbound_with("reviews", program.port(), "STRICT", "AUTO"), policy]);
        assert!(talk(pair.client.address, b"220 hello\r\n", b"QUIT").await.is_err(), "{action}");
        let record = pair.server.record(|r| r.policy.as_ref().is_some_and(|p| !p.allowed && p.policy == "default/requests")).await;
        assert_eq!(record.bytes_sent, 0);
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_are_detected() {
    let pair = Pair::with(greeter(b"").await, "STRICT", "AUTO", json!({}), json!({}));
    let redis = b"*1\r\n$4\r\nPING\r\n";
    assert_eq!(talk(pair.client.address, b"", redis).await.expect("alive"), redis);
}

/// The first bytes of a TLS client that knows nothing of the mesh: a whole ClientHello without ALPN.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    // supported_versions, signature_algorithms, supported_groups, and server_name `db`.
    let extensions: &[&[u8]] =
        &[&[0, 43, 0, 3, 2, 3, 4], &[0, 13, 0, 4, 0, 2, 4, 3], &[0, 10, 0, 4, 0, 2, 0, 29], &[0, 0, 0, 7, 0, 5, 0, 0, 2, b'd', b'b']];
    let extensions = extensions.concat();
    body.extend([0, u8::try_from(extensions.len()).expect("short")]);
    body.extend(extensions);
    let handshake = [&[1, 0, 0, u8::try_from(body.len()).expect("short")], &body[..]].concat();
    [&[0x16, 3, 1, 0, u8::try_from(handshake.len()).expect("short")], &handshake[..]].concat()
}

#[tokio::test]
async fn tls_of_the_program_itself_is_passed_on_by_name() {
    let mut pair = Pair::with(greeter(b"").await, "PERMISSIVE", "AUTO", json!({}), json!({}));
    let hello = client_hello();
    assert_eq!(talk(pair.client.address, b"", &hello).await.expect("alive"), hello);
    assert_eq!(pair.client.record(|_| true).await.sni, "db");
    // Straight to the workload's own port, past the caller's proxy: as plain text, where that is let in.
    assert_eq!(talk(pair.server.address, b"", &hello).await.expect("alive"), hello);
    assert!(pair.server.record(|r| r.tls.is_none()).await.source.principal.is_empty());
    let mut strict = Pair::new(greeter(b"").await);
    assert!(talk(strict.server.address, b"", &hello).await.unwrap_or_default().is_empty());
    assert_eq!(strict.server.record(|_| true).await.policy.expect("decided").reason, "plain text to a STRICT port");
}

#[tokio::test]
async fn policies_hold_for_bytes_as_well() {
    let program = greeter(b"").await;
    let mut pair = Pair::with(program, "STRICT", "TCP", json!({}), json!({}));
    let deny = |rules: Value| json!({ "type": "Authorization", "value": { "name": "default/d", "action": "DENY", "rules": rules, "origin": origin("AuthorizationPolicy", 1) } });
    // A rule about HTTP attributes cannot be decided on bytes: DENY errs on the safe side.
    let http_only = json!([{ "to": [{ "paths": { "any": [{ "prefix": "/admin" }] } }], "origin": origin("AuthorizationPolicy", 4) }]);
    publish(&pair.server.shared, vec![inbound_with("reviews", program.port(), "STRICT", "TCP"), deny(http_only)]);
    assert!(talk(pair.client.address, b"", b"x").await.unwrap_or_default().is_empty());
    let record = pair.server.record(|r| r.policy.is_some()).await;
    assert_eq!(record.policy.expect("decided").origin.line, 4);
}

#[tokio::test]
async fn plain_bytes_to_a_strict_port_are_refused_with_a_record() {
    let mut pair = Pair::with(greeter(b"").await, "STRICT", "TCP", json!({}), json!({}));
    assert!(talk(pair.server.address, b"", b"hello").await.unwrap_or_default().is_empty());
    let record = pair.server.record(|_| true).await;
    let decision = record.policy.expect("decided");
    assert_eq!((decision.allowed, decision.reason.as_str()), (false, "plain text to a STRICT port"));
}

#[tokio::test]
async fn an_unknown_destination_is_closed_with_a_record() {
    let mut pair = Pair::new(greeter(b"").await);
    publish(&pair.client.shared, vec![]);
    let ask = async {
        let asked = pair.client.needs.recv().await.expect("asked");
        asked.answer.send(weft_proxy::control::Needed::Unknown).expect("waits");
    };
    let (back, ()) = tokio::join!(talk(pair.client.address, b"", b"*1\r\n$4\r\nPING\r\n"), ask);
    assert!(back.unwrap_or_default().is_empty());
    let record = pair.client.record(|_| true).await;
    assert_eq!(record.flags, [weft_telemetry::ResponseFlag::NoRoute]);
}
