//! TLS records without buffers of their own: an idle connection holds its keys and nothing else.
//!
//! The TLS library's usual stream keeps four kilobytes per connection for ever and reads no more than that at once. Here bytes are
//! read into the thread's buffer, decrypted in it, and encrypted into another; a connection keeps only what is not a whole record.

use crate::http1::{limits::READ_BYTES, spare};
use rustls::{
    ClientConfig, CommonState, ServerConfig,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, UnbufferedStatus},
};
use rustls_pki_types::ServerName;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Plain bytes that one write takes: two records.
const WRITE_BYTES: usize = 24 * 1024;

/// Most bytes of one message of a handshake with what precedes it; the library itself stops at 64 KiB.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// An encrypted stream.
pub struct Records<S> {
    stream: S,
    tls: Box<Tls>,
    /// Encrypted bytes between `begin` and `end` that are not used up.
    incoming: Vec<u8>,
    begin: usize,
    end: usize,
    /// Plain bytes that nobody has taken yet.
    plain: Vec<u8>,
    plain_begin: usize,
    /// Encrypted bytes between `sent` and `queued` that are not sent.
    outgoing: Vec<u8>,
    sent: usize,
    queued: usize,
    unflushed: bool,
    peer_closed: bool,
    closed: bool,
    /// The library has given up; it must not be asked again.
    failed: bool,
}

enum Tls {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What is to be done next.
enum Step {
    Again,
    /// Nothing without more input; the handshake is not over.
    Blocked,
    /// Nothing without more input; data can be written.
    Ready,
}

impl<S> Records<S> {
    fn new(stream: S, tls: Tls) -> Self {
        Self {
            stream,
            tls: Box::new(tls),
            incoming: Vec::new(),
            begin: 0,
            end: 0,
            plain: Vec::new(),
            plain_begin: 0,
            outgoing: Vec::new(),
            sent: 0,
            queued: 0,
            unflushed: false,
            peer_closed: false,
            closed: false,
            failed: false,
        }
    }

    /// What was negotiated, and the peer's certificates.
    pub fn state(&self) -> &CommonState {
        match &*self.tls {
            Tls::Client(tls) => tls,
            Tls::Server(tls) => tls,
        }
    }

    /// Processes what has come in, until something is to be done. Plain bytes go to `to` as far as there is room.
    fn step(&mut self, to: &mut Option<&mut ReadBuf<'_>>) -> Result<Step, rustls::Error> {
        if self.failed {
            return Err(rustls::Error::General("the connection has failed before".into()));
        }
        let incoming = &mut self.incoming[self.begin..self.end];
        let mut sink =
            Sink { to, plain: &mut self.plain, outgoing: &mut self.outgoing, queued: &mut self.queued, peer_closed: &mut self.peer_closed };
        let (discard, step) = match &mut *self.tls {
            Tls::Client(tls) => sink.take(tls.process_tls_records(incoming)),
            Tls::Server(tls) => sink.take(tls.process_tls_records(incoming)),
        };
        self.begin += discard;
        if self.begin == self.end {
            spare::keep_read_buffer(std::mem::take(&mut self.incoming));
            (self.begin, self.end) = (0, 0);
        }
        step
    }

    /// Encrypts `plain` behind what is queued; answers how much of it.
    fn encrypt(&mut self, plain: &[u8]) -> Result<usize, rustls::Error> {
        // What came in meanwhile must be dealt with first: it may be the peer's wish for new keys.
        while !matches!(self.step(&mut None)?, Step::Ready | Step::Blocked) {}
        let plain = &plain[..plain.len().min(WRITE_BYTES)];
        self.reserve(plain.len() + 256);
        let (incoming, room) = (&mut self.incoming[self.begin..self.end], &mut self.outgoing[self.queued..]);
        let written = match &mut *self.tls {
            Tls::Client(tls) => seal(tls.process_tls_records(incoming), plain, room),
            Tls::Server(tls) => seal(tls.process_tls_records(incoming), plain, room),
        }?;
        self.queued += written;
        Ok(plain.len())
    }

