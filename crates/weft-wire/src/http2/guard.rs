//! Counting what a peer makes us do for nothing.

use super::limits::{H2_CONTROL_BURST, H2_CONTROL_PER_S, H2_RESETS_BURST, H2_RESETS_PER_S};
use weft_std::clock::Instant;

/// A bucket that fills with time, and with each useful thing that the peer does.
#[derive(Debug)]
struct Bucket {
    left: u32,
    burst: u32,
    per_s: u32,
    filled: Instant,
}

impl Bucket {
    fn new(burst: u32, per_s: u32, now: Instant) -> Self {
        Self { left: burst, burst, per_s, filled: now }
    }

    fn take(&mut self, cost: u32, now: Instant) -> bool {
        if self.left < cost {
            let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
            let more = (seconds * f64::from(self.per_s)).min(f64::from(self.burst));
            self.left = (self.left + more as u32).min(self.burst);
            self.filled = now;
        }
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn pay(&mut self, by: u32) {
        self.left = (self.left + by).min(self.burst);
    }
}

/// The budgets of a connection.
#[derive(Debug)]
pub(crate) struct Guard {
    resets: Bucket,
    control: Bucket,
}

impl Guard {
    pub(crate) fn new(now: Instant) -> Self {
        Self { resets: Bucket::new(H2_RESETS_BURST, H2_RESETS_PER_S, now), control: Bucket::new(H2_CONTROL_BURST, H2_CONTROL_PER_S, now) }
    }

    /// A stream that ended by a reset; `false` when there were too many.
    pub(crate) fn reset(&mut self, now: Instant) -> bool {
        self.resets.take(1, now)
    }

    /// A frame that brings nothing forward; `false` when there were too many.
    pub(crate) fn control(&mut self, cost: u32, now: Instant) -> bool {
        self.control.take(cost, now)
    }

    /// A stream that ended as it should.
    pub(crate) fn finished(&mut self) {
        self.resets.pay(1);
        self.control.pay(8);
    }

    /// A frame that carried something, in either direction.
    pub(crate) fn progress(&mut self) {
        self.control.pay(3);
    }
}
