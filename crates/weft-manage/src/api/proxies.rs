//! Proxies: their state, what they should have, and their log level.

use crate::{ApiError, ManageState};
use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_control::ProxyStatus;

pub(crate) async fn list(State(state): State<ManageState>) -> Json<Vec<ProxyStatus>> {
    Json(state.control.proxies())
}

pub(crate) async fn config(State(state): State<ManageState>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let missing = || ApiError::not_found(format!("proxy {id}")).fix("see `weft proxy status` for those that there are");
    let (generation, values) = state.control.proxy_config_json(&id).ok_or_else(missing)?;
    Ok(Json(json!({ "id": id, "generation": generation, "values": values })))
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogLevel {
    level: String,
}

pub(crate) async fn log_level(
    State(state): State<ManageState>,
    Path(id): Path<String>,
    body: Result<Json<LogLevel>, JsonRejection>,
) -> Result<Json<LogLevel>, ApiError> {
    let fix = "send {\"level\": \"debug\"}: error, warn, info, debug, trace, or a filter such as weft_proxy=debug";
    let Json(level) = body.map_err(|error| ApiError::bad_request(error.body_text()).fix(fix))?;
    if level.level.is_empty() || level.level.len() > 256 {
        return Err(ApiError::bad_request("a log level has 1 to 256 characters").fix(fix));
    }
    state.control.set_log_level(&id, &level.level)?;
    Ok(Json(level))
}
