//! TCP keep-alive: probes of a connection that is idle, so that a peer that vanished is noticed.

use socket2::{SockRef, TcpKeepalive};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// Turns the probes on. What is `None` is the system's.
///
/// # Errors
/// When the system refuses; the connection works all the same.
pub fn keep_alive(stream: &TcpStream, probes: Option<u32>, time: Option<Duration>, interval: Option<Duration>) -> io::Result<()> {
    let mut settings = TcpKeepalive::new();
    if let Some(time) = time {
        settings = settings.with_time(time);
    }
    if let Some(interval) = interval {
        settings = settings.with_interval(interval);
    }
    if let Some(probes) = probes {
        settings = settings.with_retries(probes);
    }
    let socket = SockRef::from(stream);
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(&settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_has_what_was_asked() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
        let stream = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connected");
        keep_alive(&stream, Some(3), Some(Duration::from_secs(600)), None).expect("set");
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().expect("read"));
        assert_eq!(socket.tcp_keepalive_retries().expect("read"), 3);
        assert_eq!(socket.tcp_keepalive_time().expect("read"), Duration::from_secs(600));
    }
}
