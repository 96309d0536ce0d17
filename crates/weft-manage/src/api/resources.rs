//! The configuration: resources as text, applying and deleting.

use crate::{ApiError, ManageState};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::Diagnostic;
use weft_control::{CatalogueEntry, DeleteOutcome};

/// Stands for no namespace in a path.
const NO_NAMESPACE: &str = "-";

#[derive(Debug, Deserialize)]
pub(crate) struct Filter {
    kind: Option<String>,
    namespace: Option<String>,
}

pub(crate) async fn list(State(state): State<ManageState>, Query(filter): Query<Filter>) -> Json<Vec<Value>> {
    let diagnostics = state.control.diagnostics();
    let fits = |entry: &&CatalogueEntry| {
        filter.kind.as_deref().is_none_or(|kind| kind.is_empty() || is_kind(entry, kind))
            && filter.namespace.as_deref().is_none_or(|namespace| namespace.is_empty() || entry.row.key.namespace == namespace)
    };
    let entries = state.control.resources().await;
    Json(entries.iter().filter(fits).map(|entry| view(entry, &diagnostics)).collect())
}

pub(crate) async fn one(State(state): State<ManageState>, Path(path): Path<(String, String, String)>) -> Result<Json<Value>, ApiError> {
    let entry = find(&state, &path).await?;
    let resource = view(&entry, &state.control.diagnostics());
    Ok(Json(json!({ "resource": resource, "yaml": entry.row.yaml, "firstLine": entry.row.line })))
}

pub(crate) async fn delete(State(state): State<ManageState>, Path(path): Path<(String, String, String)>) -> Result<Response, ApiError> {
    let entry = find(&state, &path).await?;
    let object = entry.document.origin.object();
    match state.control.delete(&entry.row.key).await? {
        DeleteOutcome::Deleted(result) => Ok(Json(result).into_response()),
        DeleteOutcome::Missing => Err(ApiError::not_found(object)),
        DeleteOutcome::HeldByFile { file, line } => {
            let message = format!("{object} comes from the watched file {file} and would come back");
            Err(ApiError::new(StatusCode::CONFLICT, "held-by-file", message).object(object).line(line).fix(format!("delete it in {file}")))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Apply {
    source: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn apply(State(state): State<ManageState>, Query(query): Query<Apply>, body: Bytes) -> Result<Response, ApiError> {
    let text = std::str::from_utf8(&body).map_err(|error| {
        let line = body.get(..error.valid_up_to()).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1;
        ApiError::bad_request("the text is not UTF-8").line(u32::try_from(line).unwrap_or(u32::MAX)).fix("save the file as UTF-8")
    })?;
    let result = state.control.apply(text, query.source.as_deref().unwrap_or_default(), query.dry_run).await?;
    let status = if result.refused() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok((status, Json(result)).into_response())
}

/// `Gateway`, any case; `Gateway.networking.istio.io` tells kinds of one name apart.
fn is_kind(entry: &CatalogueEntry, kind: &str) -> bool {
    let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
    entry.row.key.kind.eq_ignore_ascii_case(kind) && group.is_none_or(|group| entry.row.key.group == group)
}

async fn find(state: &ManageState, (kind, namespace, name): &(String, String, String)) -> Result<CatalogueEntry, ApiError> {
    let namespace = if namespace == NO_NAMESPACE { "" } else { namespace.as_str() };
    let fits = |entry: &CatalogueEntry| is_kind(entry, kind) && entry.row.key.namespace == namespace && entry.row.key.name == *name;
    let mut found: Vec<CatalogueEntry> = state.control.resources().await.into_iter().filter(fits).collect();
    let object = if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
    match (found.pop(), found.pop()) {
        (Some(one), None) => Ok(one),
        (Some(one), Some(other)) => {
            let message = format!("there are two resources {object}: of {} and of {}", one.row.key.group, other.row.key.group);
            let fix = format!("name the group: {}.{}", one.row.key.kind, one.row.key.group);
            Err(ApiError::new(StatusCode::CONFLICT, "ambiguous", message).object(object).fix(fix))
        }
        (None, _) => Err(ApiError::not_found(object).fix("see `weft get` for those that there are")),
    }
}

fn view(entry: &CatalogueEntry, diagnostics: &[Diagnostic]) -> Value {
    let origin = &entry.document.origin;
    let own = |d: &&Diagnostic| (&d.origin.kind, &d.origin.namespace, &d.origin.name) == (&origin.kind, &origin.namespace, &origin.name);
    json!({
        "apiVersion": entry.row.api_version,
        "kind": entry.row.key.kind,
        "namespace": entry.row.key.namespace,
        "name": entry.row.key.name,
        "diagnostics": diagnostics.iter().filter(own).collect::<Vec<_>>(),
        "origin": origin,
        "updatedUnixMs": entry.row.updated_ms,
    })
}
