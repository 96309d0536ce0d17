//! The mesh as a user runs it: real processes, real sockets, on loopback.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bad_input;
mod bookinfo;
mod commands;
mod harness;
mod survival;
mod tour;
