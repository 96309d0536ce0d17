//! From an accepted connection to what serves it: who is there, what is spoken, what was wanted.

use crate::{
    destination::find_service,
    edge::Edge,
    http::{Connection, Pool, Reject, Scope, serve_http, tls_record},
    limits,
    net::{FirstBytes, Io, Prefixed, original_destination},
    tcp,
    worker::Worker,
};
use std::{net::SocketAddr, os::fd::AsRawFd as _, rc::Rc, sync::Arc};
use tokio::{net::TcpStream, sync::watch};
use weft_balance::Level;
use weft_model::{Protocol, Service};
use weft_pki::{Alpn, ClientAuth};
use weft_std::clock;
use weft_wire::{
    listen::Acceptor,
    sniff::sniff,
    tls::{ServerTls, client_hello},
};

/// How the protocol of a connection was found out.
pub(crate) const DECLARED: &str = "declared";
const BY_BYTES: &str = "bytes";
const BY_TLS: &str = "tls";
pub(crate) const TIMED_OUT: &str = "time-out";
const LEARNED: &str = "learned";

/// Looks at the first bytes. Where the server is known to speak first, only at those that are there at once: nothing is waited for.
async fn look<S: tokio::io::AsyncRead + Unpin>(conn: &mut Connection, stream: S) -> std::io::Result<(FirstBytes, Prefixed<S>)> {
    let place = conn.place();
    let now = clock::now();
    let learned = place.as_ref().is_some_and(|place| conn.worker.detection.is_server_first(place, now));
    let (first, stream) = sniff(stream, if learned { now } else { now + limits::SNIFF_TIMEOUT }).await?;
    conn.detected = match first {
        FirstBytes::Nothing if learned => LEARNED,
        FirstBytes::Nothing => TIMED_OUT,
        FirstBytes::Tls => BY_TLS,
        _ => BY_BYTES,
    };
    if let Some(place) = place.filter(|_| !matches!(first, FirstBytes::Nothing | FirstBytes::Closed)) {
        conn.worker.detection.client_spoke_first(&place);
    }
    Ok((first, stream))
}

/// What a listener is for.
#[derive(Clone)]
pub(crate) enum Duty {
    /// Calls to a port of the program.
    Inbound { port: u16, pool: Rc<Pool>, tls: ServerTls },
    /// Captured calls of the program.
    Outbound,
    /// Calls of the program to one service port.
    Explicit { host: Arc<str>, port: u16 },
    /// Calls of the program through an HTTP proxy.
    HttpProxy,
    /// Calls from outside.
    Gateway { port: u16, edge: watch::Receiver<Arc<Edge>> },
}

/// Accepts until the proxy drains or the listener is told to stop.
pub(crate) async fn listen(worker: Rc<Worker>, listener: std::net::TcpListener, duty: Duty, stop: impl Future<Output = ()>) {
    let mut acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "a listener cannot be used"),
    };
    let mut stop = std::pin::pin!(stop);
    let drain = worker.drain.clone();
    // What comes while the proxy drains is served too, for a moment: the last of it waits in the socket's queue.
    let mut draining = std::pin::pin!(async {
        drain.signaled().await;
        tokio::time::sleep(limits::DRAIN_ACCEPT).await;
    });
    loop {
        let (stream, from) = tokio::select! {
            biased;
            accepted = admitted(&worker, &mut acceptor) => accepted,
            () = stop.as_mut() => return,
            () = draining.as_mut() => return,
        };
        start(&worker, stream, from, &duty);
    }
}

fn start(worker: &Rc<Worker>, stream: TcpStream, from: SocketAddr, duty: &Duty) {
    worker.settings.overload.saw_file(u64::try_from(stream.as_raw_fd()).unwrap_or(0));
    if !worker.settings.overload.has_place() {
        return refuse_connection(&stream, duty);
    }
    let (worker, duty) = (worker.clone(), duty.clone());
    let spawner = worker.tasks.clone();
    let counted = worker.count_connection();
    spawner.spawn_local("connection", async move {
        serve(worker, stream, from, duty).await;
        drop(counted);
    });
}

