//! A tap as live events: `begin` with the proxies, then `exchange` for each. The stream ends with the tap, and the tap with the stream.

use crate::{ApiError, ManageState};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use std::convert::Infallible;
use weft_control::{Tap, TapError, TapRequest};

/// Exchanges unless asked otherwise.
const TOTAL_DEFAULT: u32 = 100;
/// Seconds unless asked otherwise.
const SECONDS_DEFAULT: u32 = 60;
/// Longest filter, in bytes: that of expressions in the configuration is not higher.
const FILTER_BYTES_MAX: usize = 4096;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    workload: String,
    #[serde(default)]
    filter: String,
    max: Option<u32>,
    duration: Option<u32>,
}

pub(crate) async fn tap(
    State(state): State<ManageState>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::bad_request(error.body_text()).fix("for example /tap?workload=reviews-v1"))?;
    let Asked { workload, filter, max, duration } = asked;
    if filter.len() > FILTER_BYTES_MAX {
        return Err(ApiError::bad_request(format!("a filter has at most {FILTER_BYTES_MAX} bytes")));
    }
    let request = TapRequest { workload, filter, total: max.unwrap_or(TOTAL_DEFAULT), seconds: duration.unwrap_or(SECONDS_DEFAULT) };
    // There is one user: whoever has the token.
    let tap = state.control.tap(&request, "api-token")?;
    let begin = Event::default().event("begin").data(json!({ "proxies": tap.proxies() }).to_string());
    let events = stream::iter([Ok(begin)]).chain(stream::unfold(tap, exchange));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

async fn exchange(mut tap: Tap) -> Option<(Result<Event, Infallible>, Tap)> {
    let exchange = tap.next().await?;
    Some((Ok(Event::default().event("exchange").data(json!(exchange).to_string())), tap))
}

impl From<TapError> for ApiError {
    fn from(error: TapError) -> Self {
        let message = error.to_string();
        match error {
            TapError::Request(_) => Self::bad_request(message).fix("for example filter=response.code >= 500, max=100, duration=60"),
            TapError::NoProxy(workload) => {
                Self::not_found(format!("connected proxy of a workload {workload}")).fix("see `weft proxy status` for those that are")
            }
            TapError::TooMany => Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-taps", message),
            TapError::Command(error) => error.into(),
        }
    }
}
