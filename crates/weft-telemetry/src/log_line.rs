//! Lines of access logs in the form that a user wrote: text or JSON with Envoy's command operators.
//!
//! Whatever a client sends, a line stays one line: quotes, backslashes and control characters in values are escaped.

use crate::{
    Reporter, RequestContext,
    access_log::{write_escaped, write_time},
    context::host_and_port,
    flags_text,
};
use std::{borrow::Cow, collections::BTreeMap, fmt::Write};
use weft_model::{AddressPart, FormatPiece, HeaderSource, JsonValue, LogField, LogFormat, Operator, grpc_name};

/// Appends the line of a request, with its line feed.
pub fn write_log_line(format: &LogFormat, of: &RequestContext<'_>, out: &mut String) {
    match format {
        LogFormat::Weft => crate::write_access_log(of.record, out),
        LogFormat::Text(pieces) => {
            write_text(pieces, of, out);
            if !out.ends_with('\n') {
                out.push('\n');
            }
        }
        LogFormat::Json(labels) => {
            write_json(labels, of, out);
            out.push('\n');
        }
    }
}

/// The text of a format, for the value of a tag: nothing is escaped.
pub fn format_text(format: &LogFormat, of: &RequestContext<'_>) -> String {
    let mut out = String::new();
    if let LogFormat::Text(pieces) = format {
        for piece in pieces {
            match piece {
                FormatPiece::Literal(text) => out.push_str(text),
                FormatPiece::Value { operator, bytes_max } => match value(operator, of) {
                    Some(Value::Text(text)) => out.push_str(cut(&text, *bytes_max)),
                    Some(Value::Number(n)) => write!(out, "{n}").expect("a String takes all"),
                    None => out.push('-'),
                },
            }
        }
    }
    out
}

fn write_text(pieces: &[FormatPiece], of: &RequestContext<'_>, out: &mut String) {
    for piece in pieces {
        match piece {
            FormatPiece::Literal(text) => out.push_str(text),
            FormatPiece::Value { operator, bytes_max } => match value(operator, of) {
                Some(Value::Text(text)) => write_escaped(out, cut(&text, *bytes_max)),
                Some(Value::Number(n)) => write!(out, "{n}").expect("a String takes all"),
                None => out.push('-'),
            },
        }
    }
}

fn write_json(labels: &BTreeMap<String, JsonValue>, of: &RequestContext<'_>, out: &mut String) {
    out.push('{');
    for (i, (key, value)) in labels.iter().enumerate() {
        out.push_str(if i == 0 { "\"" } else { ",\"" });
        write_escaped(out, key);
        out.push_str("\":");
        match value {
            JsonValue::Object(object) => write_json(object, of, out),
            JsonValue::Text(pieces) => write_json_value(pieces, of, out),
        }
    }
    out.push('}');
}

/// A single operator keeps its type, and is `null` when it has no value; anything else is a text.
fn write_json_value(pieces: &[FormatPiece], of: &RequestContext<'_>, out: &mut String) {
    if let [FormatPiece::Value { operator, bytes_max }] = pieces {
        match value(operator, of) {
            None => out.push_str("null"),
            Some(Value::Number(n)) => write!(out, "{n}").expect("a String takes all"),
            Some(Value::Text(text)) => {
                out.push('"');
                write_escaped(out, cut(&text, *bytes_max));
                out.push('"');
            }
        }
        return;
    }
    out.push('"');
    for piece in pieces {
        match piece {
            FormatPiece::Literal(text) => write_escaped(out, text),
            value => write_text(std::slice::from_ref(value), of, out),
        }
    }
    out.push('"');
}

/// At most so many bytes, whole characters.
pub(crate) fn cut(text: &str, bytes_max: Option<usize>) -> &str {
    let Some(max) = bytes_max.filter(|max| text.len() > *max) else { return text };
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
}

fn text(text: &str) -> Option<Value<'_>> {
    (!text.is_empty()).then_some(Value::Text(Cow::Borrowed(text)))
}

fn value<'a>(operator: &Operator, of: &RequestContext<'a>) -> Option<Value<'a>> {
    let r = of.record;
    match operator {
        Operator::Header { source, name, or } => {
            let found = header(of, *source, name).or_else(|| or.as_ref().and_then(|or| header(of, *source, or)));
            found.map(Value::Text)
        }
        Operator::WithoutQuery(name) => text(of.header(HeaderSource::Request, name).and_then(|v| v.split('?').next()).unwrap_or_default()),
        Operator::StartTime(format) => Some(Value::Text(start_time(format, r.start_unix_ms).into())),
        Operator::DownstreamRemote(part) => address(&r.downstream, *part),
        Operator::DownstreamLocal(part) => address(&of.extras.local_address, *part),
        Operator::UpstreamRemote(part) => address(of.upstream(), *part),
        Operator::UpstreamLocal(_) => None,
        Operator::GrpcStatus { number: true, .. } => r.grpc_status.map(|code| Value::Number(code.into())),
        Operator::GrpcStatus { snake, .. } => {
            r.grpc_status.map(|code| Value::Text(if *snake { grpc_name(code).into() } else { camel(grpc_name(code)).into() }))
        }
        Operator::Environment(name) => std::env::var(name).ok().map(|v| Value::Text(v.into())),
        Operator::Field(field) => of_field(*field, of),
    }
}

