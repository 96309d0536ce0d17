//! Weft's own resources.

mod concurrency;
mod rate_limit;
mod shared;
mod workload;

pub use concurrency::*;
pub use rate_limit::*;
pub use shared::*;
pub use workload::*;
