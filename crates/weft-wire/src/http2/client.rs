//! The client's side of a connection: requests go out from whatever task sends them, one task reads and writes.

use super::{
    body::{Body, Outgoing},
    connection::{Core, Role, Shared},
    error::{Error, ErrorCode},
    options::Options,
    ready::Ready,
    streams::Key,
    wire::{Turn, Wire, take_buffer},
};
use bytes::Bytes;
use http::{Request, Response};
use std::{
    cell::RefCell,
    fmt,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite};
use weft_std::clock;

/// Sends requests on a connection. Clones share it; when the last is dropped, the connection says goodbye.
pub struct SendRequest<B> {
    shared: Rc<ClientShared<B>>,
}

/// A stream and what it still has to send.
type Place<B> = Option<(Key, Outgoing<B>)>;

struct ClientShared<B> {
    core: Shared,
    ready: Arc<Ready>,
    places: RefCell<Vec<Place<B>>>,
    wakers: RefCell<Vec<Waker>>,
}

/// The connection itself; somebody must poll it.
pub struct Connection<T, B> {
    wire: Wire<T>,
    shared: Rc<ClientShared<B>>,
    cursor: u32,
    ending: Option<Result<(), Error>>,
}

/// A request that got no answer.
pub struct SendError<B> {
    /// The request itself, when it is certain that the peer has seen nothing of it and it is still whole.
    pub unsent: Option<Box<Request<B>>>,
    /// What happened.
    pub reason: Error,
}

impl<B> fmt::Debug for SendError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("unsent", &self.unsent.is_some()).field("reason", &self.reason).finish()
    }
}

/// Makes a client connection of `io`. Requests can be sent at once.
pub fn handshake<T, B>(io: T, options: Rc<Options>) -> (SendRequest<B>, Connection<T, B>)
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let core = Core::new(Role::Client, options, clock::now());
    let ready = core.ready.clone();
    let core = Rc::new(RefCell::new(core));
    let shared = Rc::new(ClientShared { core: core.clone(), ready, places: RefCell::default(), wakers: RefCell::default() });
    (SendRequest { shared: shared.clone() }, Connection { wire: Wire::new(io, core), shared, cursor: 0, ending: None })
}

impl<B> Clone for SendRequest<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B> Drop for SendRequest<B> {
    fn drop(&mut self) {
        // This one, and the connection's own.
        if Rc::strong_count(&self.shared) == 2 {
            self.shared.core.borrow_mut().wake_driver();
        }
    }
}

