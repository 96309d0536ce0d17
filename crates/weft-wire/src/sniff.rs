//! What a client speaks, told from its first bytes, which are then given back.

use crate::limits::SNIFF_BYTES_MAX;
use bytes::{Buf, BytesMut};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use weft_std::clock::Instant;

/// What the first bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// A TLS handshake record.
    Tls,
    /// An HTTP/1 request line.
    Http1,
    /// The preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
    H2,
    /// Something else, or too little to tell before the deadline.
    Other,
    /// Nothing came before the deadline: a protocol in which the server speaks first, or an idle connection.
    Nothing,
    /// The client closed without a byte.
    Closed,
}

/// A stream whose first bytes have been read and are read again.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: BytesMut,
    stream: S,
}

/// Waits for bytes until they tell the protocol, `deadline` passes, or the client closes. No byte is lost.
///
/// # Errors
/// When the connection breaks.
pub async fn sniff<S: AsyncRead + Unpin>(mut stream: S, deadline: Instant) -> io::Result<(FirstBytes, Prefixed<S>)> {
    // Small at first: it grows only for a request line that leaves doubt, and most idle connections stay small.
    let mut prefix = BytesMut::with_capacity(1024);
    let kind = loop {
        if let Some(kind) = classify(&prefix) {
            break kind;
        }
        match tokio::time::timeout_at(deadline, stream.read_buf(&mut prefix)).await {
            Ok(Ok(0)) if prefix.is_empty() => break FirstBytes::Closed,
            Ok(Ok(0)) => break FirstBytes::Other,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) if prefix.is_empty() => break FirstBytes::Nothing,
            Err(_) => break FirstBytes::Other,
        }
    };
    Ok((kind, Prefixed { prefix, stream }))
}

/// For the fuzzer: bytes that come one by one are told apart as those that come together.
#[doc(hidden)]
pub fn fuzz_sniff(bytes: &[u8]) {
    let told = (0..=bytes.len()).find_map(|end| classify(&bytes[..end]).map(|kind| (end, kind)));
    if let Some((end, kind)) = told.filter(|(end, _)| *end < SNIFF_BYTES_MAX) {
        // Further bytes make no HTTP of what was none; a line that goes on may turn out not to be HTTP.
        let whole = classify(bytes);
        assert!(whole.is_some(), "{end} bytes told {kind:?}, and more tell nothing");
    }
}

/// The protocol, or `None` while more bytes are needed to tell.
fn classify(bytes: &[u8]) -> Option<FirstBytes> {
    const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    match bytes {
        [] => None,
        // RFC 8446, section 5.1: handshake record, legacy version 3.x.
        [0x16] => None,
        [0x16, 0x03, ..] => Some(FirstBytes::Tls),
        _ if bytes.starts_with(H2_PREFACE) => Some(FirstBytes::H2),
        _ if H2_PREFACE.starts_with(bytes) => None,
        // Empty lines before a request line: whoever serves HTTP decides what to make of them, and no policy of HTTP is walked around.
        [b'\r' | b'\n', ..] => match bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')) {
            Some(begin) if begin <= EMPTY_LINES_BYTES_MAX => http1(&bytes[begin..]),
            None if bytes.len() <= EMPTY_LINES_BYTES_MAX => None,
            Some(_) | None => Some(FirstBytes::Other),
        },
        _ => http1(bytes),
    }
}

/// Bytes of empty lines before a request line that are looked past.
const EMPTY_LINES_BYTES_MAX: usize = 64;

/// A request line is a method, a space, a target, a space and `HTTP/1.x`. A usual method and the begin of a usual target suffice;
/// other words (`SET key value` of another protocol) are told apart at the end of the line.
fn http1(bytes: &[u8]) -> Option<FirstBytes> {
    const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];
    let word = bytes.iter().take_while(|byte| is_token(**byte)).count();
    // However the bytes come, in pieces or at once: no method is that long.
    if word > 32 {
        return Some(FirstBytes::Other);
    }
    let (method, rest) = bytes.split_at(word);
    match rest {
        [] => return None,
        [b' '] => return None,
        [b' ', b'/' | b'*', ..] if METHODS.contains(&method) => return Some(FirstBytes::Http1),
        [b' ', b'h' | b'H', ..] if METHODS.contains(&method) && rest.len() >= 5 && rest[1..5].eq_ignore_ascii_case(b"http") => {
            return Some(FirstBytes::Http1);
        }
        [b' ', ..] if word > 0 => {}
        _ => return Some(FirstBytes::Other),
    }
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = rest[..end].trim_ascii_end();
            let http = line.len() > 9 && matches!(&line[line.len() - 9..], b" HTTP/1.0" | b" HTTP/1.1");
            Some(if http { FirstBytes::Http1 } else { FirstBytes::Other })
        }
        None if bytes.len() >= SNIFF_BYTES_MAX || rest.contains(&0) => Some(FirstBytes::Other),
        None => None,
    }
}

