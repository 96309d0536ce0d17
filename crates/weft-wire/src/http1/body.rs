//! A body that comes in on a connection, and what follows HTTP on it.

use super::{
    chunk::Decoder,
    link::{BodyError, Link, Shared},
};
use crate::{sniff::Prefixed, stream::Io};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// A body that is read from its connection when it is polled, so that a slow reader slows the sender down.
///
/// Dropping it before its end tells the connection that nobody wants the rest.
#[derive(Default)]
pub struct Body {
    ready: Bytes,
    trailers: Option<Box<HeaderMap>>,
    /// Where more comes from; `None` once all is here.
    link: Option<Shared>,
    on_upgrade: Option<OnUpgrade>,
}

/// The connection after HTTP: a future of the stream, once the other side has accepted.
pub struct OnUpgrade(oneshot::Receiver<Io>);

/// The other end of an [`OnUpgrade`].
pub(super) type Upgrade = oneshot::Sender<Io>;

impl OnUpgrade {
    pub(super) fn new() -> (Upgrade, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Of a stream that is at hand already.
    pub fn ready(io: Io) -> Self {
        let (sender, upgrade) = Self::new();
        // The receiver is right here.
        sender.send(io).ok();
        upgrade
    }

    /// The stream; `None` when the connection stayed with HTTP or is gone.
    pub async fn io(self) -> Option<Io> {
        self.0.await.ok()
    }
}

/// A stream that first gives the bytes that were read too far.
pub(super) fn after_http(link: &mut Link) -> Option<Io> {
    let (unread, io) = link.take()?;
    Some(if unread.is_empty() { io } else { Box::new(Prefixed::new(BytesMut::from(&unread[..]), io)) })
}

impl Body {
    /// A body of which `ready` is here.
    pub(super) fn new(ready: Bytes, link: &Shared, on_upgrade: Option<OnUpgrade>) -> Self {
        let mut body = Self { ready, trailers: None, link: None, on_upgrade };
        let mut borrowed = link.borrow_mut();
        match borrowed.decoder.is_done() {
            true => body.trailers = borrowed.decoder.trailers.take(),
            false => body.link = Some(link.clone()),
        }
        body
    }

    /// What the connection becomes if both sides leave HTTP. Only where the request asked for it.
    pub fn on_upgrade(&mut self) -> Option<OnUpgrade> {
        self.on_upgrade.take()
    }

    fn ended(&mut self, decoder: &mut Decoder) {
        self.trailers = decoder.trailers.take();
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.ready.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ready)))));
        }
        if let Some(link) = self.link.clone() {
            let mut borrowed = link.borrow_mut();
            let polled = ready!(borrowed.poll_data(cx));
            if borrowed.decoder.is_done() {
                self.ended(&mut borrowed.decoder);
                self.link = None;
                borrowed.wake_owner();
            }
            match polled {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.link.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ready = self.ready.len() as u64;
        let left = match &self.link {
            Some(link) => link.borrow().decoder.left(),
            // Trailers can be sent only after chunks.
            None if self.trailers.is_some() => None,
            None => Some(0),
        };
        left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(ready + left))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.borrow_mut().abandon();
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("ready", &self.ready.len()).field("whole", &self.link.is_none()).finish_non_exhaustive()
    }
}
