//! Bounds of HTTP/1: each has a name, a unit and a reason.

use std::time::Duration;

/// Most bytes of a request target; beyond it 414. Longer than any browser sends.
pub const TARGET_BYTES_MAX: usize = 32 * 1024;

/// Most bytes of one chunk's line, which is its size and its extensions (RFC 9112 §7.1.1 asks for a bound).
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Most bytes of chunk extensions in one message: they carry nothing, and would be read for ever.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;

/// Most bytes of a message's trailers.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Most trailers of a message.
pub const TRAILERS_MAX: usize = 64;

/// Most interim responses (1xx) before the final one.
pub const INTERIM_RESPONSES_MAX: usize = 16;

/// Bytes that one read takes from a connection.
pub const READ_BYTES: usize = 32 * 1024;

/// Bytes that are gathered for one write; a peer that reads slowly makes no more wait.
pub const WRITE_BYTES: usize = 64 * 1024;

/// Bytes of following requests that are taken in while one is being served; beyond it the caller's kernel holds them.
pub const PIPELINE_BYTES_MAX: usize = 8 * 1024;

/// Buffers of each kind that a thread keeps for the next message.
pub const SPARE_BUFFERS_MAX: usize = 64;

/// A spare buffer that has grown beyond this is given back to the allocator.
pub const SPARE_BUFFER_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a request's body that nobody reads any more and that are read away, so that the connection can be used again or the
/// answer is not lost to a reset.
pub const DRAIN_BYTES_MAX: u64 = 256 * 1024;

/// How long such a body is read away for.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest silence of a caller in the middle of a body that is being waited for; then 408 or a reset (slow loris).
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time that a caller may take no byte of an answer that waits for it (slow read).
pub const WRITE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
