//! The server's side of a connection: one task reads, runs all requests of the connection, and writes.
//!
//! A turn handles every frame that is there, polls the futures that became ready, and gathers all they say into one write.

use super::{
    body::{Body, Outgoing},
    connection::{Core, Role, Shared},
    error::Error,
    options::Options,
    ready::Ready,
    streams::Key,
    wire::{Turn, Wire},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite};
use weft_std::clock;

/// A connection being served. Resolves when it is over; dropping it drops all its requests.
pub struct Serving<T, S, F, B> {
    wire: Wire<T>,
    ready: Arc<Ready>,
    service: S,
    places: Vec<Place<F, B>>,
    wakers: Vec<Waker>,
    /// Who was polled last: the next turn begins behind it, so that nobody is always last.
    cursor: u32,
    ending: Option<Result<(), Error>>,
}

enum Place<F, B> {
    Free,
    /// The service works on it.
    Answering {
        key: Key,
        answer: Pin<Box<F>>,
        head_only: bool,
    },
    /// Its body goes out.
    Sending {
        key: Key,
        outgoing: Outgoing<B>,
    },
}

/// Serves requests on `io`, to which nothing was written yet and from which nothing is missing.
pub fn serve<T, S, F, B>(io: T, options: Rc<Options>, service: S) -> Serving<T, S, F, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let core = Core::new(Role::Server, options, clock::now());
    let ready = core.ready.clone();
    let wire = Wire::new(io, Rc::new(RefCell::new(core)));
    Serving { wire, ready, service, places: Vec::new(), wakers: Vec::new(), cursor: 0, ending: None }
}

impl<T, S, F, B> Serving<T, S, F, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request<Body>) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Serves what was sent, and says goodbye.
    pub fn graceful_shutdown(&mut self) {
        self.wire.core.borrow_mut().drain();
    }

    fn accept(&mut self) {
        loop {
            let mut core = self.wire.core.borrow_mut();
            let Some((key, request)) = core.accepted.pop_front() else { return };
            let whole = core.streams.at(key).is_none_or(|s| s.recv_ended && s.queue.is_empty() && s.trailers.is_none());
            if let Some(stream) = core.streams.at(key) {
                stream.holders += u8::from(!whole);
                stream.wanted = !whole;
            }
            drop(core);
            let body = if whole { Body::empty() } else { Body::of(self.wire.core.clone(), key) };
            let index = key.index as usize;
            while self.places.len() <= index {
                self.wakers.push(self.ready.waker(self.places.len() as u32));
                self.places.push(Place::Free);
            }
            let head_only = *request.method() == Method::HEAD;
            let answer = Box::pin((self.service)(request.map(|()| body)));
            self.places[index] = Place::Answering { key, answer, head_only };
            self.ready.mark(key.index);
        }
    }

    /// Polls a place until it has nothing to say.
    fn run(&mut self, index: u32) {
        let (Some(place), Some(waker)) = (self.places.get_mut(index as usize), self.wakers.get(index as usize)) else { return };
        let core = &self.wire.core;
        let mut cx = Context::from_waker(waker);
        loop {
            let key = match place {
                Place::Free => return,
                Place::Answering { key, answer, head_only } => {
                    let (key, head_only) = (*key, *head_only);
                    if core.borrow_mut().streams.at(key).is_some_and(|s| s.open) {
                        let Poll::Ready(response) = answer.as_mut().poll(&mut cx) else { return };
                        if let Some(outgoing) = begin_response(core, key, response, head_only) {
                            *place = Place::Sending { key, outgoing };
                            continue;
                        }
                    }
                    key
                }
                Place::Sending { key, outgoing } => {
                    let key = *key;
                    if outgoing.poll_send(core, key, &mut cx).is_pending() {
                        return;
                    }
                    key
                }
            };
            // Dropping it may touch the connection, hence the order.
            *place = Place::Free;
            core.borrow_mut().streams.let_go(key, 1);
            return;
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) {
        loop {
            let turn = self.wire.read(cx);
            self.accept();
            // What becomes ready while others run has its turn too, but the socket is not left waiting for ever.
            for _ in 0..RUNS_MAX {
                let Some(index) = self.ready.next(self.cursor) else { break };
                self.cursor = index + 1;
                self.run(index);
            }
            let freed = self.wire.write(cx);
            if self.wire.outcome(Role::Server).is_some() || (turn == Turn::Empty && !freed) {
                return;
            }
        }
    }
}

/// Polls of places in one turn.
const RUNS_MAX: usize = 512;

/// Sends the head. The body follows, unless there is none.
fn begin_response<B>(core: &Shared, key: Key, response: Response<B>, head_only: bool) -> Option<Outgoing<B>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (parts, body) = response.into_parts();
    let empty = head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let end_stream = empty || body.is_end_stream();
    let length = body.size_hint().exact().filter(|_| !empty && !parts.headers.contains_key(header::CONTENT_LENGTH));
    core.borrow_mut().respond(key, &parts, length, end_stream);
    // The body may touch the connection when it is dropped, so nothing is borrowed here.
    (!end_stream).then(|| Outgoing::new(body))
}

impl<T, S, F, B> Future for Serving<T, S, F, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Fn(Request<Body>) -> F + Unpin,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.ending.is_none() {
            this.wire.begin(cx);
            this.ready.register(cx.waker());
            this.turn(cx);
            this.ending = this.wire.outcome(Role::Server);
        }
        if this.ending.is_some() {
            this.places.clear();
            if this.wire.finish(cx).is_pending() {
                this.wire.end(cx);
                return Poll::Pending;
            }
            return Poll::Ready(this.ending.take().unwrap_or(Ok(())));
        }
        if this.ready.any() {
            cx.waker().wake_by_ref();
        }
        this.wire.end(cx);
        if this.wire.core.borrow().streams.records() == 0 && this.places.len() > 4 {
            (this.places, this.wakers) = (Vec::new(), Vec::new());
        }
        Poll::Pending
    }
}

impl<T, S, F, B> Drop for Serving<T, S, F, B> {
    fn drop(&mut self) {
        // Whoever still reads a request must hear of it.
        self.wire.core.borrow_mut().close(Error::Closed);
    }
}
