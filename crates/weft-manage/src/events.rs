//! Live events: one tick a second with health and graph.

use crate::ManageState;
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt};
use serde_json::json;
use std::{convert::Infallible, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::IntervalStream;

/// Time between ticks.
const TICK: Duration = Duration::from_secs(1);
/// Window of a tick, in seconds.
const WINDOW_S: u64 = 60;
/// A graph with more edges is left out: the page fetches it when it needs it.
const EDGES_MAX: usize = 300;

pub(crate) async fn events(State(state): State<ManageState>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let events = IntervalStream::new(ticks).map(move |_| Ok(tick(&state)));
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn tick(state: &ManageState) -> Event {
    let (health, graph) = state.control.health(WINDOW_S);
    let mut data = json!({ "atUnixMs": health.at_unix_ms, "generation": health.generation, "health": health });
    if graph.edges.len() <= EDGES_MAX {
        data["graph"] = json!(graph);
    }
    Event::default().event("tick").data(data.to_string())
}
