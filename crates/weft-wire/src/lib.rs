//! Bytes: listeners, original destination, protocol detection, TLS, HTTP/1, forwarding, DNS messages, and the capture of a program's network.
//!
//! This crate knows nothing of routes and policies. Its callers get streams, proven [`weft_pki::Peer`]s and texts; no type of the
//! TLS library leaves it. Whatever waits takes a deadline from its caller.

pub mod keepalive;
pub mod listen;
pub mod proxy_protocol;
pub mod read_ahead;
pub mod sniff;
pub mod stream;
pub mod tls;

pub mod forward;
pub mod http2;

pub mod http1;

pub mod capture;
pub mod dns;
pub mod handover;
pub mod memory;
pub mod resolve;
pub mod resources;

pub mod limits;
