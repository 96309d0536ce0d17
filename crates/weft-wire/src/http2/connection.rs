//! A connection without I/O: bytes in, bytes out, and what they mean for its streams (RFC 9113).
//!
//! This file holds the state and what both directions share; `receive.rs` reads frames, `send.rs` writes them. Nothing here
//! reads a clock: the driver sets `now`.

use super::{
    error::{Error, ErrorCode, Violation},
    frame::{self, PREFACE},
    guard::Guard,
    hpack::{Decoder, Encoder},
    options::Options,
    ready::Ready,
    settings::{self, Settings, WINDOW_DEFAULT},
    streams::{Key, Streams},
};
use http::Request;
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};
use weft_std::clock::Instant;

/// A connection as its driver and all handles share it.
pub(crate) type Shared = Rc<RefCell<Core>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// What has come of the begin of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// So many bytes of the client's preface.
    Preface(usize),
    /// The peer's SETTINGS must be next (§3.4).
    FirstSettings,
    Open,
}

/// A header block whose CONTINUATIONs are still to come.
pub(crate) struct Block {
    pub stream: u32,
    pub end_stream: bool,
    pub depends_on_itself: bool,
    pub bytes: Vec<u8>,
    pub frames: u32,
    pub since: Instant,
}

pub(crate) struct Core {
    pub role: Role,
    pub options: Rc<Options>,
    pub now: Instant,
    pub stage: Stage,
    /// The peer's settings.
    pub remote: Settings,
    /// The peer has acknowledged ours: until then it may use the default windows.
    pub settings_acked: bool,
    pub decoder: Decoder,
    pub encoder: Encoder,
    pub streams: Streams,
    /// The begin of a frame whose rest has not come.
    pub input: Vec<u8>,
    pub block: Option<Block>,
    /// What goes out next, and how much of it has gone.
    pub out: Vec<u8>,
    pub out_at: usize,
    pub send_window: i64,
    pub recv_window: i64,
    pub released: u32,
    /// Highest id that the peer opened.
    pub last_peer: u32,
    /// Next id that we open.
    pub next_own: u32,
    /// New requests for the driver.
    pub accepted: VecDeque<(Key, Request<()>)>,
    pub ready: Arc<Ready>,
    /// Sending that waits for the connection's window, or for the socket.
    pub window_waiters: Vec<Key>,
    pub out_waiters: Vec<Key>,
    pub guard: Guard,
    /// The last stream that we serve, once we have said goodbye.
    pub goaway_sent: Option<u32>,
    /// The peer said goodbye: it takes no streams beyond this one.
    pub goaway_received: Option<(u32, ErrorCode)>,
    /// Why it is over.
    pub closed: Option<Error>,
    /// Was a PING of ours answered? None is under way when this is `None`.
    pub ping_sent: Option<Instant>,
    pub drain_ping: bool,
    pub drain_began: Option<Instant>,
    /// Last time that anything came.
    pub heard: Instant,
    /// The driver's task, and whether it runs or is about to, and will look at everything anyway.
    pub driver: Option<Waker>,
    pub awake: bool,
    /// When it was closed, nothing was open.
    pub served_all: bool,
    /// Who waits for a stream to become free (client).
    pub slot_waiters: VecDeque<Waker>,
}

/// The opaque data of our PINGs.
pub(crate) const PING_ALIVE: [u8; 8] = *b"weft/png";
pub(crate) const PING_DRAIN: [u8; 8] = *b"weft/bye";

impl Core {
    pub(crate) fn new(role: Role, options: Rc<Options>, now: Instant) -> Self {
        let mut core = Self {
            role,
            now,
            stage: if role == Role::Server { Stage::Preface(0) } else { Stage::FirstSettings },
            remote: Settings::default(),
            settings_acked: false,
            decoder: Decoder::default(),
            encoder: Encoder::new(options.huffman),
            streams: Streams::default(),
            input: Vec::new(),
            block: None,
            out: Vec::new(),
            out_at: 0,
            send_window: WINDOW_DEFAULT,
            recv_window: i64::from(options.connection_window_bytes).max(WINDOW_DEFAULT),
            released: 0,
            last_peer: 0,
            next_own: 1,
            accepted: VecDeque::new(),
            ready: Arc::new(Ready::default()),
            window_waiters: Vec::new(),
            out_waiters: Vec::new(),
            guard: Guard::new(now),
            goaway_sent: None,
            goaway_received: None,
            closed: None,
            ping_sent: None,
            drain_ping: false,
            drain_began: None,
            heard: now,
            driver: None,
            awake: true,
            served_all: false,
            slot_waiters: VecDeque::new(),
            options,
        };
        core.greet();
        core
    }

