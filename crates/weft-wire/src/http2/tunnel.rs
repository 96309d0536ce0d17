//! A stream as bytes in both directions, for what CONNECT makes of it (RFC 9113 §8.5, RFC 8441).
//!
//! Half-close carries over: the end of one direction is END_STREAM, and the other goes on. A writer that is dropped without being
//! shut down resets the stream, as a TCP connection would be (RFC 9113 §8.5).

use super::{Body, error::Error, limits::TUNNEL_BYTES_MAX};
use bytes::{Buf, Bytes};
use http_body::Frame;
use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Default)]
struct Pipe {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// The writer has said all, or broke off.
    end: Option<Result<(), Error>>,
    /// Nobody reads any more.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The body of the message that opens a tunnel: what its [`TunnelWriter`] writes.
pub struct TunnelBody(Rc<RefCell<Pipe>>);

/// Writes into a [`TunnelBody`].
pub struct TunnelWriter(Rc<RefCell<Pipe>>);

/// Both directions.
pub struct Tunnel {
    body: Body,
    unread: Bytes,
    writer: TunnelWriter,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tunnel({:?})", self.body)
    }
}

/// A body, and what writes it.
pub fn tunnel() -> (TunnelWriter, TunnelBody) {
    let pipe = Rc::<RefCell<Pipe>>::default();
    (TunnelWriter(pipe.clone()), TunnelBody(pipe))
}

impl Tunnel {
    /// Reads from the peer's body, writes by `writer`.
    pub fn new(body: Body, writer: TunnelWriter) -> Self {
        Self { body, unread: Bytes::new(), writer }
    }
}

impl http_body::Body for TunnelBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut pipe = self.0.borrow_mut();
        if let Some(data) = pipe.queue.pop_front() {
            pipe.bytes -= data.len();
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &pipe.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error.clone()))),
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let pipe = self.0.borrow();
        pipe.queue.is_empty() && pipe.end == Some(Ok(()))
    }
}

impl Drop for TunnelBody {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.closed = true;
        pipe.queue.clear();
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
    }
}

impl TunnelWriter {
    fn end(&self, how: Result<(), Error>) {
        let mut pipe = self.0.borrow_mut();
        if pipe.end.is_none() {
            pipe.end = Some(how);
        }
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.closed || pipe.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = bytes.len().min(TUNNEL_BYTES_MAX.saturating_sub(pipe.bytes));
        if n == 0 && !bytes.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.queue.push_back(Bytes::copy_from_slice(&bytes[..n]));
        pipe.bytes += n;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(n))
    }
}

impl Drop for TunnelWriter {
    fn drop(&mut self) {
        self.end(Err(Error::Closed));
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(http_body::Body::poll_frame(Pin::new(&mut this.body), cx)) {
                // Trailers have no place among bytes.
                Some(Ok(frame)) => this.unread = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..n]);
        this.unread.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer.poll_write(cx, bytes)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.end(Ok(()));
        Poll::Ready(Ok(()))
    }
}
