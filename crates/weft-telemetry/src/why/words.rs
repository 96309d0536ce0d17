//! The sentence and the likely fix for each cause. One line of text per case: this is the whole of what a user reads first.

mod limits;

use super::Cause;
use crate::{Party, Reporter, RequestRecord};
use weft_model::{Origin, grpc_name};

/// `reviews-v2`, or the best name there is.
pub(super) fn name(party: &Party) -> String {
    match (party.workload.as_str(), party.service.as_str(), party.principal.as_str()) {
        ("", "", "") => "a caller outside the mesh".into(),
        ("", "", principal) => principal.into(),
        ("", service, _) => service.into(),
        (workload, ..) => workload.into(),
    }
}

/// The callee as far as the record knows: the workload, else the host.
pub(super) fn callee(r: &RequestRecord) -> String {
    let known = !(r.destination.workload.is_empty() && r.destination.service.is_empty());
    match (known, r.destination_service.as_str()) {
        (true, _) => name(&r.destination),
        (false, "") if r.authority.is_empty() => "an unknown destination".into(),
        (false, "") => r.authority.clone(),
        (false, host) => host.into(),
    }
}

fn request(r: &RequestRecord) -> String {
    match r.method.as_str() {
        "" => format!("the connection to {}", callee(r)),
        method => format!("{method} {}", r.path.split('?').next().unwrap_or_default()),
    }
}

fn object(origin: Option<&Origin>, fallback: &str) -> String {
    origin.filter(|o| !o.is_built_in()).map_or_else(|| fallback.to_owned(), ToString::to_string)
}

fn last_outcome(r: &RequestRecord) -> &str {
    r.attempts.last().map_or("no answer", |a| a.outcome.as_str())
}

fn endpoint(r: &RequestRecord) -> &str {
    r.attempts.last().map_or("its endpoint", |a| a.endpoint.as_str())
}

fn limit(r: &RequestRecord) -> String {
    r.timer.as_ref().map_or_else(
        || "the time-out".into(),
        |t| format!("the {} of {} ms set by {}", t.name, t.limit_ms, object(Some(&t.origin), "Weft's default")),
    )
}

fn policy(r: &RequestRecord) -> String {
    r.policy.as_ref().map_or_else(|| "a policy".into(), |p| object(Some(&p.origin), &p.policy))
}

fn principal(r: &RequestRecord) -> &str {
    if r.source.principal.is_empty() { "a caller without identity" } else { &r.source.principal }
}

/// Is the upstream of this side the program itself?
fn at_program(r: &RequestRecord) -> bool {
    r.reporter == Reporter::Destination
}

