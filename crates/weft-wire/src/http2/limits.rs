//! Bounds on what a peer can make an HTTP/2 connection do. Each is reported by its name when it is hit.

use std::time::Duration;

/// Streams of one connection whose records exist at a time, closed ones that are still read included.
pub(crate) const STREAM_RECORDS_MAX: usize = 1024;

/// CONTINUATION frames of one header block (CVE-2024-27316 and its kin).
pub(crate) const H2_CONTINUATIONS_MAX: u32 = 32;

/// A header block may be this many times as long as the decoded headers may be, before the connection is closed: nobody who
/// keeps to our `SETTINGS_MAX_HEADER_LIST_SIZE` comes near it.
pub(crate) const BLOCK_TIMES_LIST: usize = 2;

/// Resets, of either side's making, that a connection may cause at once beyond those that finished streams pay for
/// (rapid reset, CVE-2023-44487; MadeYouReset, CVE-2025-8671).
pub(crate) const H2_RESETS_BURST: u32 = 200;
/// How many more per second.
pub(crate) const H2_RESETS_PER_S: u32 = 20;

/// Frames that bring nothing forward (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, unknown, empty DATA) at once, beyond those that
/// messages pay for.
pub(crate) const H2_CONTROL_BURST: u32 = 1_000;
/// How many more per second.
pub(crate) const H2_CONTROL_PER_S: u32 = 200;
/// What a SETTINGS frame counts for: every one makes us look at all streams.
pub(crate) const SETTINGS_COST: u32 = 10;

/// Interim (1xx) responses before the final one.
pub(crate) const H2_INFORMATIONAL_MAX: u8 = 16;

/// Encoded bytes that wait for the socket before bodies are no longer asked for more.
pub(crate) const OUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that wait for a socket whose peer reads nothing, before nothing more is read from it.
pub(crate) const H2_OUT_STALLED_BYTES_MAX: usize = 256 * 1024;

/// Streams that we have reset and whose frames may still be under way.
pub(crate) const LATELY_RESET_MAX: usize = 128;

/// Bytes read at a time, into a buffer that all connections of a worker share.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// How long a graceful shutdown waits between "no new streams, please" and naming the last stream that it serves.
pub(crate) const GOAWAY_GRACE: Duration = Duration::from_secs(1);

/// How often deadlines are looked at while there is something to look at.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Bytes that a tunnel takes from its writer before they have gone out.
pub(crate) const TUNNEL_BYTES_MAX: usize = 32 * 1024;
