//! How a view travels: view ⇄ wire, and the two ends of a session as machines without I/O.
//!
//! The server end ([`ServerSession`]) is fed requests and projections and sends differences; the client end ([`ClientSession`])
//! is fed responses and keeps a view. Neither opens a socket, reads a clock or spawns: drivers in `weft-control` and `weft-proxy`
//! do, and hand in `now`. The rules of a session:
//!
//! * One update is under way at a time; what happens meanwhile is joined into the next one.
//! * Every update is answered. A refused resource keeps its last good form at the proxy, is shown with its field in the control
//!   plane's status, and is not sent again until it changes.
//! * A proxy that connects says what it has, and is sent the difference. Until the control plane has loaded its configuration
//!   it sends nothing, so that its restart never takes anything away.
//! * Both ends send heartbeats, and give the other up after a silence.

mod codec;
mod problem;

mod client_session;
mod server_session;

pub mod limits;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod simulation;

pub use client_session::{ClientEvent, ClientOutput, ClientSession, Registration};
pub use codec::{Refusal, decode, decode_root, encode, encode_root};
pub use problem::Problem;
pub use server_session::{Hello, Projected, RefusedVersion, ResourceState, ServerEvent, ServerOutput, ServerSession};

/// Why a session ends. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Nothing was heard for [`limits::SILENCE_MAX`].
    #[error("the other side has been silent for {} s", limits::SILENCE_MAX.as_secs())]
    Silent,
    /// The other side broke the rules.
    #[error("the other side broke the protocol: {0}")]
    Protocol(String),
    /// The other side speaks another version.
    #[error("the other side speaks protocol {theirs}, this side {ours}: run the same version of weft on both")]
    Version {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
}
