//! Requests, and why they ended as they did.

use crate::{ApiError, ManageState};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};
use weft_control::RecordFilter;
use weft_telemetry::{Reporter, RequestRecord};

/// Requests listed unless asked otherwise.
const LIMIT_DEFAULT: usize = 50;
/// Most requests listed.
const LIMIT_MAX: usize = 1_000;
/// Records looked through for one request of the list: a request leaves a few on its way.
const RECORDS_PER_REQUEST: usize = 16;

#[derive(Debug, Deserialize)]
pub(crate) struct Filter {
    status: Option<String>,
    service: Option<String>,
    limit: Option<usize>,
}

impl Filter {
    fn read(&self, limit: usize) -> Result<RecordFilter, ApiError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let status = given(&self.status).map(|text| text.parse()).transpose();
        let status = status.map_err(|message: String| ApiError::bad_request(message).fix("for example status=5xx"))?;
        Ok(RecordFilter { status, service: given(&self.service), limit: limit * RECORDS_PER_REQUEST, ..RecordFilter::default() })
    }
}

pub(crate) async fn list(State(state): State<ManageState>, Query(filter): Query<Filter>) -> Result<Json<Value>, ApiError> {
    let limit = filter.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let outermost = outermost(state.control.records(&filter.read(limit)?));
    let requests: Vec<Value> = outermost.iter().take(limit).map(|record| summary(record, state.control.record(&record.id).len())).collect();
    Ok(Json(json!({ "requests": requests, "dropped": state.control.records_dropped() })))
}

pub(crate) async fn last(State(state): State<ManageState>, Query(filter): Query<Filter>) -> Result<Json<Value>, ApiError> {
    let newest = state.control.records(&filter.read(1)?);
    let none = || ApiError::not_found("request that fits").fix("send one, or widen the filter; successes are kept as a sample only");
    detail(&state, &newest.first().ok_or_else(none)?.id)
}

pub(crate) async fn one(State(state): State<ManageState>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    detail(&state, &id)
}

fn detail(state: &ManageState, id: &str) -> Result<Json<Value>, ApiError> {
    let none = || {
        ApiError::not_found(format!("request {id}"))
            .fix("all failures are kept for a while, successes as a sample; see `weft get requests`")
    };
    let (why, records) = state.control.why(id).ok_or_else(none)?;
    Ok(Json(json!({ "why": why, "records": records })))
}

/// One record per request, newest first: its outermost hop, as its caller saw it.
fn outermost(records: Vec<Arc<RequestRecord>>) -> Vec<Arc<RequestRecord>> {
    let mut first: BTreeMap<String, Arc<RequestRecord>> = BTreeMap::new();
    let rank = |record: &RequestRecord| (record.start_unix_ms, record.reporter != Reporter::Source, u64::MAX - record.duration_us);
    for record in records {
        match first.get(&record.id) {
            Some(known) if rank(known) <= rank(&record) => {}
            _ => drop(first.insert(record.id.clone(), record)),
        }
    }
    let mut records: Vec<_> = first.into_values().collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.start_unix_ms));
    records
}

/// One line of the list.
pub(crate) fn summary(record: &RequestRecord, records: usize) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("id", json!(record.id));
    put("startUnixMs", json!(record.start_unix_ms));
    put("durationUs", json!(record.duration_us));
    put("protocol", json!(record.protocol));
    put("method", json!(record.method));
    put("authority", json!(record.authority));
    put("path", json!(record.path));
    put("status", json!(record.status));
    put("failed", json!(record.is_failure()));
    put("denied", json!(matches!(record.status, 401 | 403) || record.policy.as_ref().is_some_and(|policy| !policy.allowed)));
    put("flags", json!(record.flags));
    put("source", json!(record.source));
    put("destination", json!(record.destination));
    put("records", json!(records));
    put("mtls", json!(record.tls.is_some()));
    if let Some(status) = record.grpc_status {
        put("grpcStatus", json!(status));
    }
    if !record.details.is_empty() {
        put("details", json!(record.details));
    }
    if !record.destination_service.is_empty() {
        put("destinationService", json!(record.destination_service));
    }
    Value::Object(fields)
}
