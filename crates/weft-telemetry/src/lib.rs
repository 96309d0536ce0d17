//! Telemetry: names, labels and sinks of metrics, logs and traces; edges and explanations.
//!
//! The types in `record`, `edge` and `why` are shared by the proxy (which makes them), the control plane (which keeps them)
//! and the API and command line (which show them). Knows no sockets: sinks write to what they are given.

mod edge;
mod flags;
mod record;

pub use edge::*;
pub use flags::*;
pub use record::*;
