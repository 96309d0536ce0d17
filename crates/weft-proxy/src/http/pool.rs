//! Upstream connections of one endpoint on one worker: HTTP/1 ones are lent to one exchange at a time, HTTP/2 ones are shared.
//!
//! A connection goes back only after an exchange that ended cleanly on both sides; after any error it is closed, so that no
//! request ever meets the leftovers of another.

use super::{
    body::{Incoming, RequestBody},
    websocket,
};
use crate::{
    dial::{Dial, Dialer},
    limits,
    net::{DialError, Io},
    worker::Worker,
};
use http::{Request, Response};
use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use weft_balance::{Counters, Overflow, Slot};
use weft_model::ConnectionLimits;
use weft_pki::{Alpn, Peer};
use weft_std::clock::{self, Instant};
use weft_telemetry::TlsRecord;
use weft_wire::{
    http1::{self, SendFailure},
    http2,
};

/// Which HTTP a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    One,
    Two,
}

/// The connections to one place.
pub(crate) struct Pool {
    dialer: Dialer,
    limits: RefCell<ConnectionLimits>,
    counters: Arc<Counters>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    connecting: Cell<bool>,
    connected: Notify,
    freed: Rc<Notify>,
    make_room: Box<dyn Fn() -> bool>,
}

/// What holds for a connection from its begin to its end.
struct Facts {
    /// Who answers, when it proved an identity.
    tls: Option<Rc<TlsRecord>>,
    served: Cell<u32>,
    born: Instant,
    _slot: Slot,
}

struct Idle {
    connection: http1::Connection,
    facts: Rc<Facts>,
    since: Instant,
}

struct Shared {
    sender: http2::SendRequest<RequestBody>,
    facts: Rc<Facts>,
}

/// A connection in the hands of one exchange.
pub(crate) struct Lease {
    lent: Option<Lent>,
    facts: Rc<Facts>,
    pool: Weak<Pool>,
    /// Was it used before? Then the peer may have closed it at the moment of sending.
    pub reused: bool,
    /// Has the request's body gone out whole?
    pub body_sent: Rc<Cell<bool>>,
}

enum Lent {
    One(http1::Connection),
    Two(Rc<Shared>),
}

/// Why a pool has no connection to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoConnection {
    Dial(DialError),
    Overflow(Overflow),
}

impl Pool {
    /// `freed` is told when a connection comes back; `make_room` closes an idle connection elsewhere in the cluster, if there is one.
    pub(crate) fn new(
        dial: Dial,
        limits: ConnectionLimits,
        counters: Arc<Counters>,
        freed: Rc<Notify>,
        make_room: Box<dyn Fn() -> bool>,
    ) -> Rc<Self> {
        Rc::new(Self {
            dialer: Dialer::new(dial),
            limits: RefCell::new(limits),
            counters,
            idle: RefCell::default(),
            shared: RefCell::default(),
            connecting: Cell::new(false),
            connected: Notify::new(),
            freed,
            make_room,
        })
    }

    pub(crate) fn set_limits(&self, limits: &ConnectionLimits) {
        self.limits.borrow_mut().clone_from(limits);
    }

    /// A connection, pooled or new.
    pub(crate) async fn lease(self: &Rc<Self>, worker: &Rc<Worker>, version: HttpVersion) -> Result<Lease, NoConnection> {
        match version {
            HttpVersion::One => self.lease_one(worker).await,
            HttpVersion::Two => match self.shared_one().await {
                Some(lease) => Ok(lease),
                // Boxed: rare, and a handshake's state is large.
                None => Box::pin(self.open_two(worker)).await,
            },
        }
    }

