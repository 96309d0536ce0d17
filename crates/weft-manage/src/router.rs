//! The routes: one line per path of `openapi/weft.json`.

use crate::{ManageState, api, events, guard, page, tap};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post, put},
};

/// Largest body, in bytes: the parser's own limit is a little lower.
const BODY_BYTES_MAX: usize = 32 << 20;

/// The API below `/api/v1`, and the page everywhere else.
pub fn router(state: ManageState) -> Router {
    let guarded = Router::new()
        .route("/health", get(api::mesh::health))
        .route("/graph", get(api::mesh::graph))
        .route("/events", get(events::events))
        .route("/tap", get(tap::tap))
        .route("/services", get(api::services::list))
        .route("/services/{namespace}/{name}", get(api::services::one))
        .route("/workloads", get(api::workloads::list))
        .route("/requests", get(api::requests::list))
        .route("/requests/last", get(api::requests::last))
        .route("/requests/{id}", get(api::requests::one))
        .route("/resources", get(api::resources::list))
        .route("/resources/{kind}/{namespace}/{name}", get(api::resources::one).delete(api::resources::delete))
        .route("/apply", post(api::resources::apply))
        .route("/diagnostics", get(api::mesh::diagnostics))
        .route("/explain", post(api::explain::explain))
        .route("/proxies", get(api::proxies::list))
        .route("/proxies/{id}/config", get(api::proxies::config))
        .route("/proxies/{id}/log-level", put(api::proxies::log_level))
        .route("/join-tokens", post(api::workloads::join_token))
        .route("/checks", get(api::mesh::checks))
        .route("/version", get(api::mesh::version))
        .route("/shutdown", post(api::mesh::shutdown))
        .fallback(api::unknown)
        .method_not_allowed_fallback(api::wrong_method)
        // Outermost: an unknown path below the API is not told to strangers either.
        .layer(from_fn_with_state(state.clone(), guard::token));
    Router::new()
        .route("/api/v1/sign-in", post(page::sign_in))
        .nest("/api/v1", guarded)
        .fallback(page::page)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(page::security_headers))
        .layer(from_fn(guard::host))
        .with_state(state)
}
