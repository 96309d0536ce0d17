//! What agent and parent say to each other: one datagram per message, with file descriptors beside some.

use super::raw::{self, FDS_MAX};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

/// Bytes of one message. The longest is a reason in words.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Which loopback the sockets towards the program are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// From the parent to the agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Start the program.
    Start,
    /// Make so many unconnected sockets.
    Sockets(Family, u8),
    /// Signal the program.
    Signal(i32),
}

/// From the agent to the parent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Everything is set up. Beside it: so many IPv4 and IPv6 listeners, then the DNS sockets, UDP and TCP.
    Ready { v4: u8, v6: u8 },
    /// Capture does not work here.
    Unavailable { reason: String, fix: String },
    /// A socket that was asked for, beside it; without one, the batch has ended.
    Sockets(Family),
    /// The program runs.
    Started { pid: i32 },
    /// The program could not be started; the exit code is as a shell's.
    NotStarted { code: i32, reason: String },
    /// The program ended with this code.
    Exited { code: i32 },
    /// The program was ended by this signal.
    Killed { signal: i32 },
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Start => vec![b'G'],
            Self::Sockets(family, count) => vec![b'B', family.encode(), *count],
            Self::Signal(signal) => [b"K".as_slice(), &signal.to_be_bytes()].concat(),
        }
    }
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'G'] => Some(Self::Start),
            [b'B', family, count] => Some(Self::Sockets(Family::decode(*family)?, *count)),
            [b'K', rest @ ..] => Some(Self::Signal(number(rest)?)),
            _ => None,
        }
    }
}

impl Event {
    pub(super) fn encode(&self) -> Vec<u8> {
        let with = |tag: u8, value: i32, text: &str| [&[tag], value.to_be_bytes().as_slice(), text.as_bytes()].concat();
        let mut bytes = match self {
            Self::Ready { v4, v6 } => vec![b'R', *v4, *v6],
            Self::Unavailable { reason, fix } => [b"U", reason.as_bytes(), b"\0", fix.as_bytes()].concat(),
            Self::Sockets(family) => vec![b'S', family.encode()],
            Self::Started { pid } => with(b'P', *pid, ""),
            Self::NotStarted { code, reason } => with(b'N', *code, reason),
            Self::Exited { code } => with(b'X', *code, ""),
            Self::Killed { signal } => with(b'D', *signal, ""),
        };
        bytes.truncate(MESSAGE_BYTES_MAX);
        bytes
    }
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (tag, rest) {
            (b'R', [v4, v6]) => Some(Self::Ready { v4: *v4, v6: *v6 }),
            (b'U', rest) => {
                let mut parts = rest.splitn(2, |byte| *byte == 0);
                Some(Self::Unavailable { reason: text(parts.next()?), fix: text(parts.next().unwrap_or_default()) })
            }
            (b'S', [family]) => Some(Self::Sockets(Family::decode(*family)?)),
            (b'P', rest) => Some(Self::Started { pid: number(rest)? }),
            (b'N', rest) => Some(Self::NotStarted { code: number(rest.get(..4)?)?, reason: text(rest.get(4..)?) }),
            (b'X', rest) => Some(Self::Exited { code: number(rest)? }),
            (b'D', rest) => Some(Self::Killed { signal: number(rest)? }),
            _ => None,
        }
    }
}

impl Family {
    fn encode(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
    fn decode(byte: u8) -> Option<Self> {
        match byte {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }
}

fn number(bytes: &[u8]) -> Option<i32> {
    bytes.try_into().ok().map(i32::from_be_bytes)
}

/// Sends one message with copies of `fds` beside it.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    debug_assert!(raw.len() <= FDS_MAX, "callers count");
    let rights = [ControlMessage::ScmRights(&raw)];
    let beside: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], beside, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Receives one message; `None` when the other side is gone.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let (bytes, fds) = raw::receive(socket.as_fd())?;
    Ok(if bytes.is_empty() { None } else { Some((bytes, fds)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let text = || "because".to_owned();
        for event in [
            Event::Ready { v4: 2, v6: 0 },
            Event::Unavailable { reason: text(), fix: "apt-get install nftables".into() },
            Event::Sockets(Family::V6),
            Event::Started { pid: 4711 },
            Event::NotStarted { code: 127, reason: text() },
            Event::Exited { code: 3 },
            Event::Killed { signal: 15 },
        ] {
            assert_eq!(Event::decode(&event.encode()), Some(event));
        }
        for request in [Request::Start, Request::Sockets(Family::V4, 16), Request::Signal(-1)] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
    }

    #[test]
    fn garbage_is_nothing() {
        for first in 0..=255 {
            for length in 0..8 {
                let bytes = vec![first; length];
                Event::decode(&bytes);
                Request::decode(&bytes);
            }
        }
        assert_eq!(Event::decode(b"R"), None);
        assert_eq!(Request::decode(b"B\x05\x01"), None);
    }
}
