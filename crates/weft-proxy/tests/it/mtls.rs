//! Mutual TLS between proxies: what is refused, on which side, and how it is told.

use crate::fixture::{Mesh, Pair, cluster, echo_program, endpoints, get, inbound, publish, route, send, service, table};
use serde_json::json;
use std::time::Duration;
use weft_pki::{Authority, KeyAndCsr, Svid};
use weft_telemetry::ResponseFlag;

#[tokio::test]
async fn strict_refuses_plain_text_and_names_the_policy() {
    let mut pair = Pair::new(echo_program(false).await);
    let answer = send(pair.server.address, get("/")).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("plain text to a STRICT port"), "{}", answer.body);
    assert_eq!(answer.header("connection"), "close");
    let record = pair.server.record(|r| r.status == 403).await;
    let decision = record.policy.expect("decided");
    assert_eq!((decision.origin.kind.as_str(), decision.origin.line), ("PeerAuthentication", 7));
    assert!(record.tls.is_none());
}

#[tokio::test]
async fn permissive_serves_plain_text_without_an_identity() {
    let mut pair = Pair::with(echo_program(false).await, "PERMISSIVE", "AUTO", json!({}), json!({}));
    let answer = send(pair.server.address, get("/")).await;
    assert_eq!((answer.status, answer.header("x-saw-x-forwarded-client-cert")), (200, ""));
    let record = pair.server.record(|_| true).await;
    assert!(record.tls.is_none() && record.source.principal.is_empty());
}

#[tokio::test]
async fn an_endpoint_with_another_identity_gets_nothing() {
    let mut pair = Pair::new(echo_program(false).await);
    publish(
        &pair.client.shared,
        vec![
            service("AUTO"),
            table(vec![route(&[("", 1)], json!({}))]),
            cluster("", json!({})),
            endpoints("", &[(pair.server.address, Some("ratings"))]),
        ],
    );
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(answer.status, 503);
    let record = pair.client.record(|_| true).await;
    assert!(record.flags.contains(&ResponseFlag::UpstreamTls), "{:?}", record.flags);
    assert!(record.attempts[0].outcome.contains("ratings"), "{}", record.attempts[0].outcome);
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused() {
    let pair = Pair::new(echo_program(false).await);
    let foreign = Authority::ephemeral("evil.example").expect("made");
    let made = KeyAndCsr::generate().expect("made");
    let id = weft_model::SpiffeId::new("evil.example", "default", "productpage").expect("legal");
    let issued = foreign.sign_workload(&id, made.csr_der(), Duration::from_secs(60)).expect("signed");
    pair.client.shared.svid.install(Svid::new(made, issued.chain, issued.issued_at_ms).expect("fits"));
    assert_eq!(send(pair.client.address, get("/")).await.status, 503);
}

#[tokio::test]
async fn a_rotation_breaks_nothing() {
    let pair = Pair::new(echo_program(false).await);
    for _ in 0..5 {
        assert_eq!(send(pair.client.address, get("/")).await.status, 200);
        for (proxy, account) in [(&pair.client, "productpage"), (&pair.server, "reviews")] {
            let fresh = pair.mesh.svid(account).svid().expect("there");
            proxy.shared.svid.install((*fresh).clone());
        }
    }
}

#[tokio::test]
async fn a_proxy_without_configuration_refuses() {
    let program = echo_program(false).await;
    let server = Mesh::new().server("reviews", program, vec![]);
    let answer = send(server.address, get("/")).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("no configuration yet"), "{}", answer.body);
    publish(&server.shared, vec![inbound("reviews", program.port(), "PERMISSIVE")]);
    assert_eq!(send(server.address, get("/")).await.status, 200);
}
