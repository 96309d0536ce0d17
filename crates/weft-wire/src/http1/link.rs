//! One connection's stream with what was read of it and not yet used, and what is to be written. Server and client both drive one.

use super::{chunk::Decoder, framing::Framing, head::Malformed, limits, spare};
use crate::stream::Io;
use bytes::Bytes;
use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use weft_std::clock::{self, Instant};

/// Why the rest of a body does not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is not what its framing says.
    #[error("{0}")]
    Malformed(Malformed),
    /// The connection ended before the body did.
    #[error("the connection ended in the middle of a body")]
    Incomplete,
    /// The connection broke.
    #[error("the connection broke in the middle of a body: {0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("the body stopped coming for too long")]
    Idle,
}

/// Bytes that were read and are not used up. Holds no memory while there are none.
#[derive(Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Unread {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }
    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.end
    }
    pub(super) fn len(&self) -> usize {
        self.end - self.begin
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.begin += count;
        if self.begin == self.end {
            spare::keep_read_buffer(std::mem::take(&mut self.bytes));
            (self.begin, self.end) = (0, 0);
        }
    }

    fn append(&mut self, buffer: Vec<u8>, count: usize) {
        if self.is_empty() {
            spare::keep_read_buffer(std::mem::replace(&mut self.bytes, buffer));
            (self.begin, self.end) = (0, count);
            return;
        }
        self.shrink();
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(&buffer[..count]);
        self.end += count;
        spare::keep_read_buffer(buffer);
    }

    /// What has to wait for more is kept in no more room than it takes.
    fn shrink(&mut self) {
        if self.bytes.len() == limits::READ_BYTES || self.begin > 0 {
            let kept = self.as_slice().to_vec();
            spare::keep_read_buffer(std::mem::replace(&mut self.bytes, kept));
            (self.begin, self.end) = (0, self.bytes.len());
        }
    }

    /// The bytes themselves, for whoever takes the stream over.
    pub(super) fn take(&mut self) -> Bytes {
        let bytes = Bytes::copy_from_slice(self.as_slice());
        self.consume(self.len());
        bytes
    }
}

/// A connection, shared by what drives it and the body that comes in on it.
pub(super) struct Link {
    io: Option<Io>,
    pub unread: Unread,
    out: Vec<u8>,
    written: usize,
    unflushed: bool,
    /// The body that is coming in.
    pub decoder: Decoder,
    /// Why it does not come in whole.
    pub broken: Option<BodyError>,
    /// The caller waits to be told to send it.
    pub continue_due: bool,
    /// Nobody wants the rest of it.
    pub abandoned: bool,
    /// Since when the body has been waited for, and by whom.
    pub waiting: Option<(Instant, Waker)>,
    /// Since when bytes have been waiting to be written.
    pub stuck: Option<Instant>,
    /// Woken when the body is through or nobody wants it.
    pub owner: Option<Waker>,
    /// Client: a request's body is still being sent.
    pub uploading: Option<Waker>,
    /// Client: the response allows another request.
    pub keep_alive: bool,
    /// Client: a request is out whose response's head is not here.
    pub awaited: bool,
    /// Client: without its body, the connection is of no use to anybody.
    pub is_client: bool,
}

pub(super) type Shared = Rc<RefCell<Link>>;

impl Link {
    pub(super) fn shared(io: Io, is_client: bool) -> Shared {
        Rc::new(RefCell::new(Self {
            io: Some(io),
            unread: Unread::default(),
            out: Vec::new(),
            written: 0,
            unflushed: false,
            decoder: Decoder::new(Framing::None),
            broken: None,
            continue_due: false,
            abandoned: false,
            waiting: None,
            stuck: None,
            owner: None,
            uploading: None,
            keep_alive: true,
            awaited: false,
            is_client,
        }))
    }

    pub(super) fn is_open(&self) -> bool {
        self.io.is_some()
    }

