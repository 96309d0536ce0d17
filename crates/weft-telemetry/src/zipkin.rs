//! Zipkin: spans as the body of `POST /api/v2/spans` (JSON).

use crate::{Reporter, RequestRecord, Span, context::host_and_port};
use serde_json::{Map, Value, json};

/// Content type of the body.
pub const ZIPKIN_CONTENT_TYPE: &str = "application/json";

/// The body for `spans` of the service `own`.
pub fn zipkin_export(own: &str, spans: &[Span]) -> Vec<u8> {
    let list: Vec<Value> = spans.iter().filter(|s| !s.record.trace_id.is_empty()).map(|s| span(own, s)).collect();
    serde_json::to_vec(&list).unwrap_or_default()
}

fn span(own: &str, span: &Span) -> Value {
    let r = &span.record;
    let mut tags = Map::new();
    let mut tag = |name: &str, value: &str| {
        if !value.is_empty() {
            tags.insert(name.to_owned(), Value::from(value));
        }
    };
    for (name, value) in &span.tags {
        tag(name, value);
    }
    if r.is_failure() {
        tag("error", &r.details);
    }
    let mut value = json!({
        "traceId": r.trace_id, "id": r.span_id, "name": crate::otlp::span_name(r),
        "kind": if r.reporter == Reporter::Source { "CLIENT" } else { "SERVER" },
        "timestamp": r.start_unix_ms.saturating_mul(1_000), "duration": r.duration_us.max(1),
        "localEndpoint": { "serviceName": own }, "tags": tags,
    });
    if let Some(object) = value.as_object_mut() {
        if !r.parent_span_id.is_empty() {
            object.insert("parentId".into(), Value::from(r.parent_span_id.as_str()));
        }
        object.insert("remoteEndpoint".into(), remote(r));
    }
    value
}

fn remote(r: &RequestRecord) -> Value {
    let (address, name) = match r.reporter {
        Reporter::Source => (r.attempts.last().map(|a| a.endpoint.as_str()).unwrap_or_default(), r.destination_service.as_str()),
        Reporter::Destination => (r.downstream.as_str(), r.source.service.as_str()),
    };
    let (host, port) = host_and_port(address);
    let mut endpoint = Map::new();
    if !name.is_empty() {
        endpoint.insert("serviceName".into(), Value::from(name));
    }
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(ip)) => drop(endpoint.insert("ipv4".into(), Value::from(ip.to_string()))),
        Ok(std::net::IpAddr::V6(ip)) => drop(endpoint.insert("ipv6".into(), Value::from(ip.to_string()))),
        Err(_) => {}
    }
    if let Ok(port) = port.parse::<u16>() {
        endpoint.insert("port".into(), Value::from(port));
    }
    Value::Object(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_ids_times_and_both_ends() {
        let record = RequestRecord {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            span_id: "00f067aa0ba902b7".into(),
            parent_span_id: "00f067aa0ba902b6".into(),
            reporter: Reporter::Destination,
            start_unix_ms: 5,
            duration_us: 7,
            downstream: "10.1.2.3:4711".into(),
            method: "GET".into(),
            destination_service: "reviews".into(),
            ..RequestRecord::default()
        };
        let spans = [Span { record, tags: vec![("tenant".into(), "blue".into())] }, Span::default()];
        let value: Value = serde_json::from_slice(&zipkin_export("reviews", &spans)).expect("JSON");
        assert_eq!(
            value,
            json!([{
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "id": "00f067aa0ba902b7", "parentId": "00f067aa0ba902b6", "name": "GET reviews",
                "kind": "SERVER", "timestamp": 5000, "duration": 7, "localEndpoint": {"serviceName": "reviews"},
                "remoteEndpoint": {"ipv4": "10.1.2.3", "port": 4711}, "tags": {"tenant": "blue"}
            }])
        );
    }
}
