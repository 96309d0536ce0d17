//! The parts of Kubernetes' own resources that declare services and workloads.

mod config_map;
mod secret;
mod service;
mod workload;

pub use config_map::*;
pub use secret::*;
pub use service::*;
pub use workload::*;
