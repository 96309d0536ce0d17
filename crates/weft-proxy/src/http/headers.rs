//! Headers between hops: what is stripped, what is set, and the few that are read.

use crate::worker::Worker;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use weft_telemetry::{Party, TraceContext};

/// Tells the other proxy of a mesh hop who this one stands for: `workload;namespace;service;version`.
pub(crate) const PEER: HeaderName = HeaderName::from_static("x-weft-peer");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The number of an attempt, told to the upstream where a retry policy asks for it.
pub(crate) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers that are for one connection only (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
];

/// Is this a request to leave HTTP (WebSocket)? `h2c` is not: HTTP/2 through the proxy is never started this way.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let asked = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let asked = asked.flat_map(|v| v.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let h2c = upgrade.as_bytes().to_ascii_lowercase().starts_with(b"h2c");
    (asked && !h2c).then(|| upgrade.clone())
}

/// Removes what belongs to the connection, and what `Connection` names. `te: trailers` stays: gRPC needs it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(value) = headers.get(header::CONNECTION) {
        // `Connection: host` or the like must not remove what decisions were made on.
        let named: Vec<HeaderName> = value
            .to_str()
            .unwrap_or_default()
            .split(',')
            .filter_map(|token| token.trim().parse().ok())
            .filter(|name| ![header::HOST, header::TE, header::CONTENT_LENGTH, REQUEST_ID, FORWARDED_CLIENT_CERT].contains(name))
            .collect();
        named.iter().for_each(|name| while headers.remove(name).is_some() {});
    }
    HOP_BY_HOP.iter().for_each(|name| {
        headers.remove(name);
    });
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

/// Removes Weft's own headers, whoever sent them.
pub(crate) fn strip_weft(headers: &mut HeaderMap) {
    // The common case finds nothing and allocates nothing.
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with("x-weft-")).cloned() {
        headers.remove(name);
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` in lower-case hex.
fn hex(bytes: &[u8], out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// The header of a trace context: the same as its text form, without going through a formatter.
pub(crate) fn traceparent(context: &TraceContext) -> HeaderValue {
    let mut text = *b"00-................................-................-00";
    hex(&context.trace_id, &mut text[3..35]);
    hex(&context.span_id, &mut text[36..52]);
    text[54] = if context.sampled { b'1' } else { b'0' };
    HeaderValue::from_bytes(&text).expect("hex and dashes are legal")
}

/// The request's id: taken over from where it can be believed, else made here.
pub(crate) fn request_id(headers: &mut HeaderMap, trusted: bool, written: bool, worker: &Worker) -> HeaderValue {
    let sane = |v: &&HeaderValue| v.len() <= 128 && !v.is_empty() && v.as_bytes().iter().all(|b| b.is_ascii_graphic());
    if let Some(id) = headers.get(REQUEST_ID).filter(|v| trusted && sane(v)) {
        return id.clone();
    }
    let id = uuid(worker.random(), worker.random());
    if written {
        headers.insert(REQUEST_ID, id.clone());
    }
    id
}

/// Adds `x-forwarded-host` and `x-forwarded-port` where the mesh asks for them.
pub(crate) fn forwarded(wanted: &weft_model::ProxyHeaders, target: &super::Target, port: u16, headers: &mut HeaderMap) {
    if wanted.forwarded_host
        && let Ok(host) = HeaderValue::from_str(&target.authority)
    {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host);
    }
    if wanted.forwarded_port {
        headers.insert(HeaderName::from_static("x-forwarded-port"), HeaderValue::from(port));
    }
}

/// A version 4 UUID (RFC 9562 §5.4) of random bits.
fn uuid(a: u64, b: u64) -> HeaderValue {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&a.to_be_bytes());
    bytes[8..].copy_from_slice(&b.to_be_bytes());
    bytes[6] = 0x40 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    let mut text = *b"........-....-....-....-............";
    for (part, at) in [(0..4, 0), (4..6, 9), (6..8, 14), (8..10, 19), (10..16, 24)] {
        hex(&bytes[part.clone()], &mut text[at..at + 2 * part.len()]);
    }
    HeaderValue::from_bytes(&text).expect("hex and dashes are legal")
}

/// `grpc-status` of headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The `x-weft-peer` of a workload.
pub(crate) fn peer_value(party: &Party) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("{};{};{};{}", party.workload, party.namespace, party.service, party.version)).ok()
}

/// Longest name of a workload, namespace, service or version that is believed of another proxy (Kubernetes' bound).
const NAME_CHARS_MAX: usize = 253;

/// Reads an `x-weft-peer` that came over mutual TLS.
pub(crate) fn peer_of(said: &HeaderValue, principal: String) -> Option<Party> {
    let mut parts = said.to_str().ok()?.split(';').map(|part| part.chars().take(NAME_CHARS_MAX).collect::<String>());
    let mut next = || parts.next().unwrap_or_default();
    Some(Party { workload: next(), namespace: next(), service: next(), version: next(), principal })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn hop_by_hop_headers_go_and_others_stay() {
        let mut headers = map(&[("connection", "close, x-a, host"), ("x-a", "1"), ("host", "h"), ("te", "trailers"), ("x-b", "2")]);
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te", "x-b"]);
        let mut headers = map(&[("x-weft-peer", "a"), ("x-weft-x", "b"), ("x-other", "c")]);
        strip_weft(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn ids_have_their_standard_form() {
        let context = TraceContext { trace_id: [0xab; 16], span_id: [0x01; 8], sampled: true };
        assert_eq!(traceparent(&context), context.to_string());
        assert_eq!(uuid(0x0123_4567_89ab_cdef, u64::MAX), "01234567-89ab-4def-bfff-ffffffffffff");
    }

    #[test]
    fn upgrades() {
        assert!(upgrade(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).is_some());
        assert!(upgrade(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])).is_none());
        assert!(upgrade(&map(&[("upgrade", "websocket")])).is_none());
    }
}
