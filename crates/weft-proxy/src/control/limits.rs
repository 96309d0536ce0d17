//! Times and limits of the control client.

use std::time::Duration;

/// Longest time to connect, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for an answer to join or renew.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is probed.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long a probe may stay unanswered.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes in flight on a stream.
pub(super) const WINDOW_BYTES: u32 = 4 << 20;

/// First pause before connecting again.
pub(super) const RETRY_BASE: Duration = Duration::from_millis(200);
/// Longest pause before connecting again: a control plane that comes back is noticed within it.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(3);
/// A stream that lived this long was a success: the next pause is the first again.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The wall clock and the monotonic one differ by more than this between two looks: the machine slept, or somebody set the clock.
pub(super) const CLOCK_JUMP: Duration = Duration::from_secs(2);

/// Questions that wait for an answer of the control plane.
pub(super) const NEEDS_WAITING_MAX: usize = 4096;
/// After this time without a stream, a question is answered at once: nobody will know in time.
pub(super) const AWAY_AFTER: Duration = Duration::from_secs(1);

/// Messages that wait to be sent.
pub(super) const REQUESTS_MAX: usize = 64;
/// Reports that wait to be sent; beyond it they are left with their workers.
pub(super) const REPORTS_MAX: usize = 16;

/// The last good view is written so long after a change: changes come in bursts.
pub(super) const SAVE_AFTER: Duration = Duration::from_millis(500);
/// Bytes of the last good file that are read.
pub(super) const LAST_GOOD_BYTES_MAX: u64 = 256 << 20;
/// Longest wait for the good-bye to be sent.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
