//! HTTP between two proxies: versions, streaming, trailers, upgrades, header edits, weights.

use crate::fixture::{
    Pair, REVIEWS, cluster, echo_program, endpoints, get, inbound, publish, route, send, send2, service, table, text, whole,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

fn get2(path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("http://reviews{path}")).body(Full::default()).expect("legal")
}

#[tokio::test]
async fn http2_stays_http2() {
    let mut pair = Pair::with(echo_program(true).await, "STRICT", "HTTP2", json!({}), json!({}));
    let answer = send2(pair.client.address, get2("/x")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "GET /x reviews 0"));
    assert_eq!(pair.server.record(|_| true).await.protocol, "HTTP/2");
}

#[tokio::test]
async fn http1_callers_reach_an_http2_program() {
    let pair = Pair::with(echo_program(true).await, "STRICT", "HTTP2", json!({}), json!({}));
    let answer = send(pair.client.address, get("/x")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "GET /x reviews 0"));
}

#[tokio::test]
async fn http2_callers_reach_an_http1_program() {
    let pair = Pair::with(echo_program(false).await, "STRICT", "HTTP", json!({}), json!({}));
    let request =
        Request::builder().uri("http://reviews/x").header("cookie", "a=1").header("cookie", "b=2").body(Full::default()).expect("legal");
    let answer = send2(pair.client.address, request).await;
    assert_eq!((answer.status, answer.header("x-saw-cookie")), (200, "a=1; b=2"));
}

#[tokio::test]
async fn grpc_keeps_its_trailers_and_its_status() {
    let program = crate::fixture::program(true, |request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.expect("whole").to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().expect("value"));
        let frames = vec![Ok::<_, Infallible>(Frame::data(body)), Ok(Frame::trailers(trailers))];
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed());
        response.headers_mut().insert("content-type", "application/grpc".parse().expect("value"));
        response
    })
    .await;
    let mut pair = Pair::with(program, "STRICT", "GRPC", json!({}), json!({}));
    let request = Request::post("http://reviews/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from("hello"))
        .expect("legal");
    let answer = send2(pair.client.address, request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!(answer.trailers.expect("trailers").get("grpc-status").expect("there"), "5");
    let record = pair.client.record(|r| r.grpc).await;
    assert_eq!((record.grpc_status, record.bytes_received), (Some(5), 5));
    assert_eq!(pair.server.record(|r| r.grpc).await.grpc_status, Some(5));
}

#[tokio::test]
async fn a_grpc_caller_gets_mesh_errors_as_grpc() {
    let pair = Pair::with(echo_program(true).await, "STRICT", "GRPC", json!({}), json!({}));
    publish(
        &pair.client.shared,
        vec![service("GRPC"), table(vec![route(&[("", 1)], json!({}))]), cluster("", json!({})), endpoints("", &[])],
    );
    let request = Request::post("http://reviews/a.B/C").header("content-type", "application/grpc").body(Full::default()).expect("legal");
    let answer = send2(pair.client.address, request).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "14"));
    assert!(answer.header("grpc-message").contains("no endpoint"), "{answer:?}");
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let pair = Pair::new(
        crate::fixture::program(false, |request: Request<Incoming>| async move {
            Response::new(request.into_body().map_err(|e| unreachable!("{e}")).boxed())
        })
        .await,
    );
    let stream = TcpStream::connect(pair.client.address).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.await.ok() });
    let (parts, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = StreamBody::new(futures_util::stream::unfold(body, |mut b| async move { b.recv().await.map(|frame| (frame, b)) }));
    let request = Request::post("/").header("host", "reviews").body(body).expect("legal");
    parts.send(Ok(Frame::data("one".into()))).await.expect("taken");
    let mut answer = sender.send_request(request).await.expect("answered before the request has ended").into_body();
    assert_eq!(answer.frame().await.expect("a frame").expect("data").into_data().expect("data"), "one");
    parts.send(Ok(Frame::data("two".into()))).await.expect("taken");
    assert_eq!(answer.frame().await.expect("a frame").expect("data").into_data().expect("data"), "two");
    drop(parts);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn large_bodies_come_whole() {
    let pair = Pair::new(echo_program(false).await);
    let body = vec![7_u8; 3_000_000];
    let request = Request::post("/").header("host", "reviews").body(Full::from(body)).expect("legal");
    assert_eq!(send(pair.client.address, request).await.body, "POST / reviews 3000000");
}

#[tokio::test]
async fn websockets_pass() {
    let program = crate::fixture::program(false, |mut request: Request<Incoming>| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.expect("upgraded"));
            let mut bytes = [0; 4];
            while io.read_exact(&mut bytes).await.is_ok() {
                bytes.reverse();
                io.write_all(&bytes).await.expect("written");
            }
        });
        let mut response = text(101, "");
        response.headers_mut().insert("connection", "upgrade".parse().expect("value"));
        response.headers_mut().insert("upgrade", "websocket".parse().expect("value"));
        response
    })
    .await;
    let mut pair = Pair::new(program);
    let stream = TcpStream::connect(pair.client.address).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.with_upgrades().await.ok() });
    let mut request = get("/chat");
    request.headers_mut().insert("connection", "Upgrade".parse().expect("value"));
    request.headers_mut().insert("upgrade", "websocket".parse().expect("value"));
    let response = sender.send_request(request).await.expect("answered");
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"));
    for _ in 0..3 {
        io.write_all(b"abcd").await.expect("written");
        let mut back = [0; 4];
        io.read_exact(&mut back).await.expect("read");
        assert_eq!(&back, b"dcba");
    }
    drop(io);
    let record = pair.client.record(|r| r.status == 101).await;
    assert_eq!((record.bytes_received, record.bytes_sent), (12, 12));
}

