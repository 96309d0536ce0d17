//! The HTTP/1 engine over a pipe: what goes over the wire on either side, and when a connection is used again.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use weft_wire::http1::{
    self, Body, BodyError, ClientOptions, Closing, Connection, HeadLimits, SendFailure, ServeError, ServerOptions, TargetRule,
};

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, headers: 20 };

fn options() -> ServerOptions {
    ServerOptions {
        head: LIMITS,
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(100),
        target: TargetRule::Browsers,
    }
}

/// A body of given pieces, whose length is not known beforehand.
#[derive(Debug)]
struct Pieces(Vec<Frame<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn pieces(data: &[&'static str]) -> Pieces {
    Pieces(data.iter().map(|d| Frame::data(Bytes::from_static(d.as_bytes()))).collect())
}

async fn read_all(mut body: Body) -> Result<String, BodyError> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => all.extend_from_slice(&data),
            Err(frame) => all.extend(frame.into_trailers().into_iter().flatten().flat_map(|(_, v)| [b"|", v.as_bytes()].concat())),
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// Serves an echo of method, target and body on one end of a pipe.
async fn echo(io: DuplexStream, seen: Rc<RefCell<Vec<String>>>) -> Result<(), ServeError> {
    http1::serve(Box::new(io), options(), Closing::default(), move |request: Request<Body>| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            seen.borrow_mut().push(parts.uri.to_string());
            let mut response = Response::new(pieces(&[]));
            match read_all(body).await {
                Ok(body) if parts.uri.path() == "/chunks" => *response.body_mut() = Pieces(vec![Frame::data(body.into())]),
                Ok(body) => response.body_mut().0.push(Frame::data(format!("{} {} {body}", parts.method, parts.uri).into())),
                Err(error) => {
                    *response.status_mut() = if error == BodyError::Incomplete { StatusCode::BAD_GATEWAY } else { StatusCode::BAD_REQUEST }
                }
            }
            response
        }
    })
    .await
}

