//! OTLP: records as the body of `POST /v1/traces` (HTTP, protobuf).
//!
//! A hop makes one span per side: `CLIENT` at the caller's proxy, `SERVER` at the callee's. Sending is somebody else's.

use crate::{ProtocolKind, Reporter, RequestRecord, flags_text, trace::hex_bytes};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status, span::SpanKind, status::StatusCode},
};
use prost::Message;

/// Content type of the body.
pub const OTLP_CONTENT_TYPE: &str = "application/x-protobuf";

/// Who sends.
#[derive(Debug, Clone, Default)]
pub struct OtlpResource {
    /// `service.name`.
    pub service: String,
    /// `service.namespace`.
    pub namespace: String,
    /// `service.version`.
    pub version: String,
    /// `service.instance.id`.
    pub instance: String,
}

/// A record that is told of as a span, with tags of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Span {
    /// The record, filled.
    pub record: RequestRecord,
    /// Tags, by name.
    pub tags: Vec<(String, String)>,
}

impl From<RequestRecord> for Span {
    fn from(record: RequestRecord) -> Self {
        Self { record, tags: Vec::new() }
    }
}

/// A line of an access log on its way to a collector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// The line.
    pub body: String,
    /// Trace id in hex; may be empty.
    pub trace_id: String,
    /// Span id in hex; may be empty.
    pub span_id: String,
}

/// The body for `spans`; those without a trace id are left out.
pub fn otlp_export(resource: &OtlpResource, spans: &[Span]) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans: spans.iter().filter_map(span).collect(), schema_url: String::new() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource.attributes()), scope_spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// The body of `POST /v1/logs` for `entries` of the log `name`.
pub fn otlp_logs_export(resource: &OtlpResource, name: &str, entries: &[LogEntry]) -> Vec<u8> {
    let record = |entry: &LogEntry| LogRecord {
        time_unix_nano: entry.unix_ms.saturating_mul(1_000_000),
        observed_time_unix_nano: entry.unix_ms.saturating_mul(1_000_000),
        body: Some(AnyValue { value: Some(Value::StringValue(entry.body.trim_end().into())) }),
        attributes: text("log_name", name).into_iter().collect(),
        trace_id: hex_bytes::<16>(entry.trace_id.as_bytes()).map(Vec::from).unwrap_or_default(),
        span_id: hex_bytes::<8>(entry.span_id.as_bytes()).map(Vec::from).unwrap_or_default(),
        ..Default::default()
    };
    let log_records = entries.iter().map(record).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: String::new() }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource.attributes()), scope_logs, schema_url: String::new() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "weft".into(), version: env!("CARGO_PKG_VERSION").into(), ..Default::default() }
}

impl OtlpResource {
    fn attributes(&self) -> Resource {
        let resource = self;
        let attributes = [
            text("service.name", &resource.service),
            text("service.namespace", &resource.namespace),
            text("service.version", &resource.version),
            text("service.instance.id", &resource.instance),
            text("telemetry.sdk.name", "weft"),
            text("telemetry.sdk.language", "rust"),
        ];
        Resource { attributes: attributes.into_iter().flatten().collect(), ..Default::default() }
    }
}

/// What a span is called.
pub(crate) fn span_name(r: &RequestRecord) -> String {
    match r.kind() {
        ProtocolKind::Tcp => format!("tcp {}", r.destination_service),
        ProtocolKind::Grpc => r.path.split('?').next().unwrap_or_default().trim_start_matches('/').to_owned(),
        ProtocolKind::Http => format!("{} {}", r.method, r.destination_service),
    }
}