    /// Closes the connection at once.
    pub(super) fn close(&mut self) {
        self.io = None;
        if let Some(waker) = self.uploading.take() {
            waker.wake();
        }
    }

    /// The stream, for whoever goes on with it after HTTP, with the bytes that were read too far.
    pub(super) fn take(&mut self) -> Option<(Bytes, Io)> {
        let io = self.io.take()?;
        Some((self.unread.take(), io))
    }

    /// Reads once. The count is 0 at the end of the connection.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Ok(0)) };
        let mut buffer = spare::read_buffer();
        let mut space = ReadBuf::new(&mut buffer);
        let polled = Pin::new(io).poll_read(cx, &mut space);
        let count = space.filled().len();
        match polled {
            Poll::Ready(Ok(())) if count > 0 => self.unread.append(buffer, count),
            _ => {
                spare::keep_read_buffer(buffer);
                self.unread.shrink();
            }
        }
        polled.map_ok(|()| count)
    }

    /// Notes whether the other end is still there while nothing is expected of it; what it sends ahead is kept, up to a limit.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.unread.len() < limits::PIPELINE_BYTES_MAX {
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// Where to write to; [`Self::poll_flush`] sends it.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = spare::write_buffer();
        }
        &mut self.out
    }

    pub(super) fn queued(&self) -> usize {
        self.out.len() - self.written
    }

    /// Sends what is to be written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let mut io = Pin::new(io);
        while self.written < self.out.len() {
            match io.as_mut().poll_write(cx, &self.out[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                    self.stuck = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stuck.get_or_insert_with(clock::now);
                    return Poll::Pending;
                }
            }
        }
        if self.out.capacity() > 0 {
            spare::keep_write_buffer(std::mem::take(&mut self.out));
            self.written = 0;
        }
        if self.unflushed {
            match io.poll_flush(cx) {
                Poll::Pending => {
                    self.stuck.get_or_insert_with(clock::now);
                    return Poll::Pending;
                }
                Poll::Ready(flushed) => flushed?,
            }
            self.unflushed = false;
            self.stuck = None;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Begins to receive a body; what of it is here already.
    pub(super) fn begin_body(&mut self, framing: Framing) -> Result<Bytes, Malformed> {
        self.decoder = Decoder::new(framing);
        (self.broken, self.abandoned, self.waiting) = (None, false, None);
        if self.unread.is_empty() || framing == Framing::None {
            return Ok(Bytes::new());
        }
        let decoded = self.decoder.decode(self.unread.as_slice())?;
        self.unread.consume(decoded.used);
        Ok(decoded.data)
    }

    /// The next piece of the body; `None` at its end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            if let Some(broken) = &self.broken {
                return Poll::Ready(Err(broken.clone()));
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            if !self.unread.is_empty() {
                let decoded = match self.decoder.decode(self.unread.as_slice()) {
                    Ok(decoded) => decoded,
                    Err(malformed) => {
                        self.broken = Some(BodyError::Malformed(malformed));
                        continue;
                    }
                };
                self.unread.consume(decoded.used);
                if !decoded.data.is_empty() {
                    self.waiting = None;
                    return Poll::Ready(Ok(Some(decoded.data)));
                }
                if decoded.used > 0 {
                    continue;
                }
            }
            if std::mem::take(&mut self.continue_due) {
                self.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                // Whoever writes the answer sends what is left of it.
                if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                    self.broken = Some(BodyError::Broken(error.to_string()));
                    continue;
                }
            }
            match self.poll_fill(cx) {
                Poll::Pending => {
                    let since = self.waiting.take().map_or_else(clock::now, |(since, _)| since);
                    self.waiting = Some((since, cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) if self.decoder.end() => {}
                Poll::Ready(Ok(0)) => self.broken = Some(BodyError::Incomplete),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.broken = Some(BodyError::Broken(error.to_string())),
            }
        }
    }

    /// The reader of the body has gone.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        self.waiting = None;
        if self.is_client {
            self.close();
        }
        self.wake_owner();
    }

    pub(super) fn wake_owner(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}
