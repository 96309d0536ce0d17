//! The parts of Kubernetes' own resources that declare services and workloads.

mod secret;
mod service;
mod workload;

pub use secret::*;
pub use service::*;
pub use workload::*;
