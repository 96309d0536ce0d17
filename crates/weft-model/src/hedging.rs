//! Hedging: a second attempt while the first is still awaited, for requests that may be sent twice.

use serde::{Deserialize, Serialize};

/// When another attempt begins beside the ones under way. The first answer wins; the others are cancelled.
///
/// Only for requests with an idempotent method whose body is empty or already at hand. Each takes a place in the retry budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hedging {
    /// Wait before each further attempt, in milliseconds.
    pub delay_ms: u64,
    /// In place of `delay_ms`, once enough answers were seen: the time within which this share of them came, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<u8>,
    /// Further attempts that may be under way at once.
    pub attempts: u32,
}
