//! The vocabulary of `RequestRecord::details`: Envoy's `response_code_details` where it has one, so that access logs read alike.

/// The upstream's own answer.
pub const VIA_UPSTREAM: &str = "via_upstream";
/// The route itself answers.
pub const DIRECT_RESPONSE: &str = "direct_response";
/// No route matched.
pub const ROUTE_NOT_FOUND: &str = "route_not_found";
/// The host is not in the mesh.
pub const HOST_NOT_FOUND: &str = "host_not_found";
/// The route's destination does not exist.
pub const CLUSTER_NOT_FOUND: &str = "cluster_not_found";
/// All endpoints are unhealthy or ejected, or there is none.
pub const NO_HEALTHY_UPSTREAM: &str = "no_healthy_upstream";
/// The subset has no endpoint at all.
pub const NO_ENDPOINTS: &str = "no_endpoints";
/// The connection could not be made; the attempt's outcome says why.
pub const CONNECT_FAILURE: &str = "upstream_reset_before_response_started{connection_failure}";
/// TLS to the upstream failed; the attempt's outcome says why.
pub const TLS_FAILURE: &str = "upstream_reset_before_response_started{tls_failure}";
/// The upstream closed before its response began.
pub const UPSTREAM_CLOSED: &str = "upstream_reset_before_response_started{connection_termination}";
/// The upstream closed in the middle of its response.
pub const UPSTREAM_CLOSED_MIDWAY: &str = "upstream_reset_after_response_started{connection_termination}";
/// A limit of the destination was reached.
pub const OVERFLOW: &str = "upstream_reset_before_response_started{overflow}";
/// The route's time-out passed.
pub const RESPONSE_TIMEOUT: &str = "response_timeout";
/// The last attempt's time-out passed.
pub const PER_TRY_TIMEOUT: &str = "upstream_per_try_timeout";
/// A planted failure.
pub const FAULT_ABORT: &str = "fault_filter_abort";
/// The caller closed first.
pub const DOWNSTREAM_CLOSED: &str = "downstream_remote_disconnect";
/// Prefix of a refusal by a matching DENY rule; the policy follows in brackets.
pub const DENIED: &str = "rbac_access_denied_matched_policy";
/// A refusal because no ALLOW rule matched.
pub const NOT_ALLOWED: &str = "rbac_access_denied_no_allow_rule";
/// Plain text to a port that asks for mutual TLS.
pub const PLAIN_TEXT_REFUSED: &str = "plain_text_refused";
/// The request's headers are too large.
pub const HEADERS_TOO_LARGE: &str = "request_headers_too_large";
/// The request is not valid HTTP.
pub const DOWNSTREAM_PROTOCOL: &str = "http.codec_error";
/// The request did not arrive in time.
pub const REQUEST_TIMEOUT: &str = "request_header_timeout";
/// The response is not valid HTTP.
pub const UPSTREAM_PROTOCOL: &str = "upstream_reset_before_response_started{protocol_error}";
/// Shed because the proxy is at a limit of its own.
pub const OVERLOAD: &str = "overload";