    async fn lease_one(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<Lease, NoConnection> {
        let mut waiting = None;
        let end = clock::now() + self.connect_timeout();
        loop {
            if let Some(lease) = self.idle_one() {
                return Ok(lease);
            }
            let overflow = match self.counters.connection(&self.limits.borrow()) {
                Ok(slot) => Ok(slot),
                Err(_) if (self.make_room)() => continue,
                Err(overflow) => Err(overflow),
            };
            match overflow {
                // Boxed: rare, and a handshake's state is large.
                Ok(slot) => return Box::pin(self.open_one(worker, slot)).await,
                Err(overflow) if clock::now() >= end => return Err(NoConnection::Overflow(overflow)),
                Err(_) => {}
            }
            if waiting.is_none() {
                waiting = Some(self.counters.pending(&self.limits.borrow()).map_err(NoConnection::Overflow)?);
            }
            // Another worker frees places without telling this one, hence the short time-out.
            tokio::time::timeout(Duration::from_millis(10), self.freed.notified()).await.ok();
        }
    }

    /// An idle connection that still works.
    fn idle_one(self: &Rc<Self>) -> Option<Lease> {
        loop {
            // The newest first: its caches are warm, and the old ones can go.
            let idle = self.idle.borrow_mut().pop()?;
            if idle.connection.is_ready() && !self.is_old(&idle.facts) {
                return Some(self.lent(Lent::One(idle.connection), idle.facts, true));
            }
        }
    }

    async fn open_one(self: &Rc<Self>, worker: &Rc<Worker>, slot: Slot) -> Result<Lease, NoConnection> {
        let (io, peer) = self.connect(worker, Alpn::WeftHttp1).await.map_err(NoConnection::Dial)?;
        let tasks = worker.tasks.clone();
        let options = http1::ClientOptions {
            head: http1::HeadLimits { bytes: limits::HEADER_BYTES_MAX, headers: limits::RESPONSE_HEADERS_MAX },
            spawn: Rc::new(move |rest| {
                tasks.spawn_local("upload", rest);
            }),
        };
        let connection = http1::Connection::new(io, options);
        let facts = Rc::new(Facts {
            tls: peer.as_ref().map(|p| Rc::new(super::tls_record(p))),
            served: Cell::new(0),
            born: clock::now(),
            _slot: slot,
        });
        Ok(self.lent(Lent::One(connection), facts, false))
    }

    /// An open HTTP/2 connection with room for one more stream.
    async fn shared_one(self: &Rc<Self>) -> Option<Lease> {
        loop {
            // One that is too old finishes what it has.
            self.shared.borrow_mut().retain(|s| !s.sender.is_closed() && !self.is_old(&s.facts));
            let free = self.shared.borrow().iter().find(|s| s.sender.room() > 0).cloned();
            if let Some(shared) = free {
                let facts = shared.facts.clone();
                return Some(self.lent(Lent::Two(shared), facts, true));
            }
            if !self.connecting.get() {
                return None;
            }
            // One connection is being made; it will do for all who wait.
            self.connected.notified().await;
        }
    }

    async fn open_two(self: &Rc<Self>, worker: &Rc<Worker>) -> Result<Lease, NoConnection> {
        let _connecting = Connecting::begin(self);
        let slot = self.counters.connection(&self.limits.borrow()).map_err(NoConnection::Overflow)?;
        let (io, peer) = self.connect(worker, Alpn::WeftH2).await.map_err(NoConnection::Dial)?;
        let (sender, connection) = http2::handshake(io, worker.http2.client(self.idle_timeout(), &self.limits.borrow()));
        worker.tasks.spawn_local("upstream h2", async move {
            connection.await.ok();
        });
        let facts = Rc::new(Facts {
            tls: peer.as_ref().map(|p| Rc::new(super::tls_record(p))),
            served: Cell::new(0),
            born: clock::now(),
            _slot: slot,
        });
        let shared = Rc::new(Shared { sender, facts: facts.clone() });
        self.shared.borrow_mut().push(shared.clone());
        Ok(self.lent(Lent::Two(shared), facts, false))
    }

    fn lent(self: &Rc<Self>, lent: Lent, facts: Rc<Facts>, reused: bool) -> Lease {
        facts.served.set(facts.served.get() + 1);
        Lease { lent: Some(lent), facts, pool: Rc::downgrade(self), reused, body_sent: Rc::new(Cell::new(true)) }
    }

    /// Has the connection reached the age at which it is closed?
    fn is_old(&self, facts: &Facts) -> bool {
        self.limits.borrow().connection_age_ms_max.is_some_and(|ms| facts.born.elapsed() >= Duration::from_millis(ms))
    }

    fn idle_timeout(&self) -> Duration {
        self.limits.borrow().idle_timeout_ms.map_or(limits::IDLE_TIMEOUT, Duration::from_millis)
    }

    fn connect_timeout(&self) -> Duration {
        self.limits.borrow().connect_timeout_ms.map_or(limits::CONNECT_TIMEOUT, Duration::from_millis)
    }

    /// A new connection as bytes.
    pub(crate) async fn connect(&self, worker: &Worker, alpn: Alpn) -> Result<(Io, Option<Peer>), DialError> {
        let keepalive = self.limits.borrow().tcp_keepalive.clone();
        self.dialer.connect(worker, self.connect_timeout(), keepalive.as_ref(), alpn).await
    }

    /// A counted place for a connection that is not pooled (TCP).
    pub(crate) fn tcp_slot(&self) -> Result<Slot, Overflow> {
        self.counters.connection(&self.limits.borrow())
    }

    /// Closes what is idle for too long, or closed by the peer. Called about once a second.
    pub(crate) fn sweep(&self, now: Instant) {
        let timeout = self.idle_timeout();
        // Zero: never. (HTTP/2 connections look at their idle time themselves.)
        let rested = |since: Instant| !timeout.is_zero() && now.saturating_duration_since(since) >= timeout;
        self.idle.borrow_mut().retain(|idle| idle.connection.is_ready() && !rested(idle.since) && !self.is_old(&idle.facts));
        self.shared.borrow_mut().retain(|shared| !shared.sender.is_closed() && !self.is_old(&shared.facts));
    }

    /// Idle HTTP/1 connections and open HTTP/2 connections, for `/config`.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.idle.borrow().len(), self.shared.borrow().len())
    }

