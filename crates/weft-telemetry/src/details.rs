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
/// A request for the host of another listener than the one that its connection came in at.
pub const MISDIRECTED: &str = "misdirected_request";
/// No PROXY protocol header where every connection begins with one.
pub const PROXY_PROTOCOL: &str = "proxy_protocol_error";
/// A client's certificate was taken back, or what clients must show has changed.
pub const CLIENT_CERTIFICATE: &str = "client_certificate_not_accepted";
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
/// The local rate limit's bucket was empty.
pub const LOCAL_RATE_LIMITED: &str = "local_rate_limited";
/// The mesh-wide limit, or the rate limit service, said no.
pub const RATE_LIMITED: &str = "request_rate_limited";
/// The rate limit service did not answer, and the limit fails closed.
pub const RATE_LIMITER_ERROR: &str = "rate_limiter_error";
/// The external authorization service refused.
pub const EXT_AUTHZ_DENIED: &str = "ext_authz_denied";
/// The external authorization service did not answer, and it fails closed.
pub const EXT_AUTHZ_ERROR: &str = "ext_authz_error";
/// Prefix of a refusal for a JWT; what is wrong with it follows in braces, words joined by `_`: `{Jwt_is_expired}`.
pub const JWT_DENIED: &str = "jwt_authn_access_denied";
/// A bulkhead (places of one caller, route or tenant) is full.
pub const BULKHEAD_FULL: &str = "bulkhead_full";
/// The limit that adaptive concurrency has learned is reached.
pub const CONCURRENCY_LIMIT: &str = "reached_concurrency_limit";
/// Admission control shed it because the destination fails too often.
pub const ADMISSION_DENIED: &str = "denied_by_admission_control";
/// A preflight was answered by the route's cross-origin rules.
pub const CORS_RESPONSE: &str = "cors_response";
/// The route's fallback answered.
pub const FALLBACK: &str = "fallback_served";
/// Nothing moved for the stream's idle time-out.
pub const STREAM_IDLE: &str = "stream_idle_timeout";
/// The stream was longer than its largest duration.
pub const MAX_DURATION: &str = "upstream_max_stream_duration_reached";
/// The connection was cut because policy no longer allows it.
pub const REVOKED: &str = "policy_revoked";
/// The upstream's name could not be resolved.
pub const DNS_FAILURE: &str = "dns_resolution_failure";
/// The proxy is going away.
pub const DRAINING: &str = "drain";
