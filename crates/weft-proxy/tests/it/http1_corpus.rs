//! The malformed corpus against a pair of running proxies. *Rejected* means: nothing reached the program, the connection is closed,
//! and the next request on the shared upstream connection gets its own answer.

use crate::fixture::{Pair, get, program, send, text};
use hyper::{Request, body::Incoming};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Cases that run at once.
const AT_ONCE: usize = 24;

/// What may come before anything is wrong with the proxy.
const PATIENCE: Duration = Duration::from_secs(20);

struct Case {
    name: String,
    /// Status of the refusal; `None` when it is a request.
    refused: Option<String>,
    bytes: Vec<u8>,
}

/// The checked-in corpus of `weft-wire` for a host that the mesh has, without what is incomplete: that waits by design.
fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../weft-wire/tests/corpus/http1/requests.txt");
    let text = std::fs::read_to_string(path).expect("the corpus is checked in");
    text.lines()
        .filter_map(|line| {
            let [number, verdict, rule, bytes] = line.splitn(4, '\t').collect::<Vec<_>>()[..] else { return None };
            // The preface of HTTP/2 is the begin of HTTP/2 here.
            // A body is being passed on when such a bound is hit: the program saw its begin, and never its end.
            let streamed = rule.starts_with("bound of a message's") || rule.starts_with("bound of trailers");
            if verdict == "incomplete" || bytes.starts_with("PRI ") || streamed {
                return None;
            }
            let refused = verdict.strip_prefix("reject ").map(str::to_owned);
            Some(Case {
                name: format!("{number} {rule}: {bytes:.200}"),
                refused,
                bytes: unescape(&bytes.replace("Host: a\\r\\n", "Host: reviews\\r\\n")),
            })
        })
        .collect()
}

/// The reverse of `escape_ascii`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(b) = bytes.next() {
        out.push(match (b, b) {
            (b'\\', _) => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digits = [bytes.next().unwrap_or_default(), bytes.next().unwrap_or_default()];
                    u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).expect("two digits")
                }
                other => other.unwrap_or_default(),
            },
            (other, _) => other,
        });
    }
    out
}

/// Status of the first answer, and whether the connection was closed after it.
async fn ask(to: SocketAddr, case: &Case) -> (String, bool) {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    stream.write_all(&case.bytes).await.ok();
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return true,
                Ok(count) => answer.extend_from_slice(&part[..count]),
            }
            // Whoever was understood may keep the connection.
            if case.refused.is_none() && answer.windows(4).any(|w| w == b"\r\n\r\n") {
                return false;
            }
        }
    };
    let closed = tokio::time::timeout(PATIENCE, reading).await;
    let status = answer.get(9..12).map(|s| String::from_utf8_lossy(s).into_owned()).unwrap_or_default();
    (status, closed.unwrap_or(false))
}

#[tokio::test]
async fn what_is_refused_never_reaches_the_program() {
    let reached = Arc::new(AtomicUsize::new(0));
    let seen = reached.clone();
    let address = program(false, move |request: Request<Incoming>| {
        if !request.uri().path().starts_with("/good/") {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        let path = request.uri().path().to_owned();
        async move { text(200, path) }
    })
    .await;
    // A port that is declared: where it is not, what is not HTTP is passed on as bytes, under the policies of TCP.
    let pair = Pair::with(address, "STRICT", "HTTP", json!({}), json!({}));
    let (refused, accepted): (Vec<Case>, Vec<Case>) = cases().into_iter().partition(|case| case.refused.is_some());
    assert!(refused.len() >= 2000 && accepted.len() >= 500, "{} {}", refused.len(), accepted.len());
    let mut wrong = Vec::new();
    for (number, some) in refused.chunks(AT_ONCE).enumerate() {
        let answers = futures_util::future::join_all(some.iter().map(|case| ask(pair.client.address, case))).await;
        for (case, (status, closed)) in some.iter().zip(answers) {
            // Bytes that are not even the begin of HTTP may be closed without a word.
            if !closed || !(status.is_empty() || Some(&status) == case.refused.as_ref()) {
                wrong.push(format!("{}: got {status:?}, closed: {closed}", case.name));
            }
        }
        let good = send(pair.client.address, get(&format!("/good/{number}"))).await;
        assert_eq!((good.status, good.body), (200, format!("/good/{number}")));
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), refused.len(), wrong.join("\n"));
    assert_eq!(reached.load(Ordering::SeqCst), 0, "a refused request reached the program");
    for some in accepted.chunks(AT_ONCE) {
        let answers = futures_util::future::join_all(some.iter().map(|case| ask(pair.client.address, case))).await;
        // Other layers may refuse it for what it asks; it is answered once.
        let unanswered: Vec<&str> =
            some.iter().zip(&answers).filter(|(_, (status, _))| status.is_empty()).map(|(case, _)| case.name.as_str()).collect();
        assert!(unanswered.is_empty(), "{unanswered:#?}");
    }
}
