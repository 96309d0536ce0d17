//! The Kubernetes Gateway API, as its users write it.

mod filter;
mod gateway;
mod grpc_route;
mod http_route;
mod reference_grant;
mod shared;

pub use filter::*;
pub use gateway::*;
pub use grpc_route::*;
pub use http_route::*;
pub use reference_grant::*;
pub use shared::*;
