//! The server's side: reads requests from a connection one after the other, and answers each before it looks at the next.

use super::{
    body::{Body, OnUpgrade, Upgrade, after_http},
    head::{self, HeadLimits, Malformed, RequestHead, TargetRule},
    limits,
    link::{BodyError, Link, Shared},
    spare,
    timer::Timer,
    write::{self, Asked, Writing},
};
use crate::stream::Io;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use weft_std::clock::{self, Instant};

/// How a connection is served.
#[derive(Debug, Clone, Copy)]
pub struct ServerOptions {
    /// Bounds of a request's head.
    pub head: HeadLimits,
    /// Longest time for a head to come in, and for the first request to begin.
    pub head_timeout: Duration,
    /// Longest silence between two requests.
    pub idle_timeout: Duration,
    /// What a target may hold.
    pub target: TargetRule,
}

/// Why a connection ended other than by agreement.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A request could not be read. It was answered, and the connection closed.
    #[error("{0}")]
    Malformed(Malformed),
    /// A head did not come in in time.
    #[error("the request's head did not come in in time")]
    HeadTimeout,
    /// The caller read or wrote nothing for too long.
    #[error("the caller stood still for too long")]
    Stalled,
    /// A request's body did not come as its head said. The request has been answered.
    #[error("{0}")]
    Body(BodyError),
    /// The connection broke, or its end came in the middle of a message.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// Tells a connection to end after the request under way.
#[derive(Debug, Clone, Default)]
pub struct Closing(Rc<(Cell<bool>, RefCell<Option<Waker>>)>);

impl Closing {
    /// No further request is read.
    pub fn begin(&self) {
        self.0.0.set(true);
        if let Some(waker) = self.0.1.borrow_mut().take() {
            waker.wake();
        }
    }
    fn has_begun(&self) -> bool {
        self.0.0.get()
    }
    fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.0.1.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }
}

struct Server {
    link: Shared,
    options: ServerOptions,
    closing: Closing,
    timer: Timer,
    /// When the wait for the next request began, and when its first byte was seen.
    waiting_since: Instant,
    head_since: Option<Instant>,
    first: bool,
    /// How much of an incomplete head was looked at.
    seen: usize,
    skipped_line: bool,
}

/// Serves a connection to its end. Dropping the future closes the connection and drops the request under way.
///
/// # Errors
/// When a request cannot be read, or the connection breaks or stands still.
pub async fn serve<S, F, B>(io: Io, options: ServerOptions, closing: Closing, mut service: S) -> Result<(), ServeError>
where
    S: FnMut(Request<Body>) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let link = Link::shared(io, false);
    let mut server = Server {
        link,
        options,
        closing,
        timer: Timer::default(),
        waiting_since: clock::now(),
        head_since: None,
        first: true,
        seen: 0,
        skipped_line: false,
    };
    loop {
        let head = match poll_fn(|cx| server.poll_head(cx)).await {
            Ok(Some(head)) => head,
            Ok(None) => return server.shutdown(false).await,
            Err(error) => return server.refuse(error).await,
        };
        let (request, facts, upgrade) = match server.begin(head) {
            Ok(begun) => begun,
            Err(malformed) => return server.refuse(ServeError::Malformed(malformed)).await,
        };
        // Boxed: a connection that waits for its next request does not carry the state of serving one.
        let mut call = Box::pin(service(request));
        let response = poll_fn(|cx| server.poll_call(cx, call.as_mut())).await?;
        drop(call);
        let leaves = response.status() == StatusCode::SWITCHING_PROTOCOLS || (facts.connect && response.status().is_success());
        let mut answer = Answer::begin(&server, response, facts);
        let written = poll_fn(|cx| server.poll_answer(cx, &mut answer)).await;
        let keep_alive = answer.keep_alive;
        drop(answer);
        written?;
        match upgrade.filter(|_| leaves) {
            Some(upgrade) => return server.hand_over(upgrade),
            // Whoever switched did not ask for the stream.
            None if leaves => return Ok(()),
            None => {}
        }
        let drained = poll_fn(|cx| server.poll_drain(cx)).await;
        if !keep_alive || !drained || server.closing.has_begun() {
            server.shutdown(!drained).await?;
            return server.link.borrow_mut().broken.take().map_or(Ok(()), |broken| Err(ServeError::Body(broken)));
        }
        (server.waiting_since, server.head_since, server.seen, server.skipped_line) = (clock::now(), None, 0, false);
    }
}

