//! The mesh model and its meaning: services, workloads, identities, routes, policies, and their pure evaluators.
//!
//! Everything that Weft decides about a request is a pure function in this crate, beside the type it reads, so that the
//! proxy, `weft why`, `weft explain`, the compiler and the tests all run the same code.
//!
//! This crate does no I/O, reads no clock, draws no randomness (callers hand in a roll), and knows nothing of YAML,
//! protobuf, Kubernetes, tokio or hyper. The JSON form of its types is the body of a resource on the wire, in the
//! last-good file and in the REST API.

mod ids;
mod origin;
mod text_match;

pub mod limits;

mod service;
mod workload;

mod claims;
mod cors;
mod fallback;
mod grpc_status;
mod header_edits;
mod hedging;
mod http_route;
mod retry;
mod rewrite;
mod route_index;
mod tcp_route;

mod balancing;
mod cluster;
mod dns_cluster;
mod health_check;
mod locality;
mod outlier;
mod proxy_protocol;
mod tls;
mod tunnel;

mod expression;
mod log_format;
mod telemetry;

mod authorization;
mod external_authorization;
mod jwks;
mod peer_authentication;
mod proxy_settings;
mod request_authentication;

mod concurrency;
mod policy_scope;
mod rate_limit;

mod gateway;
mod view;

pub use authorization::*;
pub use balancing::*;
pub use claims::*;
pub use cluster::*;
pub use concurrency::*;
pub use cors::*;
pub use dns_cluster::*;
pub use expression::*;
pub use external_authorization::*;
pub use fallback::*;
pub use gateway::*;
pub use grpc_status::*;
pub use header_edits::*;
pub use health_check::*;
pub use hedging::*;
pub use http_route::*;
pub(crate) use ids::ids_error;
pub use ids::*;
pub use jwks::*;
pub use locality::*;
pub use log_format::*;
pub use origin::*;
pub use outlier::*;
pub use peer_authentication::*;
pub use policy_scope::*;
pub use proxy_protocol::*;
pub use proxy_settings::*;
pub use rate_limit::*;
pub use request_authentication::*;
pub use retry::*;
pub use rewrite::*;
pub use route_index::*;
pub use service::*;
pub use tcp_route::*;
pub use telemetry::*;
pub use text_match::*;
pub use tls::*;
pub use tunnel::*;
pub use view::*;
pub use workload::*;

/// Serde helpers for compact JSON: a field with its default value is left out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
