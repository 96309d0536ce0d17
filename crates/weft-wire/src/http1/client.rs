//! The client's side: one request at a time on a connection, driven by the future that sends it. There is no task per connection and
//! no channel: the response is read where it is wanted.

use super::{
    body::{Body, OnUpgrade, after_http},
    head::{self, HeadLimits, Malformed, ResponseHead},
    limits,
    link::{Link, Shared},
    spare,
    write::{self, Writing},
};
use crate::stream::Io;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker, ready},
};

/// Runs a future beside the connection: the rest of a request's body whose response has begun already.
pub type Spawn = Rc<dyn Fn(Pin<Box<dyn Future<Output = ()>>>)>;

/// How a connection is used.
#[derive(Clone)]
pub struct ClientOptions {
    /// Bounds of a response's head.
    pub head: HeadLimits,
    /// Where the rest of a body is sent that is overtaken by its response.
    pub spawn: Spawn,
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SendError<B> {
    /// The request itself, when provably not a byte of it was sent.
    pub unsent: Option<Box<Request<B>>>,
    /// What happened.
    pub reason: SendFailure,
}

/// What can happen to a request.
#[derive(Debug, thiserror::Error)]
pub enum SendFailure {
    /// The connection was closed before the request.
    #[error("the connection was closed")]
    Closed,
    /// The connection ended before a response's head was here.
    #[error("the connection ended before a response")]
    NoResponse,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The response is not one.
    #[error("{0}")]
    Malformed(Malformed),
    /// The body to be sent broke.
    #[error("the request's body broke: {0}")]
    Body(String),
}

/// A connection to a server.
pub struct Connection {
    link: Shared,
    options: ClientOptions,
}

impl Connection {
    /// On a fresh stream.
    pub fn new(io: Io, options: ClientOptions) -> Self {
        Self { link: Link::shared(io, true), options }
    }

    /// Can it take a request? Not while one is under way, nor when it was closed, nor when the server sent what nobody asked for.
    /// Takes no system call unless something has happened.
    pub fn is_ready(&self) -> bool {
        let mut link = self.link.borrow_mut();
        let free = link.is_open() && link.keep_alive && !link.awaited && link.uploading.is_none() && link.decoder.is_done();
        if !free || !link.unread.is_empty() || link.queued() > 0 {
            return false;
        }
        let quiet = link.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending();
        if !quiet {
            link.close();
        }
        quiet
    }

    /// Sends a request; the future answers with its response's head as soon as it is here. Dropping the future, or the response's body
    /// before its end, closes the connection.
    ///
    /// # Errors
    /// With the request itself when the connection is closed already. The future fails when the connection breaks or does not speak
    /// HTTP, or the request's own body breaks.
    pub fn send<B>(&self, request: Box<Request<B>>) -> Result<Sending<'_, B>, SendError<B>>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        if !self.is_ready() {
            return Err(SendError { unsent: Some(request), reason: SendFailure::Closed });
        }
        let exact = if request.body().is_end_stream() { Some(0) } else { request.body().size_hint().exact() };
        let writing = Writing::of_request(exact);
        {
            let mut link = self.link.borrow_mut();
            link.awaited = true;
            write::request(link.out(), request.method(), request.uri(), request.headers(), writing);
        }
        let (parts, body) = request.into_parts();
        let upload = Upload { body: (writing != Writing::None).then_some(body), writing, broken: false };
        let expected = Expected { upgrade: parts.headers.contains_key(header::UPGRADE), method: parts.method, interim: 0, seen: 0 };
        spare::keep_header_map(parts.headers);
        Ok(Sending { connection: self, upload: Some(upload), expected })
    }

    fn poll_exchange<B>(
        &self,
        cx: &mut Context<'_>,
        upload: &mut Upload<B>,
        asked: &mut Expected,
    ) -> Poll<Result<ResponseHead, SendFailure>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let sent = upload.poll(cx, &self.link);
        match sent {
            Poll::Ready(Err(failure @ SendFailure::Body(_))) => return Poll::Ready(Err(failure)),
            // A server that has seen enough may have answered before it closed.
            Poll::Ready(Err(_)) => self.link.borrow_mut().keep_alive = false,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let polled = asked.poll(cx, &mut self.link.borrow_mut(), self.options.head);
        match (polled, sent) {
            (Poll::Ready(Err(SendFailure::NoResponse)), Poll::Ready(Err(failure))) => Poll::Ready(Err(failure)),
            (polled, _) => polled,
        }
    }

    /// The head is here: prepares the body.
    fn begin_response(&self, head: ResponseHead, asked: &Expected) -> Result<Response<Body>, SendFailure> {
        let mut link = self.link.borrow_mut();
        let leaves = head.status == StatusCode::SWITCHING_PROTOCOLS || (asked.method == Method::CONNECT && head.status.is_success());
        if leaves && head.status == StatusCode::SWITCHING_PROTOCOLS && !asked.upgrade {
            return Err(SendFailure::Malformed(Malformed::new("the server switches protocols without being asked")));
        }
        link.awaited = false;
        link.keep_alive &= head.keep_alive && !leaves;
        let body = if leaves {
            let (upgrade, on_upgrade) = OnUpgrade::new();
            if let Some(io) = after_http(&mut link) {
                upgrade.send(io).ok();
            }
            drop(link);
            Body::new(Bytes::new(), &self.link, Some(on_upgrade))
        } else {
            let ready = link.begin_body(head.framing).map_err(SendFailure::Malformed)?;
            drop(link);
            Body::new(ready, &self.link, None)
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    /// The response has overtaken its request's body.
    fn upload_beside<B>(&self, mut upload: Upload<B>)
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        let link: Weak<RefCell<Link>> = Rc::downgrade(&self.link);
        // Set before the task first runs: until then the connection is not free.
        self.link.borrow_mut().uploading = Some(Waker::noop().clone());
        (self.options.spawn)(Box::pin(async move {
            let sent = poll_fn(|cx| {
                let Some(link) = link.upgrade() else { return Poll::Ready(Ok(())) };
                if !link.borrow().is_open() {
                    return Poll::Ready(Ok(()));
                }
                link.borrow_mut().uploading = Some(cx.waker().clone());
                upload.poll(cx, &link)
            });
            let sent = sent.await;
            if let Some(link) = link.upgrade() {
                let mut link = link.borrow_mut();
                link.uploading = None;
                link.keep_alive &= sent.is_ok();
            }
        }));
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("open", &self.link.borrow().is_open()).finish_non_exhaustive()
    }
}

