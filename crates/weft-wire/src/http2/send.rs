//! What goes out: heads, data within the windows, trailers.

use super::{
    connection::Core,
    error::{Error, ErrorCode},
    frame::{self, FRAME_BYTES_MAX, HEAD_BYTES, flag, kind},
    head,
    hpack::Encoder,
    limits::OUT_BYTES_MAX,
    streams::Key,
};
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, header, response};

/// How much of a piece went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    /// The rest waits for a window or for the socket; the place is marked when it is time.
    Blocked,
    /// The stream is over; nobody wants the rest.
    Gone,
}

impl Core {
    /// Frames that fit the peer, from one header block.
    fn put_block(&mut self, id: u32, end_stream: bool, encode: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let start = self.out.len();
        let end = if end_stream { flag::END_STREAM } else { 0 };
        frame::put_head(&mut self.out, 0, kind::HEADERS, flag::END_HEADERS | end, id);
        encode(&mut self.encoder, &mut self.out);
        let length = self.out.len() - start - HEAD_BYTES;
        if length <= FRAME_BYTES_MAX {
            let length = (length as u32).to_be_bytes();
            self.out[start..start + 3].copy_from_slice(&length[1..]);
            return;
        }
        let block = self.out.split_off(start + HEAD_BYTES);
        self.out.truncate(start);
        let pieces = block.chunks(FRAME_BYTES_MAX);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.enumerate() {
            let end_headers = if at == last { flag::END_HEADERS } else { 0 };
            let (kind, end) = if at == 0 { (kind::HEADERS, end) } else { (kind::CONTINUATION, 0) };
            frame::put_head(&mut self.out, piece.len(), kind, end | end_headers, id);
            self.out.extend_from_slice(piece);
        }
    }

    /// Opens a stream with a request. The caller has asked for room.
    pub(crate) fn open<B>(&mut self, request: &Request<B>, end_stream: bool) -> Key {
        let id = self.next_own;
        self.next_own += 2;
        let key = self.streams.insert(id, self.now);
        let (send_window, recv_window) = (self.remote.initial_window, self.first_recv_window());
        if let Some(stream) = self.streams.at(key) {
            (stream.send_window, stream.recv_window) = (send_window, recv_window);
            stream.send_ended = end_stream;
            stream.bodiless = Self::expects_no_body(request.method());
            stream.holders = 1;
        }
        self.put_block(id, end_stream, |encoder, out| head::encode_request(encoder, request, out));
        key
    }

    /// Sends a response's head. `length` is the body's, when it is known and not yet among the headers.
    pub(crate) fn respond(&mut self, key: Key, parts: &response::Parts, length: Option<u64>, end_stream: bool) -> bool {
        if self.closed.is_some() || !self.streams.at(key).is_some_and(|s| s.open) {
            return false;
        }
        self.put_block(key.id, end_stream, |encoder, out| {
            head::encode_response(encoder, parts.status, &parts.headers, out);
            if let Some(length) = length {
                encoder.header(&header::CONTENT_LENGTH, &HeaderValue::from(length), out);
            }
        });
        if end_stream {
            self.our_side_ended(key);
        }
        true
    }

    /// Sends as much of `data` as may go, and with the last of it the end of our side.
    pub(crate) fn send_data(&mut self, key: Key, data: &mut Bytes, end_stream: bool) -> Sent {
        loop {
            let full = self.unsent() >= OUT_BYTES_MAX;
            let now = self.now;
            let Some(stream) = self.streams.at(key).filter(|s| s.open && !s.send_ended) else { return Sent::Gone };
            let window = stream.send_window.min(self.send_window).max(0);
            let n = data.len().min(FRAME_BYTES_MAX).min(usize::try_from(window).unwrap_or(0));
            if full {
                self.out_waiters.push(key);
                return Sent::Blocked;
            }
            if n == 0 && !data.is_empty() {
                if stream.send_window <= 0 {
                    stream.blocked = true;
                } else {
                    self.window_waiters.push(key);
                }
                return Sent::Blocked;
            }
            let end = end_stream && n == data.len();
            stream.send_window -= n as i64;
            self.send_window -= n as i64;
            stream.active = now;
            frame::put_head(&mut self.out, n, kind::DATA, if end { flag::END_STREAM } else { 0 }, key.id);
            self.out.extend_from_slice(&data[..n]);
            data.advance(n);
            self.guard.progress();
            if end {
                self.our_side_ended(key);
            }
            if data.is_empty() {
                return Sent::All;
            }
        }
    }

