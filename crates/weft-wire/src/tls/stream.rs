//! One type for both ways of TLS.

use super::records::Records;
use rustls::CommonState;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An encrypted stream, of either side.
#[derive(Debug)]
pub enum TlsStream<S> {
    /// Between members of the mesh: of these there are many, and most of them idle.
    Mesh(Records<S>),
    /// With everybody else, where the name that a client asked for must be known.
    Public(Box<tokio_rustls::TlsStream<crate::read_ahead::ReadAhead<S>>>),
}

impl<S> TlsStream<S> {
    /// What was negotiated, and the peer's certificates.
    pub fn state(&self) -> &CommonState {
        match self {
            Self::Mesh(stream) => stream.state(),
            Self::Public(stream) => stream.get_ref().1,
        }
    }

    /// The name that a client asked this side for.
    pub(super) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Mesh(_) => None,
            Self::Public(stream) => match &**stream {
                tokio_rustls::TlsStream::Server(stream) => stream.get_ref().1.server_name(),
                tokio_rustls::TlsStream::Client(_) => None,
            },
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Mesh(stream) => Pin::new(stream).poll_read(cx, to),
            Self::Public(stream) => Pin::new(&mut **stream).poll_read(cx, to),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Mesh(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Public(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Mesh(stream) => Pin::new(stream).poll_flush(cx),
            Self::Public(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Mesh(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Public(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
