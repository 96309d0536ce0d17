//! The data plane: snapshot, connection and request path, roles.
//!
//! One program for every role. Bytes come in at a listener (`inbound`, `outbound`, `gateway`), become a request in
//! `http::serve` or a connection in `tcp::serve`, are judged against one immutable [`Snapshot`], and leave through an
//! upstream pool. What a policy means is decided in `weft-model`; this crate decides only when it is applied.

mod proxy;
mod side;
mod start;

mod accept;
mod destination;
mod detection;
mod dial;
mod edge;
mod gateway;
mod health_check;
mod http;
mod policy;
mod tap;
mod tcp;

pub mod snapshot;
mod upstream;
mod worker;

pub mod control;
mod shared;

mod admin;

mod config;
mod edges;
mod handover;
mod otlp;
mod overload;
mod program;
mod telemetry;

mod names;
mod net;
mod pem;

pub mod limits;

#[doc(hidden)]
pub use crate::http::fuzz_path;
pub use config::{ExplicitListener, GatewayPorts, InboundSocket, LogLevelSetter, ProxyConfig, Role, SetLogLevel};
pub use gateway::{ClosedPort, GatewayStatus, PortStates};
pub use handover::Listening;
pub use names::Names;
pub use overload::OverloadLimits;
pub use program::Program;
pub use proxy::{ProxyHandle, address_of, serve};
pub use shared::Shared;
pub use snapshot::{Rejection, Snapshot};
pub use start::{Proxy, ProxyError};
pub use tap::Taps;
pub use telemetry::AccessLog;
