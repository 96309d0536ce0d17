//! What the standard library lacks for Weft: tasks with an owner, drain, backoff, and the one place that reads a clock.
//!
//! This crate knows nothing of meshes. It depends on no other crate of the workspace.

pub mod clock;

mod backoff;
mod drain;
mod tasks;

pub use backoff::Backoff;
pub use drain::{Drain, DrainTrigger, DrainWatch, Drained};
pub use tasks::{Spawner, Tasks};
