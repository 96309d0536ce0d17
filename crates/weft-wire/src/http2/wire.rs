//! A connection's socket: reading into it, writing out of it, and its one timer. Both sides' drivers are built on it.

use super::{
    connection::{Role, Shared},
    error::Error,
    limits::{H2_OUT_STALLED_BYTES_MAX, READ_BYTES, TICK},
};
use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};
use weft_std::clock::{self, Instant};

thread_local! {
    /// One read buffer for all connections of a worker: an idle connection has none.
    static READ: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
    /// Write buffers that no connection uses at the moment.
    static WRITE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

const SPARE_BUFFERS_MAX: usize = 8;
const SPARE_BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Reads before it is somebody else's turn.
const READS_MAX: u32 = 4;
/// How long a peer may take to read our last words.
const LAST_WORDS_TICKS: u32 = 5;

pub(crate) struct Wire<T> {
    io: T,
    pub core: Shared,
    tick: Option<Pin<Box<Sleep>>>,
    /// Since when the socket takes nothing.
    stalled: Option<Instant>,
    eof: bool,
    /// Everything is said; only the other side's end is awaited.
    lingers: bool,
    flushing: bool,
    /// Ticks that went by while it ended.
    waited: u32,
}

/// What a turn of reading brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All that was there.
    Empty,
    /// There may be more.
    More,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    pub(crate) fn new(io: T, core: Shared) -> Self {
        Self { io, core, tick: None, stalled: None, eof: false, lingers: false, flushing: false, waited: 0 }
    }

    /// Begins a turn: the time, and the timer.
    pub(crate) fn begin(&mut self, cx: &mut Context<'_>) {
        let mut core = self.core.borrow_mut();
        core.now = clock::now();
        core.begin_turn();
        if let Some(tick) = &mut self.tick
            && tick.as_mut().poll(cx).is_ready()
        {
            self.tick = None;
            core.tick(self.stalled);
        }
    }

    /// Reads what is there. A broken or closed socket closes the connection.
    pub(crate) fn read(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.eof || self.core.borrow().unsent() > H2_OUT_STALLED_BYTES_MAX {
            return Turn::Empty;
        }
        let mut buffer = READ.take().unwrap_or_else(|| vec![0; READ_BYTES].into_boxed_slice());
        let mut turn = Turn::More;
        for _ in 0..READS_MAX {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Pending => {
                    turn = Turn::Empty;
                    break;
                }
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    let mut core = self.core.borrow_mut();
                    core.heard = core.now;
                    // What is wrong with it is in `closed` from now on.
                    if core.receive(read.filled()).is_err() || core.unsent() > H2_OUT_STALLED_BYTES_MAX {
                        break;
                    }
                }
                Poll::Ready(ended) => {
                    self.eof = true;
                    turn = Turn::Empty;
                    self.core.borrow_mut().close(ended.err().map_or(Error::Closed, |e| Error::Io(e.kind())));
                    break;
                }
            }
        }
        READ.set(Some(buffer));
        turn
    }

    /// Writes what is to be written. `true` when room came free that somebody waits for.
    pub(crate) fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        let mut wrote = false;
        while core.unsent() > 0 {
            match Pin::new(&mut self.io).poll_write(cx, &core.out[core.out_at..]) {
                Poll::Pending => {
                    if wrote || self.stalled.is_none() {
                        self.stalled = Some(core.now);
                    }
                    break;
                }
                Poll::Ready(Ok(n)) if n > 0 => {
                    core.out_at += n;
                    (wrote, self.flushing) = (true, true);
                }
                Poll::Ready(failed) => {
                    let kind = failed.err().map_or(std::io::ErrorKind::WriteZero, |e| e.kind());
                    core.out_at = core.out.len();
                    self.eof = true;
                    core.close(Error::Io(kind));
                    (core.out_at, wrote) = (core.out.len(), true);
                }
            }
        }
        if core.unsent() == 0 {
            core.out.clear();
            core.out_at = 0;
            self.stalled = None;
            if self.flushing && Pin::new(&mut self.io).poll_flush(cx).is_ready() {
                self.flushing = false;
            }
        }
        let waited = !core.out_waiters.is_empty() && core.unsent() < super::limits::OUT_BYTES_MAX / 2;
        if waited {
            core.out_drained();
        }
        wrote && waited
    }

    /// Ends a turn: buffers go back, the timer is set if something needs it.
    pub(crate) fn end(&mut self, cx: &mut Context<'_>) {
        let mut core = self.core.borrow_mut();
        if core.out.is_empty() && core.out.capacity() > 0 {
            give_buffer(std::mem::take(&mut core.out));
        }
        core.end_turn(cx.waker());
        let due = if self.lingers { Some(core.now + TICK) } else { core.due() };
        drop(core);
        let Some(due) = due else { return };
        match &mut self.tick {
            // An early tick does no harm.
            Some(tick) if tick.deadline() <= due => {}
            Some(tick) => tick.as_mut().reset(due),
            None => self.tick = Some(Box::pin(tokio::time::sleep_until(due))),
        }
        if let Some(tick) = &mut self.tick {
            // Registers it; should it be over already, the next turn sees it.
            let _ = tick.as_mut().poll(cx);
        }
    }

    /// After the last turn: says goodbye to the socket. `Ready` when it may be dropped.
    pub(crate) fn finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.tick.as_mut().is_some_and(|tick| tick.as_mut().poll(cx).is_ready()) {
            self.tick = None;
            self.waited += 1;
        }
        self.write(cx);
        if self.core.borrow().unsent() > 0 && !self.eof && self.waited <= LAST_WORDS_TICKS {
            return Poll::Pending;
        }
        if !self.lingers {
            if !self.eof && Pin::new(&mut self.io).poll_shutdown(cx).is_pending() {
                return Poll::Pending;
            }
            self.lingers = true;
            (self.tick, self.waited) = (None, 0);
        }
        // Closing a socket with unread bytes would tear our last words away from the peer (RFC 9293 §3.6): they are read, for a moment.
        let mut buffer = [0; 2048];
        while !self.eof {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Pending if self.waited > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {}
                Poll::Ready(_) => self.eof = true,
            }
        }
        Poll::Ready(())
    }

    /// How it ended, once it has.
    pub(crate) fn outcome(&self, role: Role) -> Option<Result<(), Error>> {
        let core = self.core.borrow();
        match &core.closed {
            // A peer that has nothing open may go when it likes.
            Some(Error::Closed | Error::Io(_)) if role == Role::Server && core.served_all => Some(Ok(())),
            Some(error) => Some(Err(error.clone())),
            None if core.is_done() => Some(Ok(())),
            None => None,
        }
    }
}

/// A buffer to write into, used before where possible.
pub(crate) fn take_buffer() -> Vec<u8> {
    WRITE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(4096))
}

fn give_buffer(mut buffer: Vec<u8>) {
    WRITE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BUFFER_BYTES_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    });
}
