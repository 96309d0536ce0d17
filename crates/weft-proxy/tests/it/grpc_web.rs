//! gRPC-Web callers and gRPC programs.

use crate::fixture::{Answer, Body, Pair, program, send};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::json;
use std::{convert::Infallible, net::SocketAddr};

/// A gRPC program that sends the message back, with trailers.
async fn grpc_program() -> SocketAddr {
    program(true, |request| async move {
        let headers = request.headers();
        assert_eq!((headers["content-type"].as_bytes(), headers["te"].as_bytes()), (&b"application/grpc+proto"[..], &b"trailers"[..]));
        let message = request.into_body().collect().await.expect("whole").to_bytes();
        let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("name"), "0".parse().expect("value"))]);
        let frames = [Ok::<_, Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
        let body: Body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
        let mut response = Response::new(body);
        response.headers_mut().insert("content-type", "application/grpc+proto".parse().expect("value"));
        response
    })
    .await
}

async fn call(content_type: &str, body: Bytes) -> (Answer, Option<u8>) {
    let mut pair = Pair::with(grpc_program().await, "STRICT", "GRPC", json!({}), json!({}));
    let request = Request::post("/package.Service/Method").header("host", "reviews").header("content-type", content_type);
    let request = request.header("x-grpc-web", "1").body(Full::from(body)).expect("legal");
    let answer = send(pair.client.address, request).await;
    (answer, pair.client.record(|r| r.path == "/package.Service/Method").await.grpc_status)
}

#[tokio::test]
async fn binary_and_text_callers_reach_a_grpc_program() {
    let message = b"\0\0\0\0\x03abc";
    let (answer, status) = call("application/grpc-web+proto", Bytes::from_static(message)).await;
    assert_eq!((answer.status, answer.header("content-type"), status), (200, "application/grpc-web+proto", Some(0)));
    assert_eq!(answer.body, "\0\0\0\0\u{3}abc\u{fffd}\0\0\0\u{f}grpc-status:0\r\n", "0x80 is no UTF-8");
    let (answer, status) = call("application/grpc-web-text+proto", STANDARD.encode(message).into()).await;
    assert_eq!((answer.status, answer.header("content-type"), status), (200, "application/grpc-web-text+proto", Some(0)));
    let trailers = STANDARD.encode(b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    assert_eq!(answer.body, format!("{}{trailers}", STANDARD.encode(message)));
}

#[tokio::test]
async fn what_is_not_base64_is_refused() {
    let (answer, _) = call("application/grpc-web-text+proto", Bytes::from_static(b"!!!!")).await;
    assert_ne!(answer.header("grpc-status"), "0", "{answer:?}");
}
