//! The name in a TLS ClientHello, read without touching the bytes.

use crate::net::Prefixed;
use bytes::BytesMut;
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// Longest ClientHello that is looked at, in bytes. A longer one is passed on without a name.
const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;
/// Longest wait for the rest of it.
const CLIENT_HELLO_TIMEOUT: Duration = Duration::from_millis(500);

/// Reads on until the ClientHello is whole, and gives back all bytes with the name that it asks for.
pub(crate) async fn server_name(stream: Prefixed<TcpStream>) -> (Option<String>, Prefixed<TcpStream>) {
    let (mut bytes, mut stream) = stream.into_parts();
    let read_on = async {
        while bytes.len() < CLIENT_HELLO_BYTES_MAX && !is_whole(&bytes) {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(CLIENT_HELLO_TIMEOUT, read_on).await.ok();
    let name = parse(&bytes);
    (name, Prefixed::new(BytesMut::from(&bytes[..]), stream))
}

fn is_whole(record: &[u8]) -> bool {
    match record.get(3..5) {
        Some(length) => record.len() >= 5 + usize::from(u16::from_be_bytes([length[0], length[1]])),
        None => false,
    }
}

/// RFC 8446 §4.1.2 and RFC 6066 §3: skips to the `server_name` extension of the first handshake record.
fn parse(record: &[u8]) -> Option<String> {
    let mut hello = Reader(record.get(5..)?);
    if hello.take(1)? != [1] {
        return None;
    }
    hello.take(3 + 2 + 32)?;
    hello.block(1)?;
    hello.block(2)?;
    hello.block(1)?;
    let mut extensions = Reader(hello.block(2)?);
    loop {
        let kind = extensions.take(2)?;
        let body = extensions.block(2)?;
        if kind == [0, 0] {
            let mut names = Reader(Reader(body).block(2)?);
            let is_host = names.take(1)? == [0];
            let name = std::str::from_utf8(names.block(2)?).ok()?;
            return is_host.then(|| weft_model::host_of(name));
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    /// A block after its length in `n` bytes.
    fn block(&mut self, n: usize) -> Option<&'a [u8]> {
        let length = self.take(n)?.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello with one extension.
    fn hello(extension: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(extension.len()).expect("short").to_be_bytes());
        body.extend(extension);
        let mut handshake = vec![1, 0];
        handshake.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        handshake.extend(body);
        let mut record = vec![0x16, 3, 1];
        record.extend(u16::try_from(handshake.len()).expect("short").to_be_bytes());
        record.extend(handshake);
        record
    }

    #[test]
    fn the_name_is_found_and_damage_is_not_one() {
        let extension = [&[0, 0, 0, 10, 0, 8, 0, 0, 5][..], b"A.org"].concat();
        let record = hello(&extension);
        assert!(is_whole(&record));
        assert_eq!(parse(&record).as_deref(), Some("a.org"));
        for end in 0..record.len() {
            assert!(parse(&record[..end]).is_none());
        }
        assert_eq!(parse(&hello(&[0, 16, 0, 0])), None);
    }
}
