//! The time that an exchange may take: the route's, and never more than the caller has left. Each hop tells the next what remains.

use crate::http::{Connection, Scope};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use weft_model::HttpRoute;
use weft_std::clock::{self, Instant};
use weft_telemetry::Timer;

/// Remaining time in milliseconds, between proxies (Envoy's name).
const EXPECTED_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When an exchange ends at the latest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub at: Instant,
    limit_ms: u64,
    by_caller: bool,
    grpc: bool,
}

impl Deadline {
    /// The earlier of the route's end and the caller's; `None` where neither sets one.
    pub(crate) fn of(conn: &Connection, route: &HttpRoute, headers: &HeaderMap, grpc: bool, started: Instant) -> Option<Self> {
        let by_route = route.timeout_ms.filter(|ms| *ms > 0);
        // At an edge the header was removed with all that only the mesh may say; a plain-text caller is not believed either.
        let trusted = conn.peer.is_some() || matches!(conn.scope, Scope::Outbound { .. });
        let expected = trusted.then(|| headers.get(EXPECTED_MS)?.to_str().ok()?.parse().ok()).flatten().filter(|ms| *ms > 0);
        // It can only make the time shorter: whoever says it is believed.
        let asked = if grpc { headers.get(GRPC_TIMEOUT).and_then(grpc_timeout_ms) } else { None };
        let asked = asked.map(|ms| route.grpc_timeout_max_ms.map_or(ms, |max| ms.min(max)));
        let by_caller = [expected, asked].into_iter().flatten().min();
        let limit_ms = [by_route, by_caller].into_iter().flatten().min()?;
        let at = started.checked_add(Duration::from_millis(limit_ms))?;
        Some(Self { at, limit_ms, by_caller: by_route != Some(limit_ms), grpc })
    }

    /// What ended the exchange, for its record.
    pub(crate) fn timer(&self, route: &HttpRoute) -> Timer {
        let name = if self.by_caller { "caller's deadline" } else { "route timeout" };
        Timer { name: name.into(), limit_ms: self.limit_ms, origin: route.origin.clone() }
    }

    /// Tells the next hop how much is left; hosts outside the mesh only in gRPC's own way.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, mesh: bool) {
        let left = u64::try_from(self.at.saturating_duration_since(clock::now()).as_millis()).unwrap_or(u64::MAX).max(1);
        if mesh {
            headers.insert(EXPECTED_MS, HeaderValue::from(left));
        }
        if self.grpc {
            let text = grpc_timeout_text(left);
            headers.insert(GRPC_TIMEOUT, HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("1m")));
        }
    }
}

/// At most eight digits and a unit (gRPC over HTTP/2); a shorter time than a millisecond is one.
fn grpc_timeout_ms(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => number * 3_600_000,
        "M" => number * 60_000,
        "S" => number * 1000,
        "m" => number,
        "u" => number.div_ceil(1000),
        "n" => number.div_ceil(1_000_000),
        _ => return None,
    })
}

fn grpc_timeout_text(ms: u64) -> String {
    if ms < 100_000_000 { format!("{ms}m") } else { format!("{}S", (ms / 1000).min(99_999_999)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_read_and_written() {
        let read = |text: &'static str| grpc_timeout_ms(&HeaderValue::from_static(text));
        let good = [("100m", 100), ("2S", 2000), ("1M", 60_000), ("1H", 3_600_000), ("1500u", 2), ("1n", 1), ("99999999S", 99_999_999_000)];
        for (text, ms) in good {
            assert_eq!(read(text), Some(ms), "{text}");
        }
        for bad in ["", "m", "1", "-1m", "123456789m", "1x", "1.5S", "١m"] {
            assert_eq!(grpc_timeout_ms(&HeaderValue::from_bytes(bad.as_bytes()).expect("a value")), None, "{bad}");
        }
        assert_eq!((grpc_timeout_text(99), grpc_timeout_text(100_000_001)), ("99m".into(), "100000S".into()));
    }
}
