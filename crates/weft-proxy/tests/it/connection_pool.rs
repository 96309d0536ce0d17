//! DestinationRule's connectionPool: how connections are kept, counted and spoken on.

use crate::{
    balancing::{client, values},
    fixture::{get, loopback, publish, send, send2, text},
};
use http::Request;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Barrier,
};

/// A program that counts its connections and says which HTTP it was spoken to in. With `together`, an answer waits for so many requests.
async fn counting(http2: bool, together: usize) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let count = Arc::new(AtomicU32::new(0));
    let (accepted, barrier) = (count.clone(), Arc::new(Barrier::new(together)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            accepted.fetch_add(1, Relaxed);
            let barrier = barrier.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let barrier = barrier.clone();
                async move {
                    barrier.wait().await;
                    Ok::<_, Infallible>(text(200, format!("{:?}", request.version())))
                }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                if http2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await.ok();
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await.ok();
                }
            });
        }
    });
    (address, count)
}

fn limits(of: Value) -> Value {
    json!({ "limits": of })
}

#[tokio::test]
async fn an_old_connection_is_not_used_again() {
    let (address, count) = counting(false, 1).await;
    let proxy = client(limits(json!({ "connection_age_ms_max": 600_000 })), &[address]);
    for _ in 0..3 {
        assert_eq!(send(proxy.address, get("/")).await.status, 200);
    }
    assert_eq!(count.load(Relaxed), 1, "young ones are");
    publish(&proxy.shared, values(limits(json!({ "connection_age_ms_max": 1 })), &[address]));
    for _ in 0..3 {
        // The age of 1 ms passes for certain.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        assert_eq!(send(proxy.address, get("/")).await.status, 200);
    }
    assert_eq!(count.load(Relaxed), 4);
}

#[tokio::test]
async fn http1_is_upgraded_where_the_rule_says_so_and_clients_are_followed_where_it_says_that() {
    let (address, _) = counting(true, 1).await;
    let proxy = client(limits(json!({ "http_version": "UPGRADE" })), &[address]);
    assert_eq!(send(proxy.address, get("/")).await.body, "HTTP/2.0");
    publish(&proxy.shared, values(limits(json!({ "http_version": "CLIENT" })), &[address]));
    let request = || Request::builder().uri("http://reviews/").body(Full::default()).expect("legal");
    assert_eq!(send2(proxy.address, request()).await.body, "HTTP/2.0");
    let (address, _) = counting(false, 1).await;
    publish(&proxy.shared, values(json!({}), &[address]));
    assert_eq!(send2(proxy.address, request()).await.body, "HTTP/1.1", "as declared");
}

#[tokio::test]
async fn streams_are_spread_over_connections() {
    for (streams, connections) in [(json!(1), 3), (json!(100), 1)] {
        let (address, count) = counting(true, 3).await;
        let mut of_cluster = limits(json!({ "streams_max": streams }));
        of_cluster["protocol"] = json!("HTTP2");
        let proxy = client(of_cluster, &[address]);
        let call = || send(proxy.address, get("/"));
        let (one, two, three) = tokio::join!(call(), call(), call());
        assert_eq!((one.status, two.status, three.status), (200, 200, 200));
        assert_eq!(count.load(Relaxed), connections);
    }
}

/// A program that says back what it hears.
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

fn tcp(of: Value, callee: SocketAddr) -> Vec<Value> {
    let mut values = values(limits(of), &[callee]);
    values[1]["value"]["ports"][0]["protocol"] = json!("TCP");
    values[3]["value"]["protocol"] = json!("TCP");
    values
}

#[tokio::test]
async fn opaque_connections_end_when_idle_or_old() {
    let callee = echo().await;
    let proxy = client(json!({}), &[callee]);
    for bounds in [json!({ "tcp_idle_timeout_ms": 50 }), json!({ "connection_age_ms_max": 50 })] {
        publish(&proxy.shared, tcp(bounds, callee));
        let mut stream = TcpStream::connect(proxy.address).await.expect("connected");
        stream.write_all(b"hello").await.expect("written");
        let mut heard = Vec::new();
        // The proxy ends it; nobody else would.
        stream.read_to_end(&mut heard).await.ok();
        assert_eq!(heard, b"hello");
    }
}
