//! Retry conditions by Envoy's and gRPC's names.

use crate::{diag, link::Linker};
use weft_model::{Origin, RetryOn, limits::RETRY_ATTEMPTS_MAX};

/// Conditions and status codes as `retryOn` lists them. `retriable-headers` stands for `headers`.
pub(crate) fn conditions<'w>(
    linker: &mut Linker<'_>,
    words: impl IntoIterator<Item = &'w str>,
    headers: &[String],
    at: &Origin,
) -> RetryOn {
    let mut on = RetryOn::default();
    let mut codes_follow = false;
    for word in words.into_iter().map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset" => on.reset = true,
            "reset-before-request" => on.reset_before_request = true,
            "gateway-error" => on.gateway_error = true,
            "5xx" => on.five_xx = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "retriable-headers" if headers.is_empty() => linker.report(diag::retriable_headers_unnamed(at.clone())),
            "retriable-headers" => on.headers = headers.iter().map(|h| h.to_ascii_lowercase()).collect(),
            // Codes stand in the same list (Istio).
            "retriable-status-codes" => codes_follow = true,
            "http3-post-connect-failure" => linker.report(diag::http3_condition(at.clone())),
            name => match grpc(name) {
                Some(code) => on.grpc_status.push(code),
                None => match name.parse::<u16>().ok().filter(|c| (100..600).contains(c)) {
                    Some(code) => on.status.push(code),
                    None => linker.report(diag::unknown_retry_condition(at.clone(), name)),
                },
            },
        }
    }
    if codes_follow && on.status.is_empty() {
        linker.report(diag::retriable_codes_unnamed(at.clone()));
    }
    on
}

/// The five gRPC conditions.
fn grpc(name: &str) -> Option<u8> {
    Some(match name {
        "cancelled" => 1,
        "deadline-exceeded" => 4,
        "resource-exhausted" => 8,
        "internal" => 13,
        "unavailable" => 14,
        _ => return None,
    })
}

/// The number of further attempts, as far as one request may be multiplied at all.
pub(crate) fn bounded_attempts(linker: &mut Linker<'_>, attempts: u32, at: &Origin) -> u32 {
    if attempts > RETRY_ATTEMPTS_MAX {
        linker.report(diag::too_many_attempts(at.clone(), attempts, RETRY_ATTEMPTS_MAX));
    }
    attempts.min(RETRY_ATTEMPTS_MAX)
}