#[tokio::test]
async fn programs_that_know_an_http_proxy_need_no_capture() {
    use weft_proxy::ProxyConfig;
    let pair = Pair::new(echo_program(false).await);
    let listener = std::net::TcpListener::bind(crate::fixture::loopback()).expect("bound");
    let address = listener.local_addr().expect("address");
    let values = vec![
        service("HTTP"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
    ];
    let config = ProxyConfig { http_proxy: vec![listener], ..ProxyConfig::default() };
    let _proxy = pair.mesh.start("productpage", config, address, values);
    // In the absolute form, as to a proxy (RFC 9112 §3.2.2).
    let request = Request::get("http://reviews/abs").header("host", "reviews").body(Full::default()).expect("legal");
    assert_eq!(send(address, request).await.body, "GET /abs reviews 0");
    // Through a tunnel.
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(b"CONNECT reviews:80 HTTP/1.1\r\nhost: reviews:80\r\n\r\n").await.expect("written");
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("read");
    assert_eq!(&head, b"HTTP/1.1 200");
    stream.write_all(b"GET /tunnel HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n").await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(answer.contains("GET /tunnel reviews 0"), "{answer}");
}

#[tokio::test]
async fn headers_path_and_authority_are_rewritten_and_stay_in_the_record_as_they_came() {
    let rule = json!({
        "rewrite": { "path": { "prefix": { "matched": "/old", "replacement": "/new", "segments": true } }, "authority": "other" },
        "request_headers": { "set": [["x-set", "1"]], "add": [["x-add", "2"]], "remove": ["x-gone"] },
        "response_headers": { "set": [["x-answer", "3"]], "remove": ["x-saw-accept"] }
    });
    let mut pair = Pair::with(echo_program(false).await, "STRICT", "AUTO", rule, json!({}));
    let mut request = get("/old/a?q=1");
    request.headers_mut().insert("x-gone", "x".parse().expect("value"));
    let answer = send(pair.client.address, request).await;
    assert_eq!(answer.body, "GET /new/a?q=1 other 0");
    let saw = |name: &str| answer.header(&format!("x-saw-{name}")).to_owned();
    assert_eq!((saw("x-set"), saw("x-add"), saw("x-gone")), ("1".into(), "2".into(), String::new()));
    assert_eq!(answer.header("x-answer"), "3");
    assert_eq!(pair.client.record(|_| true).await.path, "/old/a?q=1");
}

#[tokio::test]
async fn weights_share_and_subsets_differ() {
    let (one, two) = (
        crate::fixture::program(false, |_| async { text(200, "one") }).await,
        crate::fixture::program(false, |_| async { text(200, "two") }).await,
    );
    let pair = Pair::new(one);
    let second = pair.mesh.server("reviews", two, vec![inbound("reviews", two.port(), "STRICT")]);
    publish(
        &pair.client.shared,
        vec![
            service("HTTP"),
            table(vec![route(&[("v1", 80), ("v2", 20)], json!({}))]),
            cluster("v1", json!({})),
            cluster("v2", json!({})),
            endpoints("v1", &[(pair.server.address, Some("reviews"))]),
            endpoints("v2", &[(second.address, Some("reviews"))]),
        ],
    );
    let stream = TcpStream::connect(pair.client.address).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("ready");
    tokio::spawn(async move { connection.await.ok() });
    let mut twos = 0;
    for _ in 0..500 {
        sender.ready().await.expect("kept alive");
        twos += u32::from(whole(sender.send_request(get("/")).await.expect("answered")).await.body == "two");
    }
    // Five standard deviations around 100.
    assert!((55..=145).contains(&twos), "{twos} of 500");
}

#[tokio::test]
async fn direct_answers_and_redirects() {
    let pair = Pair::new(echo_program(false).await);
    let respond = json!({ "matches": [{ "path": { "exact": "/hello" } }], "action": { "respond": { "status": 418, "body": "tea" } } });
    let redirect = json!({ "action": { "redirect": { "status": 302, "host": "elsewhere.org" } } });
    publish(&pair.client.shared, vec![service("HTTP"), table(vec![route(&[], respond), route(&[], redirect)])]);
    let answer = send(pair.client.address, get("/hello")).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("server")), (418, "tea", "weft"));
    let answer = send(pair.client.address, get("/x?y")).await;
    assert_eq!((answer.status, answer.header("location")), (302, "http://elsewhere.org/x?y"));
}

