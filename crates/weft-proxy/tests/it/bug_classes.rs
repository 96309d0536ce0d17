//! Classes of bugs that proxies of this field had (reliability.md §2), for which no other test stands; and that the book's table of all
//! of them names tests that exist.

use crate::fixture::{Pair, echo_program, get, inbound, loopback, origin, publish, send, send2};
use http::{HeaderValue, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

fn policy(action: &str, rule: Value) -> Value {
    let mut rule = rule;
    crate::fixture::merge(&mut rule, json!({ "origin": origin("AuthorizationPolicy", 2) }));
    json!({ "type": "Authorization", "value": {
        "name": "default/test", "action": action, "rules": [rule], "origin": origin("AuthorizationPolicy", 1)
    }})
}

/// A pair whose server holds `policy`.
async fn guarded(policy: Value) -> Pair {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    publish(&pair.server.shared, vec![inbound("reviews", program.port(), "STRICT"), policy]);
    pair
}

/// What comes back for `bytes` until the proxy closes, or nothing more comes for a while.
async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("the proxy closes");
    // Closing with bytes unread is a reset, and what came before it counts.
    read.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// CVE-2026-26308, CVE-2021-32777: each value is tested by itself. CVE-2026-73552: what cannot be decoded satisfies no negation.
#[tokio::test]
async fn each_value_of_a_header_is_judged_by_itself() {
    let when = |values: Value| json!({ "when": [{ "key": { "header": "x-role" }, "values": values }] });
    let with = |values: &[&[u8]]| {
        let mut request = get("/");
        for value in values {
            request.headers_mut().append("x-role", HeaderValue::from_bytes(value).expect("value"));
        }
        request
    };
    let admin = || json!({ "any": [{ "exact": "admin" }] });
    let not_admin = || json!({ "none": [{ "exact": "admin" }] });
    for (what, rule, cases) in [
        (
            "DENY admin",
            policy("DENY", when(admin())),
            vec![
                (&[&b"user"[..]][..], 200),
                (&[b"admin"], 403),
                (&[b"user", b"admin"], 403),
                (&[b"admin", b"user"], 403),
                (&[b"user", b"\xff"], 403),
            ],
        ),
        (
            "ALLOW admin",
            policy("ALLOW", when(admin())),
            vec![
                (&[][..], 403),
                (&[b"admin"], 200),
                (&[b"admin", b"user"], 403),
                (&[b"user", b"admin"], 403),
                (&[b"admin,user"], 403),
                (&[b"admin", b"\xff"], 403),
            ],
        ),
        (
            "ALLOW not admin",
            policy("ALLOW", when(not_admin())),
            vec![(&[&b"user"[..]][..], 200), (&[b"user", b"admin"], 403), (&[b"\xff"], 403), (&[b"\xc1\xa1dmin"], 403)],
        ),
    ] {
        let pair = guarded(rule).await;
        for (values, want) in cases {
            let got = send(pair.client.address, with(values)).await;
            assert_eq!(
                got.status,
                want,
                "{what}, {:?}: {}",
                values.iter().map(|v| v.escape_ascii().to_string()).collect::<Vec<_>>(),
                got.body
            );
        }
    }
}

/// CVE-2021-39155: a host is the same in any case, with its port and with its final dot.
#[tokio::test]
async fn a_host_is_one_host_however_it_is_written() {
    let pair = guarded(policy("DENY", json!({ "to": [{ "hosts": { "any": [{ "exactIgnoreCase": "reviews" }] } }] }))).await;
    for host in ["reviews", "REVIEWS", "Reviews:80", "reviews:80", "reviews.", "reviews.:80"] {
        let mut request = get("/");
        request.headers_mut().insert("host", host.parse().expect("value"));
        let answer = send(pair.client.address, request).await;
        assert!([403, 404].contains(&answer.status), "{host}: {} {}", answer.status, answer.body);
    }
    let mut request = get("/");
    request.headers_mut().insert("host", "reviews.default".parse().expect("value"));
    assert_eq!(send(pair.client.address, request).await.status, 200, "another name of it is not the one that is forbidden");
}

/// RFC 9112 §3.2.2 and CVE-2023-35944: the host of an absolute target counts, its scheme is compared without case, it names no user.
#[tokio::test]
async fn an_absolute_target_wins_over_the_host_header() {
    let pair = Pair::new(echo_program(false).await);
    let ask = async |target: &str, host: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        raw(pair.client.address, request.as_bytes()).await
    };
    for target in ["http://reviews/a", "HTTP://reviews/a", "hTTp://reviews/a"] {
        let answer = ask(target, "nowhere.example").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("GET /a reviews 0"), "{target}: {answer}");
    }
    for target in ["http://reviews@nowhere.example/a", "http://a:b@reviews/a"] {
        let answer = ask(target, "reviews").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
}

