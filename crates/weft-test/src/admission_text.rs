//! Rate limits and concurrency policies of a view as text.

use crate::view_text::{json, place};
use std::fmt::Write;
use weft_compile::describe_matches;
use weft_model::{ConcurrencyPolicy, Counted, KeyPart, KeySource, LimitHeaders, PolicyScope, RateLimit};

pub(crate) fn rate_limit(out: &mut String, v: &RateLimit) {
    let shadow = if v.shadow { " shadow" } else { "" };
    let headers = if v.headers == LimitHeaders::Refused { String::new() } else { format!(" headers {:?}", v.headers) };
    let _ = writeln!(out, "rate-limit {} {}{shadow}{headers} {}", v.name, scope(&v.scope), place(&v.origin));
    for l in &v.limits {
        let counted = match &l.counted {
            Counted::Local(r) => format!("local {} in {}ms burst {}", r.requests, r.per_ms, r.burst),
            Counted::Global(r) => format!("global {} in {}ms", r.requests, r.per_ms),
            Counted::Service(s) => {
                let closed = if s.fail_closed { " fail-closed" } else { "" };
                format!("service {} domain {} {}ms{closed}", s.cluster, s.domain, s.timeout_ms)
            }
        };
        let _ = writeln!(out, "  {} | {} | {}{counted} {}", l.name, describe_matches(&l.matches), key(&l.key), place(&l.origin));
    }
}

pub(crate) fn concurrency(out: &mut String, v: &ConcurrencyPolicy) {
    let shadow = if v.shadow { " shadow" } else { "" };
    let _ = writeln!(out, "concurrency {} {}{shadow} {}", v.name, scope(&v.scope), place(&v.origin));
    for b in &v.bulkheads {
        let _ =
            writeln!(out, "  {} | {} | {}at most {} {}", b.name, describe_matches(&b.matches), key(&b.key), b.requests, place(&b.origin));
    }
    if let Some(a) = &v.adaptive {
        let _ = writeln!(out, "  adaptive {:?} from {} to {} {}", a.by, a.requests_min, a.requests_max, place(&a.origin));
    }
    if let Some(a) = &v.admission {
        let _ = writeln!(
            out,
            "  admission {}ppm over {}ms aggression {} at most {}ppm above {}/s {}",
            a.success_ppm,
            a.window_ms,
            a.aggression_milli,
            a.rejection_max_ppm,
            a.requests_per_second_min,
            place(&a.origin)
        );
    }
}

fn scope(v: &PolicyScope) -> String {
    json(v)
}

fn key(parts: &[KeyPart]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let one = |part: &KeyPart| match &part.by {
        KeySource::Header(name) => format!("header {name} as {}", part.descriptor),
        KeySource::Claim(name) => format!("claim {name} as {}", part.descriptor),
        KeySource::Constant(text) => format!("{text:?} as {}", part.descriptor),
        other => format!("{other:?} as {}", part.descriptor),
    };
    format!("by {}: ", parts.iter().map(one).collect::<Vec<_>>().join(", "))
}
