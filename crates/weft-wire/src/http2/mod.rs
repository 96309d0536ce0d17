//! HTTP/2 (RFC 9113), both sides, for single-threaded workers.
//!
//! `frame`, `hpack` and `head` are bytes ⇄ values; `connection`, `receive` and `send` are the protocol without I/O; `wire`,
//! `server` and `client` drive it over a socket. All streams of a connection share one task, one state and one write: nothing
//! is locked, and a message passes no channel. Nothing here knows of routes or policies.

mod body;
mod client;
mod connection;
mod error;
mod frame;
mod fuzz;
mod guard;
mod head;
mod hpack;
mod limits;
mod options;
mod ready;
mod receive;
mod send;
mod server;
mod settings;
mod streams;
mod tunnel;
mod wire;

pub use body::Body;
pub use client::{Connection, SendError, SendRequest, Sending, handshake};
pub use error::{Error, ErrorCode};
pub use frame::PREFACE;
#[doc(hidden)]
pub use fuzz::{fuzz_frames, fuzz_hpack};
pub use head::Protocol;
pub use options::Options;
pub use server::{Serving, serve};
pub use tunnel::{Tunnel, TunnelBody, TunnelWriter, tunnel};
