//! Faults of endpoints, with a ledger: they come and go faster than requests (fault 7), and they fall silent (fault 8).

use crate::{
    balancing::values,
    fixture::{Mesh, get, loopback, origin, program, publish, send, text},
};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A program that notes each path that it gets and sends the body back.
async fn noting(seen: &Arc<Mutex<BTreeMap<String, u32>>>) -> SocketAddr {
    let seen = seen.clone();
    program(false, move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            *seen.lock().expect("not poisoned").entry(request.uri().path().to_owned()).or_default() += 1;
            text(200, request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default())
        }
    })
    .await
}

fn with_retry(mut values: Vec<Value>, retry: Value) -> Vec<Value> {
    values[2]["value"]["hosts"][0]["routes"][0]["retry"] = retry;
    values
}

/// Sends numbered requests over kept connections until told to stop; how many, and what went wrong.
async fn caller(to: SocketAddr, name: u32, stop: Arc<AtomicBool>, progress: Arc<Notify>) -> (u32, Vec<String>) {
    let (mut count, mut wrong, mut kept) = (0, Vec::new(), None);
    while !stop.load(Relaxed) {
        let path = format!("/{name}-{count}");
        let mut sender: http1::SendRequest<Full<Bytes>> = match kept.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(to).await.expect("connected");
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("ready");
                tokio::spawn(async move { connection.await.ok() });
                sender
            }
        };
        let body = path.repeat(50);
        let request = Request::post(&path).header("host", "reviews").body(Full::from(body.clone())).expect("legal");
        match sender.send_request(request).await {
            Err(error) => wrong.push(format!("{path}: {error}")),
            Ok(response) => {
                let status = response.status();
                match response.into_body().collect().await.map(|b| b.to_bytes()) {
                    // An error after the answer began would be here.
                    Err(error) => wrong.push(format!("{path} cut: {error}")),
                    Ok(answer) if status != 200 || answer != body => wrong.push(format!("{path}: {status} {answer:?}")),
                    Ok(_) => kept = Some(sender),
                }
            }
        }
        count += 1;
        progress.notify_one();
    }
    (count, wrong)
}

/// Fault 7: the set of endpoints changes at every few requests, one of them is not there at all, and the algorithm changes too. None is
/// lost, wrong or sent twice, though POST is not idempotent.
#[tokio::test]
async fn endpoints_that_come_and_go_cost_no_request() {
    const CHANGES: u32 = 300;
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let mut callees = Vec::new();
    for _ in 0..5 {
        callees.push(noting(&seen).await);
    }
    let gone = TcpListener::bind(loopback()).await.expect("bound").local_addr().expect("address");
    let retry = json!({ "attempts": 3, "on": { "connectFailure": true }, "backoff_ms": 1 });
    let algorithms = [
        json!({ "balancing": "ROUND_ROBIN" }),
        json!({ "balancing": "LEAST_REQUEST" }),
        json!({ "balancing": "EWMA" }),
        json!({ "balancing": "MAGLEV", "hash": { "on": { "header": "host" }, "size": 101 } }),
        json!({ "balancing": "RING_HASH", "hash": { "on": "sourceIp", "size": 64 } }),
    ];
    let proxy = Mesh::new().client("productpage", with_retry(values(algorithms[0].clone(), &callees), retry.clone()));
    let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let callers: Vec<_> = (0..4).map(|name| tokio::spawn(caller(proxy.address, name, stop.clone(), progress.clone()))).collect();
    let mut seed = 1_u32;
    for change in 0..CHANGES {
        progress.notified().await;
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mask = seed >> 16;
        let mut some: Vec<SocketAddr> = callees.iter().zip(0..).filter(|(_, bit)| mask & (1 << bit) != 0).map(|(c, _)| *c).collect();
        some.push(callees[change as usize % callees.len()]);
        some.sort_unstable();
        some.dedup();
        if change % 3 == 0 {
            some.push(gone);
        }
        let mut algorithm = algorithms[change as usize / 20 % algorithms.len()].clone();
        // A hash may lead all callers to the one that is gone at once: the default budget of three retries is then too small for four.
        algorithm["retry_budget"] = json!({ "percent": 100, "concurrency_min": 4 });
        assert!(publish(&proxy.shared, with_retry(values(algorithm, &some), retry.clone())).is_empty());
    }
    stop.store(true, Relaxed);
    let mut count = 0;
    for caller in callers {
        let (sent, wrong) = caller.await.expect("no panic");
        count += sent;
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    let seen = seen.lock().expect("not poisoned");
    assert!(count >= CHANGES && seen.len() == count as usize, "{count} sent, {} seen", seen.len());
    assert!(seen.values().all(|times| *times == 1), "sent twice");
}

/// A peer that takes connections and bytes and never answers, and how many requests it swallowed.
async fn half_open() -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let swallowed = Arc::new(AtomicU32::new(0));
    let count = swallowed.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(1..) = stream.read(&mut bytes).await {
                    count.fetch_add(1, Relaxed);
                }
            });
        }
    });
    (address, swallowed)
}

/// Fault 8: a peer falls silent. Each request that meets it is sent again elsewhere after its per-try time-out, and after the number of
/// failures that the rule allows nothing goes there any more.
#[tokio::test]
async fn a_peer_that_falls_silent_is_ejected_within_its_budget() {
    for split in [false, true] {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let (well, (silent, swallowed)) = (noting(&seen).await, half_open().await);
        let outlier = json!({
            "consecutive_5xx": 3, "consecutive_gateway_errors": 0, "consecutive_local_failures": 3, "split_local_failures": split,
            "base_ejection_ms": 600_000, "interval_ms": 1000, "ejection_percent_max": 50, "origin": origin("DestinationRule", 5)
        });
        let of_cluster = json!({ "balancing": "ROUND_ROBIN", "outlier": outlier });
        let retry = json!({ "attempts": 2, "per_try_timeout_ms": 30, "on": { "gatewayError": true }, "backoff_ms": 1 });
        let proxy = Mesh::new().client("productpage", with_retry(values(of_cluster, &[well, silent]), retry));
        for number in 0..30 {
            assert_eq!(send(proxy.address, get(&format!("/{number}"))).await.status, 200);
        }
        assert_eq!(swallowed.load(Relaxed), 3, "split: {split}");
        assert_eq!(seen.lock().expect("not poisoned").len(), 30);
    }
}
