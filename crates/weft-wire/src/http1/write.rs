//! Heads and bodies on their way out: from values to bytes. Pure.

use super::head;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Not at all.
    None,
    /// So many bytes are left to come.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the connection is closed.
    Close,
}

impl Writing {
    pub(super) fn of_request(exact: Option<u64>) -> Self {
        match exact {
            Some(0) => Self::None,
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }

    /// Appends a piece of the body; false when it is more than was announced.
    pub(super) fn data(&mut self, out: &mut Vec<u8>, data: &[u8]) -> bool {
        if data.is_empty() {
            return true;
        }
        match self {
            Self::None => return false,
            Self::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return false,
            },
            Self::Chunked => {
                hex(out, data.len());
                out.extend_from_slice(b"\r\n");
            }
            Self::Close => {}
        }
        out.extend_from_slice(data);
        if *self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
        true
    }

    /// Appends the end; false when less came than was announced.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>) -> bool {
        match self {
            Self::Length(left) if *left > 0 => return false,
            Self::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| !head::is_no_trailer(name)) {
                    line(out, name, value);
                }
                out.extend_from_slice(b"\r\n");
            }
            Self::None | Self::Length(_) | Self::Close => {}
        }
        *self = Self::None;
        true
    }
}

/// Writes a request's head. Its length is told by `writing`, whatever the headers say.
pub(super) fn request(out: &mut Vec<u8>, method: &Method, target: &Uri, headers: &HeaderMap, writing: Writing) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    match (target.path_and_query(), target.authority()) {
        (_, Some(authority)) if *method == Method::CONNECT => out.extend_from_slice(authority.as_str().as_bytes()),
        (Some(path), _) if path.as_str().starts_with(['/', '*']) => out.extend_from_slice(path.as_str().as_bytes()),
        (Some(path), _) => {
            out.push(b'/');
            out.extend_from_slice(path.as_str().as_bytes());
        }
        (None, _) => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // First, as RFC 9110 §7.2 asks.
    if let Some(host) = headers.get(header::HOST) {
        line(out, &header::HOST, host);
    }
    for (name, value) in headers {
        if *name != header::HOST && *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            line(out, name, value);
        }
    }
    match writing {
        // RFC 9110 §8.6: methods that give a body a meaning say that there is none.
        Writing::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => out.extend_from_slice(b"content-length: 0\r\n"),
        Writing::Length(length) => content_length(out, length),
        Writing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Writing::None | Writing::Close => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// What the framing of a response depends on besides its own headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub head: bool,
    pub connect: bool,
    /// The caller speaks HTTP/1.1.
    pub is_new: bool,
    /// The connection is to go on, as far as the caller is concerned.
    pub keep_alive: bool,
}

/// Writes a response's head; answers how its body is written and whether the connection goes on.
pub(super) fn response(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, exact: Option<u64>, asked: Asked) -> (Writing, bool) {
    let leaves = status == StatusCode::SWITCHING_PROTOCOLS || (asked.connect && status.is_success());
    let silent = leaves || status.is_informational() || status == StatusCode::NO_CONTENT;
    let bodiless = silent || asked.head || status == StatusCode::NOT_MODIFIED;
    let writing = match exact {
        _ if bodiless => Writing::None,
        Some(length) => Writing::Length(length),
        None if asked.is_new => Writing::Chunked,
        None => Writing::Close,
    };
    let closes = || headers.get_all(header::CONNECTION).iter().any(says_close);
    let keep_alive = asked.keep_alive && writing != Writing::Close && !(headers.contains_key(header::CONNECTION) && closes());
    status_line(out, status);
    let mut dated = false;
    for (name, value) in headers {
        if *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING || (*name == header::CONNECTION && !leaves) {
            continue;
        }
        dated |= *name == header::DATE;
        line(out, name, value);
    }
    match (writing, headers.get(header::CONTENT_LENGTH)) {
        (Writing::Length(length), _) => content_length(out, length),
        (Writing::Chunked, _) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // What a GET would have got (RFC 9110 §8.6).
        (Writing::None, Some(length)) if !silent => line(out, &header::CONTENT_LENGTH, length),
        (Writing::None, None) if asked.head => {
            if let Some(length) = exact.filter(|length| *length > 0) {
                content_length(out, length);
            }
        }
        (Writing::None | Writing::Close, _) => {}
    }
    if !dated {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&super::date::now());
        out.extend_from_slice(b"\r\n");
    }
    if !keep_alive && !leaves {
        out.extend_from_slice(b"connection: close\r\n");
    } else if !asked.is_new && !leaves {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (writing, keep_alive)
}

/// The whole answer to what could not be read.
pub(super) fn refusal(out: &mut Vec<u8>, status: StatusCode, reason: &str) {
    status_line(out, status);
    out.extend_from_slice(b"server: weft\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ndate: ");
    out.extend_from_slice(&super::date::now());
    out.extend_from_slice(b"\r\n");
    content_length(out, reason.len() as u64 + 1);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(reason.as_bytes());
    out.push(b'\n');
}

fn says_close(value: &HeaderValue) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

fn hex(out: &mut Vec<u8>, value: usize) {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[value >> (place * 4) & 15]);
    }
}
