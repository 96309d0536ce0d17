//! A connection to the control plane: TCP, TLS with the trust domain's certificates, HTTP/2.

use super::limits;
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use weft_model::SpiffeId;
use weft_pki::{Alpn, SvidState};
use weft_std::clock;
use weft_wire::tls::{ClientTls, TlsError};

/// Where the control plane is, and who it must prove to be.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) identity: SpiffeId,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the control plane at {address} cannot be reached: {reason}")]
    Unreachable { address: SocketAddr, reason: String },
    #[error("the control plane at {address} is not the one of this mesh: {reason}")]
    Stranger { address: SocketAddr, reason: String },
    #[error("the control plane at {address} refused this proxy: {reason}")]
    Refused { address: SocketAddr, reason: String },
}

/// Connects, with the SVID that `svid` holds at this moment, if any.
pub(super) async fn connect(target: &Target, svid: &SvidState) -> Result<Channel, ConnectError> {
    let address = target.address;
    let unreachable = |reason: String| ConnectError::Unreachable { address, reason };
    let deadline = clock::now() + limits::CONNECT_TIMEOUT;
    let stream = match tokio::time::timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable("no answer in time".into())),
    };
    // Without it small messages wait for the peer's acknowledgement.
    stream.set_nodelay(true).ok();
    let tls = ClientTls::mesh(svid, &target.identity, &[Alpn::H2]);
    let secured = tls.connect(stream, deadline).await.map_err(|error| match error {
        TlsError::Refused(reason) => ConnectError::Stranger { address, reason: reason.to_string() },
        TlsError::RefusedByPeer(reason) => ConnectError::Refused { address, reason },
        other => unreachable(other.to_string()),
    })?;
    let mut once = Some(TokioIo::new(secured.stream));
    let connector = tower::service_fn(move |_| {
        // One connection is all: a new one is made here, with the certificate of that moment, when this one breaks.
        std::future::ready(once.take().ok_or_else(|| io::Error::other("the connection is over")))
    });
    let endpoint = Endpoint::from_static("http://control.invalid")
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES);
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable(causes(&error)))
}

/// A failed call in words: what the server said, or what happened below.
pub(super) fn said(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => format!("{}: {}", status.message(), causes(source)),
        None => status.message().to_owned(),
    }
}

/// An error with all that caused it, the last of them first told in full where it is TLS.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}