/// The next connection, once the proxy has the means for it: until then they wait in the kernel.
async fn admitted(worker: &Worker, acceptor: &mut Acceptor) -> (TcpStream, SocketAddr) {
    while worker.settings.overload.level() >= Level::StopAccepting {
        tokio::time::sleep(limits::ACCEPT_PAUSE).await;
    }
    acceptor.accept().await
}

/// One connection too many: closed at once, so that the caller learns it now and not after a time-out. Who speaks plain HTTP is told why.
fn refuse_connection(stream: &TcpStream, duty: &Duty) {
    const TOLD: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 56\r\nretry-after: 1\r\nconnection: close\r\n\r\noverload: connections: this proxy has as many as it may\n";
    let plain = match duty {
        Duty::HttpProxy | Duty::Explicit { .. } => true,
        Duty::Gateway { edge, .. } => edge.borrow().speaks_plain_http(),
        Duty::Inbound { .. } | Duty::Outbound => false,
    };
    if plain {
        // A new socket's buffer takes it whole; where not, the close says enough.
        stream.try_write(TOLD).ok();
    }
}

async fn serve(worker: Rc<Worker>, stream: TcpStream, from: SocketAddr, duty: Duty) {
    let Ok(local) = stream.local_addr() else { return };
    match duty {
        Duty::Inbound { port, pool, tls } => inbound(worker, stream, from, local, port, pool, tls).await,
        Duty::Outbound => {
            let Some(wanted) = original_destination(&stream) else {
                // Someone called the capture port itself: there is nothing to pass on to.
                return;
            };
            let config = worker.config();
            let (service, _) = find_service(&worker, config, &wanted.ip().to_string()).await;
            outbound(worker, Box::new(stream), from, wanted, service).await;
        }
        Duty::Explicit { host, port } => {
            let config = worker.config();
            let (service, _) = find_service(&worker, config, &host).await;
            outbound(worker, Box::new(stream), from, SocketAddr::new(local.ip(), port), service).await;
        }
        Duty::HttpProxy => {
            let scope = Scope::Outbound { port: 80, service: None, proxy: true };
            let conn = Connection::new(worker, from, local, scope);
            let Ok((first, stream)) = sniff(stream, clock::now() + conn.worker.settings.header_timeout).await else { return };
            // Whatever it is, it is answered as HTTP.
            let first = if first == FirstBytes::H2 { first } else { FirstBytes::Http1 };
            serve_http(Rc::new(conn), Box::new(stream), first).await;
        }
        Duty::Gateway { port, edge } => {
            let conn = Connection::new(worker, from, local, Scope::Gateway { port, tls: false, edge: None });
            // Boxed: what a gateway needs is large, and sidecars need none of it.
            Box::pin(crate::edge::serve(conn, stream, edge)).await;
        }
    }
}

/// Bytes of the mesh or of outside, for the program.
async fn inbound(worker: Rc<Worker>, stream: TcpStream, from: SocketAddr, local: SocketAddr, port: u16, pool: Rc<Pool>, tls: ServerTls) {
    let Ok((first, stream)) = sniff(stream, clock::now() + limits::SNIFF_TIMEOUT).await else { return };
    let config = worker.config();
    let mode = config.snapshot.inbound.as_ref().map(|i| i.mtls(port).0).unwrap_or_default();
    let scope = Scope::Inbound { port, pool };
    let mut conn = Connection::new(worker, from, local, scope);
    match first {
        FirstBytes::Closed => {}
        FirstBytes::Tls => {
            let Ok((hello, stream)) = client_hello(stream, clock::now() + limits::TLS_TIMEOUT).await else { return };
            let hello = hello.unwrap_or_default();
            // TLS of the program's own is passed on as bytes; only what asks for the mesh is the mesh's.
            if !hello.alpn.iter().any(|name| Alpn::MESH.iter().any(|mesh| mesh.as_str() == name)) {
                conn.sni = hello.server_name;
                return tcp::inbound(conn, Box::new(stream)).await;
            }
            if !mode.accepts_mtls() {
                return tcp::refused(&conn, &Reject::Tls("mutual TLS is not offered on this port (mode DISABLE)".into()));
            }
            mesh_peer(conn, stream, &tls).await;
        }
        // Plain text to a STRICT port: for HTTP the caller is told why, other bytes are just refused; both by the same policy.
        FirstBytes::Http1 | FirstBytes::H2 if !declared_opaque(&conn, port) => serve_http(Rc::new(conn), Box::new(stream), first).await,
        _ => tcp::inbound(conn, Box::new(stream)).await,
    }
}

