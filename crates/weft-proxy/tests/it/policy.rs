//! What the mesh decides about a request: faults, authorization, unknown hosts; and that each says why.

use crate::fixture::{Pair, echo_program, get, inbound, origin, publish, send};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use weft_proxy::control::Needed;
use weft_telemetry::ResponseFlag;

fn policy(action: &str, rules: Value) -> Value {
    json!({ "type": "Authorization", "value": { "name": "default/test", "action": action, "rules": rules, "origin": origin("AuthorizationPolicy", 1) } })
}

#[tokio::test]
async fn a_denial_names_its_rule_on_both_sides() {
    let program = echo_program(false).await;
    let mut pair = Pair::new(program);
    let rule = json!([{ "to": [{ "paths": { "any": [{ "prefix": "/admin" }] } }], "origin": origin("AuthorizationPolicy", 12) }]);
    publish(&pair.server.shared, vec![inbound("reviews", program.port(), "STRICT"), policy("DENY", rule)]);
    assert_eq!(send(pair.client.address, get("/open")).await.status, 200);
    for path in ["/admin", "/x/../admin", "/%61dmin", "/./admin/a"] {
        let answer = send(pair.client.address, get(path)).await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.body.contains("DENY rule matched (default/test)") && answer.body.contains("weft why"), "{}", answer.body);
        // The caller's proxy has normalised the path already.
        let record = pair.server.record(|r| r.status == 403).await;
        let decision = record.policy.expect("decided");
        assert_eq!((decision.allowed, decision.origin.line), (false, 12));
        assert_eq!(record.flags, [ResponseFlag::Unauthorized]);
        assert!(record.details.starts_with("rbac_access_denied_matched_policy"), "{}", record.details);
        assert_eq!(pair.client.record(|r| r.path == path).await.status, 403);
    }
}

#[tokio::test]
async fn identities_are_proved_not_told() {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    let allow = |who: &str| {
        json!([{ "from": [{ "principals": { "any": [{ "exact": format!("cluster.local/ns/default/sa/{who}") }] } }],
                 "origin": origin("AuthorizationPolicy", 5) }])
    };
    let of = |who: &str| vec![inbound("reviews", program.port(), "PERMISSIVE"), policy("ALLOW", allow(who))];
    publish(&pair.server.shared, of("productpage"));
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
    // The same request in plain text has no identity, whatever its headers say.
    let mut forged = get("/");
    let told = "URI=spiffe://cluster.local/ns/default/sa/productpage";
    forged.headers_mut().insert("x-forwarded-client-cert", told.parse().expect("value"));
    forged.headers_mut().insert("x-weft-peer", "productpage-v1;default;productpage;v1".parse().expect("value"));
    assert_eq!(send(pair.server.address, forged).await.status, 403);
    publish(&pair.server.shared, of("ratings"));
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("no ALLOW rule matched"), "{}", answer.body);
}

#[tokio::test]
async fn faults_delay_and_abort_and_name_their_route() {
    let fault = json!({ "fault": { "delay": { "share": 1_000_000, "delay_ms": 30 }, "abort": { "share": 1_000_000, "status": 555 } } });
    let mut pair = Pair::with(echo_program(false).await, "STRICT", "AUTO", fault, json!({}));
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(answer.status, 555);
    let record = pair.client.record(|_| true).await;
    assert_eq!(record.flags, [ResponseFlag::FaultDelay, ResponseFlag::FaultAbort]);
    assert!(record.duration_us >= 30_000);
    assert_eq!(record.cause.expect("named").line, 9);
}

#[tokio::test]
async fn an_unknown_host_is_refused_and_said_so() {
    let mut pair = Pair::new(echo_program(false).await);
    // The listener is for a service that the snapshot lacks and the control plane does not know.
    publish(&pair.client.shared, vec![]);
    let ask = async {
        for _ in 0..2 {
            if let Some(asked) = pair.client.needs.recv().await {
                asked.answer.send(Needed::Unknown).expect("waits");
            }
        }
    };
    let request = Request::get("/").header("host", "nowhere.example").body(Full::default()).expect("legal");
    let (answer, ()) = tokio::join!(send(pair.client.address, request), ask);
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("the mesh does not route nowhere.example"), "{}", answer.body);
    let record = pair.client.record(|_| true).await;
    assert_eq!(record.flags, [ResponseFlag::NoRoute]);
}

#[tokio::test]
async fn a_cold_miss_is_fetched_on_demand() {
    let mut pair = Pair::new(echo_program(false).await);
    let whole = pair.client.shared.snapshot();
    publish(&pair.client.shared, vec![]);
    let shared = pair.client.shared.clone();
    let ask = async {
        let asked = pair.client.needs.recv().await.expect("asked");
        assert_eq!(asked.root, weft_model::Root::Host("reviews".into()));
        let view = weft_model::View { values: whole.values.clone() };
        shared.publish(weft_proxy::snapshot::build(&view, None).0, 2);
        asked.answer.send(Needed::Resolved(crate::fixture::REVIEWS.into())).expect("waits");
    };
    let (answer, ()) = tokio::join!(send(pair.client.address, get("/")), ask);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_garbled_configuration_is_refused_and_the_last_kept() {
    let pair = Pair::new(echo_program(false).await);
    let mut values = vec![crate::fixture::service("AUTO")];
    let bad = json!({ "response_headers": { "set": [["bad header", "x"]] } });
    values.push(crate::fixture::table(vec![crate::fixture::route(&[("", 1)], bad)]));
    values.push(crate::fixture::cluster("", json!({})));
    values.push(crate::fixture::endpoints("", &[(pair.server.address, Some("reviews"))]));
    let rejections = publish(&pair.client.shared, values);
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].field, "hosts[0].routes[0].response_headers.set[0]");
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
}

#[tokio::test]
async fn watched_policies_are_counted_and_refuse_nothing() {
    let program = crate::fixture::echo_program(false).await;
    let pair = crate::fixture::Pair::new(program);
    let policy = |name: &str, action: &str, dry_run: bool| {
        let rules = serde_json::json!([{ "origin": crate::fixture::origin("AuthorizationPolicy", 8) }]);
        serde_json::json!({ "type": "Authorization", "value": { "name": name, "action": action, "dry_run": dry_run, "rules": rules, "origin": crate::fixture::origin("AuthorizationPolicy", 1) } })
    };
    let values = vec![
        crate::fixture::inbound("reviews", program.port(), "STRICT"),
        policy("default/try", "DENY", true),
        policy("default/note", "AUDIT", false),
    ];
    assert!(crate::fixture::publish(&pair.server.shared, values).is_empty());
    assert_eq!(crate::fixture::send(pair.client.address, crate::fixture::get("/")).await.status, 200);
    let metrics = pair.server.handle.as_ref().expect("runs").counters();
    for line in [
        r#"weft_policy_shadow_total{policy="default/try",verdict="deny"} 1"#,
        r#"weft_policy_shadow_total{policy="default/note",verdict="audit"} 1"#,
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