/// What the answer needs to know of its request.
#[derive(Debug, Clone, Copy)]
struct Facts {
    head: bool,
    connect: bool,
    is_new: bool,
    keep_alive: bool,
}

impl Server {
    /// The next request's head; `None` when the caller has no more, or is to have no more.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RequestHead>, ServeError>> {
        let shared = self.link.clone();
        let mut link = shared.borrow_mut();
        loop {
            if let Some(head) = self.read_head(&mut link).transpose() {
                self.first = false;
                return Poll::Ready(head.map(Some).map_err(ServeError::Malformed));
            }
            if self.closing.has_begun() && link.unread.is_empty() && !self.first {
                return Poll::Ready(Ok(None));
            }
            match link.poll_fill(cx) {
                Poll::Ready(Ok(0)) if link.unread.is_empty() || self.nothing_begun(&link) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        self.closing.watch(cx);
        let begun = !link.unread.is_empty();
        let deadline = match (begun, self.first) {
            (_, true) => self.waiting_since + self.options.head_timeout,
            (true, false) => *self.head_since.get_or_insert_with(clock::now) + self.options.head_timeout,
            (false, false) => self.waiting_since + self.options.idle_timeout,
        };
        match self.timer.poll(cx, deadline) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if begun || self.first => Poll::Ready(Err(ServeError::HeadTimeout)),
            Poll::Ready(()) => Poll::Ready(Ok(None)),
        }
    }

    fn nothing_begun(&self, link: &Link) -> bool {
        link.unread.as_slice() == b"\r"
    }

    fn read_head(&mut self, link: &mut Link) -> Result<Option<RequestHead>, Malformed> {
        let (skip, end) = head::bounds(link.unread.as_slice(), self.seen, !self.skipped_line, self.options.head.bytes)?;
        if skip > 0 {
            link.unread.consume(skip);
            self.skipped_line = true;
        }
        let Some(end) = end else {
            self.seen = link.unread.len();
            return Ok(None);
        };
        let bytes = Bytes::copy_from_slice(&link.unread.as_slice()[..end]);
        let head = head::request(&bytes, self.options.target, self.options.head, spare::header_map())?;
        link.unread.consume(end);
        Ok(Some(head))
    }

    /// Makes the request of its head.
    fn begin(&mut self, head: RequestHead) -> Result<(Request<Body>, Facts, Option<Upgrade>), Malformed> {
        let ready = {
            let mut link = self.link.borrow_mut();
            let ready = link.begin_body(head.framing)?;
            link.continue_due = head.expects_continue && ready.is_empty() && !link.decoder.is_done();
            ready
        };
        let connect = head.method == Method::CONNECT;
        let (upgrade, on_upgrade) = match head.upgrade || connect {
            true => {
                let (upgrade, on_upgrade) = OnUpgrade::new();
                (Some(upgrade), Some(on_upgrade))
            }
            false => (None, None),
        };
        let facts =
            Facts { head: head.method == Method::HEAD, connect, is_new: head.version == Version::HTTP_11, keep_alive: head.keep_alive };
        let mut request = Request::new(Body::new(ready, &self.link, on_upgrade));
        *request.method_mut() = head.method;
        *request.uri_mut() = head.target;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        Ok((request, facts, upgrade))
    }