/// A request on its way, until its response's head is here.
pub struct Sending<'a, B> {
    connection: &'a Connection,
    upload: Option<Upload<B>>,
    expected: Expected,
}

impl<B> Future for Sending<'_, B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    type Output = Result<Response<Body>, SendFailure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(upload) = &mut this.upload else { return Poll::Pending };
        let head = ready!(this.connection.poll_exchange(cx, upload, &mut this.expected));
        let response = head.and_then(|head| this.connection.begin_response(head, &this.expected));
        match (&response, this.upload.take()) {
            (Ok(_), Some(upload)) if !upload.is_done() => this.connection.upload_beside(upload),
            (Ok(_), _) => {}
            (Err(_), _) => this.connection.link.borrow_mut().close(),
        }
        Poll::Ready(response)
    }
}

impl<B> Drop for Sending<'_, B> {
    fn drop(&mut self) {
        // Given up on the way: whatever comes would be taken for the next request's.
        if self.upload.is_some() {
            self.connection.link.borrow_mut().close();
        }
    }
}

/// What a response must fit.
struct Expected {
    method: Method,
    upgrade: bool,
    interim: usize,
    seen: usize,
}

impl Expected {
    /// The final response's head. Interim ones are passed over: this side never asks to be told to continue.
    fn poll(&mut self, cx: &mut Context<'_>, link: &mut Link, most: HeadLimits) -> Poll<Result<ResponseHead, SendFailure>> {
        loop {
            let bytes = link.unread.as_slice();
            if !bytes.is_empty() {
                match self.read(bytes, most) {
                    Err(malformed) => return Poll::Ready(Err(SendFailure::Malformed(malformed))),
                    Ok(None) => {}
                    Ok(Some((end, head))) => {
                        link.unread.consume(end);
                        self.seen = 0;
                        let is_interim = head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
                        if !is_interim {
                            return Poll::Ready(Ok(head));
                        }
                        self.interim += 1;
                        if self.interim > limits::INTERIM_RESPONSES_MAX {
                            let limit = Malformed::limit(502, "INTERIM_RESPONSES_MAX", "there are too many interim responses");
                            return Poll::Ready(Err(SendFailure::Malformed(limit)));
                        }
                        continue;
                    }
                }
            }
            match link.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(SendFailure::NoResponse)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendFailure::Broken(error))),
            }
        }
    }

    fn read(&mut self, bytes: &[u8], most: HeadLimits) -> Result<Option<(usize, ResponseHead)>, Malformed> {
        let Some(end) = head::end_of_response_head(bytes, self.seen, most.bytes)? else {
            self.seen = bytes.len();
            return Ok(None);
        };
        let bytes = Bytes::copy_from_slice(&bytes[..end]);
        Ok(Some((end, head::response(&bytes, &self.method, most, spare::header_map())?)))
    }
}

/// A request on its way out: its head is queued, its body is taken as it comes.
struct Upload<B> {
    body: Option<B>,
    writing: Writing,
    broken: bool,
}

impl<B> Upload<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    fn is_done(&self) -> bool {
        self.body.is_none() && !self.broken
    }

    /// Ready once all is sent.
    fn poll(&mut self, cx: &mut Context<'_>, link: &Shared) -> Poll<Result<(), SendFailure>> {
        loop {
            let waits = self.gather(cx, link)?;
            match link.borrow_mut().poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => {
                    self.body = None;
                    return Poll::Ready(Err(SendFailure::Broken(error)));
                }
                Poll::Ready(Ok(())) if self.body.is_none() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if waits => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Takes what is there of the body. True when it has to be waited for.
    fn gather(&mut self, cx: &mut Context<'_>, link: &Shared) -> Result<bool, SendFailure> {
        loop {
            let Some(body) = &mut self.body else { return Ok(false) };
            if link.borrow().queued() >= limits::WRITE_BYTES {
                return Ok(false);
            }
            let trailers = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(self.breaks(error.to_string())),
                Poll::Ready(None) => None,
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        if !self.writing.data(link.borrow_mut().out(), &data) {
                            return Err(self.breaks("it is longer than its length".into()));
                        }
                        if !self.body.as_ref().is_some_and(http_body::Body::is_end_stream) {
                            continue;
                        }
                        None
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
            };
            if !self.writing.end(link.borrow_mut().out(), trailers.as_ref()) {
                return Err(self.breaks("it is shorter than its length".into()));
            }
            self.body = None;
        }
    }

    fn breaks(&mut self, why: String) -> SendFailure {
        (self.body, self.broken) = (None, true);
        SendFailure::Body(why)
    }
}
