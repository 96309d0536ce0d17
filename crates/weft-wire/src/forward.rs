//! Opaque forwarding between two streams: both directions, half-close, counts, idle time-out.

use crate::limits::{FORWARD_BUFFER_BYTES, FORWARD_BUFFER_BYTES_MAX};
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was forwarded and how it ended.
#[derive(Debug)]
pub struct Forwarded {
    /// Bytes from the downstream (who connected) to the upstream.
    pub sent_bytes: u64,
    /// Bytes from the upstream to the downstream.
    pub received_bytes: u64,
    /// The upstream spoke before the downstream did.
    pub upstream_first: bool,
    /// How it ended.
    pub end: ForwardEnd,
}

/// How forwarding ended.
#[derive(Debug)]
pub enum ForwardEnd {
    /// Both sides have closed.
    Closed,
    /// The downstream broke.
    Downstream(io::Error),
    /// The upstream broke.
    Upstream(io::Error),
    /// No byte moved for the idle time.
    Idle,
    /// The caller's `stop` came.
    Stopped,
}

/// Copies both ways until both sides have closed, one breaks, nothing moves for `idle`, or `stop` is ready (a drain's deadline).
/// A close of one side is passed on as a half-close; the other direction goes on.
///
/// Both streams are given up by dropping them afterwards. Cancelling loses the counts.
pub async fn forward<D, U>(downstream: &mut D, upstream: &mut U, idle: Option<Duration>, stop: impl Future<Output = ()>) -> Forwarded
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sent, mut received) = (Direction::default(), Direction::default());
    let mut upstream_first = None;
    let end = {
        let mut stop = pin!(stop);
        // Looked at four times per idle time: no clock is read per byte, and the end comes at most a quarter late.
        let tick = idle.map_or(Duration::from_secs(3600), |idle| (idle / 4).max(Duration::from_millis(1)));
        let mut timer = pin!(tokio::time::sleep(tick));
        let (mut seen, mut still_ticks) = (0, 0);
        poll_fn(|cx| {
            let there = sent.poll(cx, downstream, upstream);
            let back = received.poll(cx, upstream, downstream);
            if upstream_first.is_none() && sent.bytes + received.bytes > 0 {
                upstream_first = Some(sent.bytes == 0);
            }
            match (there, back) {
                (Poll::Ready(Err(Broken::Reader(error))), _) | (_, Poll::Ready(Err(Broken::Writer(error)))) => {
                    return Poll::Ready(ForwardEnd::Downstream(error));
                }
                (Poll::Ready(Err(Broken::Writer(error))), _) | (_, Poll::Ready(Err(Broken::Reader(error)))) => {
                    return Poll::Ready(ForwardEnd::Upstream(error));
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(ForwardEnd::Closed),
                (Poll::Pending, _) | (_, Poll::Pending) => {}
            }
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(ForwardEnd::Stopped);
            }
            while timer.as_mut().poll(cx).is_ready() {
                let moved = sent.bytes + received.bytes;
                still_ticks = if moved == seen { still_ticks + 1 } else { 0 };
                seen = moved;
                if still_ticks > 0 {
                    sent.rest();
                    received.rest();
                }
                if idle.is_some() && still_ticks >= 4 {
                    return Poll::Ready(ForwardEnd::Idle);
                }
                timer.as_mut().reset(weft_std::clock::now() + tick);
            }
            Poll::Pending
        })
        .await
    };
    Forwarded { sent_bytes: sent.bytes, received_bytes: received.bytes, upstream_first: upstream_first == Some(true), end }
}

/// The most that a record of TLS carries (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Which side of a direction broke.
enum Broken {
    Reader(io::Error),
    Writer(io::Error),
}

/// One direction: read, write all, flush when the reader has no more for now, pass on the end.
#[derive(Default)]
struct Direction {
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
    bytes: u64,
    unflushed: bool,
    /// The last read brought a whole record or more: there is much to forward.
    full: bool,
    gathers: bool,
    /// An error behind bytes that are to be forwarded first.
    failed: Option<io::Error>,
    stage: Stage,
}

