//! Bodies: streamed, counted, and closed with the exchange that they belong to.

use super::{
    exchange::{Ended, Exchange},
    grpc_messages::Received,
    pool::Lease,
};
use crate::{
    limits::REPLAY_BYTES_MAX,
    upstream::{Admitted, InFlight},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use weft_wire::{
    http1::{self, OnUpgrade},
    http2,
};

/// Body that an engine reads from a connection: of a request on its way in, of an upstream's response.
#[derive(Debug)]
pub(crate) enum Incoming {
    H1(http1::Body),
    H2(http2::Body),
    /// No body: what follows the head is a tunnel over HTTP/2.
    Tunnel(Option<Box<http2::Tunnel>>),
    /// Some of it was looked at already.
    Read(VecDeque<Frame<Bytes>>, Option<Box<Self>>),
    /// Of gRPC-Web's text form, decoded.
    Text(Box<super::grpc_web::Decoding>),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::H1(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::H2(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Tunnel(_) => Poll::Ready(None),
            Self::Read(first, rest) => match first.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => match rest {
                    Some(rest) => Pin::new(&mut **rest).poll_frame(cx),
                    None => Poll::Ready(None),
                },
            },
            Self::Text(body) => body.poll_frame(cx),
        }
    }
    fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(body) => body.is_end_stream(),
            Self::H2(body) => body.is_end_stream(),
            Self::Tunnel(_) => true,
            Self::Read(first, rest) => first.is_empty() && rest.as_ref().is_none_or(|rest| rest.is_end_stream()),
            Self::Text(body) => body.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(body) => body.size_hint(),
            Self::H2(body) => body.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Read(first, rest) => {
                let read: u64 = first.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
                let left = rest.as_ref().map_or(SizeHint::with_exact(0), |rest| rest.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(read + left.lower());
                if let Some(upper) = left.upper() {
                    hint.set_upper(read + upper);
                }
                hint
            }
            Self::Text(_) => SizeHint::default(),
        }
    }
}

impl Incoming {
    /// What the connection becomes if both sides leave HTTP; `None` where that was not asked for.
    pub(crate) fn on_upgrade(&mut self) -> Option<OnUpgrade> {
        match self {
            Self::H1(body) => body.on_upgrade(),
            Self::H2(_) | Self::Text(_) => None,
            Self::Tunnel(tunnel) => Some(OnUpgrade::ready(tunnel.take()?)),
            Self::Read(_, rest) => rest.as_mut().and_then(|rest| rest.on_upgrade()),
        }
    }
    /// Puts frames that were looked at before the others again.
    pub(crate) fn put_back(&mut self, frames: Vec<Frame<Bytes>>) {
        if !frames.is_empty() {
            let rest = std::mem::replace(self, Self::Read(VecDeque::new(), None));
            *self = Self::Read(frames.into(), Some(Box::new(rest)));
        }
    }
}

/// Error of any body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What lasts as long as an exchange and is given back at its end.
#[derive(Default)]
pub(crate) struct Lasting {
    /// The upstream connection in use.
    pub lease: Option<Lease>,
    /// A counted place among the requests of the cluster, with its retries.
    pub admitted: Option<Admitted>,
    /// The count at the endpoint.
    pub in_flight: Option<InFlight>,
}

impl Lasting {
    /// Gives everything back; the connection to its pool only when the exchange was `complete`.
    pub(crate) fn release(&mut self, complete: bool) {
        if let Some(lease) = self.lease.take() {
            lease.give_back(complete);
        }
        (self.admitted, self.in_flight) = (None, None);
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.release(false);
    }
}

/// Body of an answer.
pub(crate) struct ResponseBody {
    inner: Inner,
    sent: u64,
    exchange: Option<Box<Exchange>>,
    /// The route's time-out also bounds the answer's body.
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    /// How long nothing may come.
    idle: Option<Idle>,
    /// It goes out as gRPC-Web.
    web: Option<Box<super::grpc_web::Web>>,
}

