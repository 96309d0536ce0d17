//! Adaptive concurrency: how many requests a service can have under way before they only wait for each other.
//!
//! Answers are looked at in windows of a tenth of a second (longer where few come). By *gradient*: the best latency that was seen,
//! with a tolerance, is compared with the median of the window; while answers are as fast, the limit grows by its square root, and
//! as they get slower it shrinks by the ratio. Since a service that is always full would never show its best latency, the limit
//! is lowered to a quarter for one window every half minute while it is reached, and the best latency measured anew. By *AIMD*: a latency that is still
//! fine is given; one more request for each window that keeps to it, a tenth less for one that does not.
//! In both, a limit that is not used does not grow, and a window in which most requests failed for overload lowers it by a tenth.

use std::time::Duration;
use weft_model::{Adaptive, AdaptiveBy};

/// Shortest window.
const WINDOW: Duration = Duration::from_millis(100);
/// Answers that a window needs at least.
const SAMPLES_MIN: usize = 10;
/// Answers that are looked at in one window; more of them say nothing new.
const SAMPLES_MAX: usize = 128;
/// How often the best latency is measured anew.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// The limit at the start, within the user's bounds.
const START: f64 = 20.0;

/// How a request ended, as far as the service's load is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answered after this time.
    After(Duration),
    /// It had no capacity: refused, reset or timed out.
    Overloaded,
    /// Its end says nothing, as when the caller left.
    Unknown,
}

/// One limit that follows latency.
#[derive(Debug)]
pub struct AdaptiveLimit {
    limit: f64,
    under_way: u32,
    /// Most under way in this window.
    peak: u32,
    best: Option<Duration>,
    window_began: Duration,
    samples: Vec<Duration>,
    overloaded: usize,
    /// The limit was reached, or answers were slow, since the last measurement: only then is there something to measure.
    pressed: bool,
    probing: bool,
    probe_at: Duration,
}

impl AdaptiveLimit {
    /// At the start.
    pub fn new(now: Duration, settings: &Adaptive) -> Self {
        Self {
            limit: START.clamp(f64::from(settings.requests_min), f64::from(settings.requests_max)),
            under_way: 0,
            peak: 0,
            best: None,
            window_began: now,
            samples: Vec::new(),
            overloaded: 0,
            pressed: false,
            probing: false,
            probe_at: now + PROBE_INTERVAL,
        }
    }

    /// The limit of the moment.
    pub fn limit(&self, settings: &Adaptive) -> u32 {
        let limit = if self.probing { self.limit / 4.0 } else { self.limit };
        (limit as u32).clamp(settings.requests_min, settings.requests_max)
    }

    /// Requests under way.
    pub fn under_way(&self) -> u32 {
        self.under_way
    }

    /// Takes a place, if there is one; give it back with [`AdaptiveLimit::leave`].
    pub fn enter(&mut self, settings: &Adaptive) -> bool {
        let free = self.under_way < self.limit(settings);
        self.under_way += u32::from(free);
        self.pressed |= !free;
        self.peak = self.peak.max(self.under_way);
        free
    }

    /// A place that was taken while the limit only reports: counted beyond the limit.
    pub fn enter_anyway(&mut self) {
        self.under_way += 1;
        self.peak = self.peak.max(self.under_way);
    }

    /// A request is over.
    pub fn leave(&mut self, now: Duration, settings: &Adaptive, answer: Answer) {
        self.under_way = self.under_way.saturating_sub(1);
        match answer {
            Answer::After(latency) if self.samples.len() < SAMPLES_MAX => self.samples.push(latency),
            Answer::Overloaded => self.overloaded += 1,
            Answer::After(_) | Answer::Unknown => {}
        }
        if now >= self.window_began + WINDOW && self.samples.len() + self.overloaded >= SAMPLES_MIN {
            self.close_window(now, settings);
        }
    }

    fn close_window(&mut self, now: Duration, settings: &Adaptive) {
        let (min, max) = (f64::from(settings.requests_min), f64::from(settings.requests_max));
        let used = self.peak.saturating_mul(2) >= self.limit(settings);
        self.samples.sort_unstable();
        let median = self.samples.get(self.samples.len() / 2).copied();
        let next = match (median, settings.by) {
            _ if self.overloaded > self.samples.len() => self.limit * 0.9,
            (None, _) => self.limit,
            (Some(median), AdaptiveBy::Aimd { latency_ms }) => match median > Duration::from_millis(latency_ms) {
                true => self.limit * 0.9,
                false => self.limit + if used { 1.0 } else { 0.0 },
            },
            (Some(median), AdaptiveBy::Gradient { tolerance_percent }) => self.gradient(median, tolerance_percent, used),
        };
        self.limit = next.clamp(min, max);
        self.probe(now, settings);
        self.samples.clear();
        self.overloaded = 0;
        self.peak = self.under_way;
        self.window_began = now;
    }

    fn gradient(&mut self, median: Duration, tolerance_percent: u32, used: bool) -> f64 {
        let best = self.best.filter(|best| *best <= median && !self.probing).unwrap_or(median);
        self.best = Some(best);
        if self.probing {
            return self.limit;
        }
        let fine = best.as_secs_f64() * (1.0 + f64::from(tolerance_percent) / 100.0);
        let gradient = (fine / median.as_secs_f64().max(1e-9)).clamp(0.5, 1.0);
        self.pressed |= gradient < 1.0;
        let growth = if used { self.limit.sqrt() } else { 0.0 };
        self.limit * gradient + growth
    }

