//! Bodies on their way in: from bytes of the connection to bytes of the message. Pure.

use super::{
    framing::Framing,
    head::{self, Malformed},
    limits,
};
use bytes::Bytes;
use http::HeaderMap;

/// What is still to come of a body.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    extension_bytes: usize,
    /// Trailers, once they are here.
    pub trailers: Option<Box<HeaderMap>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Close,
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// Result of one step.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Bytes of the connection that are used up.
    pub used: usize,
    /// Bytes of the body; empty when more must come in first, or at the end.
    pub data: Bytes,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::ChunkLine,
            Framing::Close => State::Close,
        };
        Self { state, extension_bytes: 0, trailers: None }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that are left, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// The connection has ended. True when that is how this body ends.
    pub(super) fn end(&mut self) -> bool {
        if self.state == State::Close {
            self.state = State::Done;
        }
        self.is_done()
    }

    /// Takes from `input` all that is there: many small chunks make one piece.
    pub(super) fn decode(&mut self, input: &[u8]) -> Result<Decoded, Malformed> {
        match self.state {
            State::Length(left) => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let left = left - take as u64;
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                Ok(Decoded { used: take, data: Bytes::copy_from_slice(&input[..take]) })
            }
            State::Close => Ok(Decoded { used: input.len(), data: Bytes::copy_from_slice(input) }),
            State::Done => Ok(Decoded { used: 0, data: Bytes::new() }),
            _ => self.decode_chunks(input),
        }
    }

    fn decode_chunks(&mut self, input: &[u8]) -> Result<Decoded, Malformed> {
        let mut data = Vec::new();
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::ChunkLine => {
                    let Some(line) = line(rest, limits::CHUNK_LINE_BYTES_MAX, "CHUNK_LINE_BYTES_MAX")? else { break };
                    let (size, extension) = chunk_size(line)?;
                    self.extension_bytes += extension;
                    if self.extension_bytes > limits::CHUNK_EXTENSION_BYTES_MAX {
                        return Err(Malformed::limit(413, "CHUNK_EXTENSION_BYTES_MAX", "there are too many chunk extensions"));
                    }
                    used += line.len() + 2;
                    self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                }
                State::ChunkData(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if take == 0 {
                        break;
                    }
                    if data.is_empty() {
                        data.reserve_exact(take.max(rest.len().min(limits::READ_BYTES)));
                    }
                    data.extend_from_slice(&rest[..take]);
                    used += take;
                    let left = left - take as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::ChunkLine;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(Malformed::new("a chunk is longer than it says")),
                },
                State::Trailers => {
                    let Some(end) = end_of_trailers(rest)? else { break };
                    if end > 2 {
                        self.trailers =
                            Some(Box::new(head::trailers(&Bytes::copy_from_slice(&rest[..end]))?)).filter(|map| !map.is_empty());
                    }
                    used += end;
                    self.state = State::Done;
                }
                State::Done | State::Length(_) | State::Close => break,
            }
        }
        Ok(Decoded { used, data: data.into() })
    }
}

/// A whole line without its end, `None` when it has not come in yet.
fn line<'a>(bytes: &'a [u8], most: usize, limit: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
    match memchr::memchr(b'\n', &bytes[..bytes.len().min(most)]) {
        Some(0) => Err(Malformed::new("a line of the chunked coding ends with a bare line feed")),
        Some(at) if bytes[at - 1] != b'\r' => Err(Malformed::new("a line of the chunked coding ends with a bare line feed")),
        Some(at) => Ok(Some(&bytes[..at - 1])),
        None if bytes.len() >= most => Err(Malformed::limit(413, limit, "a line of the chunked coding is too long")),
        None => {
            // Said at once, and not when the line ends: whoever does not send a size may never send an end.
            let digits = bytes.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            match bytes.get(digits) {
                Some(b';' | b' ' | b'\t' | b'\r') if digits > 0 => Ok(None),
                None => Ok(None),
                Some(_) => Err(Malformed::new("a chunk has no size")),
            }
        }
    }
}

/// RFC 9112 §7.1: hexadecimal digits, then perhaps extensions. The size, and the bytes of the extensions.
fn chunk_size(line: &[u8]) -> Result<(u64, usize), Malformed> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 {
        return Err(Malformed::new("a chunk has no size"));
    }
    // 15 digits are a quintillion bytes: nothing near the overflow is meant.
    if digits > 15 {
        return Err(Malformed::new("a chunk's size is too large"));
    }
    let size = line[..digits].iter().fold(0_u64, |size, b| size << 4 | u64::from(char::from(*b).to_digit(16).unwrap_or_default()));
    let extension = &line[digits..];
    if !extensions_are_legal(extension) {
        return Err(Malformed::new("a chunk's size is followed by something else than extensions"));
    }
    Ok((size, extension.len()))
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
fn extensions_are_legal(mut rest: &[u8]) -> bool {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let skip = |bytes: &mut &[u8]| {
        let count = bytes.iter().take_while(|b| blank(b)).count();
        *bytes = &bytes[count..];
    };
    let token = |bytes: &mut &[u8]| {
        let count = bytes.iter().take_while(|b| head::is_token(**b)).count();
        *bytes = &bytes[count..];
        count > 0
    };
    while !rest.is_empty() {
        skip(&mut rest);
        let [b';', after @ ..] = rest else { return false };
        rest = after;
        skip(&mut rest);
        if !token(&mut rest) {
            return false;
        }
        let mut ahead = rest;
        skip(&mut ahead);
        let [b'=', after @ ..] = ahead else { continue };
        rest = after;
        skip(&mut rest);
        let legal = if rest.first() == Some(&b'"') { quoted(&mut rest) } else { token(&mut rest) };
        if !legal {
            return false;
        }
    }
    true
}

fn quoted(bytes: &mut &[u8]) -> bool {
    let mut at = 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => break,
            Some(b'\\') if bytes.get(at + 1).is_some_and(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)) => at += 2,
            Some(b) if *b != b'\\' && (*b == b'\t' || (*b >= b' ' && *b != 0x7f)) => at += 1,
            _ => return false,
        }
    }
    *bytes = &bytes[at + 1..];
    true
}

/// Where the trailers end: after their empty line, which may be all of them.
fn end_of_trailers(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Some(2));
    }
    match head::end_of_head(&bytes[..bytes.len().min(limits::TRAILER_BYTES_MAX)], 0)? {
        Some(end) => Ok(Some(end)),
        None if bytes.len() >= limits::TRAILER_BYTES_MAX => Err(Malformed::limit(431, "TRAILER_BYTES_MAX", "the trailers are too long")),
        None => Ok(None),
    }
}
