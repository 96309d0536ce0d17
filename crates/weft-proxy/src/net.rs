//! Byte streams as this crate sees them: one stream type, dialling, and the TLS of the mesh.

use crate::{
    limits::{NAME_ADDRESSES_TRIED_MAX, TLS_TIMEOUT},
    names::Names,
};
use std::{net::SocketAddr, time::Duration};
use tokio::net::{TcpStream, UnixStream};
use weft_model::{DnsTrust, EndpointAddress, SpiffeId};
use weft_pki::{Alpn, Peer, SvidState};
use weft_std::clock;
use weft_wire::tls::{ClientTls, TlsError};

pub(crate) use weft_wire::{
    sniff::{FirstBytes, Prefixed},
    stream::{Io, Stream},
};

/// Why a connection to an upstream could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Name, address or port could not be reached.
    Connect(String),
    /// The name stands for no address that may be used.
    Dns(String),
    /// The time-out passed, in milliseconds.
    Timeout(u64),
    /// The handshake failed: wrong identity, other trust domain, expired.
    Tls(String),
}

/// Connects within `limit`. The addresses of a name are tried in turn, the next one first.
pub(crate) async fn dial(address: &EndpointAddress, limit: Duration, names: Option<(&Names, DnsTrust)>) -> Result<TcpStream, DialError> {
    let connect = async {
        match (address, names) {
            (EndpointAddress::Socket(address), _) => TcpStream::connect(address).await.map_err(|e| DialError::Connect(e.to_string())),
            (EndpointAddress::Name { host, port }, Some((names, trust))) => by_name(host, *port, names, trust).await,
            _ => Err(DialError::Connect("the address cannot be called from here".into())),
        }
    };
    let stream = match tokio::time::timeout(limit, connect).await {
        Ok(connected) => connected?,
        Err(_) => return Err(DialError::Timeout(millis(limit))),
    };
    // A failure here costs latency only.
    stream.set_nodelay(true).ok();
    Ok(stream)
}

async fn by_name(host: &str, port: u16, names: &Names, trust: DnsTrust) -> Result<TcpStream, DialError> {
    if let Ok(ip) = host.parse::<std::net::IpAddr>() {
        return TcpStream::connect((ip, port)).await.map_err(|e| DialError::Connect(e.to_string()));
    }
    let addresses = names.lookup(host, trust).await.map_err(DialError::Dns)?;
    let mut last = DialError::Dns(format!("{host} has no address"));
    for ip in addresses.into_iter().take(NAME_ADDRESSES_TRIED_MAX) {
        match TcpStream::connect((ip, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = DialError::Connect(error.to_string()),
        }
    }
    Err(last)
}

/// Connects to a socket of this machine.
pub(crate) async fn dial_unix(path: &str, limit: Duration) -> Result<UnixStream, DialError> {
    let connect = async {
        match path.strip_prefix('@') {
            None => UnixStream::connect(path).await,
            Some(name) => {
                let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?;
                // At once or not at all: such sockets have a queue and no network.
                let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream)
            }
        }
    };
    match tokio::time::timeout(limit, connect).await {
        Ok(connected) => connected.map_err(|e| DialError::Connect(e.to_string())),
        Err(_) => Err(DialError::Timeout(millis(limit))),
    }
}

/// Turns keep-alive on, as far as the system lets it: without it the connection works all the same.
pub(crate) fn keep_alive(stream: &TcpStream, settings: &weft_model::TcpKeepalive) {
    let (time, interval) = (settings.time_s.map(Duration::from_secs), settings.interval_s.map(Duration::from_secs));
    weft_wire::keepalive::keep_alive(stream, settings.probes, time, interval).ok();
}

/// Mutual TLS towards a peer that must prove to be `expected`.
pub(crate) async fn connect_mesh<S>(stream: S, svid: &SvidState, expected: &SpiffeId, alpn: Alpn) -> Result<(Io, Peer), DialError>
where
    S: Stream + 'static,
{
    let connected = ClientTls::mesh(svid, expected, &[alpn]).connect(stream, clock::now() + TLS_TIMEOUT).await;
    let secured = connected.map_err(|error| tls_failed(&error))?;
    let peer = secured.peer.ok_or_else(|| DialError::Tls("the peer proved no identity".into()))?;
    Ok((Box::new(secured.stream), peer))
}

/// Ordinary TLS towards a server with a public name.
pub(crate) async fn connect_public<S: Stream + 'static>(stream: S, tls: &ClientTls) -> Result<Io, DialError> {
    let connected = tls.connect(stream, clock::now() + TLS_TIMEOUT).await;
    connected.map(|secured| Box::new(secured.stream) as Io).map_err(|error| tls_failed(&error))
}

fn tls_failed(error: &TlsError) -> DialError {
    match error {
        TlsError::Timeout => DialError::Timeout(millis(TLS_TIMEOUT)),
        TlsError::Refused(_) | TlsError::RefusedByPeer(_) | TlsError::Protocol(_) | TlsError::Io(_) => DialError::Tls(error.to_string()),
    }
}

/// Where a captured connection wanted to go before it was redirected; `None` when it was not.
pub(crate) fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let original = weft_wire::listen::original_dst(stream).ok()?;
    let canonical = SocketAddr::new(original.ip().to_canonical(), original.port());
    (stream.local_addr().ok()? != original).then_some(canonical)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
