//! What comes in: bytes → frames → streams.

use super::{
    connection::{Block, Core, PING_ALIVE, PING_DRAIN, Role, Stage},
    error::{Error, ErrorCode, Violation},
    frame::{self, FRAME_BYTES_MAX, FrameHead, HEAD_BYTES, PREFACE, flag, kind, number, unpadded},
    head::{BadHead, Fields, HeadLimits},
    limits::{BLOCK_TIMES_LIST, H2_CONTINUATIONS_MAX, H2_INFORMATIONAL_MAX, SETTINGS_COST, STREAM_RECORDS_MAX},
    settings::WINDOW_MAX,
    streams::Key,
};
use bytes::Bytes;
use http::{Method, StatusCode};

type Handled = Result<(), Violation>;

impl Core {
    /// Takes bytes as they come. An error ends the connection; the peer is told by what is then in `out`.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let outcome = self.take(bytes);
        if let Err(error) = &outcome {
            self.close(error.clone());
        }
        outcome
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if let Stage::Preface(seen) = self.stage {
            bytes = self.preface(seen, bytes)?;
        }
        if !self.input.is_empty() {
            let mut input = std::mem::take(&mut self.input);
            bytes = self.complete(&mut input, bytes)?;
            if !input.is_empty() {
                self.input = input;
                return Ok(());
            }
        }
        while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
            let head = FrameHead::read(head);
            self.check_length(head)?;
            let Some((payload, rest)) = rest.split_at_checked(head.length) else { break };
            self.one(head, payload)?;
            bytes = rest;
        }
        if !bytes.is_empty() {
            self.input.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Completes the frame that began in `input`; returns what comes after it.
    fn complete<'a>(&mut self, input: &mut Vec<u8>, mut bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        for goal in [HEAD_BYTES, usize::MAX] {
            let goal = match input.first_chunk::<HEAD_BYTES>() {
                Some(head) if goal != HEAD_BYTES => HEAD_BYTES + FrameHead::read(head).length,
                _ => goal,
            };
            let more = goal.saturating_sub(input.len()).min(bytes.len());
            input.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if input.len() < goal {
                return Ok(bytes);
            }
            if goal == HEAD_BYTES
                && let Some(head) = input.first_chunk::<HEAD_BYTES>()
            {
                self.check_length(FrameHead::read(head))?;
            }
        }
        if let Some((head, payload)) = input.split_first_chunk::<HEAD_BYTES>() {
            self.one(FrameHead::read(head), payload)?;
        }
        input.clear();
        Ok(bytes)
    }

    /// §3.4: what a client begins with.
    fn preface<'a>(&mut self, seen: usize, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        let rest = &PREFACE[seen..];
        let n = rest.len().min(bytes.len());
        if bytes[..n] != rest[..n] {
            return Err(Error::Connection(ErrorCode::PROTOCOL_ERROR, "the client's preface is wrong"));
        }
        self.stage = if n == rest.len() { Stage::FirstSettings } else { Stage::Preface(seen + n) };
        Ok(&bytes[n..])
    }

    /// §4.2.
    fn check_length(&self, head: FrameHead) -> Result<(), Error> {
        if head.length > FRAME_BYTES_MAX {
            return Err(Error::Connection(ErrorCode::FRAME_SIZE_ERROR, "a frame is longer than SETTINGS_MAX_FRAME_SIZE"));
        }
        Ok(())
    }

    fn one(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Error> {
        match self.frame(head, payload) {
            Ok(()) => Ok(()),
            Err(violation) => self.violated(violation),
        }
    }

    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if self.stage == Stage::FirstSettings {
            if head.kind != kind::SETTINGS || head.has(flag::ACK) {
                return Err(Violation::protocol("the first frame is not SETTINGS"));
            }
            self.stage = Stage::Open;
        }
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Violation::protocol("a header block was interrupted"));
        }
        match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => self.ping(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::PUSH_PROMISE => Err(Violation::protocol("PUSH_PROMISE, which nobody may send")),
            // §4.1: unknown types are ignored.
            _ => self.idle_frame(1),
        }
    }

    /// A frame that brings nothing forward.
    fn idle_frame(&mut self, cost: u32) -> Handled {
        if self.guard.control(cost, self.now) {
            return Ok(());
        }
        self.hit("H2_CONTROL_BURST");
        Err(Violation::calm("too many frames that bring nothing forward"))
    }

    /// Has the stream never been opened (§5.1)?
    pub(crate) fn is_idle(&self, id: u32) -> bool {
        let by_client = id % 2 == 1;
        match (self.role, by_client) {
            (Role::Server, true) => id > self.last_peer,
            (Role::Client, true) => id >= self.next_own,
            // Nobody pushes.
            (_, false) => true,
        }
    }

    /// §6.1.
    fn data(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if head.stream == 0 {
            return Err(Violation::protocol("DATA on stream 0"));
        }
        let data = unpadded(head, payload)?;
        let whole = payload.len() as u32;
        if self.is_idle(head.stream) {
            return Err(Violation::protocol("DATA on an idle stream"));
        }
        self.recv_window -= i64::from(whole);
        if self.recv_window < 0 {
            return Err(Violation::Connection(ErrorCode::FLOW_CONTROL_ERROR, "the connection's window is overrun"));
        }
        let Some(key) = self.streams.find(head.stream) else {
            self.release_connection(whole);
            return match self.streams.was_reset(head.stream) {
                true => self.idle_frame(1),
                false => Err(Violation::Stream(head.stream, ErrorCode::STREAM_CLOSED, "DATA on a closed stream")),
            };
        };
        match self.data_on(key, head, data, whole) {
            Ok(kept) => {
                // Padding is not read by anybody, and counts nevertheless (§6.9.1).
                self.release(key, whole - kept);
            }
            Err((code, why)) => {
                self.release_connection(whole);
                return Err(Violation::Stream(head.stream, code, why));
            }
        }
        if data.is_empty() && !head.has(flag::END_STREAM) {
            return self.idle_frame(2);
        }
        self.guard.progress();
        self.end_if_both_ended(key);
        Ok(())
    }

    /// Returns the bytes that were kept for a reader.
    fn data_on(&mut self, key: Key, head: FrameHead, data: &[u8], whole: u32) -> Result<u32, (ErrorCode, &'static str)> {
        let now = self.now;
        let Some(stream) = self.streams.at(key) else { return Ok(0) };
        stream.active = now;
        if stream.recv_ended {
            return Err((ErrorCode::STREAM_CLOSED, "DATA after END_STREAM"));
        }
        if !stream.head_seen {
            return Err((ErrorCode::PROTOCOL_ERROR, "DATA before the head"));
        }
        stream.recv_window -= i64::from(whole);
        if stream.recv_window < 0 {
            return Err((ErrorCode::FLOW_CONTROL_ERROR, "the stream's window is overrun"));
        }
        if stream.bodiless && !data.is_empty() {
            return Err((ErrorCode::PROTOCOL_ERROR, "a body where there must be none"));
        }
        let end = head.has(flag::END_STREAM);
        if let Some(awaited) = &mut stream.awaited {
            match awaited.checked_sub(data.len() as u64) {
                Some(rest) if !end || rest == 0 => *awaited = rest,
                _ => return Err((ErrorCode::PROTOCOL_ERROR, "content-length and DATA do not agree")),
            }
        }
        stream.recv_ended = end;
        let mut kept = 0;
        if stream.wanted && !data.is_empty() {
            stream.queue.push_back(Bytes::copy_from_slice(data));
            kept = data.len() as u32;
        }
        if kept > 0 || end {
            stream.wake_reader();
        }
        Ok(kept)
    }

    /// §6.2.
    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if head.stream == 0 {
            return Err(Violation::protocol("HEADERS on stream 0"));
        }
        let mut fragment = unpadded(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let Some((_, rest)) = fragment.split_at_checked(5) else {
                return Err(Violation::size("HEADERS too short for a priority"));
            };
            depends_on_itself = number(fragment, 0) & 0x7fff_ffff == head.stream;
            fragment = rest;
        }
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.block_whole(head.stream, end_stream, depends_on_itself, fragment);
        }
        let bytes = fragment.to_vec();
        self.block = Some(Block { stream: head.stream, end_stream, depends_on_itself, bytes, frames: 0, since: self.now });
        Ok(())
    }

    /// §6.10.
    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        let longest = self.options.header_bytes_max * BLOCK_TIMES_LIST;
        let Some(block) = &mut self.block else { return Err(Violation::protocol("CONTINUATION without HEADERS")) };
        block.frames += 1;
        if block.frames > H2_CONTINUATIONS_MAX || block.bytes.len() + payload.len() > longest {
            self.hit("H2_CONTINUATIONS_MAX");
            return Err(Violation::calm("a header block without end"));
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(());
        }
        match self.block.take() {
            Some(block) => self.block_whole(block.stream, block.end_stream, block.depends_on_itself, &block.bytes),
            None => Ok(()),
        }
    }

    /// A header block is complete. It is decoded whatever becomes of it (§4.3).
    fn block_whole(&mut self, id: u32, end_stream: bool, depends_on_itself: bool, block: &[u8]) -> Handled {
        let limits = HeadLimits { bytes: self.options.header_bytes_max, count: self.options.headers_max };
        let fields = Fields::decode(&mut self.decoder, block, limits);
        let fields = fields.map_err(|why| Violation::Connection(ErrorCode::COMPRESSION_ERROR, why))?;
        if depends_on_itself {
            self.last_peer = self.last_peer.max(if self.role == Role::Server { id } else { 0 });
            return Err(Violation::Stream(id, ErrorCode::PROTOCOL_ERROR, "a stream that depends on itself"));
        }
        if let Some(key) = self.streams.find(id) {
            return self.further_head(key, end_stream, fields);
        }
        if !self.is_idle(id) {
            return match self.streams.was_reset(id) {
                true => self.idle_frame(2),
                false => Err(Violation::Connection(ErrorCode::STREAM_CLOSED, "HEADERS on a closed stream")),
            };
        }
        if self.role == Role::Client || id.is_multiple_of(2) {
            return Err(Violation::protocol("HEADERS on a stream that its sender may not open"));
        }
        self.request(id, end_stream, fields)
    }

    /// A new stream.
    fn request(&mut self, id: u32, end_stream: bool, fields: Fields) -> Handled {
        self.last_peer = id;
        if self.goaway_sent.is_some_and(|last| id > last) {
            // §6.8: the client was told that it will not be served.
            self.streams.note_reset(id);
            return Ok(());
        }
        if self.streams.open() >= self.options.streams_max as usize || self.streams.records() >= STREAM_RECORDS_MAX {
            self.hit("H2_STREAMS_MAX");
            return Err(Violation::Stream(id, ErrorCode::REFUSED_STREAM, "too many streams"));
        }
        let (request, content_length) = match fields.request(self.options.connect_protocol) {
            Ok(request) => request,
            Err(BadHead::Malformed(why)) => return Err(Violation::Stream(id, ErrorCode::PROTOCOL_ERROR, why)),
            Err(BadHead::TooLarge) => return self.too_large(id, end_stream),
        };
        if end_stream && content_length.is_some_and(|n| n != 0) {
            return Err(Violation::Stream(id, ErrorCode::PROTOCOL_ERROR, "content-length and DATA do not agree"));
        }
        self.guard.progress();
        let (send_window, recv_window) = (self.remote.initial_window, self.first_recv_window());
        let key = self.streams.insert(id, self.now);
        if let Some(stream) = self.streams.at(key) {
            (stream.send_window, stream.recv_window) = (send_window, recv_window);
            (stream.head_seen, stream.recv_ended, stream.awaited) = (true, end_stream, content_length);
            // Until the driver has made its handles.
            stream.holders = 1;
        }
        self.accepted.push_back((key, request));
        Ok(())
    }

    /// 431 without troubling anybody (RFC 6585 §5).
    fn too_large(&mut self, id: u32, end_stream: bool) -> Handled {
        self.hit("HEADER_BYTES_MAX");
        if !self.guard.reset(self.now) {
            return Err(Violation::calm("too many heads that are too large"));
        }
        let (mut block, headers) = (Vec::new(), http::HeaderMap::new());
        super::head::encode_response(&mut self.encoder, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &headers, &mut block);
        frame::put_head(&mut self.out, block.len(), kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id);
        self.out.extend_from_slice(&block);
        if !end_stream {
            frame::put_reset(&mut self.out, id, ErrorCode::NO_ERROR);
        }
        self.streams.note_reset(id);
        Ok(())
    }

    /// HEADERS on an open stream: a response's head, or trailers.
    fn further_head(&mut self, key: Key, end_stream: bool, fields: Fields) -> Handled {
        let wrong = |why| Err(Violation::Stream(key.id, ErrorCode::PROTOCOL_ERROR, why));
        let now = self.now;
        let Some(stream) = self.streams.at(key) else { return Ok(()) };
        stream.active = now;
        if stream.recv_ended {
            return Err(Violation::Stream(key.id, ErrorCode::STREAM_CLOSED, "HEADERS after END_STREAM"));
        }
        if !stream.head_seen {
            return self.response(key, end_stream, fields);
        }
        if !end_stream {
            return wrong("trailers without END_STREAM");
        }
        let trailers = match fields.trailers() {
            Ok(trailers) => trailers,
            Err(BadHead::Malformed(why)) => return wrong(why),
            Err(BadHead::TooLarge) => return wrong("the trailers are too large"),
        };
        if stream.awaited.is_some_and(|rest| rest != 0) {
            return wrong("content-length and DATA do not agree");
        }
        (stream.recv_ended, stream.trailers) = (true, Some(trailers));
        stream.wake_reader();
        self.guard.progress();
        self.end_if_both_ended(key);
        Ok(())
    }

    /// The head of a response, or an interim one.
    fn response(&mut self, key: Key, end_stream: bool, fields: Fields) -> Handled {
        let wrong = |why| Err(Violation::Stream(key.id, ErrorCode::PROTOCOL_ERROR, why));
        let (response, content_length) = match fields.response() {
            Ok(response) => response,
            Err(BadHead::Malformed(why)) => return wrong(why),
            Err(BadHead::TooLarge) => {
                self.hit("RESPONSE_HEADER_BYTES_MAX");
                return wrong("the response's headers are too large");
            }
        };
        let Some(stream) = self.streams.at(key) else { return Ok(()) };
        if response.status().is_informational() {
            stream.informational += 1;
            if end_stream || stream.informational > H2_INFORMATIONAL_MAX {
                return wrong("an interim response that ends the stream, or one too many");
            }
            return self.idle_frame(1);
        }
        stream.bodiless |= matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !stream.bodiless {
            stream.awaited = content_length;
            if end_stream && content_length.is_some_and(|n| n != 0) {
                return wrong("content-length and DATA do not agree");
            }
        }
        (stream.head, stream.head_seen, stream.recv_ended) = (Some(response), true, end_stream);
        stream.wake_reader();
        self.guard.progress();
        self.end_if_both_ended(key);
        Ok(())
    }

    /// §6.3: meaningless today, but it must be well formed.
    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if head.stream == 0 {
            return Err(Violation::protocol("PRIORITY on stream 0"));
        }
        if payload.len() != 5 {
            return Err(Violation::Stream(head.stream, ErrorCode::FRAME_SIZE_ERROR, "PRIORITY is not five bytes"));
        }
        if number(payload, 0) & 0x7fff_ffff == head.stream {
            return Err(Violation::Stream(head.stream, ErrorCode::PROTOCOL_ERROR, "a stream that depends on itself"));
        }
        self.idle_frame(1)
    }

    /// §6.4.
    fn rst_stream(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if payload.len() != 4 {
            return Err(Violation::size("RST_STREAM is not four bytes"));
        }
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(Violation::protocol("RST_STREAM on stream 0 or an idle stream"));
        }
        let Some(key) = self.streams.find(head.stream) else { return self.idle_frame(1) };
        let code = ErrorCode(number(payload, 0));
        // A server may reset with NO_ERROR after a whole response (§8.1): that is no failure, only the end of our body.
        let whole = self.streams.at(key).is_some_and(|s| s.recv_ended && self.role == Role::Client);
        if let Some(stream) = self.streams.at(key) {
            stream.send_ended = true;
            stream.failed = Some(Error::Reset(code));
        }
        if whole && let Some(stream) = self.streams.at(key) {
            stream.failed = None;
        }
        self.ready.mark(key.index);
        self.end_stream(key, None);
        if self.role == Role::Server && !self.guard.reset(self.now) {
            self.hit("H2_RESETS_BURST");
            return Err(Violation::calm("too many streams were reset"));
        }
        Ok(())
    }

    /// §6.5.
    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(Violation::protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(Violation::size("a SETTINGS acknowledgement with content"));
            }
            self.settings_acked = true;
            return self.idle_frame(1);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(Violation::size("SETTINGS is not a multiple of six bytes"));
        }
        self.idle_frame(SETTINGS_COST)?;
        let before = self.remote.initial_window;
        self.remote.apply(payload, self.role == Role::Client)?;
        self.encoder.set_table_size(self.remote.header_table_size);
        let by = self.remote.initial_window - before;
        if by != 0 {
            // §6.9.2: open streams' windows move along, even below zero.
            for (key, stream) in self.streams.each() {
                stream.send_window += by;
                if stream.send_window > WINDOW_MAX {
                    return Err(Violation::Connection(ErrorCode::FLOW_CONTROL_ERROR, "a window grows beyond its bounds"));
                }
                if stream.blocked && stream.send_window > 0 {
                    stream.blocked = false;
                    self.ready.mark(key.index);
                }
            }
        }
        frame::put_head(&mut self.out, 0, kind::SETTINGS, flag::ACK, 0);
        if let Some(waiter) = self.slot_waiters.pop_front() {
            waiter.wake();
        }
        Ok(())
    }

    /// §6.7.
    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(Violation::protocol("PING on a stream"));
        }
        let Ok(opaque) = <[u8; 8]>::try_from(payload) else { return Err(Violation::size("PING is not eight bytes")) };
        self.idle_frame(1)?;
        match (head.has(flag::ACK), opaque) {
            (true, PING_DRAIN) => self.drain_now(),
            (true, PING_ALIVE) => self.ping_sent = None,
            (true, _) => {}
            (false, _) => frame::put_ping(&mut self.out, flag::ACK, opaque),
        }
        Ok(())
    }

    /// §6.8.
    fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(Violation::protocol("GOAWAY on a stream"));
        }
        if payload.len() < 8 {
            return Err(Violation::size("GOAWAY is shorter than eight bytes"));
        }
        self.idle_frame(SETTINGS_COST)?;
        let (last, code) = (number(payload, 0) & 0x7fff_ffff, ErrorCode(number(payload, 4)));
        if self.role == Role::Server {
            // The client will open no more; what is open goes on.
            self.goaway_received = Some((last, code));
            return Ok(());
        }
        // A higher number than before would be illegal, and promises nothing.
        let last = self.goaway_received.map_or(last, |(before, _)| before.min(last));
        self.goaway_received = Some((last, code));
        let left: Vec<Key> = self.streams.each().filter(|(key, s)| key.id > last && s.open).map(|(key, _)| key).collect();
        for key in left {
            self.end_stream(key, Some(Error::NotTaken(code)));
        }
        while let Some(waiter) = self.slot_waiters.pop_front() {
            waiter.wake();
        }
        Ok(())
    }

    /// §6.9.
    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Handled {
        if payload.len() != 4 {
            return Err(Violation::size("WINDOW_UPDATE is not four bytes"));
        }
        let by = i64::from(number(payload, 0) & 0x7fff_ffff);
        self.idle_frame(1)?;
        if head.stream == 0 {
            self.send_window += by;
            if by == 0 || self.send_window > WINDOW_MAX {
                let code = if by == 0 { ErrorCode::PROTOCOL_ERROR } else { ErrorCode::FLOW_CONTROL_ERROR };
                return Err(Violation::Connection(code, "an illegal increment of the connection's window"));
            }
            for key in self.window_waiters.drain(..) {
                self.ready.mark(key.index);
            }
            return Ok(());
        }
        if self.is_idle(head.stream) {
            return Err(Violation::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(key) = self.streams.find(head.stream) else { return Ok(()) };
        let Some(stream) = self.streams.at(key) else { return Ok(()) };
        stream.send_window += by;
        if by == 0 || stream.send_window > WINDOW_MAX {
            let code = if by == 0 { ErrorCode::PROTOCOL_ERROR } else { ErrorCode::FLOW_CONTROL_ERROR };
            return Err(Violation::Stream(head.stream, code, "an illegal increment of a stream's window"));
        }
        if stream.blocked && stream.send_window > 0 {
            stream.blocked = false;
            self.ready.mark(key.index);
        }
        Ok(())
    }

    /// What must not be answered with a body.
    pub(crate) fn expects_no_body(method: &Method) -> bool {
        *method == Method::HEAD
    }
}
