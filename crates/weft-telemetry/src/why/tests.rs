//! Stories: the records that proxies would write, and what `weft why` makes of them.

use super::*;
use crate::{Attempt, Party, PolicyDecision, ResponseFlag as Flag, Timer, TlsRecord, details};

fn party(name: &str) -> Party {
    let service = name.split("-v").next().unwrap_or(name).to_owned();
    let principal = format!("spiffe://cluster.local/ns/default/sa/{service}");
    Party { workload: name.into(), namespace: "default".into(), service, version: "v1".into(), principal }
}

fn origin(kind: &str, name: &str, line: u32) -> Origin {
    Origin { kind: kind.into(), namespace: "default".into(), name: name.into(), file: "mesh.yaml".into(), line, ..Origin::default() }
}

fn attempt(outcome: &str) -> Attempt {
    Attempt { endpoint: "127.0.0.1:9080".into(), workload: "w".into(), outcome: outcome.into(), duration_us: 900 }
}

fn record(reporter: Reporter, from: &str, to: &str, start: u64, status: u16) -> RequestRecord {
    RequestRecord {
        id: "r1".into(),
        reporter,
        source: party(from),
        destination: party(to),
        destination_service: format!("{}.default.svc.cluster.local", party(to).service),
        start_unix_ms: start,
        duration_us: 50_000 - start * 1_000,
        protocol: "HTTP/1.1".into(),
        method: "GET".into(),
        path: "/x?y".into(),
        authority: party(to).service,
        status,
        details: details::VIA_UPSTREAM.into(),
        attempts: vec![attempt("200")],
        ..RequestRecord::default()
    }
}

fn source(from: &str, to: &str, start: u64, status: u16) -> RequestRecord {
    record(Reporter::Source, from, to, start, status)
}

fn both(from: &str, to: &str, start: u64, status: u16) -> Vec<RequestRecord> {
    vec![source(from, to, start, status), record(Reporter::Destination, from, to, start + 1, status)]
}

/// One record with this flag and these details: expects the cause, and that sentence or fix contain each of `words`.
fn check(change: impl Fn(&mut RequestRecord), cause: Cause, words: &[&str]) {
    let mut one = source("page-v1", "reviews-v2", 0, 503);
    change(&mut one);
    let why = explain(&[one]);
    assert_eq!(why.cause, cause, "{why:#?}");
    let text = format!("{}\n{}", why.sentence, why.fix.clone().unwrap_or_default());
    words.iter().for_each(|w| assert!(text.contains(w), "{w} in {text}"));
    assert!(!why.evidence.is_empty() && why.hop == "page-v1 → reviews-v2");
}

#[test]
fn each_flag_has_its_story() {
    let flag = |flag: Flag, details: &'static str| {
        move |r: &mut RequestRecord| {
            r.flags = vec![flag];
            r.details = details.into();
        }
    };
    check(flag(Flag::NoRoute, details::ROUTE_NOT_FOUND), Cause::NoRoute, &["No route of reviews", "GET /x", "without `match`"]);
    check(flag(Flag::NoRoute, details::HOST_NOT_FOUND), Cause::UnknownHost, &["does not know", "ServiceEntry"]);
    check(flag(Flag::NoCluster, details::CLUSTER_NOT_FOUND), Cause::UnknownDestination, &["does not exist"]);
    check(flag(Flag::NoHealthyUpstream, details::NO_HEALTHY_UPSTREAM), Cause::NoHealthyUpstream, &["no healthy endpoint"]);
    check(flag(Flag::NoHealthyUpstream, details::NO_ENDPOINTS), Cause::NoEndpoints, &["has no endpoint", "labels"]);
    check(flag(Flag::UpstreamOverflow, details::OVERFLOW), Cause::Overflow, &["limit", "connectionPool"]);
    check(flag(Flag::UpstreamReset, details::UPSTREAM_CLOSED), Cause::Reset, &["closed the connection"]);
    check(flag(Flag::DownstreamClosed, details::DOWNSTREAM_CLOSED), Cause::ClientLeft, &["page-v1 closed"]);
    check(flag(Flag::DownstreamProtocol, details::DOWNSTREAM_PROTOCOL), Cause::DownstreamProtocol, &["not valid HTTP"]);
    check(flag(Flag::DownstreamProtocol, details::HEADERS_TOO_LARGE), Cause::HeadersTooLarge, &["headers"]);
    check(flag(Flag::UpstreamProtocol, details::UPSTREAM_PROTOCOL), Cause::UpstreamProtocol, &["not valid HTTP", "protocol"]);
}

