//! The management plane on one machine: the REST API of `openapi/weft.json`, sign-in, live events, and the embedded page.
//!
//! Every path below `/api/v1` but `sign-in` needs the token of `weft up`, as a bearer token or as the session cookie that the
//! page got for it; every request needs a Host header that names this machine, so that no web site can reach the API through a
//! visitor's browser. Handlers only translate: what is asked is answered by `weft-control`.

mod router;
mod state;

mod error;
mod guard;
mod serve;
mod session;

mod events;
mod page;
mod tap;

mod api;

pub use error::ApiError;
pub use router::router;
pub use serve::serve;
pub use state::ManageState;
