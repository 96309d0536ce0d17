//! Choosing an endpoint: balancers, consecutive-error ejection, limits and retry budgets, as pure machines.
//!
//! Nothing here reads a clock, draws a random number or knows a socket: `now` and `roll` are handed in, so that every
//! decision can be repeated in a test. One [`Balancer`] stands for one cluster on one worker.

mod balancer;
mod limits;
mod outlier;

pub use balancer::{Balancer, EndpointId, EndpointState, NoEndpoint, Pick};
pub use limits::{Counters, Overflow, RetryGate, Slot};
pub use outlier::{EjectionChange, Outcome};