fn span(span: &Span) -> Option<OtlpSpan> {
    let r = &span.record;
    let trace_id = hex_bytes::<16>(r.trace_id.as_bytes())?.to_vec();
    let span_id = hex_bytes::<8>(r.span_id.as_bytes())?.to_vec();
    let parent_span_id = hex_bytes::<8>(r.parent_span_id.as_bytes()).map(Vec::from).unwrap_or_default();
    let start_time_unix_nano = r.start_unix_ms.saturating_mul(1_000_000);
    let kind = match r.reporter {
        Reporter::Source => SpanKind::Client,
        Reporter::Destination => SpanKind::Server,
    };
    // The conventions: a server span is in error for 5xx only, a client span for 4xx too.
    let error = r.is_failure() || (r.reporter == Reporter::Source && r.status >= 400);
    let status = error.then(|| Status { message: r.details.clone(), code: StatusCode::Error.into() });
    Some(OtlpSpan {
        trace_id,
        span_id,
        parent_span_id,
        flags: 1,
        name: span_name(r),
        kind: kind.into(),
        start_time_unix_nano,
        end_time_unix_nano: start_time_unix_nano.saturating_add(r.duration_us.saturating_mul(1_000)),
        attributes: attributes(r).into_iter().chain(span.tags.iter().filter_map(|(name, value)| text(name, value))).collect(),
        status,
        ..Default::default()
    })
}

fn attributes(r: &RequestRecord) -> Vec<KeyValue> {
    let origin = |name, origin: Option<&weft_model::Origin>| origin.and_then(|o| text(name, &o.to_string()));
    let (path, query) = r.path.split_once('?').unwrap_or((&r.path, ""));
    let list = [
        text("http.request.method", &r.method),
        text("url.path", path),
        text("url.query", query),
        text("server.address", &r.authority),
        text("user_agent.original", &r.user_agent),
        text("network.protocol.version", r.protocol.strip_prefix("HTTP/").unwrap_or_default()),
        text("guid:x-request-id", &r.id),
        text("upstream_cluster", &r.cluster),
        text("response_flags", &flags_text(&r.flags)),
        (r.status > 0).then(|| number("http.response.status_code", i64::from(r.status))),
        r.grpc_status.map(|code| number("rpc.grpc.status_code", i64::from(code))),
        Some(number("http.request.body.size", i64::try_from(r.bytes_received).unwrap_or(i64::MAX))),
        Some(number("http.response.body.size", i64::try_from(r.bytes_sent).unwrap_or(i64::MAX))),
        text("weft.source.principal", &r.source.principal),
        text("weft.destination.principal", &r.destination.principal),
        text("weft.destination.workload", &r.destination.workload),
        text("weft.details", &r.details),
        origin("weft.route.origin", r.route_origin.as_ref()),
        origin("weft.policy.origin", r.policy.as_ref().map(|p| &p.origin)),
    ];
    list.into_iter().flatten().collect()
}

fn text(key: &str, value: &str) -> Option<KeyValue> {
    let any = AnyValue { value: Some(Value::StringValue(value.into())) };
    (!value.is_empty()).then(|| KeyValue { key: key.into(), value: Some(any), ..Default::default() })
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::IntValue(value)) }), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_span() {
        let record = RequestRecord {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            span_id: "00f067aa0ba902b7".into(),
            start_unix_ms: 1_000,
            duration_us: 1_500,
            method: "GET".into(),
            status: 503,
            destination_service: "reviews".into(),
            protocol: "HTTP/1.1".into(),
            ..RequestRecord::default()
        };
        let resource = OtlpResource { service: "page".into(), ..OtlpResource::default() };
        let body = otlp_export(&resource, &[record.into(), Span::default()]);
        let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("decodes");
        let [resource_spans] = request.resource_spans.as_slice() else { unreachable!("one resource") };
        let [span] = resource_spans.scope_spans[0].spans.as_slice() else { unreachable!("one span") };
        assert_eq!((span.name.as_str(), span.trace_id.len(), span.span_id.len()), ("GET reviews", 16, 8));
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 1_500_000);
        assert_eq!(span.status.as_ref().map(|s| s.code), Some(StatusCode::Error.into()));
        let first = resource_spans.resource.as_ref().and_then(|r| r.attributes.first()).expect("attributes");
        assert_eq!(first.key, "service.name");
    }
}
