//! The control plane: sources → compile → sessions → status.
//!
//! Resources come from watched files and from the API, live in the store, and are compiled into a [`CompiledMesh`] that sessions
//! follow through [`MeshWatch`]. What proxies report (presence, acknowledgements, edges, records) is kept here for the API.
//! Knows nothing of HTTP servers and pages (that is `weft-manage`) and of how a request is served (that is `weft-proxy`).

mod control;
mod drive;
mod query;
mod server;

mod calendar;
mod catalogue;
mod engine;
mod files;
mod mesh_watch;

mod proxies;
mod registry;
mod tokens;

mod edges;
mod records;
mod telemetry;

mod checks;
mod graph;
mod health;
mod journal;
mod key_sets;
mod limits;
mod service_routes;
mod services;
mod status;
mod taps;
mod traffic;

pub mod diag;

pub use catalogue::CatalogueEntry;
pub use checks::{Check, CheckSection, CheckStatus, Checks};
pub use control::{Control, ControlConfig, Parts, StartError};
pub use edges::{EdgeNode, EdgeSum};
pub use engine::{AppliedResource, ApplyResult, DeleteOutcome};
pub use graph::{EdgeVersion, Graph, GraphEdge, GraphNode, NodeKind, NodeVersion};
pub use health::{Counts, Health, MeshStatus};
pub use journal::{JournalEntry, JournalKind};
pub use key_sets::FetchFrom;
pub use mesh_watch::{CompiledMesh, MeshWatch};
pub use proxies::{CommandError, Nack, Proxies, ProxyCommand, ProxyProblem, ProxySession, ProxyStatus, ResourceStatus};
pub use query::{WINDOW_S_DEFAULT, WINDOW_S_MAX};
pub use records::{RecordFilter, StatusFilter};
pub use registry::{AWAY_GRACE_MS, Presence, ProxyRole, RESTART_GRACE_MS, Registry, RegistryEntry};
pub use services::{
    AppliedPolicy, RouteDestination, ServiceDetail, ServiceEndpointView, ServicePortView, ServiceRoute, ServiceVersion, ServiceView,
    port_view,
};
pub use taps::{Tap, TapError, TapRequest, Taps};
pub use telemetry::Telemetry;
pub use tokens::{JoinError, JoinGrant, JoinToken, TOKEN_TTL_S_DEFAULT, TOKEN_TTL_S_MAX, Tokens};
pub use traffic::{HealthLevel, REQUESTS_TO_JUDGE_MIN, Traffic};
pub use weft_store::{ResourceKey, ResourceRow, Source, StoreError, TokenRefusal};
