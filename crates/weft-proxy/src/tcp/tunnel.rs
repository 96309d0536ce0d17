//! Through a proxy outside: a request opens the way, then the bytes go.

use crate::{
    limits::{TUNNEL_HEAD_BYTES_MAX, TUNNEL_TIMEOUT},
    net::{DialError, Io, Prefixed},
};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weft_model::Tunnel;

/// Asks for the target on a fresh connection to the proxy outside (RFC 9110, section 9.3.6).
pub(super) async fn open(mut io: Io, tunnel: &Tunnel) -> Result<Io, DialError> {
    let host = if tunnel.host.contains(':') { format!("[{}]", tunnel.host) } else { tunnel.host.clone() };
    let (method, port) = (tunnel.method.as_str(), tunnel.port);
    let request = format!("{method} {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    let ask = async {
        io.write_all(request.as_bytes()).await.map_err(|error| DialError::Connect(error.to_string()))?;
        io.flush().await.map_err(|error| DialError::Connect(error.to_string()))?;
        let mut bytes = BytesMut::with_capacity(1024);
        loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let granted = matches!(bytes.get(..10), Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', b'2']));
                if !granted {
                    let line = bytes[..].split(|b| *b == b'\r').next().unwrap_or_default();
                    return Err(DialError::Connect(format!("the tunnel is refused: {}", String::from_utf8_lossy(line).escape_debug())));
                }
                bytes.advance(end + 4);
                return Ok(Box::new(Prefixed::new(bytes, io)) as Io);
            }
            if bytes.len() >= TUNNEL_HEAD_BYTES_MAX {
                return Err(DialError::Connect("the tunnel's answer is too long".into()));
            }
            match io.read_buf(&mut bytes).await {
                Ok(0) => return Err(DialError::Connect("the proxy outside closed before it opened the tunnel".into())),
                Ok(_) => {}
                Err(error) => return Err(DialError::Connect(error.to_string())),
            }
        }
    };
    match tokio::time::timeout(TUNNEL_TIMEOUT, ask).await {
        Ok(opened) => opened,
        Err(_) => Err(DialError::Timeout(u64::try_from(TUNNEL_TIMEOUT.as_millis()).unwrap_or(u64::MAX))),
    }
}
