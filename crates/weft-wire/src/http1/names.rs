//! Header names without an allocation each: those of the mesh are constants.

use http::HeaderName;

/// Names that `http` does not know as standard and that most requests of a mesh carry.
const KNOWN: [HeaderName; 16] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-weft-peer"),
    HeaderName::from_static("x-envoy-attempt-count"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("priority"),
];

/// A header's name from its bytes; `None` when it is not a token (RFC 9110 §5.1).
pub(super) fn parse(bytes: &[u8]) -> Option<HeaderName> {
    if matches!(bytes.first()?, b'x' | b'X' | b't' | b'T' | b'k' | b'K' | b'g' | b'G' | b'p' | b'P')
        && let Some(known) =
            KNOWN.iter().find(|name| name.as_str().len() == bytes.len() && bytes.eq_ignore_ascii_case(name.as_str().as_bytes()))
    {
        return Some(known.clone());
    }
    HeaderName::from_bytes(bytes).ok()
}
