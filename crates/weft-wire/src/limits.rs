//! Limits on what the network feeds to this crate.

use std::time::Duration;

/// Bytes that are looked at to recognise a protocol. A request line of an unknown method may be as long.
pub const SNIFF_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a TLS client's first message that are looked at; post-quantum key shares make it some 2 kB.
pub const CLIENT_HELLO_BYTES_MAX: usize = 18 * 1024;

/// Bytes of the line of the PROXY protocol, version 1 (its text, section 2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;

/// Bytes of a header of version 2 with its extensions; load balancers send some hundred.
pub const PROXY_V2_BYTES_MAX: usize = 2048;

/// Connections that wait to be accepted, per listener.
pub const LISTEN_BACKLOG: i32 = 1024;

/// The longest pause of an accept loop that has run out of file descriptors.
pub const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Bytes buffered per direction of a forwarded connection at first.
pub const FORWARD_BUFFER_BYTES: usize = 16 * 1024;

/// The same once reads fill the buffer: four records of TLS then leave in one system call.
pub const FORWARD_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Bytes read at once beneath TLS while much comes in.
pub const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Bytes of a DNS message over UDP, in either direction (what fits a packet of IPv6's least size).
pub const DNS_PAYLOAD_BYTES_MAX: usize = 1232;

/// DNS questions over UDP that are answered at a time; further ones wait in the socket's buffer.
pub const DNS_QUESTIONS_MAX: usize = 256;

/// DNS connections over TCP at a time.
pub const DNS_CONNECTIONS_MAX: usize = 64;

/// How long a DNS connection over TCP may be silent.
pub const DNS_IDLE: Duration = Duration::from_secs(10);

/// Longest wait for one DNS server's answer.
pub const DNS_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer over TCP.
pub const DNS_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Addresses of a name that are used, of each kind.
pub const DNS_ADDRESSES_MAX: usize = 64;

/// Aliases that are followed from a name to its addresses.
pub const DNS_ALIASES_MAX: usize = 8;

/// Datagrams that answer something else before a server is given up.
pub const DNS_STRAY_ANSWERS_MAX: usize = 16;
