//! Telemetry: names, labels and sinks of metrics, logs and traces; edges and explanations.
//!
//! The types in `record`, `edge` and `why` are shared by the proxy (which makes them), the control plane (which keeps them)
//! and the API and command line (which show them). Knows no sockets: sinks write to what they are given.

mod edge;
mod flags;
mod record;

mod access_log;
mod b3;
mod context;
mod log_line;
mod metrics;
mod otlp;
mod prometheus;
mod registry;
mod reporter;
mod series;
mod tap;
mod trace;
mod zipkin;

pub mod details;
mod why;

pub use access_log::*;
pub use b3::*;
pub use context::*;
pub use edge::*;
pub use flags::*;
pub use log_line::*;
pub use metrics::*;
pub use otlp::*;
pub use prometheus::*;
pub use record::*;
pub use registry::*;
pub use reporter::*;
pub use series::*;
pub use tap::*;
pub use trace::*;
pub use why::*;
pub use zipkin::*;
