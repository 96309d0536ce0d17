//! What a connection is served with.

use std::{rc::Rc, time::Duration};

/// Options of a connection, for either side. Shared by all connections of a kind.
#[derive(Clone)]
pub struct Options {
    /// Streams that the peer may have open at a time (server), or that we open at most (client).
    pub streams_max: u32,
    /// Bytes that may be in flight to us on one stream.
    pub stream_window_bytes: u32,
    /// Bytes that may be in flight to us on the connection.
    pub connection_window_bytes: u32,
    /// Largest decoded head, in bytes as HPACK counts them.
    pub header_bytes_max: usize,
    /// Most fields in one head.
    pub headers_max: usize,
    /// May a client ask for an extended CONNECT (RFC 8441)?
    pub connect_protocol: bool,
    /// Are our headers Huffman coded? Smaller, but slower.
    pub huffman: bool,
    /// How long a peer may take for its preface and first SETTINGS, or for the rest of a header block.
    pub head_timeout: Duration,
    /// How long a stream may stay without a frame in either direction.
    pub stream_idle: Option<Duration>,
    /// How long bytes may wait for a peer that does not read.
    pub write_stall: Duration,
    /// After how much silence, while streams are open, the peer is asked whether it is there.
    pub ping_interval: Option<Duration>,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long a connection without streams is kept.
    pub idle: Option<Duration>,
    /// Is told the name of each limit that is hit.
    pub on_limit: Rc<dyn Fn(&'static str)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            streams_max: 256,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            header_bytes_max: 64 * 1024,
            headers_max: 100,
            connect_protocol: true,
            huffman: false,
            head_timeout: Duration::from_secs(10),
            stream_idle: Some(Duration::from_secs(300)),
            write_stall: Duration::from_secs(60),
            ping_interval: None,
            ping_timeout: Duration::from_secs(10),
            idle: None,
            on_limit: Rc::new(|_| ()),
        }
    }
}