fn header<'a>(of: &RequestContext<'a>, source: HeaderSource, name: &str) -> Option<Cow<'a, str>> {
    // The upstream's own header is rare; the time is known anyway.
    let service_time = || {
        let wanted = source == HeaderSource::Response && name == "x-envoy-upstream-service-time";
        of.record.attempts.last().filter(|_| wanted).map(|a| Cow::Owned((a.duration_us / 1_000).to_string()))
    };
    of.header(source, name).map(Cow::Borrowed).or_else(service_time)
}

fn of_field<'a>(field: LogField, of: &RequestContext<'a>) -> Option<Value<'a>> {
    let r = of.record;
    let (tcp, inbound) = (r.protocol == "tcp", r.reporter == Reporter::Destination);
    let tls = r.tls.as_ref().map(|t| t.version.as_str()).unwrap_or_default();
    match field {
        LogField::BytesReceived => Some(Value::Number(r.bytes_received)),
        LogField::BytesSent => Some(Value::Number(r.bytes_sent)),
        LogField::Protocol => text(if tcp { "" } else { &r.protocol }),
        LogField::ResponseCode => Some(Value::Number(r.status.into())),
        LogField::ResponseCodeDetails => text(if tcp { "" } else { &r.details }),
        LogField::ConnectionTerminationDetails => text(if tcp { &r.details } else { "" }),
        LogField::Duration => Some(Value::Number(r.duration_us / 1_000)),
        LogField::ResponseDuration => r.attempts.last().map(|a| Value::Number(a.duration_us / 1_000)),
        LogField::ResponseFlags => Some(Value::Text(flags_text(&r.flags).into())),
        LogField::RouteName => text(&r.route),
        LogField::UpstreamCluster => text(&r.cluster),
        LogField::AttemptCount => Some(Value::Number(r.attempts.len() as u64)),
        LogField::TransportFailure => text(of.transport_failure()),
        LogField::UpstreamPeer => text(if inbound { "" } else { &r.destination.principal }),
        LogField::UpstreamTlsVersion => text(if inbound { "" } else { tls }),
        LogField::RequestedServerName => text(&r.sni),
        LogField::DownstreamPeer => text(if inbound { &r.source.principal } else { "" }),
        LogField::DownstreamLocalPeer => text(if inbound { &of.extras.own_principal } else { "" }),
        LogField::DownstreamTlsVersion => text(if inbound { tls } else { "" }),
        LogField::TraceId => text(&r.trace_id),
        LogField::StreamId => text(&r.id),
        LogField::Hostname => text(&r.proxy),
    }
}

fn address(address: &str, part: AddressPart) -> Option<Value<'_>> {
    let (host, port) = host_and_port(address);
    match part {
        AddressPart::Whole => text(address),
        AddressPart::Host => text(host),
        AddressPart::Port => port.parse().ok().map(Value::Number),
    }
}

/// `DEADLINE_EXCEEDED` as `DeadlineExceeded`.
fn camel(name: &str) -> String {
    if let Some(known) = [("OK", "OK"), ("CANCELLED", "Canceled")].iter().find(|(n, _)| *n == name) {
        return known.1.into();
    }
    let words = name.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    });
    words.collect()
}

