//! The data plane: snapshot, connection and request path, roles.
//!
//! One program for every role. Bytes come in at a listener (`inbound`, `outbound`, `gateway`), become a request in
//! `http::serve` or a connection in `tcp::serve`, are judged against one immutable [`Snapshot`], and leave through an
//! upstream pool. What a policy means is decided in `weft-model`; this crate decides only when it is applied.

pub mod control;
pub mod limits;
mod shared;
pub mod snapshot;

pub use shared::Shared;
pub use snapshot::{Rejection, Snapshot};
