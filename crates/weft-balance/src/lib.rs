//! Choosing an endpoint: balancers, hash tables, ejection, health, limits and retry budgets, as pure machines.
//!
//! Nothing here reads a clock, draws a random number or knows a socket: `now` and `roll` are handed in, so that every
//! decision can be repeated in a test. A [`Plan`] is what a cluster's endpoints are at the moment; it is made off the request path
//! and shared. A [`Balancer`] chooses among them for one worker; [`Standings`], [`Counters`] and [`RetryGate`] are one for the proxy.

mod balancer;
mod health_check;
mod latency;
mod limits;
mod plan;
mod standing;
mod table;

mod adaptive;
mod admission;
mod bulkhead;
mod key_table;
mod lease;
mod overload;
mod rate_limit;

pub use adaptive::{AdaptiveLimit, Answer};
pub use admission::AdmissionControl;
pub use balancer::{Balancer, EndpointState, NoEndpoint, Pick};
pub use bulkhead::{Compartments, Full};
pub use health_check::{Checker, Verdict};
pub use latency::Latency;
pub use lease::{LEASE_KEYS_MAX, LeaseAsk, LeaseBook, LeaseGrant, LeaseHolder, Leased, Patience};
pub use limits::{Counters, Overflow, RetryGate, Slot, WorkerRequests};
pub use overload::Level;
pub use plan::{Host, Plan};
pub use rate_limit::{Buckets, Taken};
pub use standing::{EjectionChange, EndpointId, Outcome, Standing, Standings};
