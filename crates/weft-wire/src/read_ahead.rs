//! Large reads beneath TLS while much comes in, and none of their memory while little does.
//!
//! The TLS library reads a socket in pieces of four kilobytes, so that each record of bulk data costs five system calls. A read that
//! is filled whole shows that more is waiting: from then on as much is read at once as there is, until a read comes back short.

use crate::limits::READ_AHEAD_BYTES;
use bytes::{Buf, BytesMut};
use std::{
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A stream that reads ahead while it pays.
#[derive(Debug)]
pub struct ReadAhead<S> {
    stream: S,
    /// Read and not given yet. Without memory unless much comes in.
    buffer: BytesMut,
    bulk: bool,
}

impl<S> ReadAhead<S> {
    /// Of a stream of which nothing was read ahead.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new(), bulk: false }
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Reads as much as there is, once the buffer is empty.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.buffer.reserve(READ_AHEAD_BYTES);
        // A read is without state: a future of it may be dropped and made anew.
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx);
        if !matches!(read, Poll::Ready(Ok(count)) if count > READ_AHEAD_BYTES / 4) {
            self.bulk = false;
        }
        if self.buffer.is_empty() {
            // Nothing is there, or it is the end: an idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        read.map_ok(|_| ())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.buffer.is_empty() && !this.bulk {
            let (wanted, before) = (out.remaining(), out.filled().len());
            ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
            this.bulk = wanted > 0 && out.filled().len() - before == wanted;
            return Poll::Ready(Ok(()));
        }
        if this.buffer.is_empty() {
            ready!(this.poll_fill(cx))?;
        }
        let count = this.buffer.len().min(out.remaining());
        out.put_slice(&this.buffer[..count]);
        this.buffer.advance(count);
        if this.buffer.is_empty() && !this.bulk {
            this.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives as much as is asked for, as a socket with much in it does, and counts.
    struct Counted {
        left: usize,
        reads: usize,
    }

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let count = out.remaining().min(self.left);
            (self.left, self.reads) = (self.left - count, self.reads + 1);
            out.put_slice(&vec![7; count]);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn much_is_read_in_few_pieces_and_little_as_it_comes() {
        let mut stream = ReadAhead::new(Counted { left: 1 << 20, reads: 0 });
        let (mut piece, mut total) = ([0; 4096], 0);
        loop {
            match stream.read(&mut piece).await.expect("read") {
                0 => break,
                count => total += count,
            }
        }
        assert_eq!(total, 1 << 20);
        assert!(stream.stream.reads <= (1 << 20) / READ_AHEAD_BYTES + 4, "{} reads", stream.stream.reads);
        assert_eq!(stream.buffer.capacity(), 0, "nothing is kept at the end");

        let mut stream = ReadAhead::new(Counted { left: 100, reads: 0 });
        assert_eq!(stream.read(&mut piece).await.expect("read"), 100);
        assert_eq!((stream.stream.reads, stream.buffer.capacity()), (1, 0), "a short message costs one read and no memory");
    }
}
