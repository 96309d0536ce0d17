//! How long answers take: a small histogram that forgets, for decisions by percentile.

use std::time::Duration;

/// Buckets per doubling of the time.
const STEPS: u32 = 4;
/// 2^30 µs is about 18 minutes.
const BUCKETS: usize = (30 * STEPS) as usize;
/// Fewer observations say nothing.
const SEEN_MIN: u32 = 20;
/// Above this the counts are halved, so that what was long ago fades.
const SEEN_MAX: u32 = 2000;

/// Times in buckets whose bounds grow by a fifth each.
#[derive(Debug, Default)]
pub struct Latency {
    counts: Vec<u32>,
    seen: u32,
}

fn bucket(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = us.ilog2();
    // The two bits behind the highest one are the step within the doubling.
    let step = if power >= 2 { (us >> (power - 2)) & 3 } else { 0 };
    ((power * STEPS) as usize + step as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket.
fn bound(index: usize) -> Duration {
    let (power, step) = (index as u32 / STEPS, index as u64 % u64::from(STEPS));
    Duration::from_micros(((1_u64 << power) * (5 + step)).div_ceil(4))
}

impl Latency {
    /// Notes one time.
    pub fn note(&mut self, took: Duration) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        if let Some(count) = self.counts.get_mut(bucket(took)) {
            *count += 1;
            self.seen += 1;
        }
        if self.seen > SEEN_MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.seen = self.counts.iter().sum();
        }
    }
    /// The time within which `percent` of those noted lie (a bound from above); `None` until enough were noted.
    pub fn quantile(&self, percent: u8) -> Option<Duration> {
        if self.seen < SEEN_MIN {
            return None;
        }
        let wanted = (u64::from(self.seen) * u64::from(percent.min(100))).div_ceil(100);
        let mut sum = 0;
        let index = self.counts.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        });
        index.map(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_within_a_quarter() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(50), None);
        (1..=1000).for_each(|ms| latency.note(Duration::from_millis(ms)));
        for percent in [10_u8, 50, 95, 99] {
            let (found, exact) = (latency.quantile(percent).expect("enough").as_secs_f64(), f64::from(percent) / 100.0);
            assert!((exact..exact * 1.25).contains(&found), "p{percent}: {found}");
        }
    }

    #[test]
    fn what_was_long_ago_fades() {
        let mut latency = Latency::default();
        (0..1000).for_each(|_| latency.note(Duration::from_secs(1)));
        (0..20_000).for_each(|_| latency.note(Duration::from_millis(1)));
        assert!(latency.quantile(99).expect("enough") < Duration::from_millis(2));
        latency.note(Duration::ZERO);
        latency.note(Duration::MAX);
    }
}