    /// Ends our side with trailers.
    pub(crate) fn send_trailers(&mut self, key: Key, trailers: &HeaderMap) {
        if !self.streams.at(key).is_some_and(|s| s.open && !s.send_ended) {
            return;
        }
        self.put_block(key.id, true, |encoder, out| head::encode_trailers(encoder, trailers, out));
        self.our_side_ended(key);
    }

    fn our_side_ended(&mut self, key: Key) {
        let server = self.role == super::connection::Role::Server;
        let Some(stream) = self.streams.at(key) else { return };
        stream.send_ended = true;
        if server && !stream.recv_ended {
            // §8.1: the answer is complete; the rest of the request is not wanted.
            self.guard.finished();
            self.reset(key.id, ErrorCode::NO_ERROR, "the response was complete before the request");
            return;
        }
        self.end_if_both_ended(key);
    }

    /// Room in the socket's queue again: whoever waited for it goes on.
    pub(crate) fn out_drained(&mut self) {
        for key in self.out_waiters.drain(..) {
            self.ready.mark(key.index);
        }
    }

    /// Our body broke: the stream cannot be ended well.
    pub(crate) fn abandon(&mut self, key: Key, code: ErrorCode, why: &'static str) {
        if self.streams.at(key).is_some_and(|s| s.open) {
            self.reset(key.id, code, why);
        }
    }

    /// Time has passed; what has waited for too long is over.
    pub(crate) fn tick(&mut self, stalled: Option<weft_std::clock::Instant>) {
        let now = self.now;
        let late = |since: weft_std::clock::Instant, limit| now.saturating_duration_since(since) >= limit;
        let options = self.options.clone();
        if self.stage != super::connection::Stage::Open && late(self.heard, options.head_timeout) {
            self.hit("H2_HEAD_TIMEOUT");
            return self.close(Error::Timeout("the peer's preface did not come"));
        }
        if self.block.as_ref().is_some_and(|block| late(block.since, options.head_timeout)) {
            self.hit("H2_HEAD_TIMEOUT");
            return self.close(Error::Timeout("the rest of a header block did not come"));
        }
        if stalled.is_some_and(|since| late(since, options.write_stall)) {
            self.hit("H2_WRITE_STALL");
            return self.close(Error::Timeout("the peer reads nothing"));
        }
        if self.ping_sent.is_some_and(|sent| late(sent, options.ping_timeout)) {
            return self.close(Error::Timeout("the peer does not answer a PING"));
        }
        if let Some(interval) = options.ping_interval
            && self.ping_sent.is_none()
            && self.streams.open() > 0
            && late(self.heard, interval)
        {
            frame::put_ping(&mut self.out, 0, super::connection::PING_ALIVE);
            self.ping_sent = Some(now);
        }
        if self.drain_ping && self.drain_began.is_some_and(|since| late(since, super::limits::GOAWAY_GRACE)) {
            self.drain_now();
        }
        if options.idle.is_some_and(|idle| self.streams.open() == 0 && late(self.heard, idle)) {
            self.drain();
        }
        let Some(idle) = options.stream_idle else { return };
        let old: Vec<u32> = self.streams.each().filter(|(_, s)| s.open && late(s.active, idle)).map(|(key, _)| key.id).collect();
        for id in old {
            self.hit("H2_STREAM_IDLE");
            self.reset(id, ErrorCode::CANCEL, "nothing happened on the stream for too long");
        }
    }

    /// When somebody should look for what has run out of time.
    pub(crate) fn due(&self) -> Option<weft_std::clock::Instant> {
        let busy = self.streams.open() > 0
            || self.unsent() > 0
            || self.block.is_some()
            || self.stage != super::connection::Stage::Open
            || self.drain_ping
            || self.ping_sent.is_some();
        let idle = self.options.idle.map(|idle| (self.heard + idle).max(self.now + super::limits::TICK));
        if busy { Some(self.now + super::limits::TICK) } else { idle }
    }
}
