//! Tokens: a good one tells who calls, a bad one is always refused with its reason, none gives no identity.

use crate::{
    fixture::{Answer, Pair, TestProxy, echo_program, get, inbound, origin, publish, send},
    tokens::{ISSUER, authentication, base64, claims, good, now, sign},
};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use weft_telemetry::ResponseFlag;

fn bearer(token: &str) -> Request<Full<Bytes>> {
    let mut request = get("/");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("value"));
    request
}

fn allow(rules: Value) -> Value {
    json!({ "type": "Authorization", "value": { "name": "default/allow", "action": "ALLOW", "rules": rules, "origin": origin("AuthorizationPolicy", 1) } })
}

async fn believing(rule: Value, more: Vec<Value>) -> Pair {
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    let mut values = vec![inbound("reviews", program.port(), "STRICT"), authentication(rule)];
    values.extend(more);
    assert!(publish(&pair.server.shared, values).is_empty());
    pair
}

#[tokio::test]
async fn good_tokens_of_every_algorithm_are_believed() {
    let need = allow(
        json!([{ "from": [{ "request_principals": { "any": [{ "exact": format!("{ISSUER}/alice") }] } }], "origin": origin("x", 3) }]),
    );
    let pair = believing(json!({}), vec![need]).await;
    for (alg, kid) in [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let answer = send(pair.client.address, bearer(&sign(&json!({ "alg": alg, "kid": kid }), &claims(json!({}))))).await;
        assert_eq!(answer.status, 200, "{alg}: {}", answer.body);
        assert_eq!(answer.header("x-saw-authorization"), "", "the token is not passed on");
        let answer = send(pair.client.address, bearer(&sign(&json!({ "alg": alg }), &claims(json!({}))))).await;
        assert_eq!(answer.status, 200, "{alg} without kid: {}", answer.body);
    }
    // No token: no identity, so that the policy refuses.
    assert_eq!(send(pair.client.address, get("/")).await.status, 403);
    // Another subject.
    assert_eq!(send(pair.client.address, bearer(&good(json!({ "sub": "bob" })))).await.status, 403);
    // Basic credentials are no token.
    let mut basic = get("/");
    basic.headers_mut().insert("authorization", "Basic YTpi".parse().expect("value"));
    assert_eq!(send(pair.client.address, basic).await.status, 403);
}

