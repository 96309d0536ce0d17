//! Planned faults: first the delay, then the abort, each for its share of the requests.

use crate::http::{Connection, Exchange, Reject};
use std::time::Duration;
use weft_model::HttpRoute;
use weft_telemetry::ResponseFlag;

/// Waits or refuses as the route plans it.
pub(crate) async fn fault(conn: &Connection, route: &HttpRoute, exchange: &mut Exchange) -> Result<(), Reject> {
    if let Some(delay) = &route.fault.delay
        && delay.share.includes(conn.worker.roll())
    {
        exchange.record.flags.push(ResponseFlag::FaultDelay);
        exchange.record.cause = Some(route.origin.clone());
        // Boxed: rare.
        Box::pin(tokio::time::sleep(Duration::from_millis(delay.delay_ms))).await;
    }
    match &route.fault.abort {
        Some(abort) if abort.share.includes(conn.worker.roll()) => {
            let origin = Box::new(route.origin.clone());
            Err(Reject::FaultAbort { status: abort.status, grpc_status: abort.grpc_status, origin })
        }
        _ => Ok(()),
    }
}
