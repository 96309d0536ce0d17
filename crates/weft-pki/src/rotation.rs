//! When to renew a certificate: a machine without I/O. The driver feeds it what happened and the time, and does what it says.
//!
//! A certificate is renewed at half its life. A failure is tried again with backoff, far quicker than the life that is left. When
//! three quarters are gone without success, and again when the life is over, it raises an alarm; it never gives up.

use std::{collections::VecDeque, time::Duration};
use weft_std::{Backoff, clock::Instant};

/// The machine. Feed [`Rotation::input`] and [`Rotation::timeout`], then take [`Rotation::poll_output`] until it is empty, then
/// wait for [`Rotation::next_timeout`].
#[derive(Debug)]
pub struct Rotation {
    state: State,
    life: Option<Life>,
    outputs: VecDeque<RotationOutput>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationEvent {
    /// A certificate is in use.
    Installed {
        /// How long it lives in all, from its signing.
        lifetime: Duration,
        /// How long ago it was signed; zero when it is fresh.
        age: Duration,
    },
    /// The renewal that was asked for failed. `roll` is a random number of 0..=65535 that spreads the next try.
    Failed {
        /// Spreads many proxies that failed at once.
        roll: u16,
    },
}

/// What the driver must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationOutput {
    /// Ask the CA for a new certificate, then answer with an event.
    Renew,
    /// Tell people.
    Alarm(Alarm),
}

/// A renewal that does not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Three quarters of the life are gone; so much is left.
    Overdue {
        /// Until the certificate expires.
        left: Duration,
    },
    /// The certificate has expired. Peers refuse new connections.
    Expired,
}

#[derive(Debug)]
enum State {
    /// Nothing to do before this time; `None` until there is a certificate.
    Waiting { renew_at: Option<Instant>, failures: u32 },
    /// The driver is renewing.
    Renewing { failures: u32 },
}

#[derive(Debug, Clone, Copy)]
struct Life {
    overdue_at: Instant,
    expires_at: Instant,
    lifetime: Duration,
    next_alarm: NextAlarm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextAlarm {
    Overdue,
    Expired,
    None,
}

impl Default for Rotation {
    fn default() -> Self {
        Self::new()
    }
}

impl Rotation {
    /// Before there is a certificate: joining is not this machine's work.
    pub fn new() -> Self {
        Self { state: State::Waiting { renew_at: None, failures: 0 }, life: None, outputs: VecDeque::new() }
    }

    /// Takes note of an event.
    pub fn input(&mut self, now: Instant, event: RotationEvent) {
        match event {
            RotationEvent::Installed { lifetime, age } => {
                let issued_ago = |part: Duration| now + part.saturating_sub(age);
                self.life = Some(Life {
                    overdue_at: issued_ago(lifetime * 3 / 4),
                    expires_at: issued_ago(lifetime),
                    lifetime,
                    next_alarm: NextAlarm::Overdue,
                });
                self.state = State::Waiting { renew_at: Some(issued_ago(lifetime / 2)), failures: 0 };
            }
            RotationEvent::Failed { roll } => {
                let State::Renewing { failures } = self.state else { return };
                let lifetime = self.life.map_or(Duration::from_secs(60), |life| life.lifetime);
                let delay = retry(lifetime).delay(failures + 1, f64::from(roll) / 65_536.0);
                self.state = State::Waiting { renew_at: Some(now + delay), failures: failures + 1 };
            }
        }
        self.timeout(now);
    }

