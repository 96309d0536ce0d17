//! Token buckets, one for each key, in the form of the generic cell rate algorithm: one number a key, the time at which the bucket
//! would be full again. A key that is not there has a full bucket, so that forgetting full ones costs nothing.

use crate::key_table::KeyTable;
use std::time::Duration;
use weft_model::LimitRate;

/// How a request fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// May it pass?
    pub allowed: bool,
    /// Tokens left for this key.
    pub remaining: u32,
    /// When the next token is there (refused), or when the bucket is full again (allowed).
    pub reset: Duration,
    /// A key whose bucket was not full had to be forgotten to make room.
    pub forgot: bool,
}

/// The buckets of one limit.
#[derive(Debug)]
pub struct Buckets {
    /// Time at which the bucket is full again; since a start that the caller chose.
    full_at: KeyTable<Duration>,
}

impl Buckets {
    /// Empty, for at most `keys_max` keys.
    pub fn new(keys_max: usize) -> Self {
        Self { full_at: KeyTable::new(keys_max) }
    }

    /// Takes a token for `key`.
    pub fn take(&mut self, now: Duration, rate: &LimitRate, key: &str) -> Taken {
        // Time that one token needs; the remainder of the division is lost, so that a rate is met to a millionth.
        let token_ns = (u128::from(rate.per_ms) * 1_000_000 / u128::from(rate.requests.max(1))).max(1);
        let token = Duration::from_nanos(u64::try_from(token_ns).unwrap_or(u64::MAX));
        let depth = token.saturating_mul(rate.burst.max(1));
        let (full_at, forgot) = self.full_at.entry(key, |full_at| *full_at > now);
        let next = (*full_at).max(now) + token;
        let Some(over) = next.checked_sub(now + depth).filter(|over| !over.is_zero()) else {
            *full_at = next;
            let free = (now + depth).saturating_sub(next);
            let remaining = u32::try_from(free.as_nanos() / token.as_nanos().max(1)).unwrap_or(u32::MAX);
            return Taken { allowed: true, remaining, reset: next - now, forgot };
        };
        Taken { allowed: false, remaining: 0, reset: over, forgot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(requests: u32, per_ms: u64, burst: u32) -> LimitRate {
        LimitRate { requests, per_ms, burst }
    }

    /// How many of the requests that come every `every` pass in `time`.
    fn passed(rate: LimitRate, every: Duration, time: Duration) -> u32 {
        let mut buckets = Buckets::new(10);
        let mut now = Duration::from_secs(1);
        let end = now + time;
        let mut passed = 0;
        while now < end {
            passed += u32::from(buckets.take(now, &rate, "k").allowed);
            now += every;
        }
        passed
    }

    #[test]
    fn as_many_pass_as_the_rate_says() {
        // (rate, arrivals, time, expected): burst + rate × time, within one.
        for (limit, every_us, time_s, want) in [
            (rate(100, 1000, 100), 100, 10, 1100),
            (rate(100, 1000, 1), 100, 10, 1000),
            (rate(7, 1000, 3), 1_000, 60, 423),
            (rate(1, 60_000, 1), 10_000, 600, 10),
            (rate(50_000, 1000, 10), 3, 1, 50_010),
        ] {
            let got = passed(limit, Duration::from_micros(every_us), Duration::from_secs(time_s));
            assert!(got.abs_diff(want) <= 1 + want / 1000, "{limit:?}: {got} instead of {want}");
        }
        // Below the rate nothing is refused.
        assert_eq!(passed(rate(10, 1000, 1), Duration::from_millis(100), Duration::from_secs(10)), 100);
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let (mut buckets, limit) = (Buckets::new(4), rate(2, 1000, 2));
        let at = Duration::from_millis;
        assert_eq!(buckets.take(at(0), &limit, "a"), Taken { allowed: true, remaining: 1, reset: at(500), forgot: false });
        assert_eq!(buckets.take(at(0), &limit, "a").remaining, 0);
        let refused = buckets.take(at(100), &limit, "a");
        assert_eq!((refused.allowed, refused.reset), (false, at(400)));
        assert!(buckets.take(at(100), &limit, "b").allowed, "another key has a bucket of its own");
        assert!(buckets.take(at(100) + refused.reset, &limit, "a").allowed);
    }

    #[test]
    fn keys_are_bounded_and_a_loss_is_told() {
        let (mut buckets, limit) = (Buckets::new(100), rate(1, 1000, 1));
        let forgot = (0..1000).filter(|n| buckets.take(Duration::ZERO, &limit, &n.to_string()).forgot).count();
        assert_eq!((forgot, buckets.full_at.len()), (900, 100));
        // A second later all buckets are full: making room loses nothing.
        assert!((1000..1100).all(|n| !buckets.take(Duration::from_secs(1), &limit, &n.to_string()).forgot));
    }
}
