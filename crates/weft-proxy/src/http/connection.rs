//! A downstream connection that speaks HTTP: what is known of its other end, and the engine that serves it.

use super::{Pool, Reject, body::Incoming, headers, serve, websocket};
use crate::{
    edges::EdgeCache,
    limits,
    net::{FirstBytes, Io},
    worker::{Config, Worker},
};
use http::{HeaderMap, HeaderValue, Request};
use std::{cell::OnceCell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use weft_model::Service;
use weft_pki::{Peer, edge_tls::EdgeClient};
use weft_std::clock;
use weft_telemetry::{Party, Reporter, RequestRecord, ResponseFlag, TlsRecord, details};
use weft_wire::{
    http1::{self, ServeError},
    http2,
};

/// One downstream connection.
pub(crate) struct Connection {
    pub worker: Rc<Worker>,
    pub peer_address: SocketAddr,
    pub local_address: SocketAddr,
    /// Proven identity of the other end.
    pub peer: Option<Peer>,
    /// The same for records.
    pub tls: Option<Rc<TlsRecord>>,
    pub sni: Option<String>,
    /// How the protocol was found out, for records.
    pub detected: &'static str,
    /// Whose certificate was shown at an edge that asks for one.
    pub client: Option<Rc<EdgeClient>>,
    pub scope: Scope,
    /// `x-forwarded-client-cert` for its requests, made once.
    pub certified: OnceCell<Option<HeaderValue>>,
    /// Who calls, for telemetry.
    pub edges: EdgeCache,
}

/// Which side of the mesh the connection came in at.
pub(crate) enum Scope {
    /// From the program of this workload.
    Outbound {
        /// Port that it wanted.
        port: u16,
        /// Service that it wanted, by address or by listener.
        service: Option<Arc<Service>>,
        /// An HTTP proxy: the request names host and port.
        proxy: bool,
    },
    /// From the mesh or outside, to the program.
    Inbound {
        /// Port of the program.
        port: u16,
        /// Connections to it.
        pool: Rc<Pool>,
    },
    /// From outside, at an edge.
    Gateway {
        /// Port as written in the object.
        port: u16,
        /// Is TLS terminated here?
        tls: bool,
        /// The port's listeners, now and later.
        edge: Option<tokio::sync::watch::Receiver<Arc<crate::edge::Edge>>>,
    },
}

impl Connection {
    /// A connection of which no more is known yet than where it comes from and what it is for.
    pub(crate) fn new(worker: Rc<Worker>, peer_address: SocketAddr, local_address: SocketAddr, scope: Scope) -> Self {
        Self {
            worker,
            peer_address,
            local_address,
            peer: None,
            tls: None,
            sni: None,
            client: None,
            detected: "",
            scope,
            certified: OnceCell::new(),
            edges: EdgeCache::default(),
        }
    }

    /// `http` or `https`, as the caller sees it.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.scope {
            Scope::Gateway { tls: true, .. } => "https",
            Scope::Gateway { .. } | Scope::Inbound { .. } | Scope::Outbound { .. } => "http",
        }
    }

    /// At an edge?
    pub(crate) fn is_gateway(&self) -> bool {
        matches!(self.scope, Scope::Gateway { .. })
    }

    /// Port that was called.
    pub(crate) fn port(&self) -> u16 {
        match self.scope {
            Scope::Outbound { port, .. } | Scope::Inbound { port, .. } | Scope::Gateway { port, .. } => port,
        }
    }

    /// Tells the program whose certificate the caller showed.
    pub(crate) fn certify_client(&self, map: &mut HeaderMap) {
        let Some(peer) = &self.peer else { return };
        if !super::trust::adds_certificate(&self.worker.config().snapshot.settings) {
            return;
        }
        let made = self.certified.get_or_init(|| {
            let config = self.worker.config();
            let own = config.snapshot.inbound.as_ref().map(|i| i.workload.identity.to_string()).unwrap_or_default();
            HeaderValue::from_str(&format!("By={own};URI={}", peer.id)).ok()
        });
        if let Some(value) = made {
            // Behind what a gateway has said of its client.
            map.append(headers::FORWARDED_CLIENT_CERT, value.clone());
        }
    }

    /// Would the client of this connection still come in? Certificates are taken back while connections are open.
    pub(crate) fn check_client(&self) -> Result<(), Reject> {
        let (Some(client), Scope::Gateway { edge: Some(edges), .. }) = (&self.client, &self.scope) else { return Ok(()) };
        // The receiver has seen the listeners that let the client in; only others need a look.
        if !edges.has_changed().unwrap_or(false) {
            return Ok(());
        }
        edges.borrow().still_accepts(self.sni.as_deref(), client).map_err(Reject::ClientCertificate)
    }

    /// Tells the next proxy whom this one stands for.
    pub(crate) fn introduce(&self, config: &Config, map: &mut HeaderMap) {
        if let Some(value) = &config.own_header {
            map.insert(headers::PEER, value.clone());
        }
    }

    /// Tells the calling proxy whom this one stands for; removes what the program may have said.
    pub(crate) fn introduce_callee(&self, map: &mut HeaderMap) {
        if !matches!(self.scope, Scope::Inbound { .. }) {
            return;
        }
        headers::strip_weft(map);
        if self.peer.is_some()
            && let Some(value) = &self.worker.config().own_header
        {
            map.insert(headers::PEER, value.clone());
        }
    }

    /// Who calls, for telemetry; `said` is its `x-weft-peer`.
    pub(crate) fn caller(&self, said: Option<&HeaderValue>) -> Party {
        match (&self.scope, &self.peer) {
            (Scope::Outbound { .. } | Scope::Gateway { .. }, _) => (*self.worker.config().own).clone(),
            (Scope::Inbound { .. }, Some(peer)) => {
                let unnamed = || Party { namespace: peer.id.namespace().into(), principal: peer.id.to_string(), ..Party::default() };
                said.and_then(|said| headers::peer_of(said, peer.id.to_string())).unwrap_or_else(unnamed)
            }
            (Scope::Inbound { .. }, None) => Party::default(),
        }
    }

    /// Who is called, as far as it is known from the start.
    pub(crate) fn destination_party(&self) -> Party {
        match self.scope {
            Scope::Inbound { .. } => (*self.worker.config().own).clone(),
            Scope::Outbound { .. } | Scope::Gateway { .. } => Party::default(),
        }
    }
}

