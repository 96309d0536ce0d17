//! Weft's own wire types, generated from `proto/`. `cargo xtask generate` writes `generated.rs`; it is checked in.
//!
//! Knows nothing of what the messages mean: that is `weft-xds`.

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::large_futures,
    unreachable_pub,
    elided_lifetimes_in_paths,
    missing_docs,
    reason = "generated code"
)]
#[rustfmt::skip]
mod generated;

/// The messages and services of package `weft.v1`.
pub mod v1 {
    pub use crate::generated::*;
}

/// Version of the protocol in `Hello` and `Welcome`.
pub const PROTOCOL: u32 = 1;

/// The bytes of a resource's body: shared, never copied between the proxies that are sent the same value.
pub use prost::bytes::Bytes;
