//! Against the `h2` crate, which was written by others: it as client of our server, and as server of our client.

use crate::peer::{Frames, echo, run, whole};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::rc::Rc;
use tokio::task::spawn_local;
use weft_wire::http2::{handshake, serve};

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().expect("name"), HeaderValue::from_static("7"))])
}

#[test]
fn their_client_and_our_server() {
    run(async {
        let (near, far) = tokio::io::duplex(10_000);
        spawn_local(serve(far, Rc::default(), echo));
        let (mut sender, connection) = h2::client::handshake(near).await.expect("handshake");
        spawn_local(connection);
        for size in [0usize, 10, 100_000, 1_500_000] {
            sender = sender.ready().await.expect("ready");
            let request = Request::post("http://host/").header("x-echo", "yes").body(()).expect("a request");
            let (answer, mut body) = sender.send_request(request, false).expect("sent");
            let upload = spawn_local(async move {
                let mut left = size;
                while left > 0 {
                    body.reserve_capacity(left);
                    let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.expect("open").expect("room");
                    body.send_data(Bytes::from(vec![1; room.min(left)]), false).expect("sent");
                    left -= room.min(left);
                }
                body.send_trailers(trailers()).expect("sent");
            });
            let mut answer = answer.await.expect("answered");
            assert_eq!(answer.headers()["x-echo"], "yes");
            let (mut got, body) = (0, answer.body_mut());
            while let Some(data) = body.data().await {
                let data = data.expect("whole");
                got += data.len();
                body.flow_control().release_capacity(data.len()).expect("released");
            }
            assert_eq!((got, body.trailers().await.expect("whole")), (size, Some(trailers())));
            upload.await.expect("joins");
        }
    });
}

#[test]
fn our_client_and_their_server() {
    run(async {
        let (near, far) = tokio::io::duplex(10_000);
        spawn_local(async move {
            let mut connection = h2::server::Builder::new().max_concurrent_streams(3).handshake::<_, Bytes>(far).await.expect("handshake");
            while let Some(accepted) = connection.accept().await {
                let Ok((request, mut respond)) = accepted else { return };
                spawn_local(async move {
                    let (mut all, mut body) = (Vec::new(), request.into_body());
                    while let Some(Ok(data)) = body.data().await {
                        body.flow_control().release_capacity(data.len()).expect("released");
                        all.extend_from_slice(&data);
                    }
                    let theirs = body.trailers().await.expect("whole");
                    let mut out = respond.send_response(Response::new(()), false).expect("sent");
                    out.send_data(all.into(), false).expect("sent");
                    out.send_trailers(theirs.unwrap_or_default()).expect("sent");
                });
            }
        });
        let (sender, connection) = handshake(near, Rc::default());
        spawn_local(async move { connection.await.ok() });
        let all: Vec<_> = [10usize, 0, 200_000, 3, 1_000_000, 16_384, 7, 8, 9]
            .into_iter()
            .map(|size| {
                let sender = sender.clone();
                spawn_local(async move {
                    let body = Frames::of(&[&vec![3; size]], Some(trailers()));
                    let request = Request::post("http://host/").body(body).expect("a request");
                    let response = sender.send(Box::new(request)).await.expect("answered");
                    let (got, theirs) = whole(response.into_body()).await.expect("whole");
                    assert_eq!((got.len(), theirs), (size, Some(trailers())));
                })
            })
            .collect();
        for one in all {
            one.await.expect("joins");
        }
    });
}
