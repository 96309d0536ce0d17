//! Serving the router on a socket.

use axum::Router;
use std::{io, net::TcpListener};

/// Serves until the future is dropped.
///
/// # Errors
/// When the socket cannot be used.
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
}
