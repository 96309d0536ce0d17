//! The whole mesh: health, graph, findings, checks, and its end.

use super::Window;
use crate::ManageState;
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use weft_control::{Checks, Graph, Health};

pub(crate) async fn health(State(state): State<ManageState>, Query(window): Query<Window>) -> Json<Health> {
    Json(state.control.health(window.seconds()).0)
}

pub(crate) async fn graph(State(state): State<ManageState>, Query(window): Query<Window>) -> Json<Graph> {
    Json(state.control.graph(window.seconds()))
}

pub(crate) async fn diagnostics(State(state): State<ManageState>) -> Json<Value> {
    Json(json!({ "diagnostics": state.control.diagnostics() }))
}

pub(crate) async fn checks(State(state): State<ManageState>) -> Json<Checks> {
    Json(state.control.checks().await)
}

pub(crate) async fn version(State(state): State<ManageState>) -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "trustDomain": state.control.trust_domain() }))
}

pub(crate) async fn shutdown(State(state): State<ManageState>) -> StatusCode {
    (state.stop)();
    StatusCode::ACCEPTED
}
