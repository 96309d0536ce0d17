//! A whole message at once, without a connection: the same decisions that a connection takes, for the corpus and for fuzzing.

use super::{
    chunk::Decoder,
    framing::Framing,
    head::{self, HeadLimits, Malformed, RequestHead, ResponseHead, TargetRule},
};
use bytes::Bytes;
use http::{HeaderMap, Method};

/// What the first bytes of a connection are.
#[derive(Debug)]
pub enum Read<H> {
    /// A message.
    Message(Box<Message<H>>),
    /// The begin of one.
    Incomplete,
}

/// A message that is here whole.
#[derive(Debug)]
pub struct Message<H> {
    /// Its head.
    pub head: H,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers, without those that must not be trailers.
    pub trailers: Option<HeaderMap>,
    /// Bytes that it took.
    pub used: usize,
}

/// Bounds as the proxy has them.
pub const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, headers: 100 };

/// Reads a request.
///
/// # Errors
/// When it is not one.
pub fn request(bytes: &[u8], rule: TargetRule) -> Result<Read<RequestHead>, Malformed> {
    let (skip, end) = head::bounds(bytes, 0, true, LIMITS.bytes)?;
    let Some(end) = end else { return Ok(Read::Incomplete) };
    let head = head::request(&Bytes::copy_from_slice(&bytes[skip..skip + end]), rule, LIMITS, HeaderMap::new())?;
    let framing = head.framing;
    body(head, framing, bytes, skip + end, bytes.len())
}

/// Reads the final response to a request of `method`, of a connection that has ended.
///
/// # Errors
/// When it is not one.
pub fn response(bytes: &[u8], method: &Method) -> Result<Read<ResponseHead>, Malformed> {
    let Some(end) = head::end_of_response_head(bytes, 0, LIMITS.bytes)? else { return Ok(Read::Incomplete) };
    let head = head::response(&Bytes::copy_from_slice(&bytes[..end]), method, LIMITS, HeaderMap::new())?;
    let framing = head.framing;
    body(head, framing, bytes, end, bytes.len())
}

/// Decodes a body that begins at `at`, in pieces of `step` bytes.
fn body<H>(head: H, framing: Framing, bytes: &[u8], mut at: usize, step: usize) -> Result<Read<H>, Malformed> {
    let mut decoder = Decoder::new(framing);
    let mut body = Vec::new();
    let mut visible = at;
    while !decoder.is_done() {
        visible = visible.saturating_add(step.max(1)).min(bytes.len());
        loop {
            let decoded = decoder.decode(&bytes[at..visible])?;
            at += decoded.used;
            body.extend_from_slice(&decoded.data);
            if decoded.used == 0 || decoder.is_done() {
                break;
            }
        }
        if visible == bytes.len() && !decoder.is_done() && !decoder.end() {
            return Ok(Read::Incomplete);
        }
    }
    let trailers = decoder.trailers.take().map(|trailers| *trailers);
    Ok(Read::Message(Box::new(Message { head, body, trailers, used: at })))
}

/// Feeds arbitrary bytes to both decoders, whole and cut into pieces: the result must not depend on the cuts. The first byte chooses
/// the cut. For a fuzzer.
///
/// # Panics
/// When it does.
#[doc(hidden)]
pub fn fuzz_http1(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let step = usize::from(*step) + 1;
    if let Ok(Read::Message(whole)) = request(bytes, TargetRule::Browsers) {
        assert!(whole.used <= bytes.len());
        let begin = head::bounds(bytes, 0, true, LIMITS.bytes).ok().and_then(|(skip, end)| Some(skip + end?));
        let cut = begin.map(|at| body((), whole.head.framing, bytes, at, step));
        assert!(
            matches!(cut, Some(Ok(Read::Message(cut))) if cut.body == whole.body && cut.used == whole.used && cut.trailers == whole.trailers)
        );
        assert!(whole.head.headers.values().all(|value| !value.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0))));
    }
    for method in [Method::GET, Method::HEAD] {
        if let Ok(Read::Message(whole)) = response(bytes, &method) {
            assert!(whole.used <= bytes.len());
            let begin = head::end_of_response_head(bytes, 0, LIMITS.bytes).ok().flatten();
            let cut = begin.map(|at| body((), whole.head.framing, bytes, at, step));
            assert!(matches!(cut, Some(Ok(Read::Message(cut))) if cut.body == whole.body && cut.used == whole.used));
        }
    }
}