#[test]
fn limits_tokens_and_external_decisions_name_their_object() {
    let flag = |flag: Flag, details: &'static str| {
        move |r: &mut RequestRecord| {
            r.flags = vec![flag];
            r.details = details.into();
            r.cause = Some(origin("WeftPolicy", "reviews", 5));
        }
    };
    let place = "WeftPolicy default/reviews (mesh.yaml:5)";
    check(flag(Flag::RateLimited, details::LOCAL_RATE_LIMITED), Cause::RateLimited, &[place, "rate limit", "slow page-v1 down"]);
    check(flag(Flag::RateLimited, details::RATE_LIMITED), Cause::RateLimited, &[place]);
    check(flag(Flag::RateLimitService, details::RATE_LIMITER_ERROR), Cause::RateLimitService, &[place, "did not answer", "failOpen"]);
    check(flag(Flag::Unauthorized, details::EXT_AUTHZ_DENIED), Cause::ExternalDenied, &[place, "sa/page", "authorization service"]);
    check(flag(Flag::Unauthorized, details::EXT_AUTHZ_ERROR), Cause::ExternalUnavailable, &[place, "did not answer"]);
    check(flag(Flag::Unauthorized, "jwt_authn_access_denied{Jwt_is_expired}"), Cause::TokenRefused, &[place, "Jwt is expired", "issuer"]);
    check(flag(Flag::UpstreamOverflow, details::BULKHEAD_FULL), Cause::BulkheadFull, &[place, "places"]);
    check(flag(Flag::UpstreamOverflow, details::CONCURRENCY_LIMIT), Cause::ConcurrencyLimit, &[place, "latency"]);
    check(flag(Flag::DropOverload, details::ADMISSION_DENIED), Cause::AdmissionDenied, &["fails so often", "recovers"]);
    check(flag(Flag::Overload, details::OVERLOAD), Cause::Overload, &["limit of its own"]);
    check(flag(Flag::Fallback, details::FALLBACK), Cause::Fallback, &["fallback of", "reviews-v2 failed"]);
    check(flag(Flag::StreamIdle, details::STREAM_IDLE), Cause::StreamIdle, &["Nothing moved"]);
    check(flag(Flag::UpstreamMaxDuration, details::MAX_DURATION), Cause::MaxDuration, &["lasted longer"]);
    check(flag(Flag::DurationTimeout, details::REVOKED), Cause::Revoked, &["was cut", place]);
    check(flag(Flag::DnsFailure, details::DNS_FAILURE), Cause::DnsFailure, &["could not be resolved"]);
}

#[test]
fn ways_to_the_upstream() {
    let connect = |outcome: &'static str| {
        move |r: &mut RequestRecord| {
            r.flags = vec![Flag::UpstreamConnectionFailure];
            r.attempts = vec![attempt(outcome)];
        }
    };
    check(connect("connect refused"), Cause::ConnectionRefused, &["127.0.0.1:9080 refused"]);
    check(connect("connect time-out"), Cause::ConnectTimeout, &["in time"]);
    check(connect("TLS: certificate expired"), Cause::UpstreamTls, &["expired", "renew"]);
    check(connect("TLS: wrong identity spiffe://td/ns/a/sa/b"), Cause::UpstreamTls, &["Another workload answers"]);
    let retried = |r: &mut RequestRecord| {
        r.flags = vec![Flag::RetryLimitExceeded];
        r.attempts = vec![attempt("503"), attempt("503"), attempt("reset before headers")];
    };
    check(retried, Cause::RetriesExhausted, &["all 3 attempts", "reset before headers"]);
    let refused = |r: &mut RequestRecord| {
        r.flags = vec![Flag::UpstreamConnectionFailure, Flag::RetryLimitExceeded];
        r.attempts = vec![attempt("connect refused"), attempt("connect refused")];
    };
    check(refused, Cause::ConnectionRefused, &["refused the connection", "It was tried 2 times."]);
    let timer = |name: &'static str| {
        move |r: &mut RequestRecord| {
            r.flags = vec![Flag::UpstreamTimeout];
            r.timer = Some(Timer { name: name.into(), limit_ms: 500, origin: origin("VirtualService", "reviews", 12) });
        }
    };
    check(timer("route timeout"), Cause::RouteTimeout, &["500 ms", "VirtualService default/reviews (mesh.yaml:12)", "raise `timeout`"]);
    check(timer("per-try timeout"), Cause::PerTryTimeout, &["perTryTimeout"]);
}

#[test]
fn policies() {
    let refuse = |reason: &'static str| {
        move |r: &mut RequestRecord| {
            let origin = origin("AuthorizationPolicy", "allow-page", 8);
            r.status = 403;
            r.policy = Some(PolicyDecision { policy: "default/allow-page".into(), allowed: false, origin, reason: reason.into() });
        }
    };
    let place = "AuthorizationPolicy default/allow-page (mesh.yaml:8)";
    check(refuse("DENY rule matched"), Cause::Denied, &[place, "refused GET /x", "sa/page"]);
    check(
        refuse("no ALLOW rule matched"),
        Cause::NotAllowed,
        &[place, "principals: [\"cluster.local/ns/default/sa/page\"]", "paths: [\"/x\"]"],
    );
    check(refuse("plain text to a STRICT port"), Cause::PlainTextRefused, &["only mutual TLS", "weft run"]);
}

