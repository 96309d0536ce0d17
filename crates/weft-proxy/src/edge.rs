//! One port of a gateway: its listeners as doors, chosen by the server name that a client asks for.

use crate::{
    http::{Connection, Reject, Scope, serve_http},
    limits,
    net::{FirstBytes, Io, Prefixed},
    pem, tcp,
};
use std::{net::SocketAddr, rc::Rc, sync::Arc};
use tokio::{net::TcpStream, sync::watch};
use weft_model::{GatewayListener, GatewayTls, HostPattern, Pem, Protocol, cluster_of_server_name};
use weft_pki::{
    Alpn, ClientAuth, SvidState,
    edge_tls::{ClientDemand, EdgeClient},
    public_tls::{PublicCertificate, ServerSettings},
};
use weft_std::clock;
use weft_wire::{
    proxy_protocol::{self, ProxyHeader},
    sniff::sniff,
    tls::{ServerTls, client_hello},
};

/// What a port does with its connections, as its listeners say. Replaced whole when they or their certificates change; connections
/// that are open stay, unless their client would not come in any more.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    proxy_protocol: bool,
    doors: Vec<Door>,
    /// All doors end TLS in the same way: the server name need not be read before the handshake.
    single: Option<ServerTls>,
}

impl Edge {
    /// Is every connection one of HTTP in the clear?
    pub(crate) fn speaks_plain_http(&self) -> bool {
        self.doors.iter().all(|door| door.http && matches!(door.way, Way::Plain))
    }
}

/// One listener of the port.
#[derive(Debug)]
struct Door {
    hosts: Vec<HostPattern>,
    way: Way,
    /// Is HTTP behind it?
    http: bool,
}

#[derive(Debug)]
enum Way {
    /// In the clear.
    Plain,
    /// TLS that is not ended here.
    Passthrough,
    /// The same; the server name names the cluster.
    Auto,
    /// TLS that is ended here.
    Terminate(ServerTls),
}

impl Edge {
    /// # Errors
    /// When no listener of the port can be served, and why.
    pub(crate) fn new(listeners: &[GatewayListener], svid: &SvidState) -> Result<Self, String> {
        let mut edge = Self { proxy_protocol: listeners.iter().any(|l| l.proxy_protocol), ..Self::default() };
        let mut served: Vec<(&GatewayListener, ServerTls)> = Vec::new();
        for listener in listeners {
            let secure = matches!(listener.protocol, Protocol::Https | Protocol::Tls);
            let way = match &listener.tls {
                _ if !secure => Way::Plain,
                _ if listener.auto_passthrough => Way::Auto,
                None if listener.protocol == Protocol::Tls => Way::Passthrough,
                None => return Err("the listener speaks TLS and has no certificate".into()),
                // Listeners that differ in nothing but their hosts and certificates share one configuration.
                Some(tls) => {
                    let twin = served.iter().find(|(known, _)| alike(known, listener)).map(|(_, tls)| tls.clone());
                    let server = match twin {
                        Some(twin) => twin,
                        None => server_tls(listeners.iter().filter(|l| alike(l, listener)), tls, listener.protocol, svid)?,
                    };
                    served.push((listener, server.clone()));
                    Way::Terminate(server)
                }
            };
            let http = listener.protocol.is_http() || listener.protocol == Protocol::Https;
            edge.doors.push(Door { hosts: listener.hosts.clone(), way, http });
        }
        let all = served.len() == edge.doors.len();
        let first = served.first().filter(|(first, _)| all && served.iter().all(|(l, _)| alike(first, l)));
        edge.single = first.map(|(_, tls)| tls.clone());
        Ok(edge)
    }

    /// The listener with the most specific host for a name.
    fn door(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        let best = |door: &Door| door.hosts.iter().filter(|h| h.matches(&name)).map(HostPattern::specificity).max();
        let fitting = self.doors.iter().enumerate().filter_map(|(index, door)| Some((best(door)?, index)));
        // Of equals the first.
        fitting.max_by_key(|(specificity, index)| (*specificity, std::cmp::Reverse(*index))).map(|(_, index)| index)
    }

    /// The listener for a connection: by its server name; without one that fits, the first that ends TLS.
    fn door_for(&self, sni: Option<&str>) -> Option<usize> {
        let ends = |door: &Door| matches!(door.way, Way::Terminate(_));
        sni.and_then(|name| self.door(name)).or_else(|| self.doors.iter().position(ends))
    }

