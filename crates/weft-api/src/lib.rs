//! The written form of every resource that Weft reads, and parsing with line numbers.
//!
//! Text becomes [`Document`]s and [`Diagnostic`]s by [`parse`], which never fails and never panics: one bad resource harms only
//! itself, and what is not understood is said with its file and line. This crate knows what a user may *write*; what it means is
//! decided in `weft-compile` and `weft-model`. It does no I/O and knows no Kubernetes client.

pub mod diag;
pub mod document;
pub mod limits;

#[macro_use]
mod read;
mod kinds;
mod node;
mod parse;
mod yaml;

pub mod gateway_api;
pub mod istio;
pub mod kubernetes;
pub mod weft;

pub use diag::{Diagnostic, Severity};
pub use document::{Document, ObjectMeta, Parsed, Resource};
pub use parse::{parse, parse_at, parse_bytes};
pub use read::{Spanned, parse_duration};
