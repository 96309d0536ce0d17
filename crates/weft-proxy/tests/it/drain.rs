//! Going away in order, and making room for a successor. Every request has an id; the program keeps a ledger of what it did.

use crate::fixture::{Body, Mesh, Pair, TestProxy, cluster, endpoints, get, inbound, loopback, program, route, service, table, text};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, sync::Semaphore};
use weft_proxy::{ExplicitListener, Listening, ProxyConfig};
use weft_std::Drained;
use weft_wire::handover;

type Ledger = Arc<Mutex<BTreeMap<String, u32>>>;

/// A program that answers with the id it was asked with, once the gate is open, and writes it down.
async fn ledger_program(http2: bool) -> (SocketAddr, Ledger, Arc<Semaphore>) {
    let (ledger, gate) = (Ledger::default(), Arc::new(Semaphore::new(0)));
    let (book, open) = (ledger.clone(), gate.clone());
    let address = program(http2, move |request: Request<_>| {
        let (book, open) = (book.clone(), open.clone());
        async move {
            let id = request.uri().path().to_owned();
            *book.lock().expect("no panic").entry(id.clone()).or_default() += 1;
            drop(open.acquire().await);
            text(200, id) as Response<Body>
        }
    })
    .await;
    (address, ledger, gate)
}

fn request2(id: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("http://reviews{id}")).body(Full::default()).expect("legal")
}

async fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let wait = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| unreachable!("it did not come true that {what}"));
}

