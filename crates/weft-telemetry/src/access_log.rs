//! The access log: one JSON line per request or connection, with Istio's keys, and Weft's provenance of each decision.
//!
//! The line is written straight into a buffer that the worker reuses: no tree of values, no allocation once the buffer has grown.

use crate::{RequestRecord, flags_text};
use std::fmt::Write;
use weft_model::Origin;

/// The line of `record`, with its line feed.
pub fn access_log_line(record: &RequestRecord) -> String {
    let mut out = String::with_capacity(1_024);
    write_access_log(record, &mut out);
    out
}

/// Appends the line of `record`, with its line feed.
pub fn write_access_log(record: &RequestRecord, out: &mut String) {
    let mut line = Line { out, first: true };
    line.out.push('{');
    istio_keys(record, &mut line);
    provenance(record, &mut line);
    line.out.push_str("}\n");
}

/// Istio's keys, all of them always: absent values are `null`, as Envoy writes them.
fn istio_keys(r: &RequestRecord, line: &mut Line<'_>) {
    let last = r.attempts.last();
    let tcp = r.protocol == "tcp";
    line.key("start_time");
    line.out.push('"');
    write_time(line.out, r.start_unix_ms);
    line.out.push('"');
    line.text("method", &r.method);
    line.text("path", &r.path);
    line.text("protocol", if tcp { "" } else { &r.protocol });
    line.number("response_code", u64::from(r.status));
    line.text("response_flags", &flags_text(&r.flags));
    line.text("response_code_details", if tcp { "" } else { &r.details });
    line.text("connection_termination_details", if tcp { &r.details } else { "" });
    let failure = last.map(|a| a.outcome.as_str()).filter(|o| o.starts_with("TLS") || o.starts_with("connect"));
    line.text("upstream_transport_failure_reason", failure.unwrap_or_default());
    line.number("bytes_received", r.bytes_received);
    line.number("bytes_sent", r.bytes_sent);
    line.number("duration", r.duration_us / 1_000);
    match last.filter(|_| !tcp) {
        Some(attempt) => line.number("upstream_service_time", attempt.duration_us / 1_000),
        None => line.text("upstream_service_time", ""),
    }
    line.text("x_forwarded_for", &r.forwarded_for);
    line.text("user_agent", &r.user_agent);
    line.text("request_id", &r.id);
    line.text("authority", &r.authority);
    line.text("upstream_host", last.map(|a| a.endpoint.as_str()).unwrap_or_default());
    line.text("upstream_cluster", &r.cluster);
    line.text("upstream_local_address", "");
    line.text("downstream_local_address", "");
    line.text("downstream_remote_address", &r.downstream);
    line.text("requested_server_name", &r.sni);
    line.text("route_name", &r.route);
}

/// What Weft adds: who, by which line of which object, over which TLS. Absent values are left out.
fn provenance(r: &RequestRecord, line: &mut Line<'_>) {
    line.text("reporter", if r.reporter == crate::Reporter::Source { "source" } else { "destination" });
    line.present("proxy", &r.proxy);
    line.origin("route_origin", r.route_origin.as_ref());
    if let Some(policy) = &r.policy {
        line.text("policy", &policy.policy);
        line.text("policy_decision", if policy.allowed { "allowed" } else { "denied" });
        line.text("policy_reason", &policy.reason);
        line.origin("policy_origin", Some(&policy.origin));
    }
    line.origin("cause_origin", r.cause.as_ref());
    if let Some(timer) = &r.timer {
        line.text("timer", &timer.name);
        line.number("timer_limit_ms", timer.limit_ms);
        line.origin("timer_origin", Some(&timer.origin));
    }
    if r.attempts.len() > 1 {
        line.number("attempts", r.attempts.len() as u64);
    }
    line.present("source_workload", &r.source.workload);
    line.present("source_principal", &r.source.principal);
    line.present("destination_workload", &r.destination.workload);
    line.present("destination_principal", &r.destination.principal);
    if let Some(tls) = &r.tls {
        line.text("tls", &tls.version);
        line.present("tls_group", &tls.group);
    }
    if let Some(code) = r.grpc_status {
        line.number("grpc_status", u64::from(code));
    }
    line.present("trace_id", &r.trace_id);
    line.present("span_id", &r.span_id);
}

struct Line<'a> {
    out: &'a mut String,
    first: bool,
}

impl Line<'_> {
    fn key(&mut self, key: &str) {
        self.out.push_str(if self.first { "\"" } else { ",\"" });
        self.first = false;
        self.out.push_str(key);
        self.out.push_str("\":");
    }
    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        write!(self.out, "{value}").expect("a String takes all");
    }
    /// A text, `null` when empty.
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        if value.is_empty() {
            return self.out.push_str("null");
        }
        self.out.push('"');
        write_escaped(self.out, value);
        self.out.push('"');
    }
    /// A text, nothing when empty.
    fn present(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }
    fn origin(&mut self, key: &str, origin: Option<&Origin>) {
        if let Some(origin) = origin {
            self.text(key, &origin.to_string());
        }
    }
}

/// RFC 8259 §7: quotes, backslashes and control characters are escaped; runs of others are copied whole.
pub(crate) fn write_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\' || b == 0x7f) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let byte = tail.as_bytes().first().copied().unwrap_or_default();
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => write!(out, "\\u{other:04x}").expect("a String takes all"),
        }
        rest = &tail[1..];
    }
    out.push_str(rest);
}

/// RFC 3339 with milliseconds, in UTC.
pub(crate) fn write_time(out: &mut String, unix_ms: u64) {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 0000-03-01, in eras of 400 years, so that a leap day is the last of its year.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z").expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PolicyDecision, ResponseFlag};

    fn json(record: &RequestRecord) -> serde_json::Value {
        let line = access_log_line(record);
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        serde_json::from_str(&line).expect("valid JSON")
    }

    #[test]
    fn a_denial_names_its_line() {
        let origin = Origin { kind: "AuthorizationPolicy".into(), namespace: "shop".into(), name: "deny".into(), ..Origin::default() };
        let policy = PolicyDecision { policy: "shop/deny".into(), allowed: false, origin: origin.at(7, "spec"), reason: "DENY".into() };
        let value = json(&RequestRecord {
            id: "a".into(),
            start_unix_ms: 951_782_399_999,
            status: 403,
            policy: Some(policy),
            flags: vec![ResponseFlag::Unauthorized],
            protocol: "HTTP/1.1".into(),
            ..RequestRecord::default()
        });
        assert_eq!(value["start_time"], "2000-02-28T23:59:59.999Z");
        assert_eq!(value["response_code"], 403);
        assert_eq!(value["response_flags"], "UAEX");
        assert_eq!(value["policy_origin"], "AuthorizationPolicy shop/deny (line 7)");
        assert!(value["upstream_host"].is_null());
    }

    #[test]
    fn nothing_that_a_client_sends_breaks_the_line() {
        let evil = "\"}\n{\"x\":1,\\\u{0}\u{7f}é\r\t";
        let value = json(&RequestRecord { path: evil.into(), user_agent: evil.into(), ..RequestRecord::default() });
        assert_eq!(value["path"], evil);
        assert_eq!(value["user_agent"], evil);
    }

    #[test]
    fn times() {
        let time = |ms| {
            let mut out = String::new();
            write_time(&mut out, ms);
            out
        };
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(time(1_795_245_617_042), "2026-11-21T07:20:17.042Z");
    }
}
