//! Short of file descriptors, memory or places for connections: what is shed, that it is said, and that it is over quickly.
//! Limits of a process are set in a child: this program again, with one test.

use crate::fixture::{Pair, TestProxy, cluster, echo_program, endpoints, get, inbound, loopback, route, send, service, table};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::{net::TcpListener, process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use weft_proxy::{ExplicitListener, OverloadLimits, ProxyConfig};
use weft_std::clock;
use weft_wire::resources;

/// Runs one test of this file in a process of its own; `true` in that process.
fn in_a_child(name: &str) -> bool {
    if std::env::var("WEFT_TEST_CHILD").is_ok_and(|child| child == name) {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let child = child.args([&format!("overload::{name}"), "--exact", "--nocapture"]).env("WEFT_TEST_CHILD", name);
    let output = child.output().expect("started");
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    false
}

/// A caller's proxy with limits, towards a server proxy of a pair.
fn limited(pair: &Pair, overload: OverloadLimits) -> TestProxy {
    let values = vec![
        inbound("other", 9080, "PERMISSIVE"),
        service("AUTO"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
    ];
    let listener = TcpListener::bind(loopback()).expect("bound");
    let address = listener.local_addr().expect("address");
    let explicit = ExplicitListener { host: "reviews".into(), port: 80, listeners: vec![listener] };
    let config = ProxyConfig { name: "other".into(), explicit: vec![explicit], overload, ..ProxyConfig::default() };
    pair.mesh.start("other", config, address, values)
}

/// One request on a connection of its own; `None` when it is not answered.
async fn ask(to: std::net::SocketAddr) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(Duration::from_millis(500), asked).await.ok().flatten()
}

fn is_ok(answer: &Option<String>) -> bool {
    answer.as_ref().is_some_and(|text| text.starts_with("HTTP/1.1 200"))
}

/// How long until a request is answered well again.
async fn recovery(to: std::net::SocketAddr) -> Duration {
    let begun = clock::now();
    while !is_ok(&ask(to).await) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not recover");
        tokio::task::yield_now().await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn file_descriptors_that_run_out_are_said_and_survived() {
    if !in_a_child("file_descriptors_that_run_out_are_said_and_survived") {
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("told");
    setrlimit(Resource::RLIMIT_NOFILE, 400, hard).expect("set");
    let pair = Pair::new(echo_program(false).await);
    let to = pair.client.address;
    assert!(is_ok(&ask(to).await));
    // Callers that connect, say nothing, and hold on.
    let mut held = Vec::new();
    let mut shed = None;
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(to)).await {
        held.push(stream);
        if shed.is_none() && held.len() % 4 == 0 {
            shed = ask(to).await.filter(|answer| !answer.starts_with("HTTP/1.1 200"));
        }
        if held.len() > 390 {
            break;
        }
    }
    let shed = shed.expect("a request was shed before the descriptors ran out");
    assert!(shed.starts_with("HTTP/1.1 503") && shed.contains("overload: fds:") && shed.contains("connection: close"), "{shed}");
    held.clear();
    let took = recovery(to).await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
    // It is over: connections are kept alive again, and nothing spins.
    assert!(pair.client.handle.as_ref().expect("runs").counters().contains("weft_limit_hits_total{limit=\"OVERLOAD_FILES\"}"));
}

#[tokio::test]
async fn memory_that_runs_short_is_said_and_survived() {
    if !in_a_child("memory_that_runs_short_is_said_and_survived") {
        return;
    }
    const MIB: u64 = 1 << 20;
    let pair = Pair::new(echo_program(false).await);
    let max = resources::resident_bytes() + 400 * MIB;
    let proxy = limited(&pair, OverloadLimits { memory_bytes: Some(max), ..OverloadLimits::default() });
    let to = proxy.address;
    assert!(is_ok(&ask(to).await));
    let mut ballast: Vec<Vec<u8>> = Vec::new();
    while resources::resident_bytes() < max / 1000 * 915 {
        ballast.push(vec![1; 4 << 20]);
    }
    let begun = clock::now();
    let shed = loop {
        match ask(to).await {
            Some(answer) if !answer.starts_with("HTTP/1.1 200") => break answer,
            _ => assert!(begun.elapsed() < Duration::from_secs(5), "nothing is shed"),
        }
        tokio::task::yield_now().await;
    };
    assert!(shed.starts_with("HTTP/1.1 503") && shed.contains("overload: memory:") && shed.contains("retry-after: 1"), "{shed}");
    // Still more: new connections wait in the kernel, and are served when it is over.
    while resources::resident_bytes() < max / 1000 * 980 {
        ballast.push(vec![1; 4 << 20]);
    }
    drop(ballast);
    let took = recovery(to).await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_connection_too_many_is_told_why() {
    let pair = Pair::new(echo_program(false).await);
    let proxy = limited(&pair, OverloadLimits { connections: Some(3), ..OverloadLimits::default() });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(proxy.address).await.expect("connected"));
    }
    let mut refused = TcpStream::connect(proxy.address).await.expect("the kernel takes it");
    let mut answer = String::new();
    refused.read_to_string(&mut answer).await.expect("told");
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("overload: connections: this proxy has as many as it may\n"),
        "{answer}"
    );
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    assert!(proxy.handle.as_ref().expect("runs").counters().contains("weft_limit_hits_total{limit=\"CONNECTIONS_MAX\"} 1"));
    held.clear();
    recovery(proxy.address).await;
}

/// Fault 26, in a size for every run; `WEFT_SLOW_CLIENTS=10000` asks for the whole.
#[tokio::test]
async fn slow_clients_cost_little_and_slow_nobody_down() {
    let wanted: usize = std::env::var("WEFT_SLOW_CLIENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let files = usize::try_from(resources::open_files_max().unwrap_or(1024)).unwrap_or(1024);
    let count = wanted.min(files / 3);
    let pair = Pair::new(echo_program(false).await);
    let p99 = async || {
        let mut times = Vec::new();
        for _ in 0..200 {
            let begun = clock::now();
            assert_eq!(send(pair.client.address, get("/")).await.status, 200);
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        times[197]
    };
    let quiet = p99().await;
    let before = resources::resident_bytes();
    let mut slow = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(pair.client.address).await.expect("connected");
        // Half of a head, of a kilobyte.
        stream.write_all(format!("GET / HTTP/1.1\r\nhost: reviews\r\nx: {}", "y".repeat(1000)).as_bytes()).await.expect("written");
        slow.push(stream);
    }
    let busy = p99().await;
    let each = resources::resident_bytes().saturating_sub(before) / u64::try_from(count).expect("few").max(1);
    // Both ends of each connection are in this process; a test beside this one may take memory too.
    assert!(each < 64 * 1024, "{each} bytes for each of {count} slow clients");
    // Twice, and what a busy machine of two cores adds.
    assert!(busy <= quiet * 2 + Duration::from_millis(20), "{quiet:?} became {busy:?} beside {count} slow clients");
}
