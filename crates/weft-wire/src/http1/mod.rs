//! HTTP/1.0 and 1.1 (RFC 9112), both sides, for one thread.
//!
//! The decisions are pure functions over bytes ([`head`], `framing`, `chunk`, `write`); a thin driver moves bytes between them and a
//! stream. An idle connection holds no buffer, a request touches no timer, head and begin of a body go out in one write, and a
//! client's connection is driven by the request that uses it. ADR 0005 says why this is not a library's.

mod body;
mod chunk;
mod client;
mod date;
mod framing;
pub mod head;
pub mod limits;
mod link;
mod names;
mod server;
pub(crate) mod spare;
mod timer;
pub mod whole;
mod write;

pub use body::{Body, OnUpgrade};
pub use client::{ClientOptions, Connection, SendError, SendFailure, Sending, Spawn};
pub use framing::Framing;
pub use head::{HeadLimits, Malformed, TargetRule};
pub use link::BodyError;
pub use server::{Closing, ServeError, ServerOptions, serve};
