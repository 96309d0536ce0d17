//! Choosing an endpoint: balancers, consecutive-error ejection, limits and retry budgets, as pure machines.
//!
//! Nothing here reads a clock, draws a random number or knows a socket: `now` and `roll` are handed in, so that every
//! decision can be repeated in a test. One [`Balancer`] stands for one cluster on one worker.

mod balancer;
mod limits;
mod outlier;

mod adaptive;
mod admission;
mod bulkhead;
mod key_table;
mod lease;
mod rate_limit;

pub use adaptive::{AdaptiveLimit, Answer};
pub use admission::AdmissionControl;
pub use balancer::{Balancer, EndpointId, EndpointState, NoEndpoint, Pick};
pub use bulkhead::{Compartments, Full};
pub use lease::{LEASE_KEYS_MAX, LeaseAsk, LeaseBook, LeaseGrant, LeaseHolder, Leased, Patience};
pub use limits::{Counters, Overflow, RetryGate, Slot};
pub use outlier::{EjectionChange, Outcome};
pub use rate_limit::{Buckets, Taken};
