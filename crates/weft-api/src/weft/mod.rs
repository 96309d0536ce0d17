//! Weft's own resources.

mod backend_policy;
mod concurrency;
mod rate_limit;
mod route_policy;
mod shared;
mod workload;

pub use backend_policy::*;
pub use concurrency::*;
pub use rate_limit::*;
pub use route_policy::*;
pub use shared::*;
pub use workload::*;
