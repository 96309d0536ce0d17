//! What the mesh promises when something is killed, rotated or listened to.

use crate::harness::{Mesh, Process, WEFT, corpus, eventually, http, list};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Calls `caller` (which calls `echo` for each request) from four threads until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, good, bad) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let thread = || {
            let (stop, good, bad) = (stop.clone(), good.clone(), bad.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = http(address, "GET", "/", &[], "");
                    let inner = answer.json()["calls"][0]["status"].as_u64();
                    match (answer.status, inner) {
                        (200, Some(200)) => drop(good.fetch_add(1, Ordering::Relaxed)),
                        _ => bad.lock().expect("no panic").push(format!("{answer:?}")),
                    }
                }
            })
        };
        let threads = (0..4).map(|_| thread()).collect();
        Self { stop, good, bad, threads }
    }
    /// Waits until `n` more requests went well.
    fn more(&self, n: u64) {
        let target = self.good.load(Ordering::Relaxed) + n;
        eventually("the load goes on", || (self.good.load(Ordering::Relaxed) >= target).then_some(()));
    }
    /// Ends the load; there may be no failure.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|t| t.join().expect("no panic"));
        let bad = self.bad.lock().expect("no panic");
        assert!(bad.is_empty(), "{} of {} requests failed, first: {}", bad.len(), self.good.load(Ordering::Relaxed), bad[0]);
        self.good.load(Ordering::Relaxed)
    }
}

#[test]
fn nothing_fails_while_the_control_plane_is_killed_and_comes_back() {
    let mut mesh = Mesh::up(&[]);
    mesh.run_app("echo", "v1", 9080, &[], &[]);
    mesh.run_app("caller", "v1", 9080, &[], &["echo:9080/"]);
    let caller = mesh.proxy_address("caller-v1");
    eventually("the path works", || (http(caller, "GET", "/", &[], "").json()["calls"][0]["status"] == 200).then_some(()));
    let load = Load::start(caller);
    load.more(50);
    mesh.kill_up();
    load.more(200);
    mesh.start_up(&[]);
    load.more(50);
    eventually("both proxies are connected again", || {
        let proxies = mesh.get("proxies");
        (list(&proxies).iter().filter(|p| p["connected"] == true && p["role"] == "sidecar").count() == 2).then_some(())
    });
    load.more(50);
    load.end();
    // And a change made after the return still arrives.
    let deny = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: deny }\nspec: { selector: { matchLabels: { app: echo } } }\n";
    std::fs::write(mesh.state_path().join("deny.yaml"), deny).expect("written");
    mesh.cli_ok(&["apply", "-f", &mesh.state_path().join("deny.yaml").display().to_string()]);
    eventually("the policy arrives", || (http(caller, "GET", "/", &[], "").json()["calls"][0]["status"] == 403).then_some(()));
}

#[test]
fn nothing_fails_while_leaves_rotate_every_two_seconds_for_a_minute() {
    let mut mesh = Mesh::up(&["--leaf-ttl", "4s"]);
    mesh.run_app("echo", "v1", 9080, &[], &[]);
    mesh.run_app("caller", "v1", 9080, &[], &["echo:9080/"]);
    let caller = mesh.proxy_address("caller-v1");
    eventually("the path works", || (http(caller, "GET", "/", &[], "").json()["calls"][0]["status"] == 200).then_some(()));
    let load = Load::start(caller);
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        load.more(20);
    }
    assert!(load.end() > 100);
}

/// A relay that keeps all bytes of both directions.
fn tap(target: Arc<Mutex<Option<SocketAddr>>>) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Some(target) = *target.lock().expect("no panic") else { continue };
            let Ok(server) = TcpStream::connect(target) else { continue };
            copy(client.try_clone().expect("socket"), server.try_clone().expect("socket"), keep.clone());
            copy(server, client, keep.clone());
        }
    });
    (address, seen)
}

