//! What goes wrong, and whom it concerns: a stream or the whole connection.

use std::fmt;

/// An error code of RFC 9113 §7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Nothing went wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A fault of the implementation.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// The peer sent more than its window allowed.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// Settings were not acknowledged in time.
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    /// A frame came for a stream that was closed.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame had an impossible size.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was refused before anything was done with it.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody wants the stream any more.
    pub const CANCEL: Self = Self(8);
    /// The header compression is out of step.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// The connection of a CONNECT request failed.
    pub const CONNECT_ERROR: Self = Self(10);
    /// The peer causes too much work.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
    /// TLS is not good enough.
    pub const INADEQUATE_SECURITY: Self = Self(12);
    /// HTTP/1.1 must be used.
    pub const HTTP_1_1_REQUIRED: Self = Self(13);

    /// Does whoever sends it say that the other broke the protocol?
    pub fn is_protocol(self) -> bool {
        matches!(self, Self::PROTOCOL_ERROR | Self::FRAME_SIZE_ERROR | Self::COMPRESSION_ERROR | Self::FLOW_CONTROL_ERROR)
    }

    const NAMES: [&'static str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error {:#x}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a connection, a stream or a body ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// We closed the connection, because the peer broke a rule or reached a limit.
    Connection(ErrorCode, &'static str),
    /// We reset the stream.
    Stream(ErrorCode, &'static str),
    /// The peer reset the stream.
    Reset(ErrorCode),
    /// The peer said goodbye, and did not take this stream.
    NotTaken(ErrorCode),
    /// The peer closed the connection in the midst of a stream.
    Closed,
    /// Reading or writing failed.
    Io(std::io::ErrorKind),
    /// The peer was silent for too long.
    Timeout(&'static str),
}

impl Error {
    /// Is it certain that the peer has done nothing with the request?
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::NotTaken(_) | Self::Reset(ErrorCode::REFUSED_STREAM))
    }

    /// Did the peer break the protocol, as seen from here?
    pub fn is_protocol(&self) -> bool {
        matches!(self, Self::Connection(..) | Self::Stream(..))
    }

    /// The code on the wire, if there was one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Connection(code, _) | Self::Stream(code, _) | Self::Reset(code) | Self::NotTaken(code) => Some(*code),
            Self::Closed | Self::Io(_) | Self::Timeout(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(code, why) => write!(f, "HTTP/2 connection closed ({code}): {why}"),
            Self::Stream(code, why) => write!(f, "HTTP/2 stream reset by us ({code}): {why}"),
            Self::Reset(code) => write!(f, "HTTP/2 stream reset by the peer ({code})"),
            Self::NotTaken(code) => write!(f, "the peer goes away ({code}) and did not take the stream"),
            Self::Closed => f.write_str("the peer closed the HTTP/2 connection"),
            Self::Io(kind) => write!(f, "the HTTP/2 connection broke: {kind}"),
            Self::Timeout(what) => write!(f, "time-out of the HTTP/2 connection: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// What a frame breaks: the whole connection, or one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    Connection(ErrorCode, &'static str),
    Stream(u32, ErrorCode, &'static str),
}

impl Violation {
    pub(crate) fn protocol(why: &'static str) -> Self {
        Self::Connection(ErrorCode::PROTOCOL_ERROR, why)
    }
    pub(crate) fn size(why: &'static str) -> Self {
        Self::Connection(ErrorCode::FRAME_SIZE_ERROR, why)
    }
    pub(crate) fn calm(why: &'static str) -> Self {
        Self::Connection(ErrorCode::ENHANCE_YOUR_CALM, why)
    }
}