    /// Waits for the service, as long as the caller is there.
    fn poll_call<F: Future<Output = Response<B>>, B>(
        &mut self,
        cx: &mut Context<'_>,
        call: Pin<&mut F>,
    ) -> Poll<Result<Response<B>, ServeError>> {
        if let Poll::Ready(response) = call.poll(cx) {
            return Poll::Ready(Ok(response));
        }
        let shared = self.link.clone();
        let mut link = shared.borrow_mut();
        if link.decoder.is_done() {
            if link.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset).into()));
            }
        } else {
            self.poll_body_idle(cx, &mut link);
        }
        Poll::Pending
    }

    /// A body that is waited for must move.
    fn poll_body_idle(&mut self, cx: &mut Context<'_>, link: &mut Link) {
        let since = link.waiting.as_ref().map_or_else(clock::now, |(since, _)| *since);
        if self.timer.poll(cx, since + limits::BODY_IDLE_TIMEOUT).is_ready() && link.waiting.is_some() {
            link.broken = Some(BodyError::Idle);
            if let Some((_, reader)) = link.waiting.take() {
                reader.wake();
            }
        }
    }

    /// Writes an answer: its head and what is there of its body go out together.
    fn poll_answer<B: http_body::Body<Data = Bytes> + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        answer: &mut Answer<B>,
    ) -> Poll<Result<(), ServeError>> {
        loop {
            let waits = answer.gather(cx, &self.link);
            let shared = self.link.clone();
            let mut link = shared.borrow_mut();
            match link.poll_flush(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    let stuck = link.stuck.unwrap_or_else(clock::now);
                    return match self.timer.poll(cx, stuck + limits::WRITE_IDLE_TIMEOUT) {
                        Poll::Ready(()) => Poll::Ready(Err(ServeError::Stalled)),
                        Poll::Pending => Poll::Pending,
                    };
                }
                Poll::Ready(Ok(())) => {}
            }
            if let Some(broke) = answer.ended {
                return Poll::Ready(if broke { Err(io::Error::from(io::ErrorKind::BrokenPipe).into()) } else { Ok(()) });
            }
            if waits {
                if link.decoder.is_done() && link.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset).into()));
                }
                return Poll::Pending;
            }
        }
    }

    /// After the answer: what is left of the request's body is read by whoever wants it, or away. True when it is through.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let shared = self.link.clone();
        let mut link = shared.borrow_mut();
        if link.decoder.is_done() {
            return Poll::Ready(true);
        }
        if !link.abandoned {
            link.owner = Some(cx.waker().clone());
            self.poll_body_idle(cx, &mut link);
            return Poll::Pending;
        }
        // It was never told to send it, and may not do so.
        if link.continue_due || link.broken.is_some() || link.decoder.left().is_some_and(|left| left > limits::DRAIN_BYTES_MAX) {
            return Poll::Ready(false);
        }
        let mut drained = 0;
        loop {
            match link.poll_data(cx) {
                Poll::Ready(Ok(None)) => return Poll::Ready(true),
                Poll::Ready(Ok(Some(data))) => drained += data.len() as u64,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                // Not here yet: the connection ends, and what comes is read away while it does.
                Poll::Pending => return Poll::Ready(false),
            }
            if drained > limits::DRAIN_BYTES_MAX {
                return Poll::Ready(false);
            }
        }
    }

    /// Ends the connection. While the caller may still be sending, what it sends is read away for a moment: a reset would destroy
    /// the answer on its way (RFC 9112 §9.6).
    async fn shutdown(&mut self, sending: bool) -> Result<(), ServeError> {
        let shared = self.link.clone();
        poll_fn(|cx| shared.borrow_mut().poll_shutdown(cx)).await.ok();
        if !sending && shared.borrow().unread.is_empty() {
            return Ok(());
        }
        let end = clock::now() + limits::DRAIN_TIMEOUT;
        let mut left = limits::DRAIN_BYTES_MAX;
        poll_fn(|cx| {
            let mut link = shared.borrow_mut();
            loop {
                let read = link.unread.len();
                link.unread.consume(read);
                left = left.saturating_sub(read as u64);
                match link.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) if left > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(cx, end),
                }
            }
        })
        .await;
        Ok(())
    }

    /// Answers what could not be read, and ends the connection.
    async fn refuse(&mut self, error: ServeError) -> Result<(), ServeError> {
        let (status, reason) = match &error {
            ServeError::Malformed(malformed) => (malformed.status, malformed.reason),
            ServeError::HeadTimeout if !self.link.borrow().unread.is_empty() => (408, "the request's head did not come in in time"),
            _ => return Err(error),
        };
        let shared = self.link.clone();
        write::refusal(shared.borrow_mut().out(), StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), reason);
        let end = clock::now() + limits::DRAIN_TIMEOUT;
        let sent = poll_fn(|cx| match shared.borrow_mut().poll_flush(cx) {
            Poll::Pending => self.timer.poll(cx, end).map(|()| false),
            Poll::Ready(flushed) => Poll::Ready(flushed.is_ok()),
        });
        if sent.await {
            self.shutdown(true).await.ok();
        }
        Err(error)
    }

    fn hand_over(&self, upgrade: Upgrade) -> Result<(), ServeError> {
        if let Some(io) = after_http(&mut self.link.borrow_mut()) {
            // Dropped when nobody waits for it.
            upgrade.send(io).ok();
        }
        Ok(())
    }
}

