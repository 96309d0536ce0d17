//! TLS over any stream: handshakes under a deadline, and who is at the other end.

use crate::{limits::CLIENT_HELLO_BYTES_MAX, read_ahead::ReadAhead, sniff::Prefixed};
use std::{io, sync::Arc};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_model::SpiffeId;
use weft_pki::{
    Alpn, ClientAuth, MESH_SERVER_NAME, Peer, PeerError, SvidState, TlsInUse,
    edge_tls::{ClientChecks, ClientDemand, EdgeClient, ServerDemand},
    public_tls::{self, ServerSettings},
};
use weft_std::clock::Instant;

mod records;
mod stream;

pub use records::Records;
pub use stream::TlsStream;
pub use weft_pki::public_tls::{PublicCertificate, PublicTlsError};

/// The server's side. Clones share one configuration, which follows certificate rotations by itself.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    mesh: bool,
    clients: Option<Arc<ClientChecks>>,
}

/// The client's side, for one expected peer. Cheap to make per connection: configurations are kept per peer.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<rustls::ClientConfig>,
    name: rustls_pki_types::ServerName<'static>,
    mesh: bool,
}

/// A stream after its handshake.
#[derive(Debug)]
pub struct Secured<S> {
    /// The encrypted stream.
    pub stream: TlsStream<S>,
    /// Who proved its identity. `None` for ordinary TLS, and for a client that may come without certificate and did.
    pub peer: Option<Peer>,
    /// Whose certificate was shown at an edge that asks for one.
    pub client: Option<EdgeClient>,
    /// What was negotiated, with the application protocol.
    pub tls: TlsInUse,
    /// The name that a client asked this side for (SNI); the mesh sends none.
    pub server_name: Option<String>,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer was too slow.
    #[error("the TLS handshake did not end in time")]
    Timeout,
    /// This side refused the peer.
    #[error("{0}")]
    Refused(Box<PeerError>),
    /// The peer refused this side.
    #[error("{0}")]
    RefusedByPeer(String),
    /// Not TLS, or the two sides have nothing in common.
    #[error("{0}")]
    Protocol(String),
    /// The connection broke, or the peer closed it without a word.
    #[error("the connection broke in the TLS handshake: {0}")]
    Io(io::Error),
}

impl ServerTls {
    /// For mesh peers: mutual TLS 1.3 with the SVID of the moment.
    pub fn mesh(state: &SvidState, alpn: &[Alpn], auth: ClientAuth) -> Self {
        Self { acceptor: TlsAcceptor::from(state.server_config(alpn, auth)), mesh: true, clients: None }
    }

    /// For everybody, with certificates in PEM: termination at a gateway. A client that names a host gets the first certificate
    /// whose hosts match, exact names before wildcards; one that names none or an unknown one gets the first.
    ///
    /// # Errors
    /// When there is no certificate, or one or its key cannot be used.
    pub fn public(certificates: &[PublicCertificate<'_>], alpn: &[Alpn]) -> Result<Self, PublicTlsError> {
        Self::edge(certificates, &ServerSettings::default(), None, alpn)
    }

    /// The same with what is asked of clients, and with chosen versions and suites.
    ///
    /// # Errors
    /// When there is no certificate, or one, its key, or what checks clients cannot be used.
    pub fn edge(
        certificates: &[PublicCertificate<'_>],
        settings: &ServerSettings<'_>,
        clients: Option<&ClientDemand<'_>>,
        alpn: &[Alpn],
    ) -> Result<Self, PublicTlsError> {
        let clients = clients.map(ClientChecks::new).transpose()?.map(Arc::new);
        let config = public_tls::server_config(certificates, settings, clients.clone(), alpn)?;
        Ok(Self { acceptor: TlsAcceptor::from(config), mesh: false, clients })
    }

    /// Would a client that came in earlier still come in?
    ///
    /// # Errors
    /// Why not, in words.
    pub fn still_accepts(&self, client: &EdgeClient) -> Result<(), String> {
        self.clients.as_ref().map_or(Ok(()), |checks| checks.still_good(client))
    }

    /// Serves the handshake of a fresh connection. Dropping the future closes it.
    ///
    /// # Errors
    /// When the peer is too slow, is refused, or does not speak TLS.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, deadline: Instant) -> Result<Secured<S>, TlsError> {
        let handshake = async {
            match self.mesh {
                true => Records::accept(stream, self.acceptor.config().clone()).await.map(TlsStream::Mesh),
                false => self.acceptor.accept(ReadAhead::new(stream)).await.map(|stream| TlsStream::Public(Box::new(stream.into()))),
            }
        };
        // Boxed: what a handshake holds is not carried by the connection after it.
        let handshake = tokio::time::timeout_at(deadline, Box::pin(handshake));
        let stream = handshake.await.map_err(|_| TlsError::Timeout)?.map_err(TlsError::from_io)?;
        let mut secured = Secured::of(stream, self.mesh)?;
        if let Some(checks) = &self.clients {
            secured.client = checks.client(secured.stream.state().peer_certificates());
        }
        Ok(secured)
    }
}

impl ClientTls {
    /// To a mesh peer that must prove to be `expected`. Without an SVID yet, this side shows no certificate.
    pub fn mesh(state: &SvidState, expected: &SpiffeId, alpn: &[Alpn]) -> Self {
        let name = MESH_SERVER_NAME.try_into().expect("a legal DNS name");
        Self { config: state.client_config(expected, alpn), name, mesh: true }
    }