    /// When [`Rotation::timeout`] wants to be called; `None` when only an event can change something.
    pub fn next_timeout(&self) -> Option<Instant> {
        let renew_at = match self.state {
            State::Waiting { renew_at, .. } => renew_at,
            State::Renewing { .. } => None,
        };
        let alarm_at = self.life.and_then(|life| match life.next_alarm {
            NextAlarm::Overdue => Some(life.overdue_at),
            NextAlarm::Expired => Some(life.expires_at),
            NextAlarm::None => None,
        });
        renew_at.into_iter().chain(alarm_at).min()
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant) {
        if let State::Waiting { renew_at: Some(at), failures } = self.state
            && at <= now
        {
            self.state = State::Renewing { failures };
            self.outputs.push_back(RotationOutput::Renew);
        }
        let Some(life) = &mut self.life else { return };
        // A certificate that is old already when it is installed is renewed first; it is overdue only when that fails.
        if life.next_alarm == NextAlarm::Overdue && life.overdue_at <= now && life.expires_at > now {
            life.next_alarm = NextAlarm::Expired;
            self.outputs.push_back(RotationOutput::Alarm(Alarm::Overdue { left: life.expires_at - now }));
        }
        if life.next_alarm != NextAlarm::None && life.expires_at <= now {
            life.next_alarm = NextAlarm::None;
            self.outputs.push_back(RotationOutput::Alarm(Alarm::Expired));
        }
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<RotationOutput> {
        self.outputs.pop_front()
    }
}

/// Tries again soon in comparison with the life: of a 2 s certificate after 20 to 100 ms, of one for a day after 1 to 60 s.
fn retry(lifetime: Duration) -> Backoff {
    let base = (lifetime / 80).clamp(Duration::from_millis(20), Duration::from_secs(2));
    Backoff::new(base, (lifetime / 20).clamp(base, Duration::from_secs(60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const FRESH: RotationEvent = RotationEvent::Installed { lifetime: Duration::from_secs(24 * 3600), age: Duration::ZERO };

    fn outputs(rotation: &mut Rotation) -> Vec<RotationOutput> {
        std::iter::from_fn(|| rotation.poll_output()).collect()
    }

    #[test]
    fn renews_at_half_life_again_and_again() {
        let mut now = Instant::now();
        let mut rotation = Rotation::new();
        assert_eq!(rotation.next_timeout(), None);
        rotation.input(now, FRESH);
        for _ in 0..3 {
            assert_eq!(rotation.next_timeout(), Some(now + HOUR * 12));
            now += HOUR * 12;
            rotation.timeout(now);
            assert_eq!(outputs(&mut rotation), [RotationOutput::Renew]);
            rotation.timeout(now + HOUR);
            assert_eq!(outputs(&mut rotation), [], "one renewal at a time");
            rotation.input(now, FRESH);
        }
    }

    #[test]
    fn age_counts() {
        let now = Instant::now();
        let mut rotation = Rotation::new();
        rotation.input(now, RotationEvent::Installed { lifetime: HOUR * 24, age: HOUR * 10 });
        assert_eq!(rotation.next_timeout(), Some(now + HOUR * 2));
        rotation.input(now, RotationEvent::Installed { lifetime: HOUR * 24, age: HOUR * 30 });
        assert_eq!(outputs(&mut rotation), [RotationOutput::Renew, RotationOutput::Alarm(Alarm::Expired)]);
    }

    #[test]
    fn failures_are_retried_and_told_once_each() {
        let start = Instant::now();
        let mut rotation = Rotation::new();
        rotation.input(start, FRESH);
        let (mut renewals, mut alarms) = (0, Vec::new());
        let mut roll = 7_u16;
        while let Some(now) = rotation.next_timeout().filter(|at| *at < start + HOUR * 25) {
            rotation.timeout(now);
            for output in outputs(&mut rotation) {
                match output {
                    RotationOutput::Renew => {
                        renewals += 1;
                        roll = roll.wrapping_mul(25_173).wrapping_add(13_849);
                        rotation.input(now, RotationEvent::Failed { roll });
                    }
                    RotationOutput::Alarm(alarm) => alarms.push((now - start, alarm)),
                }
            }
        }
        assert_eq!(alarms, [(HOUR * 18, Alarm::Overdue { left: HOUR * 6 }), (HOUR * 24, Alarm::Expired)]);
        assert!((13 * 60..13 * 120 + 20).contains(&renewals), "{renewals} tries in 13 hours");
    }

    #[test]
    fn a_life_of_two_seconds_leaves_time_for_many_tries() {
        let start = Instant::now();
        let mut rotation = Rotation::new();
        rotation.input(start, RotationEvent::Installed { lifetime: Duration::from_secs(2), age: Duration::ZERO });
        let mut tries = 0;
        while let Some(now) = rotation.next_timeout().filter(|at| *at < start + Duration::from_secs(2)) {
            rotation.timeout(now);
            for output in outputs(&mut rotation) {
                if output == RotationOutput::Renew {
                    tries += 1;
                    rotation.input(now, RotationEvent::Failed { roll: u16::MAX });
                }
            }
        }
        assert!((9..40).contains(&tries), "{tries}");
    }

    #[test]
    fn success_after_failures_starts_over() {
        let start = Instant::now();
        let mut rotation = Rotation::new();
        rotation.input(start, FRESH);
        let later = start + HOUR * 19;
        rotation.timeout(later);
        assert_eq!(outputs(&mut rotation).len(), 2);
        rotation.input(later, RotationEvent::Failed { roll: 0 });
        let again = rotation.next_timeout().expect("tries again");
        assert!(again <= later + Duration::from_secs(2));
        rotation.timeout(again);
        rotation.input(again, FRESH);
        assert_eq!(outputs(&mut rotation), [RotationOutput::Renew]);
        assert_eq!(rotation.next_timeout(), Some(again + HOUR * 12));
        rotation.input(again, RotationEvent::Failed { roll: 0 });
        assert_eq!(rotation.next_timeout(), Some(again + HOUR * 12), "a late failure changes nothing");
    }
}
