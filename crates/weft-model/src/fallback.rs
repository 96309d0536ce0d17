//! Fallback: where a request goes, or what is answered, when its backend fails.

use crate::{DirectBody, HeaderEdits, Origin, Target};
use serde::{Deserialize, Serialize};

/// The failures after which the fallback takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FallbackOn {
    /// There is no endpoint, or all of them are unhealthy or ejected.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub no_endpoint: bool,
    /// No connection could be made.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub connect_failure: bool,
    /// The connection or stream broke before an answer began.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub reset: bool,
    /// A time-out passed.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub timeout: bool,
    /// A limit of the destination was reached.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub overflow: bool,
    /// Any 5xx answer.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub five_xx: bool,
    /// These status codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
}

/// How a backend failed, after its retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendFailure {
    /// No endpoint can be used.
    NoEndpoint,
    /// No connection.
    Connect,
    /// It broke before its answer.
    Reset,
    /// Too late.
    Timeout,
    /// A limit was reached.
    Overflow,
    /// It answered with this status.
    Status(u16),
}

impl FallbackOn {
    /// What holds where nothing is written: all failures but answers.
    pub fn built_in() -> Self {
        Self { no_endpoint: true, connect_failure: true, reset: true, timeout: true, overflow: true, ..Self::default() }
    }
    /// Does the fallback take over?
    pub fn covers(&self, failure: BackendFailure) -> bool {
        match failure {
            BackendFailure::NoEndpoint => self.no_endpoint,
            BackendFailure::Connect => self.connect_failure,
            BackendFailure::Reset => self.reset,
            BackendFailure::Timeout => self.timeout,
            BackendFailure::Overflow => self.overflow,
            BackendFailure::Status(status) => self.status.contains(&status) || (self.five_xx && (500..600).contains(&status)),
        }
    }
    /// Was this very status named?
    pub fn names(&self, status: u16) -> bool {
        self.status.contains(&status)
    }
}

/// What takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "a route holds its fallback in a box")]
pub enum FallbackTo {
    /// Another backend. A request that the first may have acted on goes there only when it is idempotent, or its status was named.
    Backend(Box<Target>),
    /// A fixed answer.
    Respond {
        /// Status.
        status: u16,
        /// Body.
        body: DirectBody,
        /// Headers of the answer.
        #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
        headers: HeaderEdits,
    },
}

/// A fallback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// When.
    pub on: FallbackOn,
    /// What.
    pub to: FallbackTo,
    /// Where it was written.
    pub origin: Origin,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_answers() {
        let on = FallbackOn::built_in();
        assert!(on.covers(BackendFailure::NoEndpoint) && on.covers(BackendFailure::Timeout));
        assert!(!on.covers(BackendFailure::Status(503)), "an answer is an answer unless it is named");
        let on = FallbackOn { status: vec![404], five_xx: true, ..FallbackOn::default() };
        assert!(
            on.covers(BackendFailure::Status(404)) && on.covers(BackendFailure::Status(599)) && !on.covers(BackendFailure::Status(400))
        );
        assert!(on.names(404) && !on.names(500) && !on.covers(BackendFailure::Connect));
    }
}
