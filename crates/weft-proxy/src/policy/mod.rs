//! Policies: when they are applied. What they mean is in `weft-model`.

mod admission;
mod authorization;
mod concurrency;
mod rate_limit;

pub(crate) use admission::Admission;
pub(crate) use admission::{Admitted, Covered, Limited, Standing, admit};
pub(crate) use authorization::{Caller, PLAIN_TEXT, Permit, authorize, authorize_at_gateway};
