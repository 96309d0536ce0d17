//! Resources → mesh model + diagnostics ([`link`]); mesh → view of one proxy ([`project`]); and why a request goes where it
//! goes ([`explain`]). All pure: no I/O, no clock, no randomness, ordered collections only.
//!
//! Linking never fails. One bad resource harms only itself, and each thing that is left out or probably not meant is a
//! [`weft_api::Diagnostic`] with its line and, where it is known, what to do.

mod inputs;
mod link;
mod mesh;

pub mod diag;

mod candidates;
mod catalog;
mod service_entry;
mod vip;

mod client_tls;
mod cors;
mod delegate;
mod destination_rule;
mod http_rules;
mod istio_http;
mod retry;
mod route_defaults;
mod route_policy;
mod virtual_service;

mod api_route;
mod gateway;
mod gateway_api;
mod gateway_tls;
mod istio_gateway;
mod reference_grant;
mod secret;
mod tcp_route;

mod authorization;
mod authorization_rule;
mod backend_policy;
mod balancing;
mod cross_checks;
mod mesh_config;
mod peer_authentication;
mod request_authentication;
mod telemetry;
mod telemetry_provider;

mod concurrency;
mod policy_attachment;
mod rate_limit;

mod explain;
mod match_text;
mod project;

pub use explain::*;
pub use gateway::{GATEWAY_NAME_LABEL, GATEWAY_TCP_HOST};
pub use inputs::*;
pub use link::{Linked, link};
pub use match_text::{describe_match, describe_matches};
pub use mesh::*;
pub use project::{Projection, ProxyIdentity, ProxyRole, RootState, project};
pub use request_authentication::KeySource;
