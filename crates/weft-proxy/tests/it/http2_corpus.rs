//! The malformed HTTP/2 corpus against a running pair: what is refused never reaches the program, and the next caller is none the
//! worse (reliability.md §2).

#[path = "../../../weft-wire/tests/http2/corpus.rs"]
mod corpus;

use crate::fixture::{Pair, get, program, send, text};
use corpus::{Case, END_HEADERS, END_STREAM, Verdict, block, frame};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Sends a case and a PING; reads until that is answered or the connection ends. Says whether a reset or an error was told.
async fn refused(to: SocketAddr, case: &Case) -> bool {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let probe = frame(6, 0, 0, b"are you?");
    let all = [weft_wire::http2::PREFACE, &frame(4, 0, 0, &[])[..], &case.bytes, &probe].concat();
    // The proxy may close before it has read all.
    stream.write_all(&all).await.ok();
    let (mut input, mut refused) = (Vec::new(), false);
    loop {
        while let Some(length) = input.first_chunk::<3>().map(|l| 9 + u32::from_be_bytes([0, l[0], l[1], l[2]]) as usize) {
            if input.len() < length {
                break;
            }
            let rest = input.split_off(length);
            let one = std::mem::replace(&mut input, rest);
            let code = |at: usize| one.get(at..at + 4).is_some_and(|code| code != [0; 4]);
            match one[3] {
                3 => refused |= code(9),
                7 => refused |= code(13),
                6 if one[9..] == *b"are you?" => return refused,
                _ => {}
            }
        }
        match tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut input)).await.expect("the proxy answers") {
            Ok(n) if n > 0 => {}
            _ => return refused,
        }
    }
}

#[tokio::test]
async fn what_is_refused_never_reaches_the_program() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let saw = seen.clone();
    let program = program(false, move |request| {
        saw.lock().expect("sound").push(request.uri().path().to_owned());
        async { text(200, "ok") }
    })
    .await;
    let pair = Pair::with(program, "STRICT", "HTTP", serde_json::json!({}), serde_json::json!({}));
    for (at, case) in corpus::all().iter().enumerate() {
        let told = refused(pair.client.address, case).await;
        match case.verdict {
            Verdict::Fine => assert!(!told, "{} is no error", case.name),
            Verdict::Stream(..) | Verdict::Connection(_) | Verdict::Either(..) => assert!(told, "{} is an error", case.name),
            Verdict::Late => {}
        }
        let head_is_bad = case.name.starts_with("head: ") || case.name.starts_with("hpack: ");
        let paths = std::mem::take(&mut *seen.lock().expect("sound"));
        assert!(!head_is_bad || paths.iter().all(|path| path == "/good"), "{} reached the program: {paths:?}", case.name);
        if at % 20 == 0 {
            assert_eq!(send(pair.client.address, get("/good")).await.body, "ok", "after {}", case.name);
        }
    }
    // A whole request of HTTP/2 after all that.
    let good = block(&[(":method", "GET"), (":scheme", "http"), (":authority", "reviews"), (":path", "/good")]);
    let case = Case { name: "good".into(), bytes: frame(1, END_HEADERS | END_STREAM, 1, &good), verdict: Verdict::Fine };
    assert!(!refused(pair.client.address, &case).await);
}
