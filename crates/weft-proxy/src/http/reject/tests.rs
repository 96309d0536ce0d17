//! Every reason has a status, a flag, details and an explanation: a new variant does not compile without a row here.

use super::*;
use crate::policy::Limited;
use weft_telemetry::{Attempt, Cause, RequestRecord, explain};

fn origin() -> Origin {
    Origin { kind: "Kind".into(), namespace: "ns".into(), name: "object".into(), file: "mesh.yaml".into(), line: 7, ..Origin::default() }
}

fn decision(reason: &str) -> Box<PolicyDecision> {
    Box::new(PolicyDecision { policy: "ns/object".into(), allowed: false, origin: origin(), reason: reason.into() })
}

fn timer(name: &str) -> Box<Timer> {
    Box::new(Timer { name: name.into(), limit_ms: 30, origin: origin() })
}

fn limited(flag: ResponseFlag, text: &str) -> Reject {
    Reject::Limited(Box::new(Limited {
        status: 429,
        grpc_status: 8,
        flag,
        details: text.into(),
        words: "too many".into(),
        origin: origin(),
        retry_after: None,
        standing: None,
    }))
}

fn external(details: &'static str) -> Reject {
    let refusal = crate::policy::Refusal { status: 403, headers: Vec::new(), body: None, details, decision: *decision("no") };
    Reject::External(Box::new(refusal))
}

/// One of each variant, with its status, flag, gRPC status and cause.
fn rows() -> Vec<(Reject, u16, &'static str, u8, Cause)> {
    let to = |text: &str| text.to_owned();
    let cause = || Box::new(origin());
    vec![
        (Reject::BadRequest("not legal"), 400, "DPE", 13, Cause::DownstreamProtocol),
        (Reject::UnknownHost(to("x")), 502, "NR", 14, Cause::UnknownHost),
        (Reject::NoRoute(to("x")), 404, "NR", 12, Cause::NoRoute),
        (Reject::Misdirected(to("x")), 421, "NR", 2, Cause::NoRoute),
        (Reject::ProxyProtocol(to("x")), 400, "DPE", 13, Cause::DownstreamProtocol),
        (Reject::Unauthenticated(decision("Jwt is expired")), 401, "UAEX", 16, Cause::TokenRefused),
        (Reject::Denied(decision("DENY rule matched")), 403, "UAEX", 7, Cause::Denied),
        (Reject::FaultAbort { status: 418, grpc_status: Some(5), origin: cause() }, 418, "FI", 5, Cause::FaultAbort),
        (limited(ResponseFlag::RateLimited, details::LOCAL_RATE_LIMITED), 429, "RL", 8, Cause::RateLimited),
        (limited(ResponseFlag::UpstreamOverflow, details::BULKHEAD_FULL), 429, "UO", 8, Cause::BulkheadFull),
        (limited(ResponseFlag::UpstreamOverflow, details::CONCURRENCY_LIMIT), 429, "UO", 8, Cause::ConcurrencyLimit),
        (external(details::EXT_AUTHZ_DENIED), 403, "UAEX", 7, Cause::ExternalDenied),
        (external(details::EXT_AUTHZ_ERROR), 403, "UAEX", 7, Cause::ExternalUnavailable),
        (Reject::ClientCertificate(to("revoked")), 403, "UAEX", 7, Cause::Denied),
        (Reject::PolicyChanged(decision("DENY rule matched")), 403, "UAEX", 7, Cause::Revoked),
        (Reject::LivedLongest { limit_ms: 9, cause: cause() }, 408, "DT", 2, Cause::MaxDuration),
        (Reject::InvalidBackend { status: 500, reason: to("why") }, 500, "NC", 2, Cause::UnknownDestination),
        (Reject::NoCluster(to("x")), 503, "NC", 14, Cause::UnknownDestination),
        (Reject::NoEndpoint { reason: "the service has no endpoint", cause: Some(cause()) }, 503, "UH", 14, Cause::NoEndpoints),
        (Reject::Overflow { what: Overflow::Requests, cause: cause() }, 503, "UO", 14, Cause::Overflow),
        (Reject::Connect(to("refused")), 503, "UF", 14, Cause::ConnectionRefused),
        (Reject::Dns(to("no such name")), 503, "DF", 14, Cause::DnsFailure),
        (Reject::Tls(to("wrong identity")), 503, "UTLS", 14, Cause::UpstreamTls),
        (Reject::Reset(to("closed")), 503, "UC", 14, Cause::Reset),
        (Reject::Protocol(to("not HTTP")), 502, "UPE", 14, Cause::UpstreamProtocol),
        (Reject::Timeout { timer: timer("route timeout"), per_try: false }, 504, "UT", 4, Cause::RouteTimeout),
        (Reject::Timeout { timer: timer("per-try timeout"), per_try: true }, 504, "UT", 4, Cause::PerTryTimeout),
        (Reject::Idle(timer("idle timeout")), 504, "SI", 4, Cause::StreamIdle),
        (Reject::Overload("too much"), 503, "OM", 14, Cause::Overload),
    ]
}

