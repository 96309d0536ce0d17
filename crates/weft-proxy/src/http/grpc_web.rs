//! gRPC-Web: what browsers speak, where the upstream is declared to speak gRPC (`grpc` in gRPC's documentation, PROTOCOL-WEB.md).
//!
//! The messages are gRPC's own. What differs: the content type, the trailers, which come as a last frame of the body with the flag
//! 0x80, and in the `-text` form everything is base64, padded wherever the sender flushed.

use super::body::{BodyError, Incoming};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body as _, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use weft_model::Protocol;

/// How a caller speaks gRPC-Web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Web {
    text: bool,
    /// `+proto` or the like.
    suffix: String,
}

const WEB: &str = "application/grpc-web";
const TEXT: &str = "application/grpc-web-text";
const TRAILERS: u8 = 0x80;

impl Web {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = content_type.split(';').next()?.trim().to_ascii_lowercase();
        let (text, suffix) = match (essence.strip_prefix(TEXT), essence.strip_prefix(WEB)) {
            (Some(suffix), _) => (true, suffix),
            (None, Some(suffix)) => (false, suffix),
            (None, None) => return None,
        };
        (suffix.is_empty() || suffix.starts_with('+')).then(|| Self { text, suffix: suffix.to_owned() })
    }

    /// The content type of its answers.
    pub(crate) fn content_type(&self) -> HeaderValue {
        let text = format!("{}{}", if self.text { TEXT } else { WEB }, self.suffix);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(WEB))
    }

    /// Makes the head of gRPC's answer one of gRPC-Web's.
    pub(crate) fn answer(&self, headers: &mut HeaderMap) {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, self.content_type());
    }

    /// A frame of the answer.
    pub(crate) fn frame(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => trailers_frame(&trailers),
                Err(other) => return other,
            },
        };
        Frame::data(if self.text { STANDARD.encode(data).into() } else { data })
    }
}

/// `name: value` lines, as in HTTP/1 (PROTOCOL-WEB.md, "Message framing").
fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut block = BytesMut::new();
    for (name, value) in trailers {
        block.put_slice(name.as_str().as_bytes());
        block.put_slice(b":");
        block.put_slice(value.as_bytes());
        block.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(5 + block.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(block.len()).unwrap_or(u32::MAX));
    frame.put_slice(&block);
    frame.freeze()
}

/// Makes a gRPC-Web request for a port of gRPC one of gRPC; says how to answer it.
pub(crate) fn to_grpc(protocol: Protocol, headers: &mut HeaderMap, body: &mut Incoming) -> Option<Box<Web>> {
    let web = Web::of(headers).filter(|_| protocol == Protocol::Grpc)?;
    let grpc = HeaderValue::try_from(format!("application/grpc{}", web.suffix)).ok()?;
    headers.insert(header::CONTENT_TYPE, grpc);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.remove(HeaderName::from_static("x-grpc-web"));
    headers.remove(header::ACCEPT);
    if web.text {
        // The decoded length is another one.
        headers.remove(header::CONTENT_LENGTH);
        let inner = std::mem::replace(body, Incoming::Tunnel(None));
        *body = Incoming::Text(Box::new(Decoding { inner, rest: Vec::new() }));
    }
    Some(Box::new(web))
}

/// A body in base64.
#[derive(Debug)]
pub(crate) struct Decoding {
    inner: Incoming,
    /// Up to three characters that wait for their fourth.
    rest: Vec<u8>,
}

impl Decoding {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None if self.rest.is_empty() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err("the body ends in the midst of a base64 group".into()))),
                failed => return Poll::Ready(failed),
            };
            // Trailers of a request have no place in gRPC.
            let Ok(data) = frame.into_data() else { continue };
            match decode(&mut self.rest, &data) {
                Some(decoded) if decoded.is_empty() => {}
                Some(decoded) => return Poll::Ready(Some(Ok(Frame::data(decoded)))),
                None => return Poll::Ready(Some(Err("the body is not base64".into()))),
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }
}

/// Groups of four characters, of which any may be padded; what is left over stays in `rest`.
fn decode(rest: &mut Vec<u8>, data: &[u8]) -> Option<Bytes> {
    let mut out = Vec::with_capacity((rest.len() + data.len()) / 4 * 3);
    rest.extend_from_slice(data);
    let whole = rest.len() / 4 * 4;
    let mut at = 0;
    while at < whole {
        // Up to and with the next padded group in one go.
        let padded = rest[at..whole].iter().position(|b| *b == b'=').map_or(whole, |i| at + i / 4 * 4 + 4);
        STANDARD.decode_vec(&rest[at..padded], &mut out).ok()?;
        at = padded;
    }
    rest.drain(..whole);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(content_type: &'static str) -> Option<Web> {
        Web::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]))
    }

    #[test]
    fn content_types() {
        let check = |given: &'static str, want: Option<&str>| {
            assert_eq!(web(given).map(|w| w.content_type()).as_ref().and_then(|v| v.to_str().ok()), want, "{given}");
        };
        check("application/grpc-web", Some("application/grpc-web"));
        check("application/grpc-web+proto; charset=x", Some("application/grpc-web+proto"));
        check("application/GRPC-web-text+proto", Some("application/grpc-web-text+proto"));
        check("application/grpc", None);
        check("application/grpc-webby", None);
    }

    #[test]
    fn base64_in_any_pieces_and_padded_anywhere() {
        let text = [STANDARD.encode(b"\0\0\0\0\x02ab"), STANDARD.encode(b"c"), STANDARD.encode(b"def")].concat();
        for piece in 1..text.len() {
            let (mut rest, mut all) = (Vec::new(), Vec::new());
            for part in text.as_bytes().chunks(piece) {
                all.extend(decode(&mut rest, part).expect("base64"));
            }
            assert_eq!((all.as_slice(), rest.len()), (&b"\0\0\0\0\x02abcdef"[..], 0), "pieces of {piece}");
        }
        assert_eq!(decode(&mut Vec::new(), b"a!b="), None);
    }

    #[test]
    fn trailers_become_a_frame() {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
        let plain = web("application/grpc-web").expect("web");
        let frame = plain.frame(Frame::trailers(trailers)).into_data().expect("data");
        assert_eq!(&frame[..], b"\x80\0\0\0\x0fgrpc-status:0\r\n");
        let text = web("application/grpc-web-text").expect("web");
        assert_eq!(text.frame(Frame::data(Bytes::from_static(b"abc"))).into_data().expect("data"), "YWJj");
    }
}