    /// Preface and SETTINGS (§3.4).
    fn greet(&mut self) {
        let o = &self.options;
        let mut list = vec![
            (settings::INITIAL_WINDOW_SIZE, o.stream_window_bytes),
            (settings::MAX_HEADER_LIST_SIZE, u32::try_from(o.header_bytes_max).unwrap_or(u32::MAX)),
        ];
        match self.role {
            Role::Client => {
                self.out.extend_from_slice(PREFACE);
                list.push((settings::ENABLE_PUSH, 0));
            }
            Role::Server => {
                list.push((settings::MAX_CONCURRENT_STREAMS, o.streams_max));
                if o.connect_protocol {
                    list.push((settings::ENABLE_CONNECT_PROTOCOL, 1));
                }
            }
        }
        frame::put_settings(&mut self.out, &list);
        let more = self.recv_window - WINDOW_DEFAULT;
        if more > 0 {
            frame::put_window_update(&mut self.out, 0, more as u32);
        }
    }

    /// Has the driver look at the connection again.
    pub(crate) fn wake_driver(&mut self) {
        if !std::mem::replace(&mut self.awake, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }

    /// The driver's turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.awake = true;
        if self.out.capacity() == 0 {
            self.out = super::wire::take_buffer();
        }
    }

    /// The driver's turn ends; whoever has something for it must wake it.
    pub(crate) fn end_turn(&mut self, driver: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(driver),
            None => self.driver = Some(driver.clone()),
        }
        self.awake = false;
    }

    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Window that a new stream's peer has.
    pub(crate) fn first_recv_window(&self) -> i64 {
        let ours = i64::from(self.options.stream_window_bytes);
        if self.settings_acked { ours } else { ours.max(WINDOW_DEFAULT) }
    }

    /// A limit was hit.
    pub(crate) fn hit(&self, limit: &'static str) {
        (self.options.on_limit)(limit);
    }

    /// The connection is over: tells the peer, and everybody here.
    pub(crate) fn close(&mut self, error: Error) {
        if self.closed.is_some() {
            return;
        }
        if let Error::Connection(code, why) = error {
            frame::put_goaway(&mut self.out, self.last_peer, code, why);
        }
        self.served_all = self.streams.open() == 0;
        self.closed = Some(error.clone());
        self.block = None;
        self.accepted.clear();
        let mut open = Vec::new();
        for (key, stream) in self.streams.each() {
            if stream.open {
                open.push(key);
            }
            // A message that is here whole is still good.
            if !stream.recv_ended && stream.failed.is_none() {
                stream.failed = Some(error.clone());
            }
            stream.wake_reader();
        }
        for key in open {
            self.ready.mark(key.index);
            self.streams.close(key);
        }
        self.slot_waiters.drain(..).for_each(Waker::wake);
        self.wake_driver();
    }

    /// Resets a stream, known or not (§5.4.2). Only for our own reasons or the peer's faults: never in answer to a RST_STREAM.
    pub(crate) fn reset(&mut self, id: u32, code: ErrorCode, why: &'static str) {
        if self.closed.is_some() {
            return;
        }
        frame::put_reset(&mut self.out, id, code);
        self.streams.note_reset(id);
        if let Some(key) = self.streams.find(id) {
            let whole = self.streams.at(key).is_some_and(|s| s.recv_ended);
            self.end_stream(key, if whole && code == ErrorCode::NO_ERROR { None } else { Some(Error::Stream(code, why)) });
        }
        self.wake_driver();
    }

    /// A stream leaves the open ones. With an error it wakes whoever waits for it.
    pub(crate) fn end_stream(&mut self, key: Key, error: Option<Error>) {
        let Some(stream) = self.streams.at(key) else { return };
        if let Some(error) = error {
            if stream.failed.is_none() {
                stream.failed = Some(error);
            }
            self.ready.mark(key.index);
        }
        stream.wake_reader();
        let unread = if stream.wanted { 0 } else { drain(stream) };
        self.streams.close(key);
        self.release_connection(unread);
        if let Some(waiter) = self.slot_waiters.pop_front() {
            waiter.wake();
        }
    }

    /// Ends it when both sides have ended theirs.
    pub(crate) fn end_if_both_ended(&mut self, key: Key) {
        if self.streams.at(key).is_some_and(|s| s.recv_ended && s.send_ended && s.open) {
            self.guard.finished();
            self.end_stream(key, None);
        }
    }

    /// What a frame broke. `Err` when that is the connection.
    pub(crate) fn violated(&mut self, violation: Violation) -> Result<(), Error> {
        match violation {
            Violation::Connection(code, why) => Err(Error::Connection(code, why)),
            // §6.4: an idle stream cannot be reset.
            Violation::Stream(id, code, why) if self.is_idle(id) => Err(Error::Connection(code, why)),
            Violation::Stream(id, code, why) => {
                // A peer that makes us reset costs as much as one that resets (MadeYouReset).
                if !self.guard.reset(self.now) {
                    self.hit("H2_RESETS_BURST");
                    return Err(Error::Connection(ErrorCode::ENHANCE_YOUR_CALM, "too many streams that had to be reset"));
                }
                self.reset(id, code, why);
                Ok(())
            }
        }
    }

    /// The connection's window is given back in large pieces.
    pub(crate) fn release_connection(&mut self, bytes: u32) {
        self.released += bytes;
        let whole = i64::from(self.options.connection_window_bytes).max(WINDOW_DEFAULT);
        if i64::from(self.released) * 2 >= whole && self.closed.is_none() {
            frame::put_window_update(&mut self.out, 0, self.released);
            self.recv_window += i64::from(self.released);
            self.released = 0;
            self.wake_driver();
        }
    }

    /// Bytes of a stream were taken.
    pub(crate) fn release(&mut self, key: Key, bytes: u32) {
        if let Some(stream) = self.streams.at(key) {
            stream.released += bytes;
            if stream.open && !stream.recv_ended && stream.wanted && stream.released * 2 >= self.options.stream_window_bytes {
                let back = std::mem::take(&mut stream.released);
                stream.recv_window += i64::from(back);
                frame::put_window_update(&mut self.out, key.id, back);
                self.wake_driver();
            }
        }
        self.release_connection(bytes);
    }

    /// Begins a graceful end (§6.8): first no more streams are asked for, then the last one is named.
    pub(crate) fn drain(&mut self) {
        if self.goaway_sent.is_none() && self.closed.is_none() {
            frame::put_goaway(&mut self.out, 0x7fff_ffff, ErrorCode::NO_ERROR, "");
            frame::put_ping(&mut self.out, 0, PING_DRAIN);
            self.goaway_sent = Some(0x7fff_ffff);
            (self.drain_ping, self.drain_began) = (true, Some(self.now));
            self.wake_driver();
        }
    }

    /// The second step: what the peer sent before it knew has come in.
    pub(crate) fn drain_now(&mut self) {
        if std::mem::take(&mut self.drain_ping) {
            frame::put_goaway(&mut self.out, self.last_peer, ErrorCode::NO_ERROR, "");
            self.goaway_sent = Some(self.last_peer);
            self.wake_driver();
        }
    }

    /// A client that has nothing more to ask says so.
    pub(crate) fn say_goodbye(&mut self) {
        if self.closed.is_none() {
            frame::put_goaway(&mut self.out, self.last_peer, ErrorCode::NO_ERROR, "");
        }
    }

    /// Nothing is left to do on a connection that ends gracefully.
    pub(crate) fn is_done(&self) -> bool {
        let goodbye = (self.goaway_sent.is_some() && !self.drain_ping) || self.goaway_received.is_some();
        goodbye && self.streams.open() == 0 && self.accepted.is_empty()
    }

    /// May a request be sent? `Ready(Err)` when never again.
    pub(crate) fn poll_room(&self) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.closed {
            return Poll::Ready(Err(error.clone()));
        }
        if let Some((_, code)) = self.goaway_received {
            return Poll::Ready(Err(Error::NotTaken(code)));
        }
        if self.goaway_sent.is_some() || self.next_own > 0x7fff_fff0 {
            return Poll::Ready(Err(Error::NotTaken(ErrorCode::NO_ERROR)));
        }
        if self.streams.open() >= self.room() || self.streams.records() >= super::limits::STREAM_RECORDS_MAX {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Streams that may be open at a time, as both sides say.
    pub(crate) fn room(&self) -> usize {
        self.remote.max_concurrent_streams.unwrap_or(u32::MAX).min(self.options.streams_max) as usize
    }
}

/// Empties a stream's queue; the bytes that were in it.
pub(crate) fn drain(stream: &mut super::streams::Stream) -> u32 {
    stream.queue.drain(..).map(|data| data.len() as u32).sum()
}