/// Numbers the variants; a new one has to be given a number and a row.
fn number(reject: &Reject) -> usize {
    match reject {
        Reject::BadRequest(_) => 0,
        Reject::UnknownHost(_) => 1,
        Reject::NoRoute(_) => 2,
        Reject::Misdirected(_) => 3,
        Reject::ProxyProtocol(_) => 4,
        Reject::Unauthenticated(_) => 5,
        Reject::Denied(_) => 6,
        Reject::FaultAbort { .. } => 7,
        Reject::Limited(_) => 8,
        Reject::ClientCertificate(_) => 9,
        Reject::PolicyChanged(_) => 10,
        Reject::LivedLongest { .. } => 11,
        Reject::InvalidBackend { .. } => 12,
        Reject::NoCluster(_) => 13,
        Reject::NoEndpoint { .. } => 14,
        Reject::Overflow { .. } => 15,
        Reject::Connect(_) => 16,
        Reject::Dns(_) => 17,
        Reject::Tls(_) => 18,
        Reject::Reset(_) => 19,
        Reject::Protocol(_) => 20,
        Reject::Timeout { .. } => 21,
        Reject::Idle(_) => 22,
        Reject::Overload(_) => 23,
        Reject::External(_) => 24,
    }
}

/// The record that `finish` makes of it.
fn record(reject: &Reject) -> RequestRecord {
    let outcome = match reject {
        Reject::Connect(why) => Some(format!("connect: {why}")),
        Reject::Tls(why) => Some(format!("TLS: {why}")),
        _ => None,
    };
    let attempt = outcome.map(|outcome| Attempt { endpoint: "10.0.0.1:80".into(), workload: String::new(), outcome, duration_us: 1 });
    let policy = match reject {
        Reject::Denied(decision) | Reject::Unauthenticated(decision) | Reject::PolicyChanged(decision) => Some((**decision).clone()),
        _ => None,
    };
    let timer = match reject {
        Reject::Timeout { timer, .. } | Reject::Idle(timer) => Some((**timer).clone()),
        _ => None,
    };
    RequestRecord {
        method: "GET".into(),
        path: "/".into(),
        protocol: "HTTP/1.1".into(),
        status: reject.status().as_u16(),
        flags: reject.flag().into_iter().collect(),
        details: reject.details(),
        cause: reject.cause(),
        attempts: attempt.into_iter().collect(),
        policy,
        timer,
        ..RequestRecord::default()
    }
}

#[test]
fn each_reason_has_its_row_and_its_story() {
    let mut seen = std::collections::BTreeSet::new();
    for (reject, status, flag, grpc, cause) in rows() {
        seen.insert(number(&reject));
        let record = record(&reject);
        let got = (record.status, reject.flag().map_or("-", ResponseFlag::code), reject.grpc_status());
        assert_eq!(got, (status, flag, grpc), "{reject:?}");
        assert!(!reject.details().is_empty() && !reject.details().contains(' ') && !reject.words().is_empty(), "{reject:?}");
        let why = explain(&[record]);
        assert_eq!(why.cause, cause, "{reject:?}: {}", why.sentence);
        assert!(why.fix.is_some(), "{reject:?} has no fix");
    }
    assert_eq!(seen, (0..25).collect(), "a variant has no row");
}