/// What happened, in one sentence.
pub(super) fn sentence(cause: Cause, r: &RequestRecord) -> String {
    let (from, to, what, status) = (name(&r.source), callee(r), request(r), r.status);
    let route = object(r.route_origin.as_ref(), "the default route");
    let planted = object(r.cause.as_ref().or(r.timer.as_ref().map(|t| &t.origin)).or(r.route_origin.as_ref()), "a route");
    match cause {
        Cause::Success => format!("{to} answered {what} of {from} with {status}."),
        Cause::FaultDelay => format!("{to} answered {what} of {from} with {status}, after a delay that {planted} injects on purpose."),
        Cause::FaultAbort => format!("{what} of {from} was answered with {status} on purpose: {planted} injects this failure."),
        Cause::ClientLeft => format!("{from} closed the connection before {to} had answered {what}."),
        Cause::Denied => format!("{} refused {what} of {} at {to}.", policy(r), principal(r)),
        Cause::NotAllowed => format!("No ALLOW rule of {} matches {what} of {} at {to}, so it was refused.", policy(r), principal(r)),
        Cause::PlainTextRefused => {
            format!("{to} accepts only mutual TLS ({}), and {from} sent plain text.", object(r.cause.as_ref(), &policy(r)))
        }
        Cause::NoRoute => format!("No route of {} matches {what} of {from}.", host(r)),
        Cause::UnknownHost => format!("{from} called {}, which the mesh does not know.", host(r)),
        Cause::UnknownDestination => format!("{route} sends {what} of {from} to a service or subset that does not exist."),
        Cause::NoEndpoints => format!("{route} sends {what} of {from} to {}, which has no endpoint.", cluster(r)),
        Cause::NoHealthyUpstream => format!("{} has no healthy endpoint for {what} of {from}.", cluster(r)),
        Cause::Overflow => format!("A limit of {} was reached, so {what} of {from} was not sent.", cluster(r)),
        Cause::RateLimited => format!("{what} of {from} was above the rate limit of {}.", object(r.cause.as_ref(), &to)),
        Cause::UpstreamTls => format!("The TLS handshake of {from} with {to} at {} failed: {}.", endpoint(r), last_outcome(r)),
        Cause::ConnectionRefused if at_program(r) => {
            format!("The program of {to} does not listen on {}: its connection was refused.", endpoint(r))
        }
        Cause::ConnectionRefused => format!("{} refused the connection of {from}: nothing listens there for {to}.", endpoint(r)),
        Cause::ConnectTimeout => format!("{from} could not connect to {to} at {} in time.", endpoint(r)),
        Cause::ConnectFailure => format!("{from} could not connect to {to} at {}: {}.", endpoint(r), last_outcome(r)),
        Cause::Reset if at_program(r) => format!("The program of {to} closed the connection without answering {what}."),
        Cause::Reset => format!("{to} closed the connection without answering {what} of {from}."),
        Cause::RouteTimeout => format!("{to} did not answer {what} of {from} within {}.", limit(r)),
        Cause::PerTryTimeout => format!("No attempt of {from} at {to} was answered within {}.", limit(r)),
        Cause::RetriesExhausted => format!("{to} failed in all {} attempts of {from}; the last: {}.", r.attempts.len(), last_outcome(r)),
        Cause::ProgramError => program_error(r),
        Cause::DirectResponse => format!("{route} answers {what} with {status} by itself."),
        Cause::HeadersTooLarge => format!("The headers of {what} from {from} were larger than the proxy accepts."),
        Cause::DownstreamProtocol => format!("{from} sent what is not valid HTTP, or not in time."),
        Cause::UpstreamProtocol => format!("{to} answered {what} with what is not valid HTTP."),
        Cause::Overload => format!("The proxy that should have served {what} of {from} is at a limit of its own."),
        Cause::Unknown => format!("{what} of {from} to {to} ended with {status} ({}).", r.details),
        _ => limits::sentence(cause, r),
    }
}

fn host(r: &RequestRecord) -> &str {
    if r.authority.is_empty() { &r.destination_service } else { &r.authority }
}

fn cluster(r: &RequestRecord) -> String {
    if r.cluster.is_empty() { callee(r) } else { r.cluster.clone() }
}

fn program_error(r: &RequestRecord) -> String {
    let (to, what, from) = (callee(r), request(r), name(&r.source));
    match (r.grpc_status.filter(|code| *code != 0), r.status) {
        (Some(code), _) => format!("The program of {to} answered {what} of {from} with gRPC status {code} ({}).", grpc_name(code)),
        (None, status) => format!("The program of {to} answered {what} of {from} with {status}: the mesh passed it on unchanged."),
    }
}

