//! The server for proxies: TLS with the trust domain's certificates, then three services over HTTP/2.
//!
//! A client may come without a certificate, but then only to join with a token: each call asks for the [`Peer`] that the
//! connection proved, and what a message claims about identity is never believed.

mod connection;
mod discovery;
mod identity;
mod leases;
mod limits;
mod report;
mod session;

use crate::control::{Parts, StartError};
use connection::Connection;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Server};
use weft_model::SpiffeId;
use weft_pki::{Alpn, ClientAuth, Peer, SvidState};
use weft_proto::v1::{discovery_server::DiscoveryServer, identity_server::IdentityServer, telemetry_server::TelemetryServer};
use weft_std::{Spawner, Tasks, clock};
use weft_wire::tls::ServerTls;

/// What the three services share.
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) spawner: Spawner,
    /// End of the last certificate issued per identity, seconds since 1970: an open stream is good until then.
    issued: Mutex<BTreeMap<SpiffeId, u64>>,
    /// Tokens of global rate limits.
    pub(crate) leases: leases::Leases,
}

impl Shared {
    /// A certificate was issued.
    pub(crate) fn issued(&self, id: &SpiffeId, not_after_s: u64) {
        let mut issued = self.lock();
        if issued.len() >= limits::IDENTITIES_MAX {
            let now_s = clock::unix_s();
            issued.retain(|_, until_s| *until_s > now_s);
        }
        issued.insert(id.clone(), not_after_s);
    }

    /// Until when the peer of a connection may use it: its renewals count, made on whichever connection.
    pub(crate) fn valid_until_s(&self, peer: &Peer) -> u64 {
        self.lock().get(&peer.id).copied().unwrap_or_default().max(peer.not_after_s)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SpiffeId, u64>> {
        // Every critical section leaves the map whole, so a poisoned lock is still good.
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves on `listener` until `tasks` are shut down.
///
/// # Errors
/// When the listener cannot be used or the server has no certificate.
pub(crate) fn start(tasks: &Tasks, parts: Parts, listener: std::net::TcpListener) -> Result<(), StartError> {
    listener.set_nonblocking(true).map_err(StartError::Listen)?;
    let listener = TcpListener::from_std(listener).map_err(StartError::Listen)?;
    let svid = SvidState::new(parts.authority.bundle());
    svid.install(parts.authority.server_certificate(limits::SERVER_CERTIFICATE_TTL)?);
    tasks.spawn("renew the control plane's certificate", renew_own(parts.clone(), svid.clone()));

    let shared = Arc::new(Shared { parts, spawner: tasks.spawner(), issued: Mutex::default(), leases: leases::Leases::new() });
    let (ready, connections) = mpsc::channel(limits::HANDSHAKES_MAX);
    let tls = ServerTls::mesh(&svid, &[Alpn::H2], ClientAuth::Optional);
    tasks.spawn("accept proxies", accept(listener, tls, tasks.spawner(), ready));
    tasks.spawn("serve proxies", serve(shared, connections));
    Ok(())
}

async fn serve(shared: Arc<Shared>, connections: mpsc::Receiver<io::Result<Connection>>) {
    let discovery =
        DiscoveryServer::new(discovery::Discovery { shared: shared.clone() }).max_decoding_message_size(limits::REQUEST_BYTES_MAX);
    let identity = IdentityServer::new(identity::Identity::new(shared.clone())).max_decoding_message_size(limits::JOIN_BYTES_MAX);
    let telemetry = TelemetryServer::new(report::Telemetry { shared }).max_decoding_message_size(limits::REPORT_BYTES_MAX);
    let server = Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(limits::STREAMS_MAX)
        .http2_max_pending_accept_reset_streams(Some(limits::RESET_STREAMS_MAX))
        .initial_stream_window_size(limits::WINDOW_BYTES)
        .initial_connection_window_size(limits::WINDOW_BYTES * 2)
        .add_service(discovery)
        .add_service(identity)
        .add_service(telemetry);
    // The signal never comes, but being there it makes tonic end its connections in order when this future is dropped.
    let served = server.serve_with_incoming_shutdown(ReceiverStream::new(connections), std::future::pending()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the server for proxies ended");
    }
}

/// Accepts for ever; handshakes run beside each other, so that a slow one holds nobody up.
async fn accept(listener: TcpListener, tls: ServerTls, spawner: Spawner, ready: mpsc::Sender<io::Result<Connection>>) {
    let connections = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, as a rule: others must close theirs first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (Ok(connection), Ok(handshake)) = (connections.clone().try_acquire_owned(), handshakes.clone().try_acquire_owned()) else {
            tracing::warn!(%from, "too many connections: one was closed");
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        spawner.spawn("TLS with a proxy", async move {
            if let Some(secured) = secure(&tls, stream, from).await {
                // The receiver is gone when the server ends.
                ready.send(Ok(Connection::new(secured, connection))).await.ok();
            }
            drop(handshake);
        });
    }
}

async fn secure(tls: &ServerTls, stream: TcpStream, from: SocketAddr) -> Option<weft_wire::tls::Secured<TcpStream>> {
    // Without it small messages wait for the peer's acknowledgement.
    stream.set_nodelay(true).ok();
    match tls.accept(stream, clock::now() + limits::HANDSHAKE_TIMEOUT).await {
        Ok(secured) => Some(secured),
        Err(error) => {
            tracing::info!(%from, %error, "a connection was refused");
            None
        }
    }
}

async fn renew_own(parts: Parts, svid: SvidState) {
    let mut pause = limits::SERVER_CERTIFICATE_TTL / 2;
    loop {
        tokio::time::sleep(pause).await;
        pause = match parts.authority.server_certificate(limits::SERVER_CERTIFICATE_TTL) {
            Ok(fresh) => {
                svid.install(fresh);
                limits::SERVER_CERTIFICATE_TTL / 2
            }
            Err(error) => {
                tracing::error!(%error, "the control plane's own certificate could not be renewed");
                Duration::from_secs(60)
            }
        };
    }
}

/// The peer that this call's connection proved.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(crate) fn peer_of<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    let proved = request.extensions().get::<connection::Proved>().and_then(|proved| proved.peer.as_deref());
    proved.cloned().ok_or_else(|| Status::unauthenticated("this call needs a client certificate: join the mesh with a token first"))
}