impl<B> SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Can no request be sent any more?
    pub fn is_closed(&self) -> bool {
        matches!(self.shared.core.borrow().poll_room(), Poll::Ready(Err(_)))
    }

    /// Streams that could be opened now, as both sides allow.
    pub fn room(&self) -> usize {
        let core = self.shared.core.borrow();
        if matches!(core.poll_room(), Poll::Ready(Ok(()))) { core.room() - core.streams.open() } else { 0 }
    }

    /// Does the peer take extended CONNECTs (RFC 8441)? `None` while its settings have not come.
    pub fn takes_extended_connect(&self) -> Option<bool> {
        let core = self.shared.core.borrow();
        (core.stage == super::connection::Stage::Open).then_some(core.remote.connect_protocol)
    }

    /// Waits until the peer's settings are here, or the connection is over.
    pub async fn settings(&self) {
        std::future::poll_fn(|cx| {
            let mut core = self.shared.core.borrow_mut();
            if core.stage == super::connection::Stage::Open || core.closed.is_some() {
                return Poll::Ready(());
            }
            core.slot_waiters.push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Sends a request. Its head, and what its body has at once, are encoded by the first poll; the rest goes out while the answer
    /// is awaited, and after it. Waits while the peer allows no further stream. Dropping the future cancels the stream.
    pub fn send(&self, request: Box<Request<B>>) -> Sending<B> {
        Sending { shared: self.shared.clone(), state: State::Waiting(Some(request)) }
    }
}

/// A request on its way, until the answer's head is here.
pub struct Sending<B> {
    shared: Rc<ClientShared<B>>,
    state: State<B>,
}

enum State<B> {
    Waiting(Option<Box<Request<B>>>),
    /// With the request, as long as it is whole.
    Sent(Key, Option<Box<Request<B>>>),
    Done,
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    fn begin(&mut self, request: Box<Request<B>>) -> State<B> {
        let end_stream = request.body().is_end_stream();
        let mut core = self.shared.core.borrow_mut();
        core.now = clock::now();
        if core.out.capacity() == 0 {
            core.out = take_buffer();
        }
        let key = core.open(&*request, end_stream);
        core.wake_driver();
        if end_stream {
            return State::Sent(key, Some(request));
        }
        if let Some(stream) = core.streams.at(key) {
            stream.holders += 1;
        }
        drop(core);
        self.shared.send_body(key, Outgoing::new(request.into_body()));
        State::Sent(key, None)
    }
}

impl<B> ClientShared<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Sends what of a body is there; the rest is the connection's business.
    fn send_body(self: &Rc<Self>, key: Key, mut outgoing: Outgoing<B>) {
        let index = key.index as usize;
        let waker = {
            let mut wakers = self.wakers.borrow_mut();
            while wakers.len() <= index {
                let next = self.ready.waker(wakers.len() as u32);
                wakers.push(next);
            }
            wakers[index].clone()
        };
        if outgoing.poll_send(&self.core, key, &mut Context::from_waker(&waker)).is_ready() {
            drop(outgoing);
            self.core.borrow_mut().streams.let_go(key, 1);
            return;
        }
        let mut places = self.places.borrow_mut();
        if places.len() <= index {
            places.resize_with(index + 1, || None);
        }
        places[index] = Some((key, outgoing));
    }

    fn run(&self, index: u32) {
        let at = index as usize;
        let place = self.places.borrow_mut().get_mut(at).and_then(Option::take);
        let Some((key, mut outgoing)) = place else { return };
        let waker = self.wakers.borrow().get(at).cloned().unwrap_or_else(|| self.ready.waker(index));
        if outgoing.poll_send(&self.core, key, &mut Context::from_waker(&waker)).is_pending() {
            self.places.borrow_mut()[at] = Some((key, outgoing));
            return;
        }
        drop(outgoing);
        self.core.borrow_mut().streams.let_go(key, 1);
    }
}

impl<B> Future for Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Output = Result<Response<Body>, SendError<B>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let State::Waiting(request) = &mut this.state {
            let room = this.shared.core.borrow().poll_room();
            match room {
                Poll::Pending => {
                    this.shared.core.borrow_mut().slot_waiters.push_back(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Err(reason)) => {
                    let unsent = request.take();
                    this.state = State::Done;
                    return Poll::Ready(Err(SendError { unsent, reason }));
                }
                Poll::Ready(Ok(())) => {
                    let Some(request) = request.take() else { return Poll::Pending };
                    this.state = this.begin(request);
                }
            }
        }
        let State::Sent(key, request) = &mut this.state else { return Poll::Pending };
        let key = *key;
        let mut core = this.shared.core.borrow_mut();
        let Some(stream) = core.streams.at(key) else { return Poll::Pending };
        if let Some(response) = stream.head.take() {
            this.state = State::Done;
            let whole = stream.recv_ended && stream.queue.is_empty() && stream.trailers.is_none();
            if whole {
                core.streams.let_go(key, 1);
                return Poll::Ready(Ok(response.map(|()| Body::empty())));
            }
            // Our hold becomes the body's.
            drop(core);
            return Poll::Ready(Ok(response.map(|()| Body::of(this.shared.core.clone(), key))));
        }
        if let Some(reason) = stream.failed.clone() {
            let unsent = request.take().filter(|_| reason.is_unprocessed());
            this.state = State::Done;
            core.streams.let_go(key, 1);
            return Poll::Ready(Err(SendError { unsent, reason }));
        }
        match &mut stream.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => stream.reader = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<B> Drop for Sending<B> {
    fn drop(&mut self) {
        if let State::Sent(key, _) = self.state {
            let mut core = self.shared.core.borrow_mut();
            core.abandon(key, ErrorCode::CANCEL, "nobody waits for the response");
            core.streams.let_go(key, 1);
        }
    }
}

impl<T, B> Connection<T, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    fn turn(&mut self, cx: &mut Context<'_>) {
        loop {
            let turn = self.wire.read(cx);
            while let Some(index) = self.shared.ready.next(self.cursor) {
                self.cursor = index + 1;
                self.shared.run(index);
                if self.wire.core.borrow().unsent() >= super::limits::OUT_BYTES_MAX {
                    break;
                }
            }
            let freed = self.wire.write(cx);
            if self.wire.outcome(Role::Client).is_some() || (turn == Turn::Empty && !freed) {
                return;
            }
        }
    }
}

impl<T, B> Future for Connection<T, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.ending.is_none() {
            this.wire.begin(cx);
            this.shared.ready.register(cx.waker());
            this.turn(cx);
            this.ending = this.wire.outcome(Role::Client);
            if this.ending.is_none() && Rc::strong_count(&this.shared) == 1 {
                let mut core = this.wire.core.borrow_mut();
                if core.streams.records() == 0 {
                    // Nobody can send any more, and nothing is under way.
                    core.say_goodbye();
                    this.ending = Some(Ok(()));
                }
            }
        }
        if this.ending.is_some() {
            let places = std::mem::take(&mut *this.shared.places.borrow_mut());
            drop(places);
            if this.wire.finish(cx).is_pending() {
                this.wire.end(cx);
                return Poll::Pending;
            }
            return Poll::Ready(this.ending.take().unwrap_or(Ok(())));
        }
        if this.shared.ready.any() {
            cx.waker().wake_by_ref();
        }
        this.wire.end(cx);
        Poll::Pending
    }
}

impl<T, B> Drop for Connection<T, B> {
    fn drop(&mut self) {
        // Whoever still waits for an answer must hear of it.
        self.wire.core.borrow_mut().close(Error::Closed);
    }
}
