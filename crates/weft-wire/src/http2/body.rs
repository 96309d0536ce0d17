//! The bodies of messages: what comes in on a stream, and what is sent out on one.

use super::{
    connection::{Role, Shared, drain},
    error::{Error, ErrorCode},
    send::Sent,
    streams::Key,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body that comes in on a stream. Taking its data gives the peer window to send more; dropping it early tells a server that
/// the rest is not wanted.
pub struct Body {
    stream: Option<(Shared, Key)>,
}

impl Body {
    /// One that was over with its head.
    pub fn empty() -> Self {
        Self { stream: None }
    }

    /// The caller has counted the holder.
    pub(crate) fn of(core: Shared, key: Key) -> Self {
        Self { stream: Some((core, key)) }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http2::Body({})", self.stream.as_ref().map_or(0, |(_, key)| key.id))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some((core, key)) = &self.stream else { return Poll::Ready(None) };
        let mut core = core.borrow_mut();
        let Some(stream) = core.streams.at(*key) else { return Poll::Ready(None) };
        if let Some(data) = stream.queue.pop_front() {
            core.release(*key, data.len() as u32);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        // What failed after the message was whole does not concern its reader.
        if stream.recv_ended {
            return Poll::Ready(stream.trailers.take().map(|t| Ok(Frame::trailers(t))));
        }
        if let Some(error) = &stream.failed {
            return Poll::Ready(Some(Err(error.clone())));
        }
        match &mut stream.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => stream.reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let Some((core, key)) = &self.stream else { return true };
        let mut core = core.borrow_mut();
        core.streams.at(*key).is_none_or(|s| s.recv_ended && s.queue.is_empty() && s.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let Some((core, key)) = &self.stream else { return SizeHint::with_exact(0) };
        let mut core = core.borrow_mut();
        let Some(stream) = core.streams.at(*key) else { return SizeHint::with_exact(0) };
        let here: u64 = stream.queue.iter().map(|data| data.len() as u64).sum();
        match (stream.awaited, stream.recv_ended) {
            (Some(rest), _) => SizeHint::with_exact(here + rest),
            (None, true) if stream.trailers.is_none() => SizeHint::with_exact(here),
            (None, _) => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some((core, key)) = &self.stream else { return };
        let mut core = core.borrow_mut();
        let client = core.role == Role::Client;
        let Some(stream) = core.streams.at(*key) else { return };
        stream.wanted = false;
        let unread = drain(stream);
        let cancel = client && stream.open && !stream.recv_ended;
        core.release_connection(unread);
        if cancel {
            core.reset(key.id, ErrorCode::CANCEL, "nobody reads the response");
        }
        core.streams.let_go(*key, 1);
    }
}

/// A body on its way out.
pub(crate) struct Outgoing<B> {
    body: B,
    /// What it gave and what has not gone out yet.
    piece: Bytes,
    /// The piece is the last.
    last: bool,
}

impl<B> Outgoing<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    pub(crate) fn new(body: B) -> Self {
        Self { body, piece: Bytes::new(), last: false }
    }

    /// Sends what can be sent. `Ready` when there is no more to do, however the stream ended.
    pub(crate) fn poll_send(&mut self, core: &Shared, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        if !core.borrow_mut().streams.at(key).is_some_and(|s| s.open) {
            return Poll::Ready(());
        }
        loop {
            if !self.piece.is_empty() || self.last {
                match core.borrow_mut().send_data(key, &mut self.piece, self.last) {
                    Sent::All if !self.last => {}
                    Sent::All | Sent::Gone => return Poll::Ready(()),
                    Sent::Blocked => return Poll::Pending,
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.last = true,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (self.piece, self.last) = (data, self.body.is_end_stream()),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        core.borrow_mut().send_trailers(key, &trailers);
                        return Poll::Ready(());
                    }
                },
                Some(Err(_)) => {
                    // §8.1: neither side may take a torn message for a whole one.
                    core.borrow_mut().abandon(key, ErrorCode::INTERNAL_ERROR, "the body broke");
                    return Poll::Ready(());
                }
            }
        }
    }
}