    fn secure(&self) -> bool {
        self.doors.iter().any(|door| !matches!(door.way, Way::Plain))
    }

    /// May a request for `host` come over a connection whose TLS was made for `sni`? Another listener may ask clients for more.
    pub(crate) fn leads_to(&self, sni: Option<&str>, host: &str) -> bool {
        if self.doors.len() < 2 || !self.secure() {
            return true;
        }
        match (self.door_for(sni), self.door(host)) {
            (Some(entered), Some(wanted)) => entered == wanted,
            // What no listener answers gets its answer from the routes.
            _ => true,
        }
    }

    /// Would the client of a connection for `sni` still come in?
    pub(crate) fn still_accepts(&self, sni: Option<&str>, client: &EdgeClient) -> Result<(), String> {
        match self.door_for(sni).and_then(|index| self.doors.get(index)).map(|door| &door.way) {
            Some(Way::Terminate(tls)) => tls.still_accepts(client),
            _ => Ok(()),
        }
    }
}

/// Do two listeners end TLS in the same way, but for their certificates?
fn alike(a: &GatewayListener, b: &GatewayListener) -> bool {
    let bare = |l: &GatewayListener| l.tls.clone().map(|tls| GatewayTls { certificates: Vec::new(), ..tls });
    a.tls.is_some() && bare(a) == bare(b) && a.protocol == b.protocol
}

fn server_tls<'a>(
    group: impl Iterator<Item = &'a GatewayListener>,
    tls: &GatewayTls,
    protocol: Protocol,
    svid: &SvidState,
) -> Result<ServerTls, String> {
    let alpn: &[Alpn] = if protocol == Protocol::Https { &[Alpn::H2, Alpn::Http11] } else { &[] };
    if tls.mesh {
        // Proxies of the mesh name what is inside in words of their own.
        return Ok(ServerTls::mesh(svid, &[Alpn::WeftHttp1, Alpn::WeftH2, Alpn::WeftTcp, Alpn::H2, Alpn::Http11], ClientAuth::Required));
    }
    let mut texts = Vec::new();
    for listener in group {
        let hosts: Vec<String> = listener.hosts.iter().map(ToString::to_string).collect();
        for pair in listener.tls.iter().flat_map(|t| &t.certificates) {
            texts.push((hosts.clone(), text(&pair.certificate), text(&pair.private_key)));
        }
    }
    let shown = texts.iter().map(|(hosts, chain_pem, key_pem)| PublicCertificate { hosts, chain_pem, key_pem });
    let shown: Vec<PublicCertificate<'_>> = shown.collect();
    let settings = ServerSettings { versions: (tls.version_min, tls.version_max), cipher_suites: &tls.cipher_suites };
    let demand = tls.clients.as_ref().map(|c| ClientDemand {
        required: c.required,
        ca_pem: text(&c.ca),
        crl_pem: c.crl.as_ref().map(text),
        names: &c.subject_alt_names,
        spki: &c.spki,
        hashes: &c.hashes,
        insecure: c.insecure,
    });
    ServerTls::edge(&shown, &settings, demand.as_ref(), alpn).map_err(|error| error.to_string())
}

/// Files were read before: see [`resolved`].
fn text(pem: &Pem) -> &str {
    match pem {
        Pem::Text(text) => text,
        Pem::File { .. } => "",
    }
}

/// The listener with its files read.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn resolved(listener: &GatewayListener) -> Result<GatewayListener, String> {
    let mut listener = listener.clone();
    let Some(tls) = &mut listener.tls else { return Ok(listener) };
    for pair in &mut tls.certificates {
        pem::read_in(&mut pair.certificate)?;
        pem::read_in(&mut pair.private_key)?;
    }
    if let Some(clients) = &mut tls.clients {
        pem::read_in(&mut clients.ca)?;
        clients.crl.as_mut().map_or(Ok(()), pem::read_in)?;
    }
    Ok(listener)
}

/// Does it name files?
pub(crate) fn names_files(listener: &GatewayListener) -> bool {
    let is_file = |pem: &Pem| matches!(pem, Pem::File { .. });
    listener.tls.as_ref().is_some_and(|tls| {
        tls.certificates.iter().any(|p| is_file(&p.certificate) || is_file(&p.private_key))
            || tls.clients.as_ref().is_some_and(|c| is_file(&c.ca) || c.crl.as_ref().is_some_and(is_file))
    })
}

