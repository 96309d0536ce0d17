//! Versioned resources with watch, history and audit over SQLite: what a control plane must remember after `kill -9`.
//!
//! A write that returned is on disk (WAL with `synchronous=FULL`). One writer connection, a few readers.
//! The store keeps text and numbers; it knows nothing of what a resource means, and reads no clock: callers hand in `now_ms`.

mod open;

mod resources;

mod generations;
mod tokens;
mod workloads;

mod audit;

mod error;

pub use audit::AuditRow;
pub use error::StoreError;
pub use generations::GenerationRow;
pub use open::{DATABASE_FILE, Opened, Store};
pub use resources::{Action, Change, HistoryRow, Outcome, ResourceKey, ResourceRow, Source};
pub use tokens::{TokenRefusal, TokenRow};
pub use workloads::WorkloadRow;
