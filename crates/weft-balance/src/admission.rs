//! Admission control: while many requests fail, a share of them is shed at the caller, before they cost anybody anything
//! (Envoy's admission control, after the client-side throttling of Google's SRE book).
//!
//! Of the requests of a sliding window, the share `(total - successes / wanted rate) / (total + 1)`, to the power of
//! 1 / aggression, is shed, up to a bound: some always get through, so that recovery is noticed.

use std::time::Duration;
use weft_model::Admission;

/// Parts of the window.
const SLICES: usize = 10;

/// The counts of one destination.
#[derive(Debug, Default)]
pub struct AdmissionControl {
    slices: [Slice; SLICES],
    /// Number of the present slice since the start.
    at: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    total: u32,
    successes: u32,
}

impl AdmissionControl {
    /// Forgets what is older than the window.
    fn advance(&mut self, now: Duration, settings: &Admission) {
        let slice_ms = (settings.window_ms / SLICES as u64).max(1);
        let at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) / slice_ms;
        let passed = at.saturating_sub(self.at).min(SLICES as u64);
        for n in 0..passed {
            self.slices[usize::try_from((at - n) % SLICES as u64).unwrap_or(0)] = Slice::default();
        }
        self.at = self.at.max(at);
    }

    /// Share of the requests that is shed now, from 0 to 1.
    pub fn rejection(&mut self, now: Duration, settings: &Admission) -> f64 {
        self.advance(now, settings);
        let (total, successes) =
            self.slices.iter().fold((0.0, 0.0), |(t, s), slice| (t + f64::from(slice.total), s + f64::from(slice.successes)));
        if total * 1000.0 < f64::from(settings.requests_per_second_min) * settings.window_ms as f64 {
            return 0.0;
        }
        let wanted = f64::from(settings.success_ppm.max(1)) / 1e6;
        let share = ((total - successes / wanted) / (total + 1.0)).max(0.0);
        let share = share.powf(1000.0 / f64::from(settings.aggression_milli.max(1)));
        share.min(f64::from(settings.rejection_max_ppm) / 1e6)
    }

    /// May a request pass? `roll` is uniform over `0..=u32::MAX`.
    pub fn admits(&mut self, now: Duration, settings: &Admission, roll: u32) -> bool {
        f64::from(roll) / f64::from(u32::MAX) >= self.rejection(now, settings)
    }

    /// A request that passed has ended.
    pub fn ended(&mut self, now: Duration, settings: &Admission, success: bool) {
        self.advance(now, settings);
        let slice = &mut self.slices[usize::try_from(self.at % SLICES as u64).unwrap_or(0)];
        slice.total = slice.total.saturating_add(1);
        slice.successes = slice.successes.saturating_add(u32::from(success));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::Origin;

    fn settings() -> Admission {
        Admission {
            success_ppm: 950_000,
            aggression_milli: 1000,
            window_ms: 30_000,
            rejection_max_ppm: 800_000,
            requests_per_second_min: 5,
            origin: Origin::built_in("test"),
        }
    }

    /// The share that is shed after 10 s of 100 requests per second of which every `good` in 100 succeed.
    fn shed(good: u32, settings: &Admission) -> f64 {
        let mut control = AdmissionControl::default();
        for ms in (0..10_000).step_by(10) {
            let now = Duration::from_millis(ms);
            control.ended(now, settings, u32::try_from(ms / 10 % 100).expect("small") < good);
        }
        control.rejection(Duration::from_millis(10_000), settings)
    }

    #[test]
    fn the_share_follows_the_success_rate() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.01, "{a} instead of {b}");
        near(shed(100, &settings()), 0.0);
        near(shed(95, &settings()), 0.0);
        near(shed(50, &settings()), 1.0 - 0.5 / 0.95);
        near(shed(0, &settings()), 0.8);
        near(shed(50, &Admission { aggression_milli: 2000, ..settings() }), (1.0f64 - 0.5 / 0.95).sqrt());
    }

    #[test]
    fn it_recovers_and_leaves_the_few_alone() {
        let settings = settings();
        let mut control = AdmissionControl::default();
        for n in 0..10 {
            control.ended(Duration::from_millis(n), &settings, false);
        }
        assert_eq!(control.rejection(Duration::from_millis(20), &settings), 0.0, "ten failures in 30 s are below the rate");
        for n in 0..3000 {
            control.ended(Duration::from_millis(20 + n), &settings, false);
        }
        assert!(!control.admits(Duration::from_secs(4), &settings, 0) && control.admits(Duration::from_secs(4), &settings, u32::MAX));
        assert_eq!(control.rejection(Duration::from_secs(40), &settings), 0.0, "the window has passed");
    }
}