fn copy(mut from: TcpStream, mut to: TcpStream, keep: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            keep.lock().expect("no panic").extend_from_slice(&buffer[..n]);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

#[test]
fn the_path_between_two_workloads_carries_no_plain_text() {
    let mut mesh = Mesh::up(&[]);
    let target = Arc::new(Mutex::new(None));
    let (relay, seen) = tap(target.clone());
    let echo = mesh.run_app("echo", "v1", 9080, &["--advertise", &relay.to_string()], &[]);
    let line = mesh.run_process(echo).expect_line("proxy listens on");
    let real =
        line.split_whitespace().filter_map(|w| w.trim_end_matches([',', ')']).parse::<SocketAddr>().ok()).next_back().expect("an address");
    *target.lock().expect("no panic") = Some(real);
    mesh.run_app("caller", "v1", 9080, &[], &["echo:9080/the-secret-path"]);
    let caller = mesh.proxy_address("caller-v1");
    let marker = "a-marker-that-must-not-be-seen";
    let answer = eventually("the path works", || {
        let answer = http(caller, "GET", "/", &[("end-user", marker)], "");
        (answer.json()["calls"][0]["status"] == 200).then_some(answer)
    });
    assert!(answer.body.contains(marker), "echo saw the header: {}", answer.body);
    let seen = seen.lock().expect("no panic");
    assert!(seen.len() > 1_000, "the bytes went through the tap: {}", seen.len());
    assert_eq!(seen[0], 0x16, "the first byte is a TLS handshake");
    let text = String::from_utf8_lossy(&seen);
    for word in [marker, "the-secret-path", "HTTP/1.1", "x-request-id", "echo:9080"] {
        assert!(!text.contains(word), "{word:?} went over the path in plain text");
    }
}

#[test]
fn a_program_in_the_mesh_reaches_nothing_that_the_mesh_does_not_route() {
    let mut mesh = Mesh::up(&[]);
    let outside = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = outside.local_addr().expect("bound");
    let calls = [format!("{address}/"), "192.0.2.1:80/".to_owned(), "not-a-service.example:80/".to_owned()];
    mesh.run_app("caller", "v1", 9080, &["--capture", "namespace"], &calls.each_ref().map(String::as_str));
    let caller = mesh.proxy_address("caller-v1");
    let answer = http(caller, "GET", "/", &[], "").json();
    let calls = list(&answer["calls"]);
    assert_eq!(calls.len(), 3, "{answer}");
    for call in calls {
        assert_ne!(call["status"], 200, "{call}");
    }
    outside.set_nonblocking(true).expect("socket");
    assert!(outside.accept().is_err(), "the program reached the host's loopback");
}

#[test]
fn the_corpus_is_read_whole() {
    let Some(corpus) = corpus() else { return };
    let mesh = Mesh::up(&[]);
    let output = mesh.cli(&["apply", "--dry-run", "-o", "json", "-f", &corpus.display().to_string()]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON whatever the files hold");
    assert!(list(&answer["results"]).len() > 100, "{}", list(&answer["results"]).len());
    for diagnostic in list(&answer["diagnostics"]) {
        assert!(diagnostic["origin"]["line"].as_u64().unwrap_or(0) > 0, "a diagnostic without a line: {diagnostic}");
    }
}

#[test]
fn without_a_namespace_the_program_is_told_where_each_service_is() {
    let mut mesh = Mesh::up(&[]);
    mesh.run_app("echo", "v1", 9080, &[], &[]);
    let port = crate::harness::free_port().to_string();
    let script = format!("exec {WEFT} demo-app --name plain --port {port} --call $WEFT_ECHO_9080/ --call ${{http_proxy#http://}}/");
    let mut command = mesh.command(&["run", "--name", "plain", "--capture", "ports", "--port", &port, "--", "sh", "-c", &script]);
    let mut process = Process::start(&mut command);
    process.expect_line("WEFT_ECHO_9080=127.0.0.1:");
    process.expect_line("in the mesh as");
    let own = format!("127.0.0.1:{port}").parse().expect("an address");
    let answer = eventually("the program answers", || Some(http(own, "GET", "/", &[], "")).filter(|a| a.status == 200)).json();
    assert_eq!(answer["calls"][0]["status"], 200, "{answer}");
    assert_eq!(answer["calls"][0]["body"]["name"], "echo", "{answer}");
    let peer = answer["calls"][0]["body"]["headers"]["x-forwarded-client-cert"].as_str().unwrap_or_default();
    assert!(peer.contains("spiffe://cluster.local/ns/default/sa/plain"), "the call has the program's identity: {answer}");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(128 + 15));
}