    /// Begins or ends a measurement of the best latency. A window that began with more under way than the lowered limit still has
    /// answers that waited: only the next one measures.
    fn probe(&mut self, now: Duration, settings: &Adaptive) {
        if !matches!(settings.by, AdaptiveBy::Gradient { .. }) {
            return;
        }
        match (self.probing, now >= self.probe_at) {
            (false, true) if self.pressed => self.probing = true,
            (true, _) if self.peak <= self.limit(settings) => {
                (self.probing, self.pressed) = (false, false);
                self.probe_at = now + PROBE_INTERVAL;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use weft_model::Origin;

    fn settings(by: AdaptiveBy) -> Adaptive {
        Adaptive { requests_min: 3, requests_max: 1000, by, origin: Origin::built_in("test") }
    }

    /// A service with `workers` that each need `service` for a request, and a queue without end: requests that wait longer than
    /// `patience` are given up by their callers, and worked on all the same. Returns good answers per second, in virtual time.
    fn goodput(limit: Option<&Adaptive>, workers: usize, service: Duration, offered_per_s: u32, seconds: u64) -> Vec<u32> {
        const STEP: Duration = Duration::from_micros(500);
        let patience = Duration::from_secs(1);
        let mut machine = limit.map(|settings| AdaptiveLimit::new(Duration::ZERO, settings));
        let (mut now, mut arrived) = (Duration::ZERO, 0.0);
        let mut queue: VecDeque<Duration> = VecDeque::new();
        let mut busy: Vec<(Duration, Duration)> = Vec::new();
        let mut good = vec![0; usize::try_from(seconds).expect("few")];
        while now < Duration::from_secs(seconds) {
            busy.retain(|(came, done)| {
                if *done <= now {
                    let latency = now - *came;
                    if latency <= patience {
                        good[usize::try_from(now.as_secs()).expect("few")] += 1;
                    }
                    if let (Some(machine), Some(settings)) = (&mut machine, limit) {
                        let answer = if latency <= patience { Answer::After(latency) } else { Answer::Overloaded };
                        machine.leave(now, settings, answer);
                    }
                }
                *done > now
            });
            arrived += f64::from(offered_per_s) * STEP.as_secs_f64();
            while arrived >= 1.0 {
                arrived -= 1.0;
                if machine.as_mut().zip(limit).is_none_or(|(machine, settings)| machine.enter(settings)) {
                    queue.push_back(now);
                }
            }
            while busy.len() < workers
                && let Some(came) = queue.pop_front()
            {
                busy.push((came, now + service));
            }
            now += STEP;
        }
        good
    }

    #[test]
    fn goodput_does_not_collapse_in_overload() {
        // 20 workers of 10 ms can do 2,000 a second; 4,000 are asked for.
        let service = Duration::from_millis(10);
        let without = goodput(None, 20, service, 4000, 20);
        assert!(without[15..].iter().all(|good| *good == 0), "everybody waits longer than anybody has patience: {without:?}");
        for by in [AdaptiveBy::Gradient { tolerance_percent: 50 }, AdaptiveBy::Aimd { latency_ms: 30 }] {
            let with = goodput(Some(&settings(by)), 20, service, 4000, 65);
            // From the third second on, the probes of the gradient included.
            let worst = with[3..].iter().min().copied().unwrap_or_default();
            assert!(worst >= 1500, "{by:?}: {with:?}");
            let mean = with[3..].iter().sum::<u32>() / u32::try_from(with.len() - 3).expect("few");
            assert!(mean >= 1850, "{by:?}: {mean} of 2000 a second");
        }
    }

    #[test]
    fn without_overload_nothing_is_shed() {
        for by in [AdaptiveBy::Gradient { tolerance_percent: 50 }, AdaptiveBy::Aimd { latency_ms: 30 }] {
            let with = goodput(Some(&settings(by)), 20, Duration::from_millis(10), 1500, 65);
            assert!(with[5..].iter().all(|good| *good >= 1495), "{by:?}: {with:?}");
        }
    }

    #[test]
    fn the_limit_keeps_to_its_bounds_and_grows_only_when_used() {
        let mut bounds = settings(AdaptiveBy::Aimd { latency_ms: 10 });
        (bounds.requests_min, bounds.requests_max) = (5, 30);
        let mut machine = AdaptiveLimit::new(Duration::ZERO, &bounds);
        let mut now = Duration::ZERO;
        let mut windows = |machine: &mut AdaptiveLimit, concurrent: usize, latency: u64, count: usize| {
            for _ in 0..count {
                now += WINDOW;
                let entered = (0..concurrent.max(SAMPLES_MIN)).filter(|_| machine.enter(&bounds)).count();
                (0..entered).for_each(|_| machine.leave(now, &bounds, Answer::After(Duration::from_millis(latency))));
            }
            machine.limit(&bounds)
        };
        assert_eq!(windows(&mut machine, 30, 50, 100), 5);
        assert_eq!(windows(&mut machine, 1000, 5, 100), 30);
        let mut idle = AdaptiveLimit::new(Duration::ZERO, &bounds);
        for _ in 0..100 {
            assert!(idle.enter(&bounds));
            idle.leave(Duration::from_secs(1), &bounds, Answer::After(Duration::from_millis(1)));
        }
        assert_eq!(idle.limit(&bounds), 20, "one at a time says nothing about more");
    }
}
