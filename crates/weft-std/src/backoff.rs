//! Exponential backoff with jitter. The caller draws the random number, so that a test is exact.

use std::time::Duration;

/// Waiting times that double from `base` up to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first waiting time, before jitter.
    pub base: Duration,
    /// No waiting time is longer than this.
    pub max: Duration,
}

impl Backoff {
    /// A backoff from `base` to `max`.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// How long to wait before the retry after `failures` failures in a row (1 for the first).
    ///
    /// `roll` is a random number in `0.0..1.0`. The answer lies in the upper half of the exponential step, so that many clients
    /// spread out and none of them hammers: between `step / 2` and `step`.
    pub fn delay(&self, failures: u32, roll: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let step = self.base.saturating_mul(1 << doublings).min(self.max);
        step.mul_f64(0.5 + roll.clamp(0.0, 1.0) / 2.0)
    }

    /// [`Backoff::delay`] with a roll from the thread's random generator, for drivers.
    pub fn delay_random(&self, failures: u32) -> Duration {
        self.delay(failures, rand::random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_limit_and_spreads() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let check = |failures, roll, expected_ms| assert_eq!(backoff.delay(failures, roll), Duration::from_millis(expected_ms));
        check(0, 1.0, 100);
        check(1, 0.0, 50);
        check(1, 1.0, 100);
        check(2, 1.0, 200);
        check(4, 0.5, 600);
        check(40, 1.0, 5_000);
        check(u32::MAX, 0.0, 2_500);
    }
}