/// RFC 9110, section 5.6.2, without the punctuation that no method has.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl<S> Prefixed<S> {
    /// A stream that first gives `prefix`.
    pub fn new(prefix: BytesMut, stream: S) -> Self {
        Self { prefix, stream }
    }

    /// The bytes that are still to be read again.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The stream beneath.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The parts: bytes not read again yet, and the stream beneath.
    pub fn into_parts(self) -> (BytesMut, S) {
        (self.prefix, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        if self.prefix.is_empty() {
            // Gives the memory back for the rest of the connection's life.
            self.prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_the_whole_are_told_alike() {
        for bytes in
            [format!("{} /", "x".repeat(33)), "GET / HTTP/1.1\r\n".into(), format!("-PR{}I  T/", "3".repeat(36)), "\n".repeat(200) + "GE"]
        {
            fuzz_sniff(bytes.as_bytes());
        }
    }
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use weft_std::clock;

    /// The same verdict however the bytes are cut, and the same bytes again.
    async fn check(bytes: &[u8], expected: FirstBytes) {
        for step in [1, 3, bytes.len().max(1)] {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let writer = async {
                for part in bytes.chunks(step) {
                    client.write_all(part).await.expect("written");
                    tokio::task::yield_now().await;
                }
                client.shutdown().await.expect("closed");
            };
            let reader = sniff(server, clock::now() + Duration::from_secs(5));
            let ((), sniffed) = tokio::join!(writer, reader);
            let (kind, mut stream) = sniffed.expect("alive");
            assert_eq!(kind, expected, "{:?} in steps of {step}", String::from_utf8_lossy(bytes));
            let mut again = Vec::new();
            stream.read_to_end(&mut again).await.expect("read");
            assert_eq!(again, bytes);
        }
    }

    #[tokio::test]
    async fn tells_protocols_apart() {
        check(b"", FirstBytes::Closed).await;
        check(b"\x16\x03\x01\x02\x00\x01\x00", FirstBytes::Tls).await;
        check(b"\x16\x42", FirstBytes::Other).await;
        check(b"GET / HTTP/1.1\r\n\r\n", FirstBytes::Http1).await;
        check(b"OPTIONS * HTTP/1.1\r\n\r\n", FirstBytes::Http1).await;
        check(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", FirstBytes::Http1).await;
        check(b"GET http://example.org/ HTTP/1.1\r\n\r\n", FirstBytes::Http1).await;
        check(b"PROPFIND /dav HTTP/1.1\r\n\r\n", FirstBytes::Http1).await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", FirstBytes::H2).await;
        check(b"PRI * HTTP/2.0\r\n\r\nXX", FirstBytes::Other).await;
        check(b"SET key value\r\nGET key\r\n", FirstBytes::Other).await;
        check(b"*1\r\n$4\r\nPING\r\n", FirstBytes::Other).await;
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", FirstBytes::Other).await;
        check(b"\r\n\nGET / HTTP/1.1\r\n\r\n", FirstBytes::Http1).await;
        check(&[b'\n'; 100], FirstBytes::Other).await;
        check(b"EHLO there\r\n", FirstBytes::Other).await;
        check(&[b'A'; 100], FirstBytes::Other).await;
        check(&[b"GET ".as_slice(), &[b'x'; SNIFF_BYTES_MAX]].concat(), FirstBytes::Other).await;
    }

    #[tokio::test(start_paused = true)]
    async fn silence_and_doubt_end_at_the_deadline() {
        for (sent, expected) in [(b"".as_slice(), FirstBytes::Nothing), (b"GE", FirstBytes::Other), (b"\x16", FirstBytes::Other)] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(sent).await.expect("written");
            let (kind, stream) = sniff(server, clock::now() + Duration::from_secs(1)).await.expect("alive");
            assert_eq!((kind, stream.prefix()), (expected, sent));
        }
    }
}
