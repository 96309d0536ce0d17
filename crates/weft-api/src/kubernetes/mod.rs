//! The parts of Kubernetes' own resources that declare services and workloads.

mod service;
mod workload;

pub use service::*;
pub use workload::*;
