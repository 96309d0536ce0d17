//! The way to one endpoint: its socket, what is said first on it, and the TLS around it.

use crate::{
    limits::PEM_RELOAD,
    net::{self, DialError, Io, Stream},
    pem,
    program::Program,
    worker::Worker,
};
use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};
use tokio::io::AsyncWriteExt as _;
use weft_model::{DnsTrust, EndpointAddress, Pem, ProxyProtocol, SpiffeId, TcpKeepalive, TlsOrigination};
use weft_pki::{Alpn, Peer, edge_tls::ServerDemand};
use weft_std::clock::{self, Instant};
use weft_wire::{proxy_protocol, tls::ClientTls};

/// Where the connections of a pool lead.
#[derive(Clone)]
pub(crate) enum Dial {
    /// An endpoint.
    Endpoint {
        /// Where.
        address: EndpointAddress,
        /// How it is spoken to.
        tls: DialTls,
        /// Which addresses a name may stand for.
        trust: DnsTrust,
        /// For whom each connection is, said before its first byte.
        announce: Option<Announcement>,
    },
    /// The program behind this proxy.
    Program { program: Program, port: u16 },
}

/// How an endpoint is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialTls {
    /// In the clear.
    None,
    /// Mutual TLS of the mesh, with the identity that it must prove.
    Mesh(SpiffeId),
    /// TLS to a server outside.
    Outside(Rc<Outside>),
}

/// A server outside and what is asked of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    /// Name that is sent and, where no other is listed, must be proved.
    pub name: String,
    /// Roots, names, the own certificate.
    pub origination: TlsOrigination,
}

/// Whose connection it is, in the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Form.
    pub version: ProxyProtocol,
    /// The client.
    pub from: SocketAddr,
    /// Where it connected to.
    pub to: SocketAddr,
}

/// Makes connections to one place.
pub(crate) struct Dialer {
    dial: Dial,
    /// Made once per protocol: reading roots is slow.
    outside: RefCell<Vec<Made>>,
}

struct Made {
    alpn: Alpn,
    tls: ClientTls,
    since: Instant,
}

impl Dialer {
    pub(crate) fn new(dial: Dial) -> Self {
        Self { dial, outside: RefCell::default() }
    }

    /// A new connection as bytes, within `limit` for the socket and the handshake's own limit.
    pub(crate) async fn connect(
        &self,
        worker: &Worker,
        limit: Duration,
        keepalive: Option<&TcpKeepalive>,
        alpn: Alpn,
    ) -> Result<(Io, Option<Peer>), DialError> {
        match &self.dial {
            Dial::Program { program, port } => Ok((Box::new(program.connect(*port, limit).await?), None)),
            Dial::Endpoint { address: EndpointAddress::Unix { path }, tls, announce, .. } => {
                self.secure(net::dial_unix(path, limit).await?, worker, tls, *announce, alpn).await
            }
            Dial::Endpoint { address, tls, trust, announce } => {
                let names = Some((&worker.shared.names, *trust));
                let stream = net::dial(address, limit, names).await?;
                if let Some(keepalive) = keepalive {
                    net::keep_alive(&stream, keepalive);
                }
                self.secure(stream, worker, tls, *announce, alpn).await
            }
        }
    }

    async fn secure<S: Stream + 'static>(
        &self,
        mut stream: S,
        worker: &Worker,
        tls: &DialTls,
        announce: Option<Announcement>,
        alpn: Alpn,
    ) -> Result<(Io, Option<Peer>), DialError> {
        let header = announce.map(|a| proxy_protocol::encode(a.version, a.from, a.to));
        let lost = |error: std::io::Error| DialError::Connect(error.to_string());
        match tls {
            DialTls::Mesh(expected) => {
                let (mut io, peer) = net::connect_mesh(stream, &worker.shared.svid, expected, alpn).await?;
                // The proxy there expects its own protocol first; the program behind it is told, where bytes are not read.
                if let Some(header) = header.filter(|_| alpn == Alpn::WeftTcp) {
                    io.write_all(&header).await.map_err(lost)?;
                }
                Ok((io, Some(peer)))
            }
            DialTls::None | DialTls::Outside(_) => {
                if let Some(header) = header {
                    stream.write_all(&header).await.map_err(lost)?;
                }
                match tls {
                    DialTls::Outside(outside) => Ok((net::connect_public(stream, &self.outside(outside, alpn)?).await?, None)),
                    DialTls::None | DialTls::Mesh(_) => Ok((Box::new(stream), None)),
                }
            }
        }
    }

    fn outside(&self, outside: &Outside, alpn: Alpn) -> Result<ClientTls, DialError> {
        let origination = &outside.origination;
        if !origination.missing.is_empty() {
            return Err(DialError::Tls(format!("{}, so that nothing is sent", origination.missing)));
        }
        let now = clock::now();
        let fresh = |made: &&Made| made.alpn == alpn && (!names_files(origination) || now.duration_since(made.since) < PEM_RELOAD);
        if let Some(made) = self.outside.borrow().iter().find(fresh) {
            return Ok(made.tls.clone());
        }
        let offered: &[Alpn] = match alpn {
            Alpn::WeftH2 | Alpn::H2 => &[Alpn::H2],
            Alpn::WeftHttp1 | Alpn::Http11 => &[Alpn::Http11],
            Alpn::WeftTcp => &[],
        };
        let tls = outside_tls(outside, offered).map_err(DialError::Tls)?;
        let mut kept = self.outside.borrow_mut();
        kept.retain(|made| made.alpn != alpn);
        kept.push(Made { alpn, tls: tls.clone(), since: now });
        Ok(tls)
    }
}

/// What an endpoint outside is asked and shown, with files read.
fn outside_tls(outside: &Outside, offered: &[Alpn]) -> Result<ClientTls, String> {
    let o = &outside.origination;
    let (ca, crl) = (o.ca.as_ref().map(pem::text).transpose()?, o.crl.as_ref().map(pem::text).transpose()?);
    let pair = o.certificate.as_ref().map(|pair| Ok::<_, String>((pem::text(&pair.certificate)?, pem::text(&pair.private_key)?)));
    let pair = pair.transpose()?;
    let demand = ServerDemand {
        ca_pem: ca.as_deref(),
        crl_pem: crl.as_deref(),
        certificate: pair.as_ref().map(|(chain, key)| (chain.as_str(), key.as_str())),
        names: &o.subject_alt_names,
        insecure: o.insecure_skip_verify,
    };
    ClientTls::outside(&outside.name, &demand, offered).map_err(|error| error.to_string())
}

fn names_files(o: &TlsOrigination) -> bool {
    let is_file = |pem: &Pem| matches!(pem, Pem::File { .. });
    o.ca.as_ref().is_some_and(is_file)
        || o.crl.as_ref().is_some_and(is_file)
        || o.certificate.as_ref().is_some_and(|pair| is_file(&pair.certificate) || is_file(&pair.private_key))
}