/// Longest that an idle connection between two proxies stays open: longer than the calling side keeps it.
pub(crate) const MESH_IDLE: Duration = Duration::from_secs(75);

/// Serves HTTP on a connection until it ends or the proxy drains.
pub(crate) async fn serve_http(conn: Rc<Connection>, io: Io, first: FirstBytes) {
    if first == FirstBytes::H2 { serve_http2(conn, io).await } else { serve_http1(conn, io).await }
}

async fn serve_http1(conn: Rc<Connection>, io: Io) {
    let drain = conn.worker.drain.clone();
    let head_timeout = conn.worker.settings.header_timeout;
    let options = http1::ServerOptions {
        head: http1::HeadLimits { bytes: limits::HEADER_BYTES_MAX, headers: limits::HEADERS_MAX },
        head_timeout,
        idle_timeout: if conn.peer.is_some() { MESH_IDLE } else { limits::DOWNSTREAM_IDLE_TIMEOUT },
        target: http1::TargetRule::Browsers,
    };
    let closing = http1::Closing::default();
    let served = conn.clone();
    let service = move |request: Request<http1::Body>| serve::serve(served.clone(), request.map(Incoming::H1));
    let mut connection = std::pin::pin!(http1::serve(io, options, closing.clone(), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = time_to_close(&drain) => {
            closing.begin();
            connection.await
        }
    };
    if let Err(error) = ended {
        ended_with(&conn, &error);
    }
}

/// A draining proxy says on its answers that it closes; a connection on which nobody asks is closed after a moment.
async fn time_to_close(drain: &weft_std::DrainWatch) {
    drain.signaled().await;
    tokio::time::sleep(limits::DRAIN_IDLE).await;
}

async fn serve_http2(conn: Rc<Connection>, io: Io) {
    let drain = conn.worker.drain.clone();
    let options = conn.worker.http2.server(conn.peer.is_some());
    let served = conn.clone();
    let service = move |request: Request<http2::Body>| websocket::serve_http2(served.clone(), request);
    let mut connection = std::pin::pin!(http2::serve(io, options, service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = drain.signaled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // What went wrong on a stream is in the records of its requests.
    if let Err(http2::Error::Connection(_, why)) = ended {
        tracing::debug!(why, "HTTP/2 connection closed");
        record_unreadable(&conn, "HTTP/2", 0, details::DOWNSTREAM_PROTOCOL);
    }
}

/// What the engine answered by itself, because it could not be read, gets a record too. Other ends are told by the requests' records.
fn ended_with(conn: &Connection, error: &ServeError) {
    let registry = &conn.worker.settings.registry;
    let (status, details) = match error {
        ServeError::Malformed(malformed) => {
            if let Some(limit) = malformed.limit {
                registry.limit(limit).inc();
            }
            (malformed.status, if malformed.status == 431 { details::HEADERS_TOO_LARGE } else { details::DOWNSTREAM_PROTOCOL })
        }
        ServeError::HeadTimeout => {
            registry.limit("HEADER_TIMEOUT").inc();
            (408, details::REQUEST_TIMEOUT)
        }
        ServeError::Stalled => return registry.limit("WRITE_IDLE_TIMEOUT").inc(),
        // The request's own record tells the rest.
        ServeError::Body(http1::BodyError::Idle) => return registry.limit("BODY_IDLE_TIMEOUT").inc(),
        ServeError::Body(http1::BodyError::Malformed(malformed)) => return malformed.limit.map_or((), |limit| registry.limit(limit).inc()),
        ServeError::Body(_) | ServeError::Broken(_) => return,
    };
    record_unreadable(conn, "HTTP/1.1", status, details);
}

fn record_unreadable(conn: &Connection, protocol: &str, status: u16, details: &str) {
    let record = RequestRecord {
        id: format!("{:016x}{:016x}", conn.worker.random(), conn.worker.random()),
        proxy: conn.worker.proxy_id(),
        reporter: if matches!(conn.scope, Scope::Inbound { .. }) { Reporter::Destination } else { Reporter::Source },
        start_unix_ms: clock::unix_ms(),
        protocol: protocol.into(),
        status,
        flags: vec![ResponseFlag::DownstreamProtocol],
        details: details.into(),
        source: conn.caller(None),
        destination: conn.destination_party(),
        downstream: conn.peer_address.to_string(),
        tls: conn.tls.as_deref().cloned(),
        ..RequestRecord::default()
    };
    conn.worker.observe(record);
}
