//! Listeners shared by workers, accepting that never ends, and where a captured connection wanted to go.

use crate::limits::{ACCEPT_PAUSE_MAX, LISTEN_BACKLOG};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use weft_std::Backoff;

/// Binds `count` listeners to one address, among which the kernel spreads connections: one for each worker. Port 0 picks one free
/// port for all. IPv6 listeners take IPv6 only.
///
/// # Errors
/// When the address is not this machine's or the port is taken, even by another process's shared listener: two proxies on one port
/// would each get half of the connections.
pub fn reuse_port_listeners(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let socket = |address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        Ok(socket)
    };
    // The first is bound without sharing, so that the kernel refuses a port in use; sharing is allowed afterwards.
    let first = socket(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.listen(LISTEN_BACKLOG)?;
    let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = vec![first.into()];
    for _ in 1..count {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        next.listen(LISTEN_BACKLOG)?;
        listeners.push(next.into());
    }
    Ok(listeners)
}

/// Accepts connections and never fails: what is wrong with one connection is skipped, and when the process has no file descriptors
/// left it waits a little, without spinning, until there are some.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    failures: u32,
}

impl Acceptor {
    /// Of a listener in non-blocking mode, on the current runtime.
    ///
    /// # Errors
    /// When the listener cannot be registered with the runtime.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, failures: 0 })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection, with TCP_NODELAY set. Safe to cancel: no connection is lost.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        const PAUSE: Backoff = Backoff::new(Duration::from_millis(10), ACCEPT_PAUSE_MAX);
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    self.failures = 0;
                    // It can fail only for a connection that is already dead, which its first read will tell.
                    stream.set_nodelay(true).ok();
                    return (stream, from);
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    // Said at the first failure and then ever more rarely.
                    if self.failures.is_power_of_two() {
                        tracing::error!(%error, failures = self.failures, "cannot accept connections for now; raise the limit of open files (ulimit -n) if it is reached");
                    }
                    tokio::time::sleep(PAUSE.delay(self.failures, 0.5)).await;
                }
            }
        }
    }
}

/// Errors that `accept` reports for a connection that died while it waited (accept(2), "Error handling").
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::WouldBlock
    )
}

/// Where the client of a redirected connection wanted to go. Without a redirect it is the local address.
///
/// # Errors
/// When the connection is already dead.
pub fn original_dst(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // ENOENT: not tracked; ENOPROTOOPT: the kernel has no address translation loaded. Both mean: nobody redirected it.
    Ok(original.ok().and_then(|address| address.as_socket()).unwrap_or(local))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn one_port_for_all_workers_and_for_nobody_else() {
        let listeners = reuse_port_listeners(loopback(), 4).expect("bound");
        let address = listeners[0].local_addr().expect("address");
        assert!(listeners.iter().all(|listener| listener.local_addr().expect("address") == address));
        let taken = reuse_port_listeners(address, 2).expect_err("in use");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(listeners);
        reuse_port_listeners(address, 2).expect("free again");
    }

    #[tokio::test]
    async fn every_worker_gets_connections() {
        let listeners = reuse_port_listeners(loopback(), 2).expect("bound");
        let address = listeners[0].local_addr().expect("address");
        let mut acceptors: Vec<_> = listeners.into_iter().map(|listener| Acceptor::new(listener).expect("registered")).collect();
        let (mut first, mut second) = (acceptors.remove(0), acceptors.remove(0));
        let (mut of_first, mut of_second) = (0, 0);
        while of_first == 0 || of_second == 0 {
            let client = TcpStream::connect(address).await.expect("connected");
            tokio::select! {
                (stream, _) = first.accept() => { of_first += 1; assert_eq!(original_dst(&stream).expect("alive"), address); }
                (_, from) = second.accept() => { of_second += 1; assert_eq!(from, client.local_addr().expect("alive")); }
            }
            assert!(of_first + of_second < 200, "the kernel spreads by hash");
        }
    }

    #[test]
    fn errors_of_one_connection_are_not_the_listeners() {
        assert!(of_one_connection(&io::ErrorKind::ConnectionAborted.into()));
        assert!(!of_one_connection(&io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32)));
        assert!(!of_one_connection(&io::Error::from_raw_os_error(nix::errno::Errno::ENFILE as i32)));
    }
}
