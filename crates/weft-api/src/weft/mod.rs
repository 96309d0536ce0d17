//! Weft's own resources.

mod workload;

pub use workload::*;
