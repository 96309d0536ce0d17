//! Our client and our server.

use crate::peer::{Frames, echo, run, whole};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use std::{cell::Cell, rc::Rc};
use tokio::task::spawn_local;
use weft_wire::http2::{self, Body, ErrorCode, Options, SendRequest, handshake, serve};

fn pair<F: Future<Output = Response<Frames>> + 'static>(
    options: Options,
    service: impl Fn(Request<Body>) -> F + Unpin + 'static,
) -> SendRequest<Frames> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let options = Rc::new(options);
    let server = serve(far, options.clone(), service);
    spawn_local(async move { server.await.ok() });
    let (sender, connection) = handshake(near, options);
    spawn_local(async move { connection.await.ok() });
    sender
}

fn post(data: &[&[u8]], trailers: Option<HeaderMap>) -> Box<Request<Frames>> {
    Box::new(Request::post("http://host/package.Service/Method").body(Frames::of(data, trailers)).expect("a request"))
}

#[test]
fn bodies_and_trailers_come_back() {
    run(async {
        let sender = pair(Options::default(), echo);
        for size in [0, 1, 1000, 16_384, 16_385, 70_000, 3_000_000] {
            let data = vec![7; size];
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from(size));
            let response = sender.send(post(&[&data, &data[..size / 2]], Some(trailers.clone()))).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK);
            let (got, got_trailers) = whole(response.into_body()).await.expect("a body");
            assert_eq!((got.len(), got_trailers), (size + size / 2, Some(trailers)));
        }
    });
}

#[test]
fn many_streams_at_once_and_no_more_than_allowed() {
    run(async {
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (n, m) = (now.clone(), most.clone());
        let service = move |request: Request<Body>| {
            let (n, m) = (n.clone(), m.clone());
            async move {
                n.set(n.get() + 1);
                m.set(m.get().max(n.get()));
                tokio::task::yield_now().await;
                let response = echo(request).await;
                n.set(n.get() - 1);
                response
            }
        };
        let sender = pair(Options { streams_max: 10, ..Options::default() }, service);
        sender.settings().await;
        let all: Vec<_> = (0..200u32)
            .map(|i| {
                let sender = sender.clone();
                spawn_local(async move {
                    let data = i.to_be_bytes().repeat(500);
                    let response = sender.send(post(&[&data], None)).await.expect("an answer");
                    assert_eq!(whole(response.into_body()).await.expect("a body").0, data);
                })
            })
            .collect();
        for one in all {
            one.await.expect("joins");
        }
        assert_eq!(most.get(), 10);
    });
}

/// RFC 9113 §8.1: a response may end before its request; what was refused is known to be unprocessed.
#[test]
fn errors_say_what_is_certain() {
    run(async {
        let sender = pair(Options::default(), |_| async { std::future::pending::<Response<Frames>>().await });
        let mut waiting = Box::pin(sender.send(post(&[b"x"], None)));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert_eq!(sender.room(), 256, "a dropped request is a closed stream");
        let (near, far) = tokio::io::duplex(1024);
        let (sender, connection) = handshake::<_, Frames>(near, Rc::new(Options::default()));
        spawn_local(async move { connection.await.ok() });
        drop(far);
        let error = sender.send(post(&[], None)).await.expect_err("nobody there");
        assert!(!error.reason.is_unprocessed(), "{error:?}");
        let error = sender.send(post(&[], None)).await.expect_err("nobody there");
        assert!(error.unsent.is_some() && sender.is_closed(), "{error:?}");
    });
}

#[test]
fn a_graceful_end_serves_what_was_sent_and_refuses_the_rest() {
    run(async {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let gate = Rc::new(tokio::sync::Notify::new());
        let opened = gate.clone();
        let options = Rc::new(Options::default());
        let mut server = serve(far, options.clone(), move |request: Request<Body>| {
            let gate = gate.clone();
            async move {
                gate.notified().await;
                echo(request).await
            }
        });
        let stop = Rc::new(tokio::sync::Notify::new());
        let stopped = stop.clone();
        let served = spawn_local(async move {
            tokio::select! { ended = &mut server => return ended, () = stopped.notified() => server.graceful_shutdown() }
            server.await
        });
        let (sender, connection) = handshake(near, options);
        spawn_local(async move { connection.await.ok() });
        let first = spawn_local(sender.send(post(&[b"one"], None)));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        stop.notify_one();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let late = sender.send(post(&[b"two"], None)).await.expect_err("the server goes away");
        assert!(late.unsent.is_some() && late.reason == http2::Error::NotTaken(ErrorCode::NO_ERROR), "{late:?}");
        opened.notify_one();
        let response = first.await.expect("joins").expect("an answer");
        assert_eq!(whole(response.into_body()).await.expect("a body").0, b"one");
        assert_eq!(served.await.expect("joins"), Ok(()));
    });
}

#[test]
fn heads_without_bodies() {
    run(async {
        let sender = pair(Options::default(), |request: Request<Body>| async move {
            assert!(request.body().is_end_stream() && request.body().size_hint().exact() == Some(0));
            let mut response = Response::new(Frames::of(&[b"0123456789"], None));
            if request.uri().path() == "/304" {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
            }
            response.headers_mut().insert("content-length", HeaderValue::from_static("10"));
            response
        });
        for (method, path, want) in [(Method::HEAD, "/", 0), (Method::GET, "/304", 0), (Method::GET, "/", 10)] {
            let request = Request::builder().method(method).uri(format!("http://host{path}")).body(Frames::default()).expect("a request");
            let response = sender.send(Box::new(request)).await.expect("an answer");
            assert_eq!(response.headers()["content-length"], "10");
            assert_eq!(whole(response.into_body()).await.expect("a body").0.len(), want);
        }
    });
}

/// A reader that takes nothing holds its own stream back, no other, and no more than its window.
#[test]
fn a_slow_reader_is_bounded_and_alone() {
    run(async {
        let options = Options { stream_window_bytes: 65_535, connection_window_bytes: 1 << 20, ..Options::default() };
        let sender = pair(options, |_| async { Response::new(Frames::of(&[&vec![1; 400_000]], None)) });
        let slow = sender.send(post(&[], None)).await.expect("an answer");
        for _ in 0..5 {
            let quick = sender.send(post(&[], None)).await.expect("an answer");
            assert_eq!(whole(quick.into_body()).await.expect("a body").0.len(), 400_000);
        }
        assert_eq!(whole(slow.into_body()).await.expect("a body").0.len(), 400_000);
    });
}

/// A body that breaks is never taken for a whole one.
#[test]
fn a_broken_body_resets() {
    struct Breaks(bool);
    impl http_body::Body for Breaks {
        type Data = Bytes;
        type Error = &'static str;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let first = !std::mem::replace(&mut self.0, true);
            std::task::Poll::Ready(Some(if first { Ok(Frame::data(Bytes::from_static(b"half"))) } else { Err("broken") }))
        }
    }
    run(async {
        let (near, far) = tokio::io::duplex(1024);
        spawn_local(async move { serve(far, Rc::default(), |_| async { Response::new(Breaks(false)) }).await.ok() });
        let (sender, connection) = handshake::<_, Frames>(near, Rc::default());
        spawn_local(async move { connection.await.ok() });
        let response = sender.send(post(&[], None)).await.expect("a head");
        let error = whole(response.into_body()).await.expect_err("no end");
        assert_eq!(error, http2::Error::Reset(ErrorCode::INTERNAL_ERROR));
    });
}
