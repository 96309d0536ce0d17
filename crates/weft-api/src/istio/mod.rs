//! Istio's resources, as their users write them.

mod authorization;
mod balancing;
mod destination_rule;
mod gateway;
mod mesh_config;
mod peer_authentication;
mod request_authentication;
mod service_entry;
mod shared;
mod telemetry;
mod virtual_service;
mod workload_entry;

pub use authorization::*;
pub use balancing::*;
pub use destination_rule::*;
pub use gateway::*;
pub use mesh_config::*;
pub use peer_authentication::*;
pub use request_authentication::*;
pub use service_entry::*;
pub use shared::*;
pub use telemetry::*;
pub use virtual_service::*;
pub use workload_entry::*;