    fn reserve(&mut self, bytes: usize) {
        if self.outgoing.is_empty() {
            self.outgoing = spare::read_buffer();
        }
        if self.outgoing.len() < self.queued + bytes {
            self.outgoing.resize(self.queued + bytes, 0);
        }
    }
}

/// Where the results of a step go.
struct Sink<'a, 'b, 'c> {
    to: &'a mut Option<&'b mut ReadBuf<'c>>,
    plain: &'a mut Vec<u8>,
    outgoing: &'a mut Vec<u8>,
    queued: &'a mut usize,
    peer_closed: &'a mut bool,
}

impl Sink<'_, '_, '_> {
    fn take<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> (usize, Result<Step, rustls::Error>) {
        let UnbufferedStatus { mut discard, state } = status;
        let step = match state {
            Err(error) => Err(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(Step::Again),
                    Some(Err(error)) => break Err(error),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        self.deliver(record.payload);
                    }
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => self.encode(|room| data.encode(room)),
            // It stays queued, and goes out before anything else does.
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Ready),
            Ok(ConnectionState::PeerClosed) => {
                *self.peer_closed = true;
                Ok(Step::Again)
            }
            Ok(ConnectionState::Closed) => {
                *self.peer_closed = true;
                Ok(Step::Ready)
            }
            Ok(_) => Err(rustls::Error::General("an unexpected state of TLS".into())),
        };
        (discard, step)
    }

    fn deliver(&mut self, payload: &[u8]) {
        let taken = match self.to {
            Some(to) if self.plain.is_empty() => {
                let count = payload.len().min(to.remaining());
                to.put_slice(&payload[..count]);
                count
            }
            _ => 0,
        };
        self.plain.extend_from_slice(&payload[taken..]);
    }

    fn encode(&mut self, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Result<Step, rustls::Error> {
        if self.outgoing.is_empty() {
            *self.outgoing = spare::read_buffer();
        }
        loop {
            match encode(&mut self.outgoing[*self.queued..]) {
                Ok(count) => {
                    *self.queued += count;
                    return Ok(Step::Again);
                }
                Err(EncodeError::InsufficientSize(needed)) => self.outgoing.resize(*self.queued + needed.required_size, 0),
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            }
        }
    }
}

