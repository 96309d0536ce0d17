//! The way to the program behind this proxy.

use crate::net::{self, DialError};
use std::{net::IpAddr, time::Duration};
use tokio::net::TcpStream;
use weft_model::EndpointAddress;
use weft_wire::capture::ProgramSockets;

/// Where the program listens.
#[derive(Debug, Clone)]
pub enum Program {
    /// At this address of the host.
    Host(IpAddr),
    /// At this address of the host, whatever port the mesh knows it by.
    HostPort(std::net::SocketAddr),
    /// On loopback of its own network namespace.
    Namespace(ProgramSockets),
}

impl Program {
    pub(crate) async fn connect(&self, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
        match self {
            Self::Host(ip) => net::dial(&EndpointAddress::Socket((*ip, port).into()), limit, None).await,
            Self::HostPort(address) => net::dial(&EndpointAddress::Socket(*address), limit, None).await,
            Self::Namespace(sockets) => match tokio::time::timeout(limit, sockets.connect(port)).await {
                Ok(connected) => connected.map_err(|e| DialError::Connect(e.to_string())),
                Err(_) => Err(DialError::Timeout(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))),
            },
        }
    }
}