/// An answer on its way out.
struct Answer<B> {
    body: Option<B>,
    writing: Writing,
    keep_alive: bool,
    /// The body is through; true when it broke.
    ended: Option<bool>,
    discard: bool,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Answer<B> {
    /// Writes the head.
    fn begin(server: &Server, response: Response<B>, facts: Facts) -> Self {
        let (parts, body) = response.into_parts();
        let mut link = server.link.borrow_mut();
        // A body that nobody reads and that is too long to be read away ends the connection.
        let unread = link.abandoned
            && !link.decoder.is_done()
            && (link.continue_due || link.broken.is_some() || link.decoder.left().is_none_or(|left| left > link.unread.len() as u64));
        link.continue_due &= link.abandoned;
        let keep_alive = facts.keep_alive && !server.closing.has_begun() && !unread;
        let asked = Asked { head: facts.head, connect: facts.connect, is_new: facts.is_new, keep_alive };
        let exact = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let (writing, keep_alive) = write::response(link.out(), parts.status, &parts.headers, exact, asked);
        spare::keep_header_map(parts.headers);
        let discard = writing == Writing::None;
        Self { body: Some(body), writing, keep_alive, ended: None, discard }
    }

    /// Takes what is there of the body. True when it has to be waited for.
    fn gather(&mut self, cx: &mut Context<'_>, link: &Shared) -> bool {
        loop {
            let Some(body) = &mut self.body else { return false };
            if link.borrow().queued() >= limits::WRITE_BYTES {
                return false;
            }
            if body.is_end_stream() {
                self.end(link, None);
                return false;
            }
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending if self.discard => None,
                Poll::Pending => return true,
                Poll::Ready(frame) => frame,
            };
            match frame {
                None => self.end(link, None),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(_) if self.discard => {}
                    Ok(data) => {
                        if !self.writing.data(link.borrow_mut().out(), &data) {
                            self.breaks();
                        }
                    }
                    Err(frame) => self.end(link, frame.trailers_ref()),
                },
                Some(Err(_)) => self.breaks(),
            }
        }
    }

    fn end(&mut self, link: &Shared, trailers: Option<&http::HeaderMap>) {
        let whole = self.writing.end(link.borrow_mut().out(), trailers);
        self.body = None;
        self.ended = Some(!whole);
    }

    fn breaks(&mut self) {
        self.body = None;
        self.ended = Some(true);
    }
}
