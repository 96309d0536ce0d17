//! Policies: when they are applied. What they mean is in `weft-model`.

mod admission;
mod authorization;
mod balancing;
mod concurrency;
mod ext_authz_messages;
mod external_authorization;
mod rate_limit;
mod rate_limit_service;
mod request_authentication;

pub(crate) use admission::Admission;
pub(crate) use admission::{Admitted, Covered, Limited, Standing, admit};
pub(crate) mod cors;
mod deadline;
pub(crate) mod fallback;
mod fault;

pub(crate) use authorization::{Caller, Judgement, PLAIN_TEXT, Permit, authorize, authorize_at_gateway};
pub(crate) use balancing::Affinity;
pub(crate) use deadline::Deadline;
pub(crate) use external_authorization::{Refusal, ask_for_route, ask_providers};
pub(crate) use fallback::SecondBackend;
pub(crate) use fault::fault;
pub(crate) use request_authentication::{Authenticated, TokenRules, authenticate};
