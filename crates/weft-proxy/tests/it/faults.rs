//! Faults that a proxy survives, with a ledger: each request has a number and a body, the program notes each number that it gets, and
//! the answer is a digest of the body. *Lost* is a request without an answer, *wrong* one with another's answer, *twice* a number
//! that the program saw more than once.

use crate::fixture::{
    Mesh, Pair, TestProxy, cluster, endpoints, inbound, inbound_with, loopback, program, publish, route, service, table, text,
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Notify,
};

/// What the program saw.
#[derive(Clone, Default)]
struct Ledger {
    seen: Arc<Mutex<BTreeMap<String, u32>>>,
    answered: Arc<AtomicU64>,
    progress: Arc<Notify>,
}

fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect()
}

impl Ledger {
    /// A program that notes and answers.
    async fn program(&self) -> SocketAddr {
        let seen = self.seen.clone();
        program(false, move |request| {
            let seen = seen.clone();
            async move {
                let id = request.uri().path().to_owned();
                *seen.lock().expect("not poisoned").entry(id).or_default() += 1;
                let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                text(200, digest(&body))
            }
        })
        .await
    }

    /// One caller with a keep-alive connection that sends `count` numbered requests, one after the other; what went wrong.
    async fn caller(self, to: SocketAddr, caller: u32, count: u32) -> Vec<String> {
        let mut problems = Vec::new();
        let mut sender = None;
        for number in 0..count {
            let id = format!("/{caller}-{number}");
            let body = Bytes::from(id.repeat(1 + (number as usize * 37) % 900));
            let ready = match sender.take() {
                Some(sender) => sender,
                None => connect(to).await,
            };
            let mut ready: hyper::client::conn::http1::SendRequest<Full<Bytes>> = ready;
            // Every other one is not idempotent.
            let method = if number % 2 == 0 { "POST" } else { "PUT" };
            let request =
                Request::builder().method(method).uri(&id).header("host", "reviews").body(Full::new(body.clone())).expect("legal");
            match ready.send_request(request).await {
                Err(error) => problems.push(format!("{id} lost: {error}")),
                Ok(response) => {
                    let status = response.status();
                    let closes = response.headers().get("connection").is_some_and(|v| v == "close");
                    match response.into_body().collect().await.map(|b| b.to_bytes()) {
                        Err(error) => problems.push(format!("{id} cut: {error}")),
                        Ok(answer) if status != 200 || answer != digest(&body) => problems.push(format!("{id} wrong: {status}")),
                        Ok(_) if closes => {}
                        Ok(_) => sender = Some(ready),
                    }
                }
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
            self.progress.notify_one();
        }
        problems
    }

    /// Numbers that the program saw more than once.
    fn twice(&self) -> Vec<String> {
        self.seen.lock().expect("not poisoned").iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.clone()).collect()
    }
}

async fn connect(to: SocketAddr) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(to).await.expect("connected");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.await.ok() });
    sender
}

/// The client's view with these callees.
fn values(callees: &[(SocketAddr, Option<&str>)], note: &str) -> Vec<Value> {
    vec![
        inbound("productpage", 9080, "PERMISSIVE"),
        service("AUTO"),
        table(vec![route(&[("", 1)], json!({ "name": format!("default/test/{note}") }))]),
        cluster("", json!({})),
        endpoints("", callees),
    ]
}

/// Faults 4, 7, 10 and 24: while callers are busy, endpoints come and go, certificates are renewed, configuration changes and some of it
/// is garbage. Lost = wrong = twice = 0.
#[tokio::test]
async fn churn_of_everything_loses_nothing() {
    let ledger = Ledger::default();
    let mesh = Mesh::new();
    let programs = [ledger.program().await, ledger.program().await];
    let callees: Vec<TestProxy> = programs
        .iter()
        .map(|program| mesh.server("reviews", *program, vec![inbound_with("reviews", program.port(), "STRICT", "AUTO")]))
        .collect();
    let both = [(callees[0].address, Some("reviews")), (callees[1].address, Some("reviews"))];
    let client = mesh.client("productpage", values(&both, "0"));
    let (callers, each) = (6, 60);
    let busy: Vec<_> = (0..callers).map(|caller| tokio::spawn(ledger.clone().caller(client.address, caller, each))).collect();
    let mut round = 0_u32;
    while ledger.answered.load(Ordering::Relaxed) < u64::from(callers * each) {
        ledger.progress.notified().await;
        round += 1;
        match round % 5 {
            0 => drop(publish(&client.shared, values(&both[..1], &round.to_string()))),
            1 => drop(publish(&client.shared, values(&both[1..], &round.to_string()))),
            2 => drop(publish(&client.shared, values(&both, &round.to_string()))),
            3 => {
                renew(&mesh, &client, "productpage");
                callees.iter().for_each(|callee| renew(&mesh, callee, "reviews"));
            }
            _ => {
                // A value that cannot be served: it is refused, and the last good one stays.
                let mut bad = values(&both, "bad");
                bad[2]["value"]["hosts"][0]["routes"][0]["action"] = json!({ "respond": { "status": 42, "body": "" } });
                assert!(!publish(&client.shared, bad).is_empty(), "it was taken");
            }
        }
    }
    for caller in busy {
        assert_eq!(caller.await.expect("no panic"), Vec::<String>::new());
    }
    assert_eq!(ledger.twice(), Vec::<String>::new());
}

