//! Handlers, one file per noun: they translate between HTTP and `weft-control`.

pub(crate) mod mesh;

pub(crate) mod requests;
pub(crate) mod services;

pub(crate) mod explain;
pub(crate) mod resources;

pub(crate) mod proxies;
pub(crate) mod workloads;

use crate::ApiError;
use axum::http::{Method, StatusCode, Uri};
use serde::Deserialize;

/// `?window=`, in seconds.
#[derive(Debug, Deserialize)]
pub(crate) struct Window {
    window: Option<u64>,
}

impl Window {
    fn seconds(&self) -> u64 {
        self.window.unwrap_or(weft_control::WINDOW_S_DEFAULT)
    }
}

/// No such path.
pub(crate) async fn unknown(uri: Uri) -> ApiError {
    ApiError::not_found(format!("path /api/v1{}", uri.path())).fix("openapi/weft.json lists all paths")
}

/// The path exists, the method does not.
pub(crate) async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not possible on /api/v1{}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message).fix("openapi/weft.json lists all paths and methods")
}
