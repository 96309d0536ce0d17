//! Workloads, and the tokens with which they join.

use crate::{ApiError, ManageState};
use axum::{Json, extract::State, extract::rejection::JsonRejection};
use serde_json::{Value, json};
use weft_control::{JoinGrant, Presence, RegistryEntry, port_view};

pub(crate) async fn list(State(state): State<ManageState>) -> Json<Vec<Value>> {
    let entries = state.control.workloads();
    Json(entries.iter().filter(|entry| entry.presence != Presence::Absent).map(view).collect())
}

fn view(entry: &RegistryEntry) -> Value {
    let workload = &entry.workload;
    json!({
        "id": workload.id,
        "name": workload.name,
        "namespace": workload.namespace,
        "service": workload.canonical_service(),
        "version": workload.canonical_revision(),
        "identity": workload.identity,
        "labels": workload.labels,
        "ports": entry.ports.iter().map(|port| port_view(port.port, port.protocol, &port.name)).collect::<Vec<_>>(),
        "healthy": entry.healthy,
        "connected": entry.presence == Presence::Present,
        "role": entry.role,
        "origin": workload.origin,
        "registeredUnixMs": entry.since_ms,
    })
}

pub(crate) async fn join_token(
    State(state): State<ManageState>,
    body: Result<Json<JoinGrant>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(grant) = body.map_err(|error| ApiError::bad_request(error.body_text()).fix("send a JoinGrant of openapi/weft.json"))?;
    let token = state.control.mint_join_token(&grant).await?;
    Ok(Json(json!({
        "token": token.token,
        "expiresUnixMs": token.expires_unix_ms,
        "control": state.control.address().to_string(),
        "bundlePem": state.control.bundle_pem(),
    })))
}
