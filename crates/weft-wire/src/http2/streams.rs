//! The streams of a connection: a slab of records that are used again, and who still holds each.

use super::{error::Error, limits::LATELY_RESET_MAX};
use bytes::Bytes;
use http::{HeaderMap, Response};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    task::Waker,
};
use weft_std::clock::Instant;

/// A stream's place in the slab, and its id to tell whether it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub index: u32,
    pub id: u32,
}

/// One stream (RFC 9113 §5.1). A record exists from the first HEADERS until the stream is closed and nobody holds it any more.
#[derive(Debug)]
pub(crate) struct Stream {
    pub id: u32,
    /// Counts among the open ones.
    pub open: bool,
    /// Handles: a body, the future of a response, the sending of a body.
    pub holders: u8,
    pub active: Instant,

    /// Data not yet taken.
    pub queue: VecDeque<Bytes>,
    pub trailers: Option<HeaderMap>,
    /// A response's head, until it is taken.
    pub head: Option<Response<()>>,
    pub head_seen: bool,
    pub informational: u8,
    /// The peer has ended its side.
    pub recv_ended: bool,
    /// Bytes that the peer may still send.
    pub recv_window: i64,
    /// Bytes taken and not yet given back.
    pub released: u32,
    /// What `content-length` promises of what has not come yet.
    pub awaited: Option<u64>,
    /// The message must not have a body (HEAD, 204, 304).
    pub bodiless: bool,
    /// Somebody may still read the body.
    pub wanted: bool,
    /// Who waits for head or body.
    pub reader: Option<Waker>,

    /// Bytes that we may still send.
    pub send_window: i64,
    /// We have ended our side.
    pub send_ended: bool,
    /// The sending waits for a window.
    pub blocked: bool,

    /// It ended before its time.
    pub failed: Option<Error>,
}

impl Stream {
    fn new(id: u32, now: Instant) -> Self {
        Self {
            id,
            open: true,
            holders: 0,
            active: now,
            queue: VecDeque::new(),
            trailers: None,
            head: None,
            head_seen: false,
            informational: 0,
            recv_ended: false,
            recv_window: 0,
            released: 0,
            awaited: None,
            bodiless: false,
            wanted: true,
            reader: None,
            send_window: 0,
            send_ended: false,
            blocked: false,
            failed: None,
        }
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Ids are their own hashes: a peer cannot choose them freely, they only rise.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u32(&mut self, id: u32) {
        // hashbrown looks at the top seven bits as well.
        self.0 = u64::from(id >> 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Default)]
pub(crate) struct Streams {
    slab: Vec<Stream>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
    lately_reset: VecDeque<u32>,
}

impl Streams {
    /// Streams that are open.
    pub(crate) fn open(&self) -> usize {
        self.by_id.len()
    }

    /// Records in use.
    pub(crate) fn records(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, id: u32, now: Instant) -> Key {
        let index = match self.free.pop() {
            Some(index) => {
                let old = &mut self.slab[index as usize];
                // The queue's memory is used again.
                let queue = std::mem::take(&mut old.queue);
                *old = Stream { queue, ..Stream::new(id, now) };
                index
            }
            None => {
                self.slab.push(Stream::new(id, now));
                self.slab.len() as u32 - 1
            }
        };
        self.by_id.insert(id, index);
        Key { index, id }
    }

    /// An open stream.
    pub(crate) fn find(&self, id: u32) -> Option<Key> {
        self.by_id.get(&id).map(|index| Key { index: *index, id })
    }

    pub(crate) fn at(&mut self, key: Key) -> Option<&mut Stream> {
        self.slab.get_mut(key.index as usize).filter(|s| s.id == key.id)
    }

    /// It is closed on the wire; the record stays while it is held.
    pub(crate) fn close(&mut self, key: Key) {
        self.by_id.remove(&key.id);
        if let Some(stream) = self.at(key) {
            stream.open = false;
            self.let_go(key, 0);
        }
    }

    /// A handle is dropped.
    pub(crate) fn let_go(&mut self, key: Key, holders: u8) {
        let Some(stream) = self.at(key) else { return };
        stream.holders = stream.holders.saturating_sub(holders);
        if !stream.open && stream.holders == 0 {
            stream.id = 0;
            stream.queue.clear();
            (stream.trailers, stream.head, stream.reader) = (None, None, None);
            self.free.push(key.index);
        }
        if self.free.len() == self.slab.len() && self.slab.len() > 4 {
            // Nothing is left: a connection that idles shall be small.
            (self.slab, self.free) = (Vec::new(), Vec::new());
            self.by_id.shrink_to_fit();
        }
    }

    /// Open streams and those that are still held.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        let used = self.slab.iter_mut().enumerate().filter(|(_, s)| s.id != 0);
        used.map(|(index, s)| (Key { index: index as u32, id: s.id }, s))
    }

    /// Frames of these may still come, and are nobody's fault.
    pub(crate) fn note_reset(&mut self, id: u32) {
        if self.lately_reset.len() >= LATELY_RESET_MAX {
            self.lately_reset.pop_front();
        }
        self.lately_reset.push_back(id);
    }

    pub(crate) fn was_reset(&self, id: u32) -> bool {
        self.lately_reset.contains(&id)
    }
}