    /// To a server with a public name, verified against `roots_pem` or the system's roots.
    ///
    /// # Errors
    /// When `name` is no DNS name or address, or there are no roots.
    pub fn public(name: &str, roots_pem: Option<&str>, alpn: &[Alpn]) -> Result<Self, PublicTlsError> {
        Self::outside(name, &ServerDemand { ca_pem: roots_pem, ..ServerDemand::default() }, alpn)
    }

    /// To a server outside that is checked as `demand` says. `name` is sent, and checked where no other names are demanded.
    ///
    /// # Errors
    /// When `name` is no DNS name or address, there are no roots, or the own certificate cannot be used.
    pub fn outside(name: &str, demand: &ServerDemand<'_>, alpn: &[Alpn]) -> Result<Self, PublicTlsError> {
        let server =
            name.to_owned().try_into().map_err(|_| PublicTlsError::Chain(format!("{name:?} is not a name that TLS can verify")))?;
        Ok(Self { config: public_tls::client_config(demand, alpn)?, name: server, mesh: false })
    }

    /// Makes the handshake on a fresh connection. Dropping the future closes it.
    ///
    /// In TLS 1.3 a server looks at the client's certificate after the client is done: a refusal then comes as an error of the
    /// first read, which [`TlsError::from_io`] puts into words.
    ///
    /// # Errors
    /// When the peer is too slow, is not whom it should be, or does not speak TLS.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, deadline: Instant) -> Result<Secured<S>, TlsError> {
        let (config, name) = (self.config.clone(), self.name.clone());
        let handshake = async {
            match self.mesh {
                true => Records::connect(stream, config, name).await.map(TlsStream::Mesh),
                false => TlsConnector::from(config)
                    .connect(name, ReadAhead::new(stream))
                    .await
                    .map(|stream| TlsStream::Public(Box::new(stream.into()))),
            }
        };
        let handshake = tokio::time::timeout_at(deadline, Box::pin(handshake));
        let stream = handshake.await.map_err(|_| TlsError::Timeout)?.map_err(TlsError::from_io)?;
        Secured::of(stream, self.mesh)
    }
}

impl<S> Secured<S> {
    fn of(stream: TlsStream<S>, mesh: bool) -> Result<Self, TlsError> {
        let state = stream.state();
        let tls = TlsInUse::of(state);
        // Of a public server only the name was verified: whatever its certificate says, it proves no identity of the mesh.
        let peer = if mesh { Peer::of(state).map_err(|error| TlsError::Refused(Box::new(error)))? } else { None };
        let server_name = stream.server_name().map(str::to_owned);
        Ok(Self { stream, peer, client: None, tls, server_name })
    }
}

/// What a client asks for in its first TLS message, in the clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host it wants (SNI).
    pub server_name: Option<String>,
    /// The application protocols it offers.
    pub alpn: Vec<String>,
}

/// Reads the first message of a TLS client without answering it; all bytes are read again. `None` when it is not well-formed, or
/// has not come before `deadline`: then nothing is known of what the client wants.
///
/// # Errors
/// When the connection breaks.
pub async fn client_hello<S: AsyncRead + Unpin>(stream: Prefixed<S>, deadline: Instant) -> io::Result<(Option<ClientHello>, Prefixed<S>)> {
    let (mut bytes, mut stream) = stream.into_parts();
    let mut reader = tokio_rustls::rustls::server::Acceptor::default();
    let mut seen = 0;
    let hello = loop {
        // It takes what it has room for, which is all until it has an answer.
        while seen < bytes.len() {
            match reader.read_tls(&mut &bytes[seen..]) {
                Ok(count) if count > 0 => seen += count,
                _ => break,
            }
        }
        match reader.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let alpn = hello.alpn().into_iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                break Some(ClientHello { server_name: hello.server_name().map(str::to_owned), alpn });
            }
            Ok(None) if bytes.len() < CLIENT_HELLO_BYTES_MAX => {}
            Ok(None) | Err(_) => break None,
        }
        match tokio::time::timeout_at(deadline, stream.read_buf(&mut bytes)).await {
            Ok(Err(error)) => return Err(error),
            Ok(Ok(0)) | Err(_) => break None,
            Ok(Ok(_)) => {}
        }
    };
    Ok((hello, Prefixed::new(bytes, stream)))
}

/// For the fuzzer: no first bytes of a client may panic.
#[doc(hidden)]
pub fn fuzz_client_hello(bytes: &[u8]) {
    use tokio_rustls::rustls::server::Acceptor;
    let mut reader = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() && matches!(reader.read_tls(&mut rest), Ok(count) if count > 0) {}
    if let Ok(Some(accepted)) = reader.accept() {
        let hello = accepted.client_hello();
        assert!(hello.server_name().is_none_or(|name| name.len() <= bytes.len()), "a name is part of what was read");
    }
}

impl TlsError {
    /// Of an error of a handshake, or of a read or write on an encrypted stream.
    pub fn from_io(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>()) else {
            return Self::Io(error);
        };
        let text = weft_pki::explain(tls);
        match (weft_pki::peer_error(tls), tls) {
            (Some(refusal), _) => Self::Refused(Box::new(refusal.clone())),
            (None, tokio_rustls::rustls::Error::AlertReceived(_)) => Self::RefusedByPeer(text),
            (None, _) => Self::Protocol(text),
        }
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("configuration", &Arc::as_ptr(self.acceptor.config())).finish()
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