#[tokio::test]
async fn mirrors_get_a_copy_and_change_nothing() {
    let pair = Pair::new(echo_program(false).await);
    let (sender, mut copies) = tokio::sync::mpsc::channel(1);
    let shadow = crate::fixture::program(false, move |request: Request<Incoming>| {
        let (sender, host) = (sender.clone(), request.headers()["host"].to_str().expect("text").to_owned());
        async move {
            let path = request.uri().to_string();
            let body = request.into_body().collect().await.expect("whole").to_bytes();
            sender.send((path, host, body.len())).await.expect("taken");
            text(500, "nobody sees this")
        }
    })
    .await;
    let second = pair.mesh.server("shadow", shadow, vec![inbound("shadow", shadow.port(), "STRICT")]);
    publish(
        &pair.client.shared,
        vec![
            service("HTTP"),
            table(vec![route(
                &[("", 1)],
                json!({ "mirrors": [{ "cluster": format!("outbound|80|shadow|{REVIEWS}"), "share": 1_000_000 }] }),
            )]),
            cluster("", json!({})),
            cluster("shadow", json!({})),
            endpoints("", &[(pair.server.address, Some("reviews"))]),
            endpoints("shadow", &[(second.address, Some("shadow"))]),
        ],
    );
    assert_eq!(send(pair.client.address, get("/m")).await.status, 200);
    assert_eq!(copies.recv().await, Some(("/m".into(), "reviews-shadow".into(), 0)));
    let request = Request::post("/body").header("host", "reviews").body(Full::from("five!")).expect("legal");
    assert_eq!(send(pair.client.address, request).await.body, "POST /body reviews 5");
    assert_eq!(copies.recv().await, Some(("/body".into(), "reviews-shadow".into(), 5)));
}
