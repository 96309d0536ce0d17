//! Ejection: an endpoint that fails several times in a row is left alone for a while, longer each time.

use std::time::Duration;
use weft_model::OutlierDetection;

/// How one attempt ended, as far as the endpoint's standing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// It could not be reached, reset, or did not answer in time.
    Failed,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionChange {
    /// Nothing.
    None,
    /// The endpoint is out until then.
    Ejected {
        /// End of the ejection.
        until: Duration,
    },
}

/// The standing of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    errors_5xx: u32,
    errors_gateway: u32,
    /// How often it was ejected lately: the nth ejection lasts n times the base.
    ejections: u32,
    until: Option<Duration>,
}

impl Standing {
    pub(crate) fn is_ejected(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(crate) fn ejected_until(&self, now: Duration) -> Option<Duration> {
        self.until.filter(|until| now < *until)
    }

    /// `room`: may another endpoint be ejected? An endpoint that is already out stays out, whatever comes in late.
    pub(crate) fn observe(&mut self, policy: &OutlierDetection, outcome: Outcome, now: Duration, room: bool) -> EjectionChange {
        let (server_error, gateway_error) = match outcome {
            Outcome::Status(status) => (status >= 500, matches!(status, 502..=504)),
            Outcome::Failed => (true, true),
        };
        self.errors_5xx = if server_error { self.errors_5xx + 1 } else { 0 };
        self.errors_gateway = if gateway_error { self.errors_gateway + 1 } else { 0 };
        let reached = |limit: u32, count: u32| limit > 0 && count >= limit;
        let too_many = reached(policy.consecutive_5xx, self.errors_5xx) || reached(policy.consecutive_gateway_errors, self.errors_gateway);
        if !too_many || self.is_ejected(now) || !room {
            return EjectionChange::None;
        }
        let base = Duration::from_millis(policy.base_ejection_ms);
        // Good conduct is rewarded as in Envoy: for each interval without trouble since the last ejection, one is forgotten.
        if let Some(until) = self.until {
            let quiet = now.saturating_sub(until).as_millis() / u128::from(policy.interval_ms.max(1)).max(base.as_millis().max(1));
            self.ejections = self.ejections.saturating_sub(u32::try_from(quiet).unwrap_or(u32::MAX));
        }
        self.ejections += 1;
        let until = now + base.saturating_mul(self.ejections).min(EJECTION_MAX.max(base));
        (self.errors_5xx, self.errors_gateway, self.until) = (0, 0, Some(until));
        EjectionChange::Ejected { until }
    }
}

/// No ejection lasts longer than this, unless the base alone does (Envoy's `max_ejection_time`).
const EJECTION_MAX: Duration = Duration::from_secs(300);
