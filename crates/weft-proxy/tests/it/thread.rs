//! The thin thread: client → outbound proxy → mutual TLS → inbound proxy → program.

use crate::fixture::{Pair, echo_program, get, send};
use weft_telemetry::Reporter;

#[tokio::test]
async fn a_request_goes_all_the_way_and_both_sides_say_so() {
    let mut pair = Pair::new(echo_program(false).await);
    let answer = send(pair.client.address, get("/a?b=c")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "GET /a?b=c reviews 0"));
    assert_eq!(
        answer.header("x-saw-x-forwarded-client-cert"),
        "By=spiffe://cluster.local/ns/default/sa/reviews;URI=spiffe://cluster.local/ns/default/sa/productpage"
    );
    assert_eq!(answer.header("x-saw-x-weft-peer"), "", "Weft's own headers stay in the mesh");
    assert_eq!(answer.header("x-weft-peer"), "");

    let source = pair.client.record(|r| r.status == 200).await;
    let destination = pair.server.record(|r| r.status == 200).await;
    assert_eq!((source.reporter, destination.reporter), (Reporter::Source, Reporter::Destination));
    assert_eq!(source.id, destination.id);
    assert_eq!(answer.header("x-saw-x-request-id"), source.id);
    assert_eq!((&source.trace_id, &source.span_id), (&destination.trace_id, &destination.parent_span_id));
    let tls = destination.tls.expect("mutual TLS");
    assert_eq!((tls.group.as_str(), tls.version.as_str()), ("X25519MLKEM768", "TLSv1.3"));
    assert_eq!(tls.peer, "spiffe://cluster.local/ns/default/sa/productpage");
    assert_eq!((destination.source.workload.as_str(), destination.source.version.as_str()), ("productpage-v1", "v1"));
    assert_eq!((source.destination.workload.as_str(), source.destination.service.as_str()), ("reviews-v1", "reviews"));
    assert_eq!(source.route_origin.expect("routed").line, 9);
    assert_eq!(source.attempts.len(), 1);
    assert_eq!(source.bytes_sent, answer.body.len() as u64);
}

#[tokio::test]
async fn connections_are_used_again() {
    let mut pair = Pair::new(echo_program(false).await);
    for i in 0..5 {
        let answer = send(pair.client.address, get(&format!("/{i}"))).await;
        assert_eq!(answer.status, 200);
        pair.client.record(|r| r.path == format!("/{i}")).await;
    }
    let described = pair.client.handle.as_ref().expect("runs").describe().await;
    assert_eq!(described[0]["clusters"][0]["endpoints"][0]["idleHttp1"], 1, "{described:?}");
}