/// A timer that begins anew with each frame.
struct Idle {
    limit: std::time::Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

enum Inner {
    Empty,
    Full(Option<Bytes>),
    Upstream(Incoming),
    Tunnel(http2::TunnelBody),
}

impl ResponseBody {
    /// Of the upstream; closes `exchange` when it ends.
    pub(crate) fn upstream(body: Incoming, mut exchange: Box<Exchange>, deadline: Option<weft_std::clock::Instant>) -> Self {
        let more = !body.is_end_stream();
        let web = exchange.facts.grpc_web.take();
        let deadline = deadline.filter(|_| more).map(|at| Box::pin(tokio::time::sleep_until(at)));
        let idle_ms = exchange.facts.route.as_ref().and_then(|r| r.idle_timeout_ms).filter(|_| more);
        let idle = crate::upstream::millis(idle_ms).map(|limit| Idle { limit, timer: Box::pin(tokio::time::sleep(limit)) });
        Self { inner: Inner::Upstream(body), sent: 0, exchange: Some(exchange), deadline, idle, web }
    }
    /// Made here.
    pub(crate) fn local(bytes: Bytes, exchange: Option<Box<Exchange>>) -> Self {
        let inner = if bytes.is_empty() { Inner::Empty } else { Inner::Full(Some(bytes)) };
        Self { inner, sent: 0, exchange, deadline: None, idle: None, web: None }
    }
    /// What a tunnel writes; its exchange is closed by the tunnel itself.
    pub(crate) fn tunnel(body: http2::TunnelBody) -> Self {
        Self { inner: Inner::Tunnel(body), sent: 0, exchange: None, deadline: None, idle: None, web: None }
    }
    fn close(&mut self, ended: Ended) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.close(self.sent, ended);
        }
    }
    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(exchange) = &mut self.exchange {
            exchange.trailers(trailers);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.close(Ended::TimedOut);
            return Poll::Ready(Some(Err("the route's time-out passed".into())));
        }
        let polled = match &mut self.inner {
            Inner::Empty => None,
            Inner::Full(bytes) => bytes.take().map(|b| Ok(Frame::data(b))),
            Inner::Tunnel(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
            Inner::Upstream(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(polled) => polled,
                Poll::Pending => {
                    let quiet = self.idle.as_mut().is_some_and(|idle| idle.timer.as_mut().poll(cx).is_ready());
                    if !quiet {
                        return Poll::Pending;
                    }
                    self.close(Ended::Idle);
                    return Poll::Ready(Some(Err("nothing came for the route's idle time-out".into())));
                }
            },
        };
        if let Some(idle) = &mut self.idle {
            idle.timer.as_mut().reset(weft_std::clock::now() + idle.limit);
        }
        match &polled {
            None => self.close(Ended::Complete),
            Some(Err(_)) => self.close(Ended::UpstreamBroke),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.sent += data.len() as u64;
                    self.exchange.iter().for_each(|exchange| exchange.response_messages.add(data));
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.trailers(trailers);
                }
            }
        }
        Poll::Ready(match (polled, &self.web) {
            (Some(Ok(frame)), Some(web)) => Some(Ok(web.frame(frame))),
            (polled, _) => polled,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty | Inner::Full(None) => true,
            Inner::Full(Some(_)) => false,
            Inner::Upstream(body) => body.is_end_stream(),
            Inner::Tunnel(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.web.is_some() {
            return SizeHint::default();
        }
        match &self.inner {
            Inner::Empty | Inner::Full(None) => SizeHint::with_exact(0),
            Inner::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Upstream(body) => body.size_hint(),
            Inner::Tunnel(_) => SizeHint::default(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // An engine does not poll again after a frame that it knows to be the last.
        let ended = if self.is_end_stream() { Ended::Complete } else { Ended::DownstreamLeft };
        self.close(ended);
    }
}

/// Body of a request on its way upstream.
pub(crate) enum RequestBody {
    /// None.
    Empty,
    /// At hand, for a copy.
    Whole(Option<Bytes>),
    /// What a tunnel writes.
    Tunnel(http2::TunnelBody),
    /// Passed on as it comes; can be sent once.
    Once {
        /// The caller's body.
        body: Incoming,
        /// Counts its bytes.
        received: Rc<Received>,
        /// Set when it is through: until then the connection is not free.
        sent: Rc<Cell<bool>>,
    },
    /// Passed on and remembered, so that it can be sent again.
    Replayed {
        /// Where it is kept.
        replay: Rc<Replay>,
        /// Attempts get increasing numbers; only the newest may read.
        attempt: u32,
        /// Frames already sent by this attempt.
        at: usize,
        /// Set when it is through.
        sent: Rc<Cell<bool>>,
    },
}

/// What has come in of a body that may be sent again.
pub(crate) struct Replay {
    body: RefCell<Incoming>,
    kept: RefCell<VecDeque<Bytes>>,
    trailers: RefCell<Option<HeaderMap>>,
    bytes: Cell<usize>,
    received: Rc<Received>,
    ended: Cell<bool>,
    attempt: Cell<u32>,
}

impl Replay {
    pub(crate) fn new(body: Incoming, received: Rc<Received>) -> Rc<Self> {
        Rc::new(Self {
            body: RefCell::new(body),
            kept: RefCell::default(),
            trailers: RefCell::default(),
            bytes: Cell::new(0),
            received,
            ended: Cell::new(false),
            attempt: Cell::new(0),
        })
    }
    /// All of it, once it has come in whole and if it was kept.
    pub(crate) fn all(&self) -> Option<Bytes> {
        (self.ended.get() && self.is_whole())
            .then(|| self.kept.borrow().iter().fold(Vec::new(), |all, part| [&all[..], part].concat()).into())
    }
    /// Can it still be sent from its beginning?
    pub(crate) fn is_whole(&self) -> bool {
        self.bytes.get() <= REPLAY_BYTES_MAX
    }
    /// The body for the next attempt. Those of earlier attempts fail from now on.
    pub(crate) fn next_attempt(self: &Rc<Self>, sent: Rc<Cell<bool>>) -> RequestBody {
        self.attempt.set(self.attempt.get() + 1);
        RequestBody::Replayed { replay: self.clone(), attempt: self.attempt.get(), at: 0, sent }
    }

    fn poll(&self, cx: &mut Context<'_>, at: &mut usize) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(kept) = self.kept.borrow().get(*at) {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if self.ended.get() {
            return Poll::Ready(self.trailers.borrow_mut().take().map(|t| Ok(Frame::trailers(t))));
        }
        let polled = ready!(Pin::new(&mut *self.body.borrow_mut()).poll_frame(cx));
        match &polled {
            None => self.ended.set(true),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data, at);
                }
                self.ended.set(frame.is_trailers() || self.body.borrow().is_end_stream());
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(polled)
    }

    fn keep(&self, data: &Bytes, at: &mut usize) {
        self.received.add(data);
        self.bytes.set(self.bytes.get() + data.len());
        match self.is_whole() {
            true => {
                self.kept.borrow_mut().push_back(data.clone());
                *at += 1;
            }
            // Too long to send again: what was kept is not needed any more.
            false => {
                self.kept.borrow_mut().clear();
                *at = 0;
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Tunnel(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Once { body, received, sent } => {
                let polled = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(Ok(frame)) = &polled {
                    frame.data_ref().into_iter().for_each(|data| received.add(data));
                }
                sent.set(polled.is_none() || body.is_end_stream());
                Poll::Ready(polled)
            }
            Self::Replayed { replay, attempt, at, sent } => {
                if replay.attempt.get() != *attempt {
                    return Poll::Ready(Some(Err("another attempt sends this body now".into())));
                }
                let polled = ready!(replay.poll(cx, at));
                sent.set(replay.ended.get() && *at >= replay.kept.borrow().len());
                Poll::Ready(polled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(_)) => false,
            Self::Tunnel(body) => body.is_end_stream(),
            Self::Once { body, .. } => body.is_end_stream(),
            Self::Replayed { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Whole(None) => SizeHint::with_exact(0),
            Self::Tunnel(_) => SizeHint::default(),
            Self::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Once { body, .. } => body.size_hint(),
            Self::Replayed { replay, at: 0, .. } if replay.bytes.get() == 0 => replay.body.borrow().size_hint(),
            Self::Replayed { replay, .. } => {
                // What was read and what is to come, together as the first attempt saw them.
                let rest = replay.body.borrow().size_hint();
                match rest.exact() {
                    Some(n) => SizeHint::with_exact(n + replay.bytes.get() as u64),
                    None => SizeHint::default(),
                }
            }
        }
    }
}
