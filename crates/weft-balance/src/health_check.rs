//! The machine of active health checks: when an endpoint is asked next, and what its answers make of it.

use crate::standing::EndpointId;
use std::{collections::BTreeMap, time::Duration};
use weft_model::HealthCheck;

/// What the answers so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Good.
    Healthy,
    /// Bad.
    Unhealthy,
}

#[derive(Debug)]
struct Course {
    /// `None` until the first answer: the endpoint is used meanwhile, as the control plane says.
    verdict: Option<Verdict>,
    /// Answers in a row that speak against the verdict.
    against: u32,
    due: Duration,
    asked: bool,
}

/// The checks of one cluster.
#[derive(Debug, Default)]
pub struct Checker {
    courses: BTreeMap<EndpointId, Course>,
}

impl Checker {
    /// Follows the set of endpoints. New ones are asked at once, spread over a tenth of the interval.
    pub fn follow(&mut self, endpoints: &[EndpointId], policy: &HealthCheck, now: Duration, mut roll: impl FnMut() -> u32) {
        self.courses.retain(|id, _| endpoints.contains(id));
        for id in endpoints {
            self.courses.entry(*id).or_insert_with(|| {
                let due = now + share(Duration::from_millis(policy.interval_ms) / 10, roll());
                Course { verdict: None, against: 0, due, asked: false }
            });
        }
    }

    /// When there is something to ask.
    pub fn next_due(&self) -> Option<Duration> {
        self.courses.values().filter(|c| !c.asked).map(|c| c.due).min()
    }

    /// Those that are to be asked now; each counts as asked until its answer.
    pub fn due(&mut self, now: Duration) -> Vec<EndpointId> {
        let due = self.courses.iter_mut().filter(|(_, c)| !c.asked && c.due <= now);
        due.map(|(id, course)| {
            course.asked = true;
            *id
        })
        .collect()
    }

    /// An answer came, or its time passed. Returns the verdict when it is new.
    ///
    /// The first answer decides at once: an endpoint that fails from the start must not get traffic until the threshold is reached.
    pub fn answered(&mut self, id: EndpointId, good: bool, policy: &HealthCheck, now: Duration, roll: u32) -> Option<Verdict> {
        let course = self.courses.get_mut(&id)?;
        let interval = Duration::from_millis(policy.interval_ms.max(1));
        course.asked = false;
        // Up to a tenth earlier or later, so that the proxies of a mesh do not ask in step.
        course.due = now + interval.saturating_sub(interval / 10) + share(interval / 5, roll);
        let says = if good { Verdict::Healthy } else { Verdict::Unhealthy };
        if course.verdict == Some(says) {
            course.against = 0;
            return None;
        }
        course.against += 1;
        let threshold = match says {
            _ if course.verdict.is_none() => 1,
            Verdict::Healthy => policy.healthy_threshold,
            Verdict::Unhealthy => policy.unhealthy_threshold,
        };
        if course.against < threshold.max(1) {
            return None;
        }
        (course.verdict, course.against) = (Some(says), 0);
        Some(says)
    }
}

/// A share of `whole` by a roll.
fn share(whole: Duration, roll: u32) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(roll)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Origin, Probe};

    fn policy() -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp,
            interval_ms: 1_000,
            timeout_ms: 100,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            origin: Origin::built_in("h"),
        }
    }
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let (mut checker, policy, id) = (Checker::default(), policy(), EndpointId(1));
        checker.follow(&[id], &policy, S, || 0);
        let mut answer = |good| checker.answered(id, good, &policy, S, 0);
        assert_eq!(answer(true), Some(Verdict::Healthy));
        assert_eq!([answer(false), answer(false), answer(true), answer(false), answer(false)], [None; 5]);
        assert_eq!(answer(false), Some(Verdict::Unhealthy));
        assert_eq!([answer(true), answer(false), answer(true)], [None; 3]);
        assert_eq!(answer(true), Some(Verdict::Healthy));
    }

    #[test]
    fn the_first_answer_decides() {
        let (mut checker, policy, id) = (Checker::default(), policy(), EndpointId(1));
        checker.follow(&[id], &policy, S, || 0);
        assert_eq!(checker.answered(id, false, &policy, S, 0), Some(Verdict::Unhealthy));
        assert_eq!(checker.answered(EndpointId(2), false, &policy, S, 0), None, "who left is forgotten");
    }

    #[test]
    fn each_is_asked_once_an_interval_with_jitter() {
        let (mut checker, policy, ids) = (Checker::default(), policy(), [EndpointId(1), EndpointId(2)]);
        let mut rolls = [0, u32::MAX].into_iter();
        checker.follow(&ids, &policy, S, || rolls.next().expect("two"));
        assert_eq!(checker.due(S), [ids[0]]);
        assert!(checker.due(S).is_empty(), "asked already");
        assert!(checker.next_due().is_some_and(|due| due > S && due <= S + S / 10));
        checker.answered(ids[0], true, &policy, S, 0);
        checker.follow(&ids[..1], &policy, S, || 0);
        assert_eq!(checker.next_due(), Some(S + S * 9 / 10));
        checker.answered(ids[0], true, &policy, S, u32::MAX);
        assert!(checker.next_due().is_some_and(|due| due > S + S && due < S + S * 11 / 10));
    }
}
