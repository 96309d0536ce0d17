//! Accepting when the process has no file descriptors left. In a process of its own, since the limit is the process's.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};
use weft_wire::listen::{Acceptor, reuse_port_listeners};

#[tokio::test(start_paused = true)]
async fn accepting_waits_for_file_descriptors_and_goes_on() {
    let listener = reuse_port_listeners(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).expect("bound").remove(0);
    let mut acceptor = Acceptor::new(listener).expect("registered");
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(acceptor.local_addr().expect("address")).expect("connected")).collect();

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    let next_free = clients.iter().map(AsRawFd::as_raw_fd).max().expect("three") as u64 + 1;
    setrlimit(Resource::RLIMIT_NOFILE, next_free, hard).expect("lowered");
    // Time is virtual: an hour of pauses passes at once, and a loop that spins would never let it pass.
    let tried = tokio::time::timeout(Duration::from_secs(3600), acceptor.accept()).await;
    assert!(tried.is_err(), "there is no descriptor for it");

    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("raised");
    for _ in clients {
        acceptor.accept().await;
    }
}
