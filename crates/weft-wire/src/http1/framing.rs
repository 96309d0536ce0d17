//! Where a message's body ends (RFC 9112 §6), decided once from its headers. Pure.

use super::head::{Malformed, Seen, decimal};
use http::{HeaderValue, Method, StatusCode, Version};

/// How a body's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After so many bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection; responses only.
    Close,
}

impl Framing {
    pub(super) fn of_request(seen: &Seen, version: Version) -> Result<Self, Malformed> {
        match (&seen.coding, &seen.length) {
            (Some(_), Some(_)) => Err(Malformed::new("there are both Content-Length and Transfer-Encoding")),
            (Some(_), None) if version == Version::HTTP_10 => Err(Malformed::new("HTTP/1.0 has no Transfer-Encoding")),
            (Some(coding), None) => chunked(coding, seen.coding_again),
            (None, Some(length)) => Ok(match self::length(length, seen.length_again)? {
                0 => Self::None,
                length => Self::Length(length),
            }),
            (None, None) => Ok(Self::None),
        }
    }

    pub(super) fn of_response(seen: &Seen, version: Version, status: StatusCode, method: &Method) -> Result<Self, Malformed> {
        if seen.coding.is_some() && seen.length.is_some() {
            return Err(Malformed::new("there are both Content-Length and Transfer-Encoding"));
        }
        let told = match (&seen.coding, &seen.length) {
            (Some(_), _) if version == Version::HTTP_10 => return Err(Malformed::new("HTTP/1.0 has no Transfer-Encoding")),
            (Some(coding), _) => chunked(coding, seen.coding_again)?,
            (None, Some(length)) => match self::length(length, seen.length_again)? {
                0 => Self::None,
                length => Self::Length(length),
            },
            (None, None) => Self::Close,
        };
        let bodiless = status.is_informational() || matches!(status.as_u16(), 204 | 304) || *method == Method::HEAD;
        let tunnel = *method == Method::CONNECT && status.is_success();
        Ok(if bodiless || tunnel { Self::None } else { told })
    }
}

/// The only coding that is understood is `chunked`, once and alone.
fn chunked(coding: &HeaderValue, again: bool) -> Result<Framing, Malformed> {
    if again {
        return Err(Malformed::new("there is more than one Transfer-Encoding"));
    }
    let bytes = coding.as_bytes();
    match () {
        () if bytes.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        () if bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) && !bytes.is_empty() => {
            Err(Malformed::status(501, "the Transfer-Encoding is not understood"))
        }
        () => Err(Malformed::new("Transfer-Encoding is not `chunked` alone")),
    }
}

fn length(value: &HeaderValue, again: bool) -> Result<u64, Malformed> {
    if again {
        return Err(Malformed::new("there is more than one Content-Length"));
    }
    decimal(value.as_bytes()).ok_or(Malformed::new("Content-Length is not a number"))
}