#[tokio::test]
async fn a_thousand_requests_in_flight_survive_a_drain() {
    let (address, ledger, gate) = ledger_program(true).await;
    let mut pair = Pair::with(address, "STRICT", "HTTP2", json!({}), json!({}));
    let mut answers = Vec::new();
    for connection in 0..10 {
        let stream = TcpStream::connect(pair.client.address).await.expect("connected");
        let (sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("ready");
        tokio::spawn(async move { driver.await.ok() });
        for number in 0..100 {
            let mut sender = sender.clone();
            answers.push(tokio::spawn(async move {
                let id = format!("/{connection}-{number}");
                sender.ready().await.expect("open");
                let response = sender.send_request(request2(&id)).await.expect("answered");
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.expect("whole").to_bytes();
                (status, body == id.as_bytes())
            }));
        }
    }
    until("all are at the program", || ledger.lock().expect("no panic").len() == 1000).await;
    // The callee's proxy and the caller's get their SIGTERM together.
    let (server, client) = (pair.server.handle.take().expect("runs"), pair.client.handle.take().expect("runs"));
    let drains = [server, client].map(|handle| tokio::spawn(handle.drain(Duration::from_secs(30))));
    // New connections are refused at last: the drain is under way.
    let closed = async { while TcpStream::connect(pair.client.address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the listener closes");
    gate.add_permits(10_000);
    for answer in answers {
        assert_eq!(answer.await.expect("no panic"), (200, true));
    }
    for drain in drains {
        assert_eq!(drain.await.expect("no panic"), Drained::Complete);
    }
    assert!(ledger.lock().expect("no panic").values().all(|count| *count == 1), "none was sent twice");
}

#[tokio::test]
async fn a_proxy_is_not_ready_from_the_begin_of_its_drain() {
    let (address, ledger, gate) = ledger_program(false).await;
    let mesh = Mesh::new();
    let server = mesh.server("reviews", address, vec![inbound("reviews", address.port(), "STRICT")]);
    let admin = TcpListener::bind(loopback()).expect("bound");
    let at = admin.local_addr().expect("address");
    let mut proxy = life(&mesh, server.address, Vec::new(), Some(admin));
    let ask = || Request::builder().uri("/healthz/ready").header("host", "localhost").body(Full::default()).expect("legal");
    assert_eq!(crate::fixture::send(at, ask()).await.status, 200);
    let open = tokio::spawn(crate::fixture::send(proxy.address, get("/open")));
    until("it is there", || !ledger.lock().expect("no panic").is_empty()).await;
    let handle = proxy.handle.take().expect("runs");
    handle.begin_drain();
    assert_eq!(crate::fixture::send(at, ask()).await.status, 503, "it still serves, but is not ready");
    let drain = tokio::spawn(handle.drain(Duration::from_secs(30)));
    assert_eq!(crate::fixture::send(at, ask()).await.status, 503, "while the request is open");
    gate.add_permits(10);
    assert_eq!(open.await.expect("no panic").status, 200);
    assert_eq!(drain.await.expect("no panic"), Drained::Complete);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let (address, _ledger, _gate) = ledger_program(false).await;
    let mut pair = Pair::new(address);
    let stuck = tokio::spawn(crate::fixture::send(pair.client.address, get("/stuck")));
    until("it is there", || !_ledger.lock().expect("no panic").is_empty()).await;
    let handle = pair.client.handle.take().expect("runs");
    assert!(matches!(handle.drain(Duration::from_millis(300)).await, Drained::Expired { .. }));
    assert!(stuck.await.is_err(), "it was cut");
}

/// One life of the caller's proxy, with the sockets of the one before.
fn life(mesh: &Mesh, server: SocketAddr, sockets: handover::Sockets, admin: Option<TcpListener>) -> TestProxy {
    let listening = Listening::new(sockets);
    let listeners = listening.inherited("explicit/reviews/80").unwrap_or_else(|| vec![TcpListener::bind(loopback()).expect("bound")]);
    let address = listeners[0].local_addr().expect("address");
    let explicit = ExplicitListener { host: "reviews".into(), port: 80, listeners };
    let values = vec![
        inbound("productpage", 9080, "PERMISSIVE"),
        service("AUTO"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", json!({})),
        endpoints("", &[(server, Some("reviews"))]),
    ];
    let config = ProxyConfig { name: "productpage".into(), explicit: vec![explicit], listening, admin, ..ProxyConfig::default() };
    mesh.start("productpage", config, address, values)
}

/// Asks until it is told to stop: each request on a connection of its own, or on one that is kept as long as it is open.
async fn load(to: SocketAddr, name: usize, keep: bool, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut kept = None;
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let id = format!("/{name}-{number}");
        let mut sender = match kept.take() {
            Some(sender) => sender,
            None => match TcpStream::connect(to).await {
                Ok(stream) => {
                    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
                    tokio::spawn(async move { driver.await.ok() });
                    sender
                }
                Err(error) => {
                    failures.push(format!("{id}: {error}"));
                    continue;
                }
            },
        };
        // A connection that was closed in order while it idled is no loss: nothing was sent on it.
        if sender.ready().await.is_err() {
            number -= 1;
            continue;
        }
        match sender.send_request(get(&id)).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let closes = response.headers().get("connection").is_some_and(|v| v == "close");
                match response.into_body().collect().await.map(|body| body.to_bytes()) {
                    Ok(body) if status == 200 && body == id.as_bytes() => drop(done.fetch_add(1, Ordering::SeqCst)),
                    other => failures.push(format!("{id}: {status} {other:?}")),
                }
                kept = (keep && !closes).then_some(sender);
            }
            Err(error) if error.is_canceled() => number -= 1,
            Err(error) => failures.push(format!("{id}: {error:?}")),
        }
    }
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_under_load_lose_refuse_and_reset_nothing() {
    let (address, ledger, gate) = ledger_program(false).await;
    gate.add_permits(1_000_000);
    let mesh = Mesh::new();
    let server = mesh.server("reviews", address, vec![inbound("reviews", address.port(), "STRICT")]);
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("handover");
    let mut proxy = life(&mesh, server.address, Vec::new(), None);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let loads: Vec<_> = (0..8).map(|n| tokio::spawn(load(proxy.address, n, n % 2 == 0, stop.clone(), done.clone()))).collect();
    for upgrade in 1..=20 {
        let wanted = done.load(Ordering::SeqCst) + 40;
        until("the load goes on", || done.load(Ordering::SeqCst) >= wanted).await;
        let handle = proxy.handle.take().expect("runs");
        let (offer, listening) = (handover::Offer::open(&path).expect("opened"), handle.listening().clone());
        let predecessor = tokio::task::spawn_blocking(move || offer.wait(|| listening.sockets()));
        let taken = path.clone();
        let taken = tokio::task::spawn_blocking(move || handover::take(&taken)).await.expect("no panic");
        let (sockets, old) = taken.expect("taken").expect("there");
        let next = life(&mesh, server.address, sockets, None);
        assert_eq!(next.address, proxy.address, "upgrade {upgrade}");
        old.started().expect("said");
        predecessor.await.expect("no panic").expect("handed over");
        assert_eq!(handle.drain(Duration::from_secs(20)).await, Drained::Complete, "upgrade {upgrade}");
        proxy = next;
    }
    stop.store(true, Ordering::SeqCst);
    for load in loads {
        assert_eq!(load.await.expect("no panic"), Vec::<String>::new());
    }
    let (ledger, done) = (ledger.lock().expect("no panic"), done.load(Ordering::SeqCst));
    assert!(ledger.len() == done && ledger.values().all(|count| *count == 1), "{} at the program, {done} answered", ledger.len());
    assert!(done >= 800);
}
