//! Where proxies connect. Holds the address until the server for proxies is there.

use crate::{Parts, StartError};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use weft_std::Tasks;

/// Binds `address` and starts the server for proxies on it; returns the address that it has.
pub(crate) async fn start(tasks: &Tasks, parts: Parts, address: SocketAddr) -> Result<SocketAddr, StartError> {
    let refuse = |error: std::io::Error| StartError::Listen { address, reason: error.to_string() };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    tasks.spawn("proxies", async move {
        let _parts = parts;
        std::future::pending::<()>().await;
        drop(listener);
    });
    Ok(bound)
}