/// strftime as far as it says something about a moment in UTC; an unknown letter stands for itself.
fn start_time(format: &str, unix_ms: u64) -> String {
    let mut whole = String::new();
    write_time(&mut whole, unix_ms);
    if format.is_empty() {
        return whole;
    }
    let part = |range: std::ops::Range<usize>| whole.get(range).unwrap_or_default();
    let milli = unix_ms % 1_000;
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let digits = chars.next_if(|c| matches!(c, '1'..='9')).and_then(|c| c.to_digit(10));
        match chars.next() {
            Some('Y') => out.push_str(part(0..4)),
            Some('m') => out.push_str(part(5..7)),
            Some('d') => out.push_str(part(8..10)),
            Some('H') => out.push_str(part(11..13)),
            Some('M') => out.push_str(part(14..16)),
            Some('S') => out.push_str(part(17..19)),
            Some('F') => out.push_str(part(0..10)),
            Some('T') => out.push_str(part(11..19)),
            Some('s') => write!(out, "{}", unix_ms / 1_000).expect("a String takes all"),
            Some('f') => {
                let nano = format!("{:09}", milli * 1_000_000);
                out.push_str(nano.get(..digits.unwrap_or(9) as usize).unwrap_or(&nano));
            }
            Some('z') => out.push_str("+0000"),
            Some('Z') => out.push_str("UTC"),
            Some(other) => out.push(other),
            None => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attempt, Extras, Party, RequestRecord, ResponseFlag, TlsRecord};
    use weft_model::Expression;

    fn record() -> RequestRecord {
        RequestRecord {
            id: "a-1".into(),
            reporter: Reporter::Destination,
            start_unix_ms: 1_795_245_617_042,
            duration_us: 12_345,
            protocol: "HTTP/2".into(),
            method: "GET".into(),
            path: "/items?q=1".into(),
            authority: "reviews".into(),
            status: 503,
            grpc_status: Some(4),
            grpc: true,
            flags: vec![ResponseFlag::UpstreamConnectionFailure, ResponseFlag::RetryLimitExceeded],
            details: "via_upstream".into(),
            bytes_received: 3,
            downstream: "[::1]:4711".into(),
            source: Party { principal: "spiffe://td/ns/a/sa/page".into(), ..Party::default() },
            attempts: vec![Attempt {
                endpoint: "10.0.0.1:80".into(),
                workload: String::new(),
                outcome: "connect: refused".into(),
                duration_us: 9_000,
            }],
            tls: Some(TlsRecord { version: "TLSv1_3".into(), group: String::new(), peer: String::new(), peer_not_after_unix_s: 0 }),
            ..RequestRecord::default()
        }
    }

    fn line(format: &LogFormat) -> String {
        let extras = Extras {
            local_address: "10.0.0.9:8080".into(),
            request_headers: vec![("x-evil".into(), "a\"b\r\nc\\\u{1b}é".into())],
            ..Extras::default()
        };
        let record = record();
        let mut out = String::new();
        write_log_line(format, &RequestContext { record: &record, extras: &extras }, &mut out);
        out
    }

    #[track_caller]
    fn check(format: &str, want: &str) {
        assert_eq!(line(&LogFormat::text(format).expect(format)), format!("{want}\n"));
    }

    #[test]
    fn operators() {
        check("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:METHOD)%", "/items?q=1 GET");
        check("%REQ_WITHOUT_QUERY(:path)% %REQ(:PATH):4%", "/items /ite");
        check(
            "%RESPONSE_CODE% %RESPONSE_FLAGS% %GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%",
            "503 UF,URX DeadlineExceeded DEADLINE_EXCEEDED 4",
        );
        check("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "[::1]:4711 ::1 4711");
        check("%DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST% %UPSTREAM_REMOTE_PORT%", "10.0.0.9:8080 10.0.0.1:80 80");
        check("%START_TIME(%Y/%m/%dT%H:%M:%S.%3f %s)%", "2026/11/21T07:20:17.042 1795245617");
        check("%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %RESP(X-NOT)% %TRAILER(X-NOT)%", "12 9 - -");
        check("%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_TLS_VERSION% %UPSTREAM_TLS_VERSION%", "spiffe://td/ns/a/sa/page TLSv1_3 -");
        check("%UPSTREAM_TRANSPORT_FAILURE_REASON% 100%%", "connect: refused 100%");
    }

    #[test]
    fn what_a_client_sends_stays_in_its_place() {
        check("\"%REQ(X-EVIL)%\"", "\"a\\\"b\\r\\nc\\\\\\u001bé\"");
        let labels = BTreeMap::from([
            ("evil".to_owned(), serde_json::json!("%REQ(X-EVIL)%")),
            ("both".to_owned(), serde_json::json!("<%REQ(X-EVIL)%>")),
            ("code".to_owned(), serde_json::json!("%RESPONSE_CODE%")),
            ("in".to_owned(), serde_json::json!({"none": "%RESP(X)%"})),
        ]);
        let line = line(&LogFormat::json(&labels).expect("reads"));
        let value: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        let evil = "a\"b\r\nc\\\u{1b}é";
        assert_eq!(value, serde_json::json!({"evil": evil, "both": format!("<{evil}>"), "code": 503, "in": {"none": null}}));
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn istios_defaults() {
        let text = line(&LogFormat::istio_text());
        assert!(
            text.starts_with(
                "[2026-11-21T07:20:17.042Z] \"GET /items?q=1 HTTP/2\" 503 UF,URX via_upstream - \"connect: refused\" 3 0 12 9 "
            ),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&line(&LogFormat::istio_json())).expect("JSON");
        assert_eq!(
            (&json["response_code"], &json["authority"], &json["user_agent"]),
            (&503.into(), &"reviews".into(), &serde_json::Value::Null)
        );
    }

    #[test]
    fn filters_see_the_request() {
        let record = record();
        let extras = Extras { request_headers: vec![("x-a".into(), "b".into())], ..Extras::default() };
        let of = RequestContext { record: &record, extras: &extras };
        for (text, want) in [
            ("response.code >= 400", true),
            ("connection.mtls && source.principal.endsWith('/page')", true),
            ("request.headers['x-a'] == 'b' && request.query['q'] == '1'", true),
            ("!has(request.headers['x-b'])", true),
            ("response.grpc_status == 0", false),
            ("request.duration > duration('100ms')", false),
            ("destination.port == 8080", false),
        ] {
            assert_eq!(text.parse::<Expression>().expect(text).is_true(&of), want, "{text}");
        }
    }
}
