//! HTTP: the way of a request. Read `serve` first; the other files are its steps, in order of use.

mod serve;

mod exchange;
mod normalize;
mod reject;
mod trust;

mod body;
mod grpc_messages;
mod headers;
mod trace;

mod hedge;
mod pool;
mod rewrite;
mod upstream;

mod grpc_web;
mod mirror;
mod side_call;
mod tunnel;
mod websocket;

mod connection;
mod http2;

pub(crate) use body::Incoming;
pub(crate) use connection::{Connection, Scope, serve_http};
pub(crate) use exchange::Exchange;
pub(crate) use headers::{PEER, peer_of, peer_value};
pub(crate) use http2::Http2;
pub(crate) use normalize::Target;
pub use normalize::fuzz_path;
pub(crate) use pool::{HttpVersion, Pool};
pub(crate) use reject::Reject;
pub(crate) use rewrite::rewrite_for;
pub(crate) use serve::{inner_version, request_head};
pub(crate) use side_call::{SideAnswer, SideCall, side_call};
pub(crate) use upstream::{Course, Head, ask, tls_record};
