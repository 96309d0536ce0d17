//! Errors of the API: a code, what, where, and what to do.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use weft_control::{CommandError, JoinError, StoreError};

/// What every answer of 400 and above carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong, as a sentence.
    pub message: String,
    /// The object it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The line in its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), object: None, line: None, fix: None }
    }
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
    pub(crate) fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }
    pub(crate) fn line(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the API token is missing or wrong")
            .fix("send `Authorization: Bearer <token>`; `weft up` prints the token and keeps it in the file api-token of its state folder")
    }
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        let what = what.into();
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("there is no {what}")).object(what)
    }
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store", error.to_string())
            .fix("look at the free space and permissions of the state folder")
    }
}

impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Store(error) => error.into(),
            error @ (JoinError::Token(_) | JoinError::Grant(_)) => {
                Self::bad_request(error.to_string()).fix("give namespace, serviceAccount and workload in letters, digits, '.', '_' and '-'")
            }
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::NotConnected(id) => {
                Self::not_found(format!("connected proxy {id}")).fix("see `weft proxy status` for those that are")
            }
            CommandError::Busy(id) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).object(id),
        }
    }
}