#[test]
fn policies_that_are_only_watched_are_told() {
    let mut records = both("page-v1", "reviews-v1", 0, 200);
    let said = |policy: &str, allowed, reason: &str| PolicyDecision {
        policy: policy.into(),
        allowed,
        origin: origin("AuthorizationPolicy", policy, 3),
        reason: reason.into(),
    };
    records[1].shadow = Some(said("try", false, "dry run: DENY rule matched"));
    records[1].audited = vec![said("note", true, "AUDIT rule matched")];
    let evidence = explain(&records).evidence.join("\n");
    assert!(evidence.contains("policy try would have refused (dry run: DENY rule matched)"), "{evidence}");
    assert!(evidence.contains("policy note noted it (AUDIT rule matched)"), "{evidence}");
}

#[test]
fn a_planted_abort_names_the_object_to_remove() {
    let planted = |r: &mut RequestRecord| {
        r.status = 500;
        r.flags = vec![Flag::FaultAbort];
        r.attempts.clear();
        r.route_origin = Some(origin("VirtualService", "ratings", 9));
    };
    check(planted, Cause::FaultAbort, &["on purpose", "Remove `fault.abort` from VirtualService default/ratings (mesh.yaml:9)"]);
}

#[test]
fn the_deepest_hop_that_failed_is_named_whatever_the_order_of_the_records() {
    let mut records = both("gateway", "page-v1", 0, 500);
    records.extend(both("page-v1", "details-v1", 2, 200));
    records.extend(both("page-v1", "reviews-v2", 4, 500));
    let mut denied = both("reviews-v2", "ratings-v1", 6, 403);
    let origin = origin("AuthorizationPolicy", "deny", 3);
    denied[1].policy = Some(PolicyDecision { policy: "default/deny".into(), allowed: false, origin, reason: "DENY rule matched".into() });
    denied[1].attempts.clear();
    records.extend(denied);
    records.reverse();
    let why = explain(&records);
    assert_eq!((why.cause, why.side, why.failed, why.status), (Cause::Denied, Reporter::Destination, true, 500), "{why:#?}");
    assert_eq!(why.hop, "reviews-v2 → ratings-v1");
    assert_eq!(why.policy.expect("policy").text, "AuthorizationPolicy default/deny (mesh.yaml:3)");
    assert!(why.sentence.ends_with("gateway got 500 because of it."), "{}", why.sentence);
    let depths: Vec<(&str, usize)> = why.hops.iter().map(|h| (h.destination.as_str(), h.depth)).collect();
    assert_eq!(depths, [("page-v1", 0), ("details-v1", 1), ("reviews-v2", 1), ("ratings-v1", 2)]);
}

#[test]
fn the_programs_own_error_is_told_from_the_meshs() {
    let why = explain(&both("page-v1", "reviews-v2", 0, 500));
    assert_eq!((why.cause, why.side), (Cause::ProgramError, Reporter::Destination));
    assert!(why.sentence.contains("The program of reviews-v2 answered GET /x of page-v1 with 500"), "{}", why.sentence);
    let mut refused = both("page-v1", "reviews-v2", 0, 503);
    refused[1].flags = vec![Flag::UpstreamConnectionFailure];
    refused[1].attempts = vec![attempt("connect refused")];
    let why = explain(&refused);
    assert_eq!(why.cause, Cause::ConnectionRefused);
    assert!(why.sentence.contains("The program of reviews-v2 does not listen"), "{}", why.sentence);
}

#[test]
fn success_and_survived_failures() {
    let mut ok = both("page-v1", "reviews-v2", 0, 200);
    let tls = TlsRecord {
        version: "TLSv1_3".into(),
        group: "X25519MLKEM768".into(),
        peer: "spiffe://cluster.local/ns/default/sa/reviews".into(),
        peer_not_after_unix_s: 60,
    };
    ok[0].tls = Some(tls);
    let why = explain(&ok);
    assert_eq!((why.cause, why.failed, why.fix.clone()), (Cause::Success, false, None));
    assert!(why.certificate.expect("certificate").contains("valid until 1970-01-01T00:01:00"));
    ok.extend(both("reviews-v2", "ratings-v1", 5, 503));
    let why = explain(&ok);
    assert_eq!((why.cause, why.failed), (Cause::ProgramError, false));
    assert!(why.sentence.contains("reviews-v2 coped: its caller got 200"), "{}", why.sentence);
    assert!(explain(&[]).sentence.contains("No proxy has reported"));
}

#[test]
fn a_time_out_is_traced_to_the_planted_delay_below() {
    let mut records = vec![source("gateway", "page-v1", 0, 504)];
    records[0].flags = vec![Flag::UpstreamTimeout];
    records[0].timer = Some(Timer { name: "route timeout".into(), limit_ms: 40, origin: origin("VirtualService", "page", 2) });
    let mut delayed = source("page-v1", "ratings-v1", 2, 200);
    delayed.flags = vec![Flag::FaultDelay];
    delayed.route_origin = Some(origin("VirtualService", "ratings", 5));
    records.push(delayed);
    let why = explain(&records);
    assert_eq!(why.cause, Cause::FaultDelay, "{why:#?}");
    assert!(why.fix.expect("fix").contains("VirtualService default/ratings (mesh.yaml:5)"));
    assert!(why.sentence.contains("gateway got 504 because of it"), "{}", why.sentence);
}