/// What is wrong with it, the token, and the words of the refusal.
fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let ed = json!({ "alg": "EdDSA", "kid": "ed" });
    let fine = claims(json!({}));
    let tampered = {
        let token = good(json!({}));
        let (head, rest) = token.split_once('.').expect("parts");
        let (_, signature) = rest.split_once('.').expect("parts");
        format!("{head}.{}.{signature}", base64(claims(json!({ "sub": "root" })).to_string()))
    };
    vec![
        ("alg none", format!("{}.{}.", base64(r#"{"alg":"none"}"#), base64(fine.to_string())), "algorithm"),
        ("alg None", format!("{}.{}.", base64(r#"{"alg":"None"}"#), base64(fine.to_string())), "algorithm"),
        ("HS256 with the RSA key", sign(&json!({ "alg": "HS256", "kid": "rsa" }), &fine), "algorithm"),
        ("key of another algorithm", sign(&json!({ "alg": "EdDSA", "kid": "rsa" }), &fine), "algorithm"),
        ("unknown kid", sign(&json!({ "alg": "EdDSA", "kid": "gone" }), &fine), "kid"),
        ("crit", sign(&json!({ "alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false }), &fine), "crit"),
        ("tampered", tampered, "signature is wrong"),
        ("no signature", good(json!({})).rsplit_once('.').map(|(t, _)| format!("{t}.")).expect("parts"), "signature is wrong"),
        ("wrong audience", sign(&ed, &claims(json!({ "aud": "other" }))), "audience"),
        ("no audience", sign(&ed, &claims(json!({ "aud": null }))), "audience"),
        ("wrong issuer", sign(&ed, &claims(json!({ "iss": "https://evil.example" }))), "issuer"),
        ("no issuer", sign(&ed, &claims(json!({ "iss": null }))), "issuer"),
        ("no expiry", sign(&ed, &claims(json!({ "exp": null }))), "no expiry"),
        ("expired", sign(&ed, &claims(json!({ "exp": now() - 3600 }))), "expired"),
        ("expiry as text", sign(&ed, &claims(json!({ "exp": "never" }))), "expired"),
        ("not yet", sign(&ed, &claims(json!({ "nbf": now() + 3600 }))), "not valid yet"),
        ("not a token", "opaque".into(), "not a JWT"),
        ("too long", "a".repeat(20_000), "longer than"),
        ("five parts", "a.b.c.d.e".into(), "more than three"),
        ("standard base64", format!("{}=.{}.x", base64(ed.to_string()), base64(fine.to_string())), "not JSON"),
    ]
}

/// CVE-2026-31837 and the classes of reliability.md §2 "Authorization": a token that is present and bad is always 401, whatever the
/// policies say of requests without one.
#[tokio::test]
async fn a_bad_token_is_always_401_with_its_reason() {
    let mut pair = believing(json!({}), vec![allow(json!([{ "origin": origin("x", 3) }]))]).await;
    assert_eq!(send(pair.client.address, get("/")).await.status, 200, "no token is fine");
    for (what, token, words) in bad_tokens() {
        let answer = send(pair.client.address, bearer(&token)).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.body);
        assert!(answer.body.contains(words) && answer.body.contains("default/jwt"), "{what}: {}", answer.body);
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
        let record = pair.server.record(|r| r.status == 401).await;
        assert_eq!(record.flags, [ResponseFlag::Unauthorized]);
        assert!(record.details.starts_with("jwt_authn_access_denied{"), "{}", record.details);
        let decision = record.policy.expect("decided");
        assert!(!decision.allowed && decision.policy == "default/jwt", "{decision:?}");
    }
    // In the query as well, and two that differ are none.
    let query = |token: &str| get(&format!("/?access_token={token}&x=1"));
    assert_eq!(send(pair.client.address, query("bad")).await.status, 401);
    let mut two = query(&good(json!({ "sub": "bob" })));
    two.headers_mut().insert("authorization", format!("Bearer {}", good(json!({}))).parse().expect("value"));
    let answer = send(pair.client.address, two).await;
    assert!(answer.status == 401 && answer.body.contains("more than one"), "{}", answer.body);
    let answer = send(pair.client.address, query(&good(json!({})))).await;
    assert_eq!((answer.status, answer.body.split(' ').nth(1)), (200, Some("/?x=1")), "the token is taken out of the query");
}

#[tokio::test]
async fn without_keys_every_token_is_refused() {
    let pair = believing(json!({ "keys": [], "no_keys": "they have not been fetched yet" }), vec![]).await;
    let answer = send(pair.client.address, bearer(&good(json!({})))).await;
    assert!(answer.status == 401 && answer.body.contains("have not been fetched"), "{}", answer.body);
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
}

async fn told(rule: Value, request: Request<Full<Bytes>>) -> Answer {
    let pair = believing(rule, vec![]).await;
    send(pair.client.address, request).await
}

#[tokio::test]
async fn the_program_is_told_what_the_rule_says_and_nobody_else_can_tell_it() {
    let rule = json!({
        "payload_header": "x-payload", "claim_headers": [["x-sub", ["sub"]], ["x-deep", ["realm", "role"]], ["x-list", ["groups"]]],
        "forward_token": true, "locations": [{ "header": { "name": "x-token", "prefix": "" } }, { "cookie": "session" }],
    });
    let token = good(json!({ "realm": { "role": "owner" }, "groups": ["a"] }));
    let mut request = get("/");
    for (name, value) in [("x-token", token.as_str()), ("x-sub", "root"), ("x-payload", "forged"), ("x-list", "forged")] {
        request.headers_mut().insert(name, value.parse().expect("value"));
    }
    let answer = told(rule.clone(), request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((answer.header("x-saw-x-sub"), answer.header("x-saw-x-deep"), answer.header("x-saw-x-list")), ("alice", "owner", ""));
    assert_eq!(answer.header("x-saw-x-payload"), token.split('.').nth(1).expect("payload"));
    assert_eq!(answer.header("x-saw-x-token"), token, "forwardOriginalToken");
    // Without a token the headers that only a token may set are removed all the same.
    let mut forged = get("/");
    forged.headers_mut().insert("x-sub", "root".parse().expect("value"));
    let answer = told(rule.clone(), forged).await;
    assert_eq!((answer.status, answer.header("x-saw-x-sub")), (200, ""));
    // A cookie, taken out of the others.
    let mut rule = rule;
    crate::fixture::merge(&mut rule, json!({ "forward_token": false }));
    let mut request = get("/");
    request.headers_mut().insert("cookie", format!("a=1; session={token}; b=2").parse().expect("value"));
    let answer = told(rule, request).await;
    assert_eq!((answer.status, answer.header("x-saw-cookie"), answer.header("x-saw-x-sub")), (200, "a=1; b=2", "alice"));
}

/// CVE-2023-3518: the peer's identity and the user's token are both asked for, and neither stands for the other.
#[tokio::test]
async fn peer_and_user_are_both_asked() {
    let both = allow(json!([{ "from": [{
        "principals": { "any": [{ "exact": "cluster.local/ns/default/sa/productpage" }] },
        "request_principals": { "any": ["present"] } }],
        "when": [{ "key": { "requestClaim": ["groups"] }, "values": { "any": [{ "exact": "admin" }] } }], "origin": origin("x", 3) }]));
    let program = echo_program(false).await;
    let pair = Pair::new(program);
    publish(&pair.server.shared, vec![inbound("reviews", program.port(), "PERMISSIVE"), authentication(json!({})), both]);
    let token = good(json!({ "groups": ["dev", "admin"] }));
    let of = |proxy: &TestProxy| proxy.address;
    assert_eq!(send(of(&pair.client), bearer(&token)).await.status, 200);
    assert_eq!(send(of(&pair.client), get("/")).await.status, 403, "the peer alone");
    assert_eq!(send(of(&pair.server), bearer(&token)).await.status, 403, "the token alone, in plain text");
    assert_eq!(send(of(&pair.client), bearer(&good(json!({ "groups": ["dev"] })))).await.status, 403, "another group");
}

#[tokio::test]
async fn a_token_is_required_where_the_rule_says_so() {
    let pair = believing(json!({ "required": true }), vec![]).await;
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!(answer.status, 401, "{}", answer.body);
    assert!(answer.body.contains("one is required"), "{}", answer.body);
    assert_eq!(send(pair.client.address, bearer(&good(json!({})))).await.status, 200);
}