    /// Closes one idle connection, so that its place is free for another endpoint of the cluster.
    pub(crate) fn close_one_idle(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        (!idle.is_empty()).then(|| idle.remove(0)).is_some()
    }
}

/// Marks that an HTTP/2 connection is being made, and wakes those who wait for it however that ends.
struct Connecting {
    pool: Rc<Pool>,
}

impl Connecting {
    fn begin(pool: &Rc<Pool>) -> Self {
        pool.connecting.set(true);
        Self { pool: pool.clone() }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.pool.connecting.set(false);
        self.pool.connected.notify_waiters();
    }
}

impl Lease {
    /// Sends one request. With an error comes the request itself when not a byte of it was written.
    pub(crate) async fn send(&mut self, request: Box<Request<RequestBody>>) -> Result<Response<Incoming>, SendError> {
        match self.lent.as_mut().expect("a lease holds its connection until it is given back") {
            Lent::One(connection) => {
                let sending =
                    connection.send(request).map_err(|error| SendError { unsent: error.unsent, ..SendError::of_http1(&error.reason) })?;
                sending.await.map(|response| response.map(Incoming::H1)).map_err(|failure| SendError::of_http1(&failure))
            }
            Lent::Two(shared) => websocket::send(&shared.sender, request).await,
        }
    }

    /// Who answers, when it proved an identity.
    pub(crate) fn tls(&self) -> Option<&Rc<TlsRecord>> {
        self.facts.tls.as_ref()
    }

    /// The exchange is over; after a clean one the connection is free for the next.
    pub(crate) fn give_back(mut self, complete: bool) {
        let Some(pool) = self.pool.upgrade() else { return };
        let most = pool.limits.borrow().requests_per_connection_max.filter(|max| *max > 0);
        let worn = most.is_some_and(|max| self.facts.served.get() >= max);
        match self.lent.take() {
            Some(Lent::One(connection)) if complete && self.body_sent.get() && !worn && connection.is_ready() => {
                let mut idle = pool.idle.borrow_mut();
                if idle.len() < limits::IDLE_CONNECTIONS_MAX {
                    idle.push(Idle { connection, facts: self.facts.clone(), since: clock::now() });
                }
            }
            Some(Lent::Two(shared)) => {
                if worn {
                    pool.shared.borrow_mut().retain(|s| !Rc::ptr_eq(s, &shared));
                }
                self.lent = Some(Lent::Two(shared));
            }
            Some(Lent::One(_)) | None => {}
        }
    }
}

/// Why a request got no answer on its connection.
pub(crate) struct SendError {
    /// The request itself, when provably not a byte of it was sent.
    pub unsent: Option<Box<Request<RequestBody>>>,
    pub kind: SendErrorKind,
    pub words: String,
}

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendErrorKind {
    /// The upstream says that it did not look at it.
    Refused,
    /// The upstream broke the protocol.
    Protocol,
    /// The upstream or the network closed the connection.
    Reset,
    /// The caller's body broke.
    Body,
}

impl SendError {
    fn of_http1(failure: &SendFailure) -> Self {
        let kind = match failure {
            SendFailure::Malformed(_) => SendErrorKind::Protocol,
            SendFailure::Body(_) => SendErrorKind::Body,
            SendFailure::Closed | SendFailure::NoResponse | SendFailure::Broken(_) => SendErrorKind::Reset,
        };
        Self { unsent: None, kind, words: failure.to_string() }
    }

    pub(super) fn of_http2(error: &http2::Error) -> Self {
        let kind = match error {
            _ if error.is_unprocessed() => SendErrorKind::Refused,
            http2::Error::Reset(code) if code.is_protocol() => SendErrorKind::Protocol,
            _ if error.is_protocol() => SendErrorKind::Protocol,
            _ => SendErrorKind::Reset,
        };
        Self { unsent: None, kind, words: error.to_string() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.freed.notify_one();
        }
    }
}
