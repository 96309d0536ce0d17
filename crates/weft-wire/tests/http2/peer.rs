//! What the tests share: bodies, an echo service, and a peer that sends whatever frames it likes.

use crate::corpus::frame;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use weft_wire::http2::{self, Options};

/// A body of given frames.
#[derive(Debug, Default)]
pub(crate) struct Frames(pub VecDeque<Frame<Bytes>>);

impl Frames {
    pub(crate) fn of(data: &[&[u8]], trailers: Option<HeaderMap>) -> Self {
        let data = data.iter().map(|d| Frame::data(Bytes::copy_from_slice(d)));
        Self(data.chain(trailers.map(Frame::trailers)).collect())
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads a body to its end.
pub(crate) async fn whole<B: Body<Data = Bytes>>(body: B) -> Result<(Vec<u8>, Option<HeaderMap>), B::Error> {
    let (mut all, mut trailers) = (Vec::new(), None);
    let mut body = pin!(body);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => all.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((all, trailers))
}

/// Sends back what came, trailers included.
pub(crate) async fn echo(request: Request<http2::Body>) -> Response<Frames> {
    let (parts, body) = request.into_parts();
    let Ok((data, trailers)) = whole(body).await else { return Response::new(Frames::default()) };
    let mut response = Response::new(Frames::of(&[&data], trailers));
    if let Some(value) = parts.headers.get("x-echo") {
        response.headers_mut().insert("x-echo", value.clone());
    }
    response
}

/// Runs `test` where tasks may be spawned that stay on this thread, in virtual time.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// A raw client of an echo server.
pub(crate) struct Peer {
    io: DuplexStream,
    input: Vec<u8>,
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Peer {
    /// Connects to an echo server, with preface and SETTINGS if `greets`.
    pub(crate) async fn new(options: Options, greets: bool) -> Self {
        Self::with(options, greets, echo).await
    }

    /// The same with another service.
    pub(crate) async fn with<F: Future<Output = Response<Frames>> + 'static>(
        options: Options,
        greets: bool,
        service: impl Fn(Request<http2::Body>) -> F + Unpin + 'static,
    ) -> Self {
        let (io, server) = tokio::io::duplex(1 << 20);
        tokio::task::spawn_local(async move {
            http2::serve(server, Rc::new(options), service).await.ok();
        });
        let mut peer = Self { io, input: Vec::new() };
        if greets {
            peer.send(http2::PREFACE).await;
            peer.send(&frame(4, 0, 0, &[])).await;
        }
        peer
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The other side may have gone: what it said is what counts.
        self.io.write_all(bytes).await.ok();
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Raw> {
        loop {
            if self.input.len() >= 9 {
                let length = u32::from_be_bytes([0, self.input[0], self.input[1], self.input[2]]) as usize;
                if self.input.len() >= 9 + length {
                    let rest = self.input.split_off(9 + length);
                    let whole = std::mem::replace(&mut self.input, rest);
                    let stream = u32::from_be_bytes([whole[5], whole[6], whole[7], whole[8]]);
                    return Some(Raw { kind: whole[3], flags: whole[4], stream, payload: whole[9..].to_vec() });
                }
            }
            match self.io.read_buf(&mut self.input).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }

    /// The next frame that is not SETTINGS, its acknowledgement or WINDOW_UPDATE.
    pub(crate) async fn next_telling(&mut self) -> Option<Raw> {
        loop {
            let frame = self.next().await?;
            if frame.kind != 4 && frame.kind != 8 {
                return Some(frame);
            }
        }
    }
}