/// Sends bytes, closes that direction when told, and reads what comes until the end.
async fn exchange(bytes: &[u8]) -> (String, Vec<String>, Result<(), ServeError>) {
    let (mut near, far) = duplex(1 << 16);
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let client = async {
        near.write_all(bytes).await.expect("written");
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.expect("read");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (answer, served) = tokio::join!(client, echo(far, seen.clone()));
    let seen = seen.borrow().clone();
    (answer, seen, served)
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).filter(|part| part.bytes().all(|b| b.is_ascii_digit())).collect()
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order_and_one_at_a_time() {
    let (answer, seen, served) = exchange(
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    assert_eq!(seen, ["/1", "/2", "/3"], "what follows a close is never read");
    assert_eq!(statuses(&answer), ["200", "200", "200"]);
    let places: Vec<_> = ["GET /1 ", "POST /2 hi", "GET /3 "].iter().map(|part| answer.find(part)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{answer}");
    assert_eq!(answer.matches("connection: close").count(), 1);
    assert!(served.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_answered_once_and_ends_the_connection() {
    for (bytes, status) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"[..], "400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", "400"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "400"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        (b"\x16\x03\x01\x02\x00\x01", "400"),
    ] {
        let (answer, seen, served) = exchange(bytes).await;
        assert_eq!((statuses(&answer), seen.len()), (vec![status], 0), "{answer}");
        assert!(answer.contains("connection: close") && matches!(served, Err(ServeError::Malformed(_))));
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(5000));
    assert_eq!(statuses(&exchange(long.as_bytes()).await.0), ["431"]);
}

#[tokio::test(start_paused = true)]
async fn heads_and_bodies_may_come_in_any_cut() {
    let bytes = b"\r\nPOST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-End: 1\r\n\r\n";
    for step in [1, 2, 7, 64] {
        let (mut near, far) = duplex(1 << 16);
        let seen: Rc<RefCell<Vec<String>>> = Rc::default();
        let client = async {
            for part in bytes.chunks(step) {
                near.write_all(part).await.expect("written");
                tokio::task::yield_now().await;
            }
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.expect("read");
            answer
        };
        let (answer, served) = tokio::join!(client, echo(far, seen.clone()));
        assert!(answer.contains("transfer-encoding: chunked") && answer.ends_with("\r\n\r\nd\r\nhello world|1\r\n0\r\n\r\n"), "{answer}");
        assert!(served.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn http_1_0_closes_unless_it_asks() {
    let (answer, seen, _) = exchange(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n").await;
    // The length of the echo is not known, and HTTP/1.0 has no chunks: the end of the connection ends it.
    assert_eq!(seen, ["/1"]);
    assert!(answer.contains("connection: close") && answer.ends_with("\r\n\r\nGET /1 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_continue_is_told_once_the_body_is_wanted() {
    let (mut near, far) = duplex(1 << 16);
    let client = async {
        near.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
            .await
            .expect("written");
        let mut told = [0; 25];
        near.read_exact(&mut told).await.expect("told");
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        near.write_all(b"hi").await.expect("written");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read");
        answer
    };
    let (answer, _) = tokio::join!(client, echo(far, Rc::default()));
    assert!(answer.ends_with("POST /x hi\r\n0\r\n\r\n"), "{answer}");
}

/// Serves one answer without looking at the request.
async fn refuse(io: DuplexStream) -> Result<(), ServeError> {
    http1::serve(Box::new(io), options(), Closing::default(), |_request| async {
        let mut response = Response::new(pieces(&[]));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_want_the_body_drains_it_or_closes() {
    let check = |bytes: Vec<u8>, want: &'static [&'static str]| async move {
        let (mut near, far) = duplex(1 << 20);
        let client = async {
            near.write_all(&bytes).await.expect("written");
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.ok();
            String::from_utf8_lossy(&answer).into_owned()
        };
        let (answer, _) = tokio::join!(client, refuse(far));
        assert_eq!(statuses(&answer), want, "{answer}");
        answer
    };
    let next = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    check(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{next}").into(), &["403", "403"]).await;
    check(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nhello{next}").into(), &["403"]).await;
    // Told nothing, the caller may send the body or not: what follows could not be told apart.
    let waits = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let answer = check(waits.into(), &["403"]).await;
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn slow_callers_do_not_hold_a_connection_for_ever() {
    let (mut near, far) = duplex(1 << 16);
    let client = async {
        near.write_all(b"GET / HT").await.expect("written");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read");
        answer
    };
    let (answer, served) = tokio::join!(client, echo(far, Rc::default()));
    assert!(answer.starts_with("HTTP/1.1 408") && matches!(served, Err(ServeError::HeadTimeout)), "{answer}");
    let (mut near, far) = duplex(1 << 16);
    let started = weft_std::clock::now();
    let client = async {
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read");
    };
    let ((), served) = tokio::join!(client, echo(far, Rc::default()));
    assert!(served.is_ok() && started.elapsed() >= Duration::from_secs(100) && started.elapsed() < Duration::from_secs(110));
    let (mut near, far) = duplex(1 << 16);
    let client = async {
        near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await.expect("written");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read");
        answer
    };
    let (answer, served) = tokio::join!(client, echo(far, Rc::default()));
    assert!(answer.starts_with("HTTP/1.1 400") && matches!(served, Err(ServeError::Body(BodyError::Idle))), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_ends_the_work_for_it() {
    let (mut near, far) = duplex(1 << 16);
    let alive = Rc::new(());
    let held = Rc::downgrade(&alive);
    let mut alive = Some(alive);
    let server = http1::serve(Box::new(far), options(), Closing::default(), |_request| {
        let alive = alive.take();
        async move {
            let _alive = alive;
            std::future::pending::<Response<Pieces>>().await
        }
    });
    let client = async {
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
        tokio::task::yield_now().await;
        drop(near);
    };
    let (served, ()) = tokio::join!(server, client);
    assert!(served.is_err() && held.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_hands_over_the_stream_with_what_was_read_too_far() {
    let (mut near, far) = duplex(1 << 16);
    let after: Rc<RefCell<Option<http1::OnUpgrade>>> = Rc::default();
    let kept = after.clone();
    let server = async {
        let served = http1::serve(Box::new(far), options(), Closing::default(), move |mut request: Request<Body>| {
            *kept.borrow_mut() = request.body_mut().on_upgrade();
            async {
                let mut response = Response::new(pieces(&[]));
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
            }
        });
        served.await.expect("handed over");
        let upgrade = after.borrow_mut().take().expect("asked for");
        let mut io = upgrade.io().await.expect("handed over");
        let mut early = [0; 5];
        io.read_exact(&mut early).await.expect("it was read too far");
        io.write_all(b"bye").await.expect("written");
        early
    };
    let client = async {
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly").await.expect("written");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read");
        answer
    };
    let (answer, early) = tokio::join!(client, server);
    assert_eq!(&early, b"early");
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nbye"), "{answer}");
}

fn client(io: DuplexStream) -> Connection {
    let spawn: http1::Spawn = Rc::new(|rest| {
        tokio::task::spawn_local(rest);
    });
    Connection::new(Box::new(io), ClientOptions { head: LIMITS, spawn })
}

fn get(path: &str) -> Box<Request<Pieces>> {
    Box::new(Request::get(path).header("host", "a").body(pieces(&[])).expect("legal"))
}

/// One request; what the server reads, what it answers, the outcome, and whether the connection can be used again.
async fn ask(request: Box<Request<Pieces>>, answer: &'static str) -> (Result<String, String>, bool) {
    let (near, mut far) = duplex(1 << 16);
    let connection = client(near);
    let server = async {
        let mut bytes = [0; 4096];
        let _count = far.read(&mut bytes).await.expect("read");
        far.write_all(answer.as_bytes()).await.expect("written");
        if answer.contains("until") {
            far.shutdown().await.expect("closed");
        }
        far
    };
    let asking = async {
        match connection.send(request).expect("fresh").await {
            Ok(response) => {
                let status = response.status();
                read_all(response.into_body()).await.map(|body| format!("{status} {body}")).map_err(|e| e.to_string())
            }
            Err(failure) => Err(failure.to_string()),
        }
    };
    let (outcome, _far) = tokio::join!(asking, server);
    let ready = connection.is_ready();
    (outcome, ready)
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_only_after_a_clean_end() {
    for (answer, want, again) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok("200 OK hi"), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: 1\r\n\r\n", Ok("200 OK hi|1"), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok("200 OK hi"), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", Ok("200 OK hi"), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok("200 OK hi"), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", Ok("200 OK hi"), true),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok("200 OK until the end"), false),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            Ok("204 No Content "),
            true,
        ),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", Ok("204 No Content "), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Err("both"), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: until\r\n\r\nh", Err("middle"), false),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Err("without being asked"), false),
        ("SSH-2.0-until\r\n", Err("not an HTTP response"), false),
        ("HTTP/1.1 200 OK\r\nX: until\r\n", Err("before a response"), false),
    ] {
        let (outcome, ready) = ask(get("/"), answer).await;
        match (&outcome, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{answer}"),
            (Err(got), Err(want)) => assert!(got.contains(want), "{answer}: {got}"),
            _ => assert_eq!(format!("{outcome:?}"), format!("{want:?}"), "{answer}"),
        }
        assert_eq!(ready, again, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_talkative_idle_connection_gives_the_request_back() {
    for unasked in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let (near, mut far) = duplex(1 << 16);
        let connection = client(near);
        assert!(connection.is_ready());
        far.write_all(unasked).await.expect("written");
        far.shutdown().await.expect("closed");
        assert!(!connection.is_ready());
        let error = connection.send(get("/again")).map(drop).expect_err("closed");
        assert!(matches!(error.reason, SendFailure::Closed));
        assert_eq!(error.unsent.map(|request| request.uri().to_string()).as_deref(), Some("/again"));
    }
}

/// A body that never ends by itself.
struct Endless(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_may_overtake_its_request() {
    let talk = async {
        let (near, mut far) = duplex(1 << 16);
        let connection = client(near);
        let (more, body) = tokio::sync::mpsc::channel(4);
        let request = Box::new(Request::post("/up").header("host", "a").body(Endless(body)).expect("legal"));
        let server = async {
            let mut bytes = vec![0; 4096];
            let count = far.read(&mut bytes).await.expect("read");
            assert!(String::from_utf8_lossy(&bytes[..count]).ends_with("transfer-encoding: chunked\r\n\r\n"));
            far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi").await.expect("written");
        };
        let (response, ()) = tokio::join!(async { connection.send(request).map_err(|_| "closed")?.await.map_err(|_| "broke") }, server);
        let mut body = response.expect("answered").into_body();
        assert!(!connection.is_ready(), "its request is still being sent");
        more.send(Bytes::from_static(b"late")).await.expect("taken");
        let mut late = [0; 9];
        far.read_exact(&mut late).await.expect("sent beside");
        assert_eq!(&late, b"4\r\nlate\r\n");
        drop(more);
        let mut end = [0; 5];
        far.read_exact(&mut end).await.expect("ended");
        assert_eq!(&end, b"0\r\n\r\n");
        far.write_all(b"!!").await.expect("written");
        let mut got = Vec::new();
        while !body.is_end_stream() {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.expect("more").expect("whole");
            got.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        assert_eq!(got, b"hi!!");
        tokio::task::yield_now().await;
        assert!(connection.is_ready());
    };
    tokio::task::LocalSet::new().run_until(talk).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_given_up_closes_its_connection() {
    let (near, mut far) = duplex(1 << 16);
    let connection = client(near);
    let sending = connection.send(get("/")).expect("fresh");
    tokio::time::timeout(Duration::from_secs(1), sending).await.expect_err("nobody answers");
    assert!(!connection.is_ready());
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.expect("closed");
    assert!(all.starts_with(b"GET / HTTP/1.1\r\nhost: a\r\n"));
}