#[derive(Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Copying,
    Closing,
    Done,
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.stage == Stage::Copying {
            if self.begin == self.end {
                match self.poll_fill(cx, reader) {
                    Poll::Ready(Ok(0)) => self.stage = Stage::Closing,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Reader(error))),
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(Broken::Writer)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
            }
            while self.begin < self.end {
                let written = ready!(Pin::new(&mut *writer).poll_write(cx, &self.buffer[self.begin..self.end])).map_err(Broken::Writer)?;
                if written == 0 {
                    return Poll::Ready(Err(Broken::Writer(io::ErrorKind::WriteZero.into())));
                }
                self.begin += written;
                self.bytes += written as u64;
                self.unflushed = true;
            }
        }
        if self.stage == Stage::Closing {
            ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(Broken::Writer)?;
            self.stage = Stage::Done;
            self.buffer = Box::default();
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing has moved for a while: an idle connection keeps no buffer.
    fn rest(&mut self) {
        if self.begin == self.end {
            self.buffer = Box::default();
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.buffer.is_empty() {
            self.buffer = vec![0; FORWARD_BUFFER_BYTES].into();
        } else if self.full && self.buffer.len() < FORWARD_BUFFER_BYTES_MAX {
            self.buffer = vec![0; FORWARD_BUFFER_BYTES_MAX].into();
        }
        let mut space = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut *reader).poll_read(cx, &mut space))?;
        // TLS gives one record at a time: what is at hand is gathered, so that it leaves together.
        while self.gathers && space.remaining() >= RECORD_BYTES && !space.filled().is_empty() {
            let before = space.filled().len();
            match Pin::new(&mut *reader).poll_read(cx, &mut space) {
                Poll::Ready(Ok(())) if space.filled().len() > before => {}
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                // The end is seen again, and what comes later wakes.
                _ => break,
            }
        }
        (self.begin, self.end) = (0, space.filled().len());
        self.full = self.end >= RECORD_BYTES;
        self.gathers = self.full;
        Poll::Ready(Ok(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn counts_and_passes_half_closes_on() {
        let ((mut client, mut near), (mut far, mut server)) = (duplex(1000), duplex(300));
        let talk = async {
            client.write_all(&[b'a'; 100_000]).await.expect("written");
            client.shutdown().await.expect("half-closed");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("answered after the half-close");
            answer.len()
        };
        let answer = async {
            let mut request = Vec::new();
            server.read_to_end(&mut request).await.expect("read");
            server.write_all(&vec![b'b'; request.len() * 2]).await.expect("written");
            server.shutdown().await.expect("closed");
        };
        let (got, (), forwarded) = tokio::join!(talk, answer, forward(&mut near, &mut far, None, pending()));
        assert_eq!(got, 200_000);
        assert_eq!((forwarded.sent_bytes, forwarded.received_bytes), (100_000, 200_000));
        assert!(matches!(forwarded.end, ForwardEnd::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_end_and_busy_ones_do_not() {
        let ((mut client, mut near), (mut far, mut server)) = (duplex(1000), duplex(1000));
        let minute = Duration::from_secs(60);
        let start = weft_std::clock::now();
        let talk = async {
            for _ in 0..10 {
                tokio::time::sleep(minute / 2).await;
                client.write_all(b"x").await.expect("written");
                server.read_u8().await.expect("arrived");
            }
            pending::<()>().await;
        };
        let forwarded = tokio::select! {
            () = talk => unreachable!("it is pending for ever"),
            forwarded = forward(&mut near, &mut far, Some(minute), pending()) => forwarded,
        };
        assert!(matches!(forwarded.end, ForwardEnd::Idle));
        assert_eq!(forwarded.sent_bytes, 10);
        let lasted = start.elapsed();
        assert!(lasted >= minute * 6 && lasted <= minute * 6 + minute / 2, "{lasted:?}");
    }

    #[tokio::test]
    async fn names_the_side_that_broke_and_stops_when_told() {
        let ((_client, mut near), (far, server)) = (duplex(10), duplex(10));
        let mut far = far;
        drop(server);
        let mut broken = broken_stream();
        let forwarded = forward(&mut broken, &mut far, None, pending()).await;
        assert!(matches!(forwarded.end, ForwardEnd::Downstream(_)));
        let (mut far, _server) = duplex(10);
        let forwarded = forward(&mut near, &mut far, None, async {}).await;
        assert!(matches!(forwarded.end, ForwardEnd::Stopped));
    }

    /// A stream whose reads fail.
    fn broken_stream() -> impl AsyncRead + AsyncWrite + Unpin {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        impl AsyncWrite for Broken {
            fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Poll::Ready(Ok(bytes.len()))
            }
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        Broken
    }
}