/// What to do about it.
pub(super) fn fix(cause: Cause, r: &RequestRecord) -> Option<String> {
    let to = callee(r);
    let route = object(r.route_origin.as_ref(), "the route");
    let planted = object(r.cause.as_ref().or(r.route_origin.as_ref()), "the route");
    let setter = object(r.cause.as_ref(), &format!("a DestinationRule for {}", r.destination_service));
    Some(match cause {
        Cause::Success => return None,
        Cause::FaultDelay => format!("Remove `fault.delay` from {planted}, or delete the object, when the experiment is over."),
        Cause::FaultAbort => format!("Remove `fault.abort` from {planted}, or delete the object, when the experiment is over."),
        Cause::ClientLeft => format!("Look at why {} gave up: raise its time-out, or make {to} faster.", name(&r.source)),
        Cause::Denied => format!("If the caller should be let through, narrow or delete the matching rule of {}.", policy(r)),
        Cause::NotAllowed => format!("If the caller should be let through, add a rule to {}:\n{}", policy(r), allow_rule(r)),
        Cause::PlainTextRefused => {
            format!(
                "Start the caller with `weft run`, or set mode PERMISSIVE in {} while it is moved into the mesh.",
                object(r.cause.as_ref(), &policy(r))
            )
        }
        Cause::NoRoute => {
            format!("Add a rule that matches `{}` to the route of {}, or a last rule without `match` as the default.", request(r), host(r))
        }
        Cause::UnknownHost => format!(
            "Start the workload with `weft run --name …`, or declare the host with a Service or ServiceEntry; `weft get services` lists what is known. Asked for: {}.",
            host(r)
        ),
        Cause::UnknownDestination => format!(
            "Correct the destination in {route}, or create the service or the DestinationRule subset that it names; `weft diff` and `weft status` show the diagnostic."
        ),
        Cause::NoEndpoints => format!(
            "Start a workload whose labels match the subset, or correct its labels in the DestinationRule of {}.",
            r.destination_service
        ),
        Cause::NoHealthyUpstream => format!(
            "See `weft get workloads`: start {}, or wait for its ejected endpoints to return (see outlierDetection in {setter}).",
            r.destination_service
        ),
        Cause::Overflow => format!("Raise `connectionPool` in {setter}, or add endpoints."),
        Cause::RateLimited => format!("Raise the limit in {}, or slow {} down.", object(r.cause.as_ref(), "its policy"), name(&r.source)),
        Cause::UpstreamTls => tls_fix(r),
        Cause::ConnectionRefused if at_program(r) => {
            format!("Start the program of {to} or make it listen on that port; check `--port` of its `weft run`.")
        }
        Cause::ConnectionRefused => format!("Restart {to}; `weft get workloads` shows where it should be."),
        Cause::ConnectTimeout | Cause::ConnectFailure => format!("Check that {} can be reached from {}.", endpoint(r), name(&r.source)),
        Cause::Reset => format!(
            "Look at the log of {to} at this moment: it closed, crashed or restarted. For idempotent requests, `retries` with `retryOn: reset` hides it."
        ),
        Cause::RouteTimeout => format!("Make {to} faster, or raise `timeout` in {}.", timer_object(r)),
        Cause::PerTryTimeout => format!("Make {to} faster, or raise `retries.perTryTimeout` in {}.", timer_object(r)),
        Cause::RetriesExhausted => format!("Look at why {to} fails: {}; more retries would only add load.", last_outcome(r)),
        Cause::ProgramError => format!("Look at the log of {to} for request {}.", r.id),
        Cause::DirectResponse => format!("If that is not wanted, change {route}."),
        Cause::HeadersTooLarge => "Send smaller headers (often: cookies).".into(),
        Cause::DownstreamProtocol => "Correct the caller, or declare the port as TCP if it does not speak HTTP.".into(),
        Cause::UpstreamProtocol => format!("Correct the program of {to}, or declare its port's protocol (name it `tcp-…`)."),
        Cause::Overload => "Add proxies or raise the limit; `weft_limit_hits_total` names it.".into(),
        Cause::Unknown => return None,
        _ => return limits::fix(cause, r),
    })
}

fn timer_object(r: &RequestRecord) -> String {
    object(r.timer.as_ref().map(|t| &t.origin).or(r.route_origin.as_ref()), "the route")
}

fn tls_fix(r: &RequestRecord) -> String {
    let outcome = last_outcome(r).to_ascii_lowercase();
    if outcome.contains("expire") {
        format!("The certificate of {} has run out: see `weft proxy status`; its proxy could not renew it at the control plane.", callee(r))
    } else if outcome.contains("trust domain") || outcome.contains("unknown ca") || outcome.contains("issuer") {
        format!("{} has a certificate of another trust domain or authority: join it to this mesh again.", callee(r))
    } else {
        format!(
            "Another workload answers at {}: check addresses and service accounts; `weft get workloads` shows who should be there.",
            endpoint(r)
        )
    }
}

/// The narrowest rule that would let the request through, as YAML.
fn allow_rule(r: &RequestRecord) -> String {
    let mut out = String::from("  - ");
    if let Some(principal) = r.source.principal.strip_prefix("spiffe://") {
        out.push_str(&format!("from: [{{source: {{principals: [\"{principal}\"]}}}}]\n    "));
    }
    match r.method.as_str() {
        "" => out.push_str("to: [{operation: {}}]"),
        method => {
            let path = r.path.split('?').next().unwrap_or_default().replace('"', "\\\"");
            out.push_str(&format!("to: [{{operation: {{methods: [\"{method}\"], paths: [\"{path}\"]}}}}]"));
        }
    }
    out
}