fn renew(mesh: &Mesh, proxy: &TestProxy, account: &str) {
    let made = weft_pki::KeyAndCsr::generate().expect("made");
    let id = crate::fixture::identity(account);
    let issued = mesh.authority.sign_workload(&id, made.csr_der(), Duration::from_secs(600)).expect("signed");
    proxy.shared.svid.install(weft_pki::Svid::new(made, issued.chain, issued.issued_at_ms).expect("fits"));
}

/// What a proxy may hold of one exchange whose reader does not read, with the buffers of the kernel on both sides of both proxies.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// Fault 9: a caller that reads nothing stops the program, instead of filling the proxies.
#[tokio::test]
async fn a_slow_reader_stops_the_program() {
    let endless = Endless::start().await;
    let pair = Pair::new(endless.address);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let mut stream = socket.connect(pair.client.address).await.expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n").await.expect("written");
    let held = endless.stalled().await;
    assert!(held < HELD_BYTES_MAX, "{held} bytes were taken for a reader that reads nothing");
    // Another caller is none the worse.
    let answer =
        crate::fixture::send(pair.client.address, Request::get("/short").header("host", "reviews").body(Full::default()).expect("legal"));
    assert_eq!(answer.await.status, 200);
}

/// Fault 9, the other way: a program that reads nothing stops the caller.
#[tokio::test]
async fn a_slow_program_stops_the_caller() {
    let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
    let pair = Pair::new(listener.local_addr().expect("address"));
    // It accepts, and never reads.
    let held_open = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.push(stream);
        }
    });
    let mut stream = TcpStream::connect(pair.client.address).await.expect("connected");
    stream.write_all(b"POST / HTTP/1.1\r\nhost: reviews\r\ntransfer-encoding: chunked\r\n\r\n").await.expect("written");
    let chunk = [b"8000\r\n".as_slice(), &[b'x'; 0x8000], b"\r\n"].concat();
    let mut sent = 0_u64;
    // Once nothing is taken for a while, it has stopped.
    while tokio::time::timeout(Duration::from_millis(500), stream.write_all(&chunk)).await.is_ok_and(|w| w.is_ok()) {
        sent += chunk.len() as u64;
        assert!(sent < HELD_BYTES_MAX, "{sent} bytes were taken for a program that reads nothing");
    }
    held_open.abort();
}

/// A program whose answers do not end, but for `/short`.
struct Endless {
    address: SocketAddr,
    written: Arc<AtomicU64>,
    progress: Arc<Notify>,
}

impl Endless {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(loopback()).await.expect("bound");
        let (address, written) = (listener.local_addr().expect("address"), Arc::new(AtomicU64::new(0)));
        let progress = Arc::new(Notify::new());
        let (counted, told) = (written.clone(), progress.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (counted, told) = (counted.clone(), told.clone());
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let got = stream.read(&mut head).await.unwrap_or_default();
                    if head[..got].starts_with(b"GET /short") {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok();
                        return;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok();
                    let chunk = [b"8000\r\n".as_slice(), &[b'x'; 0x8000], b"\r\n"].concat();
                    while stream.write_all(&chunk).await.is_ok() {
                        counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                        told.notify_one();
                    }
                });
            }
        });
        Self { address, written, progress }
    }

    /// Bytes that were taken once no more are.
    async fn stalled(&self) -> u64 {
        let written = || self.written.load(Ordering::Relaxed);
        while tokio::time::timeout(Duration::from_millis(500), self.progress.notified()).await.is_ok() && written() < HELD_BYTES_MAX {}
        written()
    }
}
