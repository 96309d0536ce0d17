//! After an accepted upgrade (WebSocket): bytes in both directions until one side ends.

use super::exchange::{Ended, Exchange};
use crate::worker::Worker;
use std::rc::Rc;

/// Joins the two sides once both have left HTTP. The exchange lasts as long as the tunnel.
pub(crate) fn start(worker: &Rc<Worker>, mut exchange: Box<Exchange>) {
    let Some((downstream, upstream)) = exchange.tunnel.take() else { return };
    let counted = worker.count_connection();
    worker.tasks.spawn_local("tunnel", async move {
        let (Some(mut downstream), Some(mut upstream)) = (downstream.io().await, upstream.io().await) else { return };
        let copied = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
        drop(counted);
        if let Ok((received, sent)) = copied {
            exchange.received.set_bytes(received);
            exchange.close(sent, Ended::Complete);
        } else {
            exchange.close(0, Ended::Complete);
        }
    });
}
