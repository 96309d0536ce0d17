//! Limits on what proxies can make the control plane do. Each has a name, a unit and a reason.

use std::time::Duration;

/// Open connections; a proxy has one or two.
pub(crate) const CONNECTIONS_MAX: usize = 20_000;
/// TLS handshakes at a time: each costs a signature and, with the hybrid key exchange, some kilobytes.
pub(crate) const HANDSHAKES_MAX: usize = 256;
/// Longest time for a TLS handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after a failed accept.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Calls at a time on one connection.
pub(crate) const STREAMS_MAX: u32 = 32;
/// Streams that a client may reset before it is closed (rapid reset, CVE-2023-44487).
pub(crate) const RESET_STREAMS_MAX: usize = 32;
/// Bytes in flight on one stream.
pub(crate) const WINDOW_BYTES: u32 = 1 << 20;
/// How often an idle connection is probed.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a probe may stay unanswered.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of one message of a proxy on the delta stream: a Hello with all that it has is the largest.
pub(crate) const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Bytes of a join or renewal.
pub(crate) const JOIN_BYTES_MAX: usize = 32 << 10;
/// Bytes of a join token.
pub(crate) const TOKEN_BYTES_MAX: usize = 1024;
/// Bytes of one report.
pub(crate) const REPORT_BYTES_MAX: usize = 8 << 20;
/// Responses that wait for one proxy to read them.
pub(crate) const RESPONSES_MAX: usize = 8;

/// Joins per second in the long run, over all clients: guessing a token is hopeless, and costs us nothing.
pub(crate) const JOINS_PER_SECOND: u32 = 50;
/// Joins at once.
pub(crate) const JOINS_BURST: u32 = 200;
/// Identities of whose last certificate the end is remembered.
pub(crate) const IDENTITIES_MAX: usize = 20_000;

/// Life of the control plane's own certificate.
pub(crate) const SERVER_CERTIFICATE_TTL: Duration = Duration::from_secs(24 * 3600);
/// An open stream outlives its proxy's last certificate by this time, then it is ended.
pub(crate) const EXPIRY_GRACE_S: u64 = 30;

/// Changes within this time are sent together.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(10);
/// How long a new workload waits for the generation that it is part of, before it is told what there is.
pub(crate) const COMPILE_WAIT: Duration = Duration::from_secs(2);
