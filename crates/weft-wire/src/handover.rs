//! Handing listening sockets to a successor, so that a new binary takes over without a refused or reset connection.
//!
//! The predecessor offers its sockets on a Unix socket; the successor connects and gets copies of them (`SCM_RIGHTS`). They are the
//! same sockets: what waits in their queues is lost by neither. When the successor serves, it says so, and the predecessor drains.
//! A successor that dies before that changes nothing.

use crate::capture;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, socket, sockopt::PeerCredentials,
};
use std::{
    fs, io,
    net::TcpListener,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Listeners with what they are for.
pub type Sockets = Vec<(String, Vec<TcpListener>)>;

const SOCKETS: u8 = b'S';
const END: u8 = b'E';
const STARTED: u8 = b'G';

/// A place where a successor finds the sockets.
#[derive(Debug)]
pub struct Offer {
    socket: OwnedFd,
    path: PathBuf,
}

/// The way back to the predecessor.
#[derive(Debug)]
pub struct Predecessor {
    socket: OwnedFd,
}

fn address(path: &Path) -> io::Result<UnixAddr> {
    Ok(UnixAddr::new(path)?)
}

fn packets() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

impl Offer {
    /// Opens the place. A file that an earlier process left there is replaced; its folder must be closed to other users.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let own = packets()?;
        // Bound beside and renamed: at every moment there is one that answers.
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        bind(own.as_raw_fd(), &address(&beside)?)?;
        listen(&own, Backlog::new(4)?)?;
        fs::rename(&beside, path)?;
        Ok(Self { socket: own, path: path.to_owned() })
    }

    /// Waits for a successor, gives it the sockets, and returns when it serves. Blocks. A successor that goes away before is forgotten.
    ///
    /// # Errors
    /// When the place is gone.
    pub fn wait(&self, sockets: impl Fn() -> Sockets) -> io::Result<()> {
        loop {
            let peer = capture::own(accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?);
            match give(&peer, sockets()) {
                Ok(true) => return Ok(()),
                Ok(false) => tracing::warn!("a successor went away before it served; this process goes on"),
                Err(error) => tracing::warn!(%error, "the sockets could not be handed to a successor; this process goes on"),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Gives the sockets; true when the other side says that it serves.
fn give(peer: &OwnedFd, sockets: Sockets) -> io::Result<bool> {
    let who = getsockopt(peer, PeerCredentials)?;
    if who.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for (label, listeners) in sockets {
        let fds: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
        for part in fds.chunks(capture::FDS_MAX) {
            let part = part.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>()?;
            capture::send(peer.as_fd(), &[&[SOCKETS], label.as_bytes()].concat(), &part)?;
        }
    }
    capture::send(peer.as_fd(), &[END], &[])?;
    Ok(capture::receive(peer)?.is_some_and(|(bytes, _)| bytes == [STARTED]))
}

/// Takes the sockets of the process that offers them at `path`; `None` when there is none.
///
/// # Errors
/// When it is there and the sockets do not come.
pub fn take(path: &Path) -> io::Result<Option<(Sockets, Predecessor)>> {
    let own = packets()?;
    if connect(own.as_raw_fd(), &address(path)?).is_err() {
        return Ok(None);
    }
    let mut sockets = Sockets::new();
    loop {
        let Some((bytes, fds)) = capture::receive(&own)? else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        match bytes.split_first() {
            Some((&SOCKETS, label)) => {
                sockets.push((String::from_utf8_lossy(label).into_owned(), fds.into_iter().map(TcpListener::from).collect()));
            }
            Some((&END, _)) => return Ok(Some((sockets, Predecessor { socket: own }))),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Predecessor {
    /// This process serves: the predecessor may drain.
    ///
    /// # Errors
    /// When it is gone, which does no harm.
    pub fn started(self) -> io::Result<()> {
        capture::send(self.socket.as_fd(), &[STARTED], &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpStream},
    };

    #[test]
    fn what_waits_in_the_queue_is_served_by_the_successor() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("handover");
        assert!(take(&path).expect("no error").is_none(), "nobody offers anything");
        let listeners = crate::listen::reuse_port_listeners(SocketAddr::from(([127, 0, 0, 1], 0)), 3).expect("bound");
        let address = listeners[0].local_addr().expect("address");
        let offer = Offer::open(&path).expect("opened");
        let predecessor = std::thread::spawn(move || {
            let copies = || vec![("inbound/80".to_owned(), listeners.iter().map(|l| l.try_clone().expect("copied")).collect())];
            offer.wait(copies).expect("handed over");
            drop(listeners);
        });
        // One that dies changes nothing.
        drop(take(&path).expect("taken").expect("there"));
        let mut waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).expect("connected")).collect();
        let (sockets, old) = take(&path).expect("taken").expect("there");
        old.started().expect("said");
        predecessor.join().expect("no panic");
        waiting.extend((0..20).map(|_| TcpStream::connect(address).expect("connected after the old one is gone")));
        let (label, listeners) = &sockets[0];
        assert_eq!((label.as_str(), listeners.len()), ("inbound/80", 3));
        let mut served = 0;
        for listener in listeners {
            listener.set_nonblocking(true).expect("set");
            while let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(b"x").expect("written");
                served += 1;
            }
        }
        assert_eq!(served, 40);
        assert!(waiting.iter_mut().all(|stream| stream.read(&mut [0]).is_ok_and(|n| n == 1)));
    }
}