/// RFC 9113 §8.3.1: two names for one request are refused.
#[tokio::test]
async fn two_authorities_of_http2_must_agree() {
    let pair = Pair::with(echo_program(false).await, "STRICT", "HTTP", json!({}), json!({}));
    let request = |host: &str| Request::get("http://reviews/").header("host", host).body(Full::default()).expect("legal");
    assert_eq!(send2(pair.client.address, request("reviews")).await.status, 200);
    assert_eq!(send2(pair.client.address, request("ratings")).await.status, 400);
}

/// A program that answers every request with 200, notes the paths, and never accepts an upgrade.
async fn deaf_program() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noted = noted.clone();
            tokio::spawn(async move {
                let mut held = Vec::new();
                while stream.read_buf(&mut held).await.is_ok_and(|n| n > 0) {
                    noted.lock().expect("sound").append(&mut held.clone());
                    if held.ends_with(b"\r\n\r\n") {
                        held.clear();
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").await.ok();
                    }
                }
            });
        }
    });
    (address, seen)
}

/// What follows a request to upgrade is not passed on before the program has accepted, and never when it has not.
#[tokio::test]
async fn nothing_is_smuggled_behind_an_upgrade_that_is_refused() {
    let (address, seen) = deaf_program().await;
    let pair = Pair::with(address, "STRICT", "HTTP", json!({}), json!({}));
    let deny = policy("DENY", json!({ "to": [{ "paths": { "any": [{ "prefix": "/smuggled" }] } }] }));
    publish(&pair.server.shared, vec![crate::fixture::inbound_with("reviews", address.port(), "STRICT", "HTTP"), deny]);
    let upgrade = "GET /ws HTTP/1.1\r\nhost: reviews\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n";
    let answer = raw(pair.client.address, upgrade.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let seen = String::from_utf8_lossy(&seen.lock().expect("sound")).into_owned();
    assert!(seen.contains("GET /ws") && !seen.contains("smuggled"), "{seen}");
}

/// A policy's text is text: a dot of a name stands for a dot, and a query is no part of a path (CVE-2026-39350, CVE-2021-32779).
#[tokio::test]
async fn what_a_policy_names_is_taken_word_for_word() {
    let pair = guarded(policy("ALLOW", json!({ "to": [{ "paths": { "any": [{ "exact": "/a.c" }] } }] }))).await;
    for (path, want) in [("/a.c", 200), ("/a.c?x=1", 200), ("/abc", 403), ("/a.c/", 403), ("/x?/a.c", 403), ("/A.c", 403)] {
        assert_eq!(send(pair.client.address, get(path)).await.status, want, "{path}");
    }
    let answer = raw(pair.client.address, b"GET /a.c#/../x HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

/// The book's table of bug classes names tests; each of them exists.
#[test]
fn every_test_of_the_books_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/book/src/bug-classes.md")).expect("the page is checked in");
    let (mut rows, mut tests) = (0, 0);
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Class") && !line.starts_with("| ---")) {
        rows += 1;
        let named: Vec<(&str, &str)> = line.split('`').filter_map(|text| text.split_once(".rs::")).collect();
        assert!(!named.is_empty(), "no test is named: {line}");
        for (file, name) in named {
            let path = root.join("crates").join(format!("{file}.rs"));
            let source = std::fs::read_to_string(&path).unwrap_or_else(|e| unreachable!("{}: {e}", path.display()));
            assert!(source.contains(&format!("fn {name}(")), "{file}.rs has no test {name}");
            tests += 1;
        }
    }
    assert!(rows >= 30 && tests >= rows, "{rows} rows, {tests} tests");
}
