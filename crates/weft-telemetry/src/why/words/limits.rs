//! The same for what the proxy refuses on behalf of a policy: limits, tokens, external decisions, fallbacks, long streams.

use super::{Cause, RequestRecord, callee, cluster, last_outcome, name, object, policy, principal, request, timer_object};
use crate::details;

/// The object that set the limit, or a word for it.
fn setter(r: &RequestRecord, fallback: &str) -> String {
    object(r.cause.as_ref().or(r.timer.as_ref().map(|t| &t.origin)), fallback)
}

/// What is wrong with the token: `Jwt is expired`.
fn token(r: &RequestRecord) -> String {
    let inside = r.details.strip_prefix(details::JWT_DENIED).unwrap_or_default().trim_matches(['{', '}']).replace('_', " ");
    if inside.is_empty() { "it is not valid".into() } else { inside }
}

/// How long, by whom.
fn length(r: &RequestRecord) -> String {
    r.timer.as_ref().map_or_else(|| "its time-out".into(), |t| format!("the {} of {} ms", t.name, t.limit_ms))
}

pub(super) fn sentence(cause: Cause, r: &RequestRecord) -> String {
    let (from, to, what) = (name(&r.source), callee(r), request(r));
    match cause {
        Cause::RateLimitService => {
            format!("The rate limit service that {} asks did not answer, so {what} of {from} was refused.", setter(r, "a policy"))
        }
        Cause::ExternalDenied => {
            format!("The external authorization of {} refused {what} of {} at {to}.", setter(r, &policy(r)), principal(r))
        }
        Cause::ExternalUnavailable => {
            format!("The external authorization service of {} did not answer, so {what} of {from} was refused.", setter(r, &policy(r)))
        }
        Cause::TokenRefused => format!("{} refused the token of {what} of {from}: {}.", setter(r, &policy(r)), token(r)),
        Cause::BulkheadFull => {
            format!("All places that {} gives {from} at {to} were taken, so {what} was not sent.", setter(r, "a bulkhead"))
        }
        Cause::ConcurrencyLimit => {
            format!(
                "{to} was already serving as many requests as it can without getting slower ({}), so {what} was not sent.",
                setter(r, "adaptive concurrency")
            )
        }
        Cause::AdmissionDenied => format!("{} fails so often that {what} of {from} was not sent, to let it recover.", cluster(r)),
        Cause::Fallback => {
            format!("{to} failed ({}), and the fallback of {} answered {what} of {from} with {}.", last_outcome(r), route(r), r.status)
        }
        Cause::StreamIdle => format!("Nothing moved between {from} and {to} on {what} for {}.", length(r)),
        Cause::MaxDuration => format!("{what} of {from} to {to} lasted longer than {}.", length(r)),
        Cause::Revoked => format!("The connection of {from} to {to} was cut: {} no longer allows it.", setter(r, &policy(r))),
        Cause::DnsFailure => format!("The name of {} could not be resolved, so {what} of {from} was not sent.", cluster(r)),
        _ => format!("{what} of {from} to {to} ended with {} ({}).", r.status, r.details),
    }
}

fn route(r: &RequestRecord) -> String {
    object(r.route_origin.as_ref(), "the route")
}

pub(super) fn fix(cause: Cause, r: &RequestRecord) -> Option<String> {
    let to = callee(r);
    Some(match cause {
        Cause::RateLimitService => format!("Start the service or correct its address; to let requests through without it, set `failOpen` in {}.", setter(r, "the policy")),
        Cause::ExternalDenied => "Look at the log of the authorization service: the decision is its own.".into(),
        Cause::ExternalUnavailable => {
            "Start the authorization service or correct its address in `extensionProviders` (ConfigMap istio); `failOpen` lets requests through without it.".into()
        }
        Cause::TokenRefused => format!("Send a token that {} accepts: look at its issuer, audience, expiry and signing key.", setter(r, "the RequestAuthentication")),
        Cause::BulkheadFull => format!("Raise the places in {}, add endpoints, or slow {} down.", setter(r, "the bulkhead"), name(&r.source)),
        Cause::ConcurrencyLimit => format!("Add endpoints of {to}, or make it faster; the limit follows its latency."),
        Cause::AdmissionDenied => format!("Look at why {to} fails; requests are let through again as it recovers."),
        Cause::Fallback => format!("Look at why {to} fails: {}.", last_outcome(r)),
        Cause::StreamIdle => format!("Raise the idle time-out in {}, or send something from time to time.", timer_object(r)),
        Cause::MaxDuration => format!("Raise the largest duration in {}.", timer_object(r)),
        Cause::Revoked => format!("If the caller should be let through, change {}.", setter(r, &policy(r))),
        Cause::DnsFailure => format!("Check the host and the resolver: `weft get services` shows {}.", cluster(r)),
        _ => return None,
    })
}