fn seal<D>(status: UnbufferedStatus<'_, '_, D>, plain: &[u8], room: &mut [u8]) -> Result<usize, rustls::Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => {
            traffic.encrypt(plain, room).map_err(|error| rustls::Error::General(error.to_string()))
        }
        _ => Err(rustls::Error::HandshakeNotComplete),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Records<S> {
    /// The server's side of a handshake.
    pub(super) async fn accept(stream: S, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(broken)?;
        Self::new(stream, Tls::Server(tls)).handshake().await
    }

    /// The client's side of a handshake.
    pub(super) async fn connect(stream: S, config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(broken)?;
        Self::new(stream, Tls::Client(tls)).handshake().await
    }

    async fn handshake(mut self) -> io::Result<Self> {
        loop {
            match self.step(&mut None) {
                Ok(Step::Again) => {}
                Ok(Step::Ready) => {
                    poll_fn(|cx| self.poll_send(cx)).await?;
                    return Ok(self);
                }
                Ok(Step::Blocked) => {
                    let sent = poll_fn(|cx| self.poll_send(cx)).await;
                    // A peer that has hung up may have said why.
                    if poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                        sent?;
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection in the TLS handshake"));
                    }
                }
                Err(error) => {
                    self.queue_alert();
                    // The peer learns why, if it still listens.
                    poll_fn(|cx| self.poll_send(cx)).await.ok();
                    return Err(broken(error));
                }
            }
        }
    }

    /// After a failure: what the library wants to tell the peer.
    fn queue_alert(&mut self) {
        // Only what is to be sent: what came in must not be looked at again.
        while self.state().wants_write() && self.step(&mut None).is_ok() {}
        self.failed = true;
    }

    /// Reads once; 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let held = self.end - self.begin;
        if held >= MESSAGE_BYTES_MAX {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let mut buffer = spare::read_buffer();
        if held + READ_BYTES / 4 > buffer.len() {
            buffer.resize(held + READ_BYTES / 2, 0);
        }
        buffer[..held].copy_from_slice(&self.incoming[self.begin..self.end]);
        let mut space = ReadBuf::new(&mut buffer[held..]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut space);
        let count = space.filled().len();
        if polled.is_ready() && count > 0 {
            spare::keep_read_buffer(std::mem::replace(&mut self.incoming, buffer));
            (self.begin, self.end) = (0, held + count);
        } else {
            spare::keep_read_buffer(buffer);
            self.shrink();
        }
        polled.map_ok(|()| count)
    }

    /// A part of a record waits in no more room than it takes.
    fn shrink(&mut self) {
        if self.incoming.len() >= READ_BYTES {
            let kept = self.incoming[self.begin..self.end].to_vec();
            spare::keep_read_buffer(std::mem::replace(&mut self.incoming, kept));
            (self.begin, self.end) = (0, self.incoming.len());
        }
        if self.plain_begin == self.plain.len() && self.plain.capacity() > 0 {
            (self.plain, self.plain_begin) = (Vec::new(), 0);
        }
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.queued {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing[self.sent..self.queued]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
            self.unflushed = true;
        }
        if !self.outgoing.is_empty() {
            spare::keep_read_buffer(std::mem::take(&mut self.outgoing));
            (self.sent, self.queued) = (0, 0);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Records<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = to.filled().len();
        if this.plain_begin < this.plain.len() {
            let count = (this.plain.len() - this.plain_begin).min(to.remaining());
            to.put_slice(&this.plain[this.plain_begin..this.plain_begin + count]);
            this.plain_begin += count;
            if this.plain_begin == this.plain.len() {
                this.plain.clear();
                this.plain_begin = 0;
            }
            return Poll::Ready(Ok(()));
        }
        while to.remaining() > 0 {
            let queued = this.queued;
            let step = this.step(&mut Some(&mut *to));
            if this.queued > queued || step.is_err() {
                if step.is_err() && !this.failed {
                    this.queue_alert();
                }
                // An alert, or the answer to a wish for new keys. What does not go out now goes with the next write.
                let _sent = this.poll_send(cx)?;
            }
            match step {
                Err(error) => return Poll::Ready(Err(broken(error))),
                Ok(Step::Again) => continue,
                Ok(Step::Blocked | Step::Ready) => {}
            }
            if to.filled().len() > before || this.peer_closed {
                return Poll::Ready(Ok(()));
            }
            if ready!(this.poll_fill(cx))? == 0 {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection without TLS close_notify");
                return Poll::Ready(Err(cut));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Records<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // One write's worth waits at most.
        ready!(this.poll_send(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = this.encrypt(bytes).inspect_err(|_| this.failed = true);
        let taken = taken.map_err(broken)?;
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed && !this.failed {
            this.closed = true;
            this.reserve(256);
            let (incoming, room) = (&mut this.incoming[this.begin..this.end], &mut this.outgoing[this.queued..]);
            let written = match &mut *this.tls {
                Tls::Client(tls) => close_notify(tls.process_tls_records(incoming), room),
                Tls::Server(tls) => close_notify(tls.process_tls_records(incoming), room),
            };
            this.queued += written;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// The farewell; nothing when the connection is beyond it.
fn close_notify<D>(status: UnbufferedStatus<'_, '_, D>, room: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(room).unwrap_or_default(),
        _ => 0,
    }
}

impl<S> std::fmt::Debug for Records<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("peer_closed", &self.peer_closed).finish_non_exhaustive()
    }
}
