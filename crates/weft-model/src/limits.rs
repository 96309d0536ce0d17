//! Bounds on what a configuration may ask for. Each has a name, a unit and a reason.

/// Longest regular expression accepted from a user, in bytes of pattern text.
pub const REGEX_PATTERN_BYTES_MAX: usize = 4096;
/// Largest compiled regular expression, in bytes; beyond it the pattern is refused rather than slow.
pub const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Longest SPIFFE ID in bytes (SPIFFE-ID §2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// Longest DNS name in bytes (RFC 1035 §2.3.4).
pub const HOSTNAME_BYTES_MAX: usize = 253;
/// Longest path that a rewrite may make, in bytes; beyond it the request is refused.
pub const REWRITE_BYTES_MAX: usize = 16 * 1024;
/// Longest body of an answer that the configuration holds, in bytes (Istio's bound).
pub const DIRECT_RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Most alternatives (match blocks) in one rule, after a delegate's are multiplied with those of its root.
pub const MATCHES_PER_RULE_MAX: usize = 1024;
/// Most further attempts of one request: with the first, a request is sent ten times at most.
pub const RETRY_ATTEMPTS_MAX: u32 = 9;
/// Longest format of an access log, in bytes.
pub const LOG_FORMAT_BYTES_MAX: usize = 16 * 1024;
/// Most values in a JSON access log.
pub const LOG_LABELS_MAX: usize = 256;
/// Longest CEL expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4096;
/// Deepest nesting in a CEL expression.
pub const EXPRESSION_DEPTH_MAX: usize = 32;
/// Most operators, names and values in a CEL expression.
pub const EXPRESSION_NODES_MAX: usize = 512;
/// Longest key of a rate limit or bulkhead, in bytes; a longer one is replaced by its hash.
pub const LIMIT_KEY_BYTES_MAX: usize = 256;
/// Longest token (JWT) that is read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Most keys of one issuer.
pub const JWKS_KEYS_MAX: usize = 64;
/// Longest JWK set, in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
