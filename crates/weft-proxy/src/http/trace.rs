//! Trace headers: what came in, what this hop's span is, what goes on.

use super::headers;
use crate::{telemetry::Plan, worker::Worker};
use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::Tracing;
use weft_telemetry::{B3Context, Reporter, TraceContext};

const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// This hop's span, and the caller's.
pub(crate) struct Begun {
    pub context: TraceContext,
    pub parent: Option<TraceContext>,
}

/// What came in of a trace.
#[derive(Default)]
struct Came {
    parent: Option<TraceContext>,
    /// The caller's decision, where it made one.
    sampled: Option<bool>,
    single: bool,
    multiple: bool,
}

/// Begins this hop's span and writes its context into the headers.
pub(crate) fn begin(headers: &mut HeaderMap, plan: &Plan, reporter: Reporter, id: &HeaderValue, worker: &Worker) -> Begun {
    let tracing = plan.tracing(reporter);
    let came = read(headers);
    let sampled = came.sampled.unwrap_or_else(|| tracing.is_none_or(|t| sample(t, id, worker)));
    let span = worker.random();
    let context = match &came.parent {
        Some(parent) => TraceContext { sampled, ..parent.child(span) },
        None => TraceContext::root(u128::from(worker.random()) << 64 | u128::from(worker.random()), span, sampled),
    };
    if !tracing.is_some_and(|t| t.disable_propagation) {
        headers.insert(headers::TRACEPARENT, headers::traceparent(&context));
        write_b3(headers, &context, &came, tracing.is_some_and(|t| t.b3));
    }
    Begun { context, parent: came.parent }
}

/// W3C before B3, the single header before the several (as OpenTelemetry's propagators are usually composed).
fn read(map: &HeaderMap) -> Came {
    let text = |name: &HeaderName| map.get(name).and_then(|v| v.to_str().ok());
    let (single, multiple) = (map.contains_key(B3), map.contains_key(B3_TRACE));
    let carried = Came { single, multiple, ..Came::default() };
    if let Some(parent) = text(&headers::TRACEPARENT).and_then(TraceContext::parse) {
        return Came { parent: Some(parent), sampled: Some(parent.sampled), ..carried };
    }
    let b3 = text(&B3).and_then(B3Context::parse_single).or_else(|| {
        let (trace, span) = (text(&B3_TRACE)?, text(&B3_SPAN)?);
        B3Context::parse_multiple(trace, span, text(&B3_SAMPLED), text(&B3_FLAGS))
    });
    if let Some(b3) = b3 {
        return Came { parent: Some(b3.context), sampled: b3.decided.then_some(b3.context.sampled), ..carried };
    }
    // A decision without a trace: `b3: 0`.
    let sampled = match text(&B3).or_else(|| text(&B3_SAMPLED)) {
        Some("0") => Some(false),
        Some("1" | "d") => Some(true),
        _ => None,
    };
    Came { sampled, ..carried }
}

/// B3 goes on in the form in which it came, so that both kinds of headers agree.
fn write_b3(map: &mut HeaderMap, context: &TraceContext, came: &Came, wanted: bool) {
    let put = |map: &mut HeaderMap, name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            map.insert(name, value);
        }
    };
    if came.single {
        put(map, B3, context.b3());
    }
    if came.multiple || wanted {
        put(map, B3_TRACE, context.trace_hex());
        put(map, B3_SPAN, context.span_hex());
        map.insert(B3_SAMPLED, HeaderValue::from_static(if context.sampled { "1" } else { "0" }));
        match &came.parent {
            Some(parent) => put(map, B3_PARENT, parent.span_hex()),
            None => drop(map.remove(B3_PARENT)),
        }
    }
}

/// A new trace: the share of the configuration, by the request's id where proxies are to agree without trace headers.
fn sample(tracing: &Tracing, id: &HeaderValue, worker: &Worker) -> bool {
    let of_id = || {
        let digits = id.to_str().ok()?.get(..8)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let roll = if tracing.use_request_id { of_id() } else { None };
    tracing.sampling.includes(roll.unwrap_or_else(|| worker.roll()))
}