/// A peer of the mesh: it proves who it is, and says in the handshake what it speaks.
async fn mesh_peer(mut conn: Connection, stream: Prefixed<TcpStream>, tls: &ServerTls) {
    let secured = match tls.accept(stream, clock::now() + limits::TLS_TIMEOUT).await {
        Ok(secured) => secured,
        Err(error) => return tcp::refused(&conn, &Reject::Tls(error.to_string())),
    };
    conn.tls = secured.peer.as_ref().map(|peer| Rc::new(tls_record(peer)));
    conn.peer = secured.peer;
    let io: Io = Box::new(secured.stream);
    match secured.tls.alpn {
        Some(Alpn::WeftHttp1) => serve_http(Rc::new(conn), io, FirstBytes::Http1).await,
        Some(Alpn::WeftH2) => serve_http(Rc::new(conn), io, FirstBytes::H2).await,
        _ => tcp::inbound(conn, io).await,
    }
}

fn declared_opaque(conn: &Connection, port: u16) -> bool {
    let config = conn.worker.config();
    let declared = config.snapshot.inbound.as_ref().and_then(|i| i.ports.iter().find(|p| p.port == port)).map(|p| p.protocol);
    matches!(declared, Some(Protocol::Tcp | Protocol::Tls | Protocol::Https))
}

/// Bytes of the program, for somewhere.
pub(crate) async fn outbound(worker: Rc<Worker>, stream: Io, from: SocketAddr, wanted: SocketAddr, service: Option<Arc<Service>>) {
    let declared = service.as_ref().and_then(|s| s.port(wanted.port())).map(|p| p.protocol);
    let scope = Scope::Outbound { port: wanted.port(), service, proxy: false };
    let mut conn = Connection::new(worker, from, wanted, scope);
    if matches!(declared, Some(Protocol::Tcp)) {
        conn.detected = DECLARED;
        return tcp::outbound(conn, stream).await;
    }
    let Ok((first, stream)) = look(&mut conn, stream).await else { return };
    match (first, declared) {
        (FirstBytes::Closed, _) => {}
        (FirstBytes::Http1 | FirstBytes::H2, Some(Protocol::Tls | Protocol::Https)) => tcp::outbound(conn, Box::new(stream)).await,
        (FirstBytes::Http1 | FirstBytes::H2, _) => serve_http(Rc::new(conn), Box::new(stream), first).await,
        (FirstBytes::Tls, _) => {
            let Ok((hello, stream)) = client_hello(stream, clock::now() + limits::SNIFF_TIMEOUT).await else { return };
            let conn = Connection { sni: hello.and_then(|h| h.server_name), ..conn };
            tcp::outbound(conn, Box::new(stream)).await;
        }
        // A port declared as HTTP speaks HTTP: the engine answers what is not a request with 400.
        (_, Some(protocol)) if protocol.is_http() => serve_http(Rc::new(conn), Box::new(stream), FirstBytes::Http1).await,
        _ => tcp::outbound(conn, Box::new(stream)).await,
    }
}

/// The mesh's server side of TLS, as an inbound listener needs it.
pub(crate) fn mesh_tls(worker: &Worker) -> ServerTls {
    ServerTls::mesh(&worker.shared.svid, &Alpn::MESH, ClientAuth::Required)
}
