//! What would happen to a request.

use crate::{ApiError, ManageState};
use axum::{Json, extract::State, extract::rejection::JsonRejection};
use weft_compile::{ExplainRequest, Explanation};

pub(crate) async fn explain(
    State(state): State<ManageState>,
    body: Result<Json<ExplainRequest>, JsonRejection>,
) -> Result<Json<Explanation>, ApiError> {
    let Json(request) =
        body.map_err(|error| ApiError::bad_request(error.body_text()).fix("send an ExplainRequest of openapi/weft.json"))?;
    Ok(Json(state.control.explain(&request)))
}
