//! The clock: the only place of the workspace that reads it, apart from `drive` modules.
//!
//! Machines take `now` as an argument. Drivers call these functions and hand the value down.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time that only moves forward; stands still and jumps under `tokio::time::pause`.
pub use tokio::time::Instant;

/// Monotonic time, for durations and timers. In a test with paused time this is virtual time.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time since 1970-01-01T00:00:00Z; zero when the machine's clock stands before that.
#[allow(clippy::disallowed_methods, reason = "this module is the one place that reads the wall clock")]
pub fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Wall-clock time in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
}

/// Wall-clock time in microseconds since 1970.
pub fn unix_us() -> u64 {
    u64::try_from(unix().as_micros()).unwrap_or(u64::MAX)
}

/// Wall-clock time in whole seconds since 1970.
pub fn unix_s() -> u64 {
    unix().as_secs()
}
