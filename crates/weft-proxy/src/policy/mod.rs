//! Policies: when they are applied. What they mean is in `weft-model`.

mod authorization;

pub(crate) use authorization::{Caller, PLAIN_TEXT, Permit, authorize, authorize_at_gateway};
