//! Connections from the proxy to the program: sockets of the program's namespace, kept in store and connected outside.

use super::message::{self, Family, Request};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Notify,
};

/// Sockets asked for at once.
const BATCH: u8 = 16;

/// How long to wait when a batch brought nothing.
const PAUSE: Duration = Duration::from_millis(20);

/// More are asked for when so few are left.
const LOW: usize = 4;

/// Connects to the program's ports. Clones share the store; any runtime of the process may use it.
#[derive(Debug, Clone)]
pub struct ProgramSockets {
    pool: Arc<Pool>,
}

impl ProgramSockets {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// Connects to `port` on the program's loopback: 127.0.0.1, or ::1 when the program listens there only. TCP_NODELAY is set.
    /// Safe to cancel.
    ///
    /// # Errors
    /// Connection refused when the program does not listen; broken pipe when it has ended.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let refused = match self.connect_over(Family::V4, port).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
            other => return other,
        };
        // The refusal of the usual address says more than what is wrong with the other one.
        self.connect_over(Family::V6, port).await.map_err(|_| refused)
    }

    async fn connect_over(&self, family: Family, port: u16) -> io::Result<TcpStream> {
        let socket = StdStream::from(self.pool.take(family).await?);
        socket.set_nonblocking(true)?;
        let address = match family {
            Family::V4 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Family::V6 => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        };
        let stream = TcpSocket::from_std_stream(socket).connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The store of unconnected sockets.
#[derive(Debug)]
pub(super) struct Pool {
    control: Arc<OwnedFd>,
    v4: Shelf,
    v6: Shelf,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Shelf {
    sockets: Mutex<Vec<OwnedFd>>,
    arrived: Notify,
    asked: AtomicBool,
}

impl Pool {
    pub(super) fn new(control: Arc<OwnedFd>) -> Self {
        Self { control, v4: Shelf::default(), v6: Shelf::default(), closed: AtomicBool::new(false) }
    }

    /// Takes a socket, waiting for the agent when there is none.
    async fn take(&self, family: Family) -> io::Result<OwnedFd> {
        let shelf = self.shelf(family);
        loop {
            // Made before looking, so that what arrives in between is not missed.
            let mut arrived = std::pin::pin!(shelf.arrived.notified());
            arrived.as_mut().enable();
            let (socket, left) = {
                let mut sockets = shelf.lock();
                (sockets.pop(), sockets.len())
            };
            if self.closed.load(Ordering::Acquire) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if left <= LOW && !shelf.asked.swap(true, Ordering::AcqRel) {
                message::send(self.control.as_fd(), &Request::Sockets(family, BATCH).encode(), &[])?;
            }
            match socket {
                Some(socket) => return Ok(socket),
                None => arrived.await,
            }
            if shelf.is_empty_after_batch() {
                // One side is out of file descriptors: no reason to ask ever faster.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The agent has made one, or its batch has ended.
    pub(super) fn arrived(&self, family: Family, fds: Vec<OwnedFd>) {
        let shelf = self.shelf(family);
        match fds.is_empty() {
            true => shelf.asked.store(false, Ordering::Release),
            false => shelf.lock().extend(fds),
        }
        shelf.arrived.notify_waiters();
    }

    /// The agent is gone.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.v4.arrived.notify_waiters();
        self.v6.arrived.notify_waiters();
    }

    fn shelf(&self, family: Family) -> &Shelf {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn is_empty_after_batch(&self) -> bool {
        !self.asked.load(Ordering::Acquire) && self.lock().is_empty()
    }
}
