//! An accepted connection with the peer that it proved, as tonic wants it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tonic::transport::server::Connected;
use weft_pki::Peer;
use weft_wire::tls::{Secured, TlsStream};

/// The encrypted stream. Holds its place among the connections.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    proved: Proved,
    _place: OwnedSemaphorePermit,
}

/// Who is at the other end, for each call on the connection.
#[derive(Debug, Clone)]
pub(crate) struct Proved {
    /// `None` for a client without certificate.
    pub(crate) peer: Option<Arc<Peer>>,
}

impl Connection {
    pub(crate) fn new(secured: Secured<TcpStream>, place: OwnedSemaphorePermit) -> Self {
        Self { stream: secured.stream, proved: Proved { peer: secured.peer.map(Arc::new) }, _place: place }
    }
}

impl Connected for Connection {
    type ConnectInfo = Proved;
    fn connect_info(&self) -> Proved {
        self.proved.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
