//! gRPC status codes by name.

/// Names by code (gRPC, `statuscodes.md`).
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The code of a status given by name, in any case, or by number.
pub fn grpc_code(name: &str) -> Option<u8> {
    let by_name = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name)).and_then(|i| u8::try_from(i).ok());
    by_name.or_else(|| name.parse().ok().filter(|code| *code <= 16))
}

/// The name of a code; `unknown` for one that is none.
pub fn grpc_name(code: u8) -> &'static str {
    NAMES.get(usize::from(code)).copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes() {
        assert_eq!((grpc_code("unavailable"), grpc_code("14"), grpc_code("17"), grpc_code("x")), (Some(14), Some(14), None, None));
        assert_eq!((grpc_name(14), grpc_name(99)), ("UNAVAILABLE", "unknown"));
    }
}
