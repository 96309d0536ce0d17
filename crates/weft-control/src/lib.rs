//! The control plane: sources → compile → sessions → status.
//!
//! Resources come from watched files and from the API, live in the store, and are compiled into a [`CompiledMesh`] that sessions
//! follow through [`MeshWatch`]. What proxies report (presence, acknowledgements, edges, records) is kept here for the API.
//! Knows nothing of HTTP servers and pages (that is `weft-manage`) and of how a request is served (that is `weft-proxy`).

mod mesh_watch;

mod proxies;
mod registry;
mod tokens;

mod edges;
mod records;
mod telemetry;

pub use edges::{EdgeNode, EdgeSum};
pub use mesh_watch::{CompiledMesh, MeshWatch};
pub use proxies::{CommandError, Nack, Proxies, ProxyCommand, ProxySession, ProxyStatus, ResourceStatus};
pub use records::{RecordFilter, StatusFilter};
pub use registry::{AWAY_GRACE_MS, Presence, ProxyRole, RESTART_GRACE_MS, Registry, RegistryEntry};
pub use telemetry::Telemetry;
pub use tokens::{JoinError, JoinGrant, JoinToken, TOKEN_TTL_S_DEFAULT, TOKEN_TTL_S_MAX, Tokens};
