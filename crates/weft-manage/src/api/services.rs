//! Services.

use super::{Window, requests::summary};
use crate::{ApiError, ManageState};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Value, json};
use weft_control::ServiceView;

pub(crate) async fn list(State(state): State<ManageState>, Query(window): Query<Window>) -> Json<Vec<ServiceView>> {
    Json(state.control.services(window.seconds()))
}

pub(crate) async fn one(
    State(state): State<ManageState>,
    Path((namespace, name)): Path<(String, String)>,
    Query(window): Query<Window>,
) -> Result<Json<Value>, ApiError> {
    let missing = || ApiError::not_found(format!("service {namespace}/{name}")).fix("see `weft get services` for those that there are");
    let detail = state.control.service(&namespace, &name, window.seconds()).ok_or_else(missing)?;
    Ok(Json(json!({
        "service": detail.service,
        "callers": detail.callers,
        "callees": detail.callees,
        "versions": detail.versions,
        "endpoints": detail.endpoints,
        "identities": detail.identities,
        "policies": detail.policies,
        "routes": detail.routes,
        "failures": detail.failures.iter().map(|record| summary(record, state.control.record(&record.id).len())).collect::<Vec<_>>(),
    })))
}
