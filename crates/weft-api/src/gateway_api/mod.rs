//! The Kubernetes Gateway API, as its users write it.

mod backend_tls_policy;
mod filter;
mod gateway;
mod grpc_route;
mod http_route;
mod reference_grant;
mod shared;
mod tcp_route;

pub use backend_tls_policy::*;
pub use filter::*;
pub use gateway::*;
pub use grpc_route::*;
pub use http_route::*;
pub use reference_grant::*;
pub use shared::*;
pub use tcp_route::*;
