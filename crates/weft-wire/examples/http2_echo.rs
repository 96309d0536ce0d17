//! A small HTTP/2 server over the engine, to aim h2load, nghttp and h2spec at: `http2_echo 127.0.0.1:8080`.
//! It answers with what it was sent, and with trailers where the request is gRPC's.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};
use weft_wire::http2;

struct Answer(VecDeque<Frame<Bytes>>);

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

async fn answer(request: Request<http2::Body>) -> Response<Answer> {
    let grpc = request.headers().get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    let mut frames = VecDeque::new();
    let mut body = pin!(request.into_body());
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if frame.is_data() {
            frames.push_back(frame);
        }
    }
    if frames.is_empty() {
        frames.push_back(Frame::data(Bytes::from_static(b"hello\n")));
    }
    let mut response = Response::new(());
    if grpc {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        frames.push_back(Frame::trailers(trailers));
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    }
    response.map(|()| Answer(frames))
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let options = Rc::new(http2::Options::default());
        loop {
            let (io, _) = listener.accept().await?;
            io.set_nodelay(true)?;
            let options = options.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = http2::serve(io, options, answer).await {
                    eprintln!("{error}");
                }
            });
        }
    })
}