/// Serves a connection from outside.
pub(crate) async fn serve(mut conn: Connection, stream: TcpStream, edges: watch::Receiver<Arc<Edge>>) {
    let edge = edges.borrow().clone();
    let Scope::Gateway { tls, edge: of_connection, .. } = &mut conn.scope else { return };
    (*tls, *of_connection) = (edge.secure(), Some(edges));
    let stream = match edge.proxy_protocol {
        false => Prefixed::new(bytes::BytesMut::new(), stream),
        true => match proxy_protocol::read(stream, clock::now() + limits::PROXY_PROTOCOL_TIMEOUT).await {
            Ok((header, stream)) => {
                conn.proxied(header);
                stream
            }
            Err(error) => return tcp::refused(&conn, &Reject::ProxyProtocol(error.to_string())),
        },
    };
    match (edge.secure(), &edge.single) {
        (false, _) => plain(conn, &edge, stream).await,
        (true, Some(tls)) => terminated(conn, &edge, stream, tls.clone()).await,
        (true, None) => by_name(conn, &edge, stream).await,
    }
}

impl Connection {
    /// A load balancer says whose connection it is.
    fn proxied(&mut self, header: ProxyHeader) {
        if let ProxyHeader::Client(from, to) = header {
            let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
            (self.peer_address, self.local_address) = (canonical(from), canonical(to));
        }
    }
}

async fn plain(conn: Connection, edge: &Edge, stream: Prefixed<TcpStream>) {
    if !edge.doors.iter().any(|door| door.http) {
        return tcp::gateway(conn, Box::new(stream), None).await;
    }
    let deadline = clock::now() + conn.worker.settings.header_timeout;
    match sniff(stream, deadline).await {
        Ok((FirstBytes::Closed | FirstBytes::Nothing, _)) | Err(_) => {}
        Ok((FirstBytes::H2, stream)) => serve_http(Rc::new(conn), Box::new(stream), FirstBytes::H2).await,
        Ok((_, stream)) => serve_http(Rc::new(conn), Box::new(stream), FirstBytes::Http1).await,
    }
}

/// Several kinds of listeners share the port: the server name tells which is meant.
async fn by_name(mut conn: Connection, edge: &Edge, stream: Prefixed<TcpStream>) {
    let Ok((hello, stream)) = client_hello(stream, clock::now() + limits::TLS_TIMEOUT).await else { return };
    let sni = hello.and_then(|hello| hello.server_name);
    let way = edge.door_for(sni.as_deref()).and_then(|index| edge.doors.get(index)).map(|door| &door.way);
    match way {
        Some(Way::Terminate(tls)) => terminated(conn, edge, stream, tls.clone()).await,
        Some(Way::Passthrough) => {
            conn.sni = sni;
            tcp::gateway(conn, Box::new(stream), None).await;
        }
        Some(Way::Auto) => {
            let cluster = sni.as_deref().and_then(cluster_of_server_name);
            conn.sni = sni;
            let Some(cluster) = cluster else {
                return tcp::refused(&conn, &Reject::NoRoute(conn.sni.clone().unwrap_or_default()));
            };
            tcp::gateway(conn, Box::new(stream), Some(cluster)).await;
        }
        Some(Way::Plain) | None => {
            conn.sni = sni;
            tcp::refused(&conn, &Reject::NoRoute(conn.sni.clone().unwrap_or_else(|| "a connection without a server name".into())));
        }
    }
}

async fn terminated(mut conn: Connection, edge: &Edge, stream: Prefixed<TcpStream>, tls: ServerTls) {
    let secured = match tls.accept(stream, clock::now() + limits::TLS_TIMEOUT).await {
        Ok(secured) => secured,
        Err(error) => return tcp::refused(&conn, &Reject::Tls(error.to_string())),
    };
    conn.tls = secured.peer.as_ref().map(|peer| Rc::new(crate::http::tls_record(peer)));
    conn.peer = secured.peer;
    conn.sni = secured.server_name;
    conn.client = secured.client.map(Rc::new);
    let http = edge.door_for(conn.sni.as_deref()).and_then(|index| edge.doors.get(index)).is_some_and(|door| door.http);
    let io: Io = Box::new(secured.stream);
    match secured.tls.alpn {
        Some(Alpn::WeftTcp) => tcp::gateway(conn, io, None).await,
        _ if !http => tcp::gateway(conn, io, None).await,
        Some(Alpn::H2 | Alpn::WeftH2) => serve_http(Rc::new(conn), io, FirstBytes::H2).await,
        _ => serve_http(Rc::new(conn), io, FirstBytes::Http1).await,
    }
}
