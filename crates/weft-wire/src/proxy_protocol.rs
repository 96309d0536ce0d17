//! The PROXY protocol, versions 1 and 2: who a connection is for, said before its first byte.
//!
//! Source: "The PROXY protocol", haproxy.org, revision 2020/03/05. What is not exactly of the form is refused: a lenient reader would
//! let a client choose its own address.

use crate::{
    limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX},
    sniff::Prefixed,
};
use bytes::{Buf, BytesMut};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use tokio::io::{AsyncRead, AsyncReadExt};
use weft_model::ProxyProtocol;
use weft_std::clock::Instant;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The connection of a client, from the first address to the second.
    Client(SocketAddr, SocketAddr),
    /// A connection of the load balancer's own (a health check), or one whose address it does not know.
    Local,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection begins with something else.
    #[error("the connection does not begin with a PROXY protocol header")]
    Absent,
    /// Too long.
    #[error("the PROXY protocol header is longer than allowed")]
    TooLong,
    /// Of the first version, and malformed.
    #[error("the line of the PROXY protocol is malformed")]
    BadLine,
    /// Of the second version, and malformed.
    #[error("the binary header of the PROXY protocol is malformed")]
    BadBinary,
    /// Not a stream of bytes.
    #[error("the PROXY protocol header is for something else than TCP")]
    BadTransport,
}

/// Reads a header from the begin of `bytes`: the header and its length, or `None` while more bytes are needed.
///
/// # Errors
/// When the bytes cannot become a header any more.
pub fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let signature = bytes.len().min(SIGNATURE.len());
    if !bytes.is_empty() && bytes[..signature] == SIGNATURE[..signature] {
        return version2(bytes);
    }
    let word = bytes.len().min(6);
    match bytes[..word] == b"PROXY "[..word] {
        true => version1(bytes),
        false => Err(ProxyHeaderError::Absent),
    }
}

/// `PROXY TCP4 <from> <to> <from port> <to port>\r\n`, 107 bytes at most.
fn version1(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(PROXY_V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= PROXY_V1_BYTES_MAX { Err(ProxyHeaderError::TooLong) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| ProxyHeaderError::BadLine)?;
    let words: Vec<&str> = line.split(' ').collect();
    let header = match words.as_slice() {
        // The rest of the line is to be ignored.
        ["PROXY", "UNKNOWN", ..] => ProxyHeader::Local,
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let address = |ip: &str, port: &str| {
                let ip: IpAddr = match *family {
                    "TCP4" => ip.parse::<Ipv4Addr>().map(IpAddr::from).ok()?,
                    _ => ip.parse::<Ipv6Addr>().map(IpAddr::from).ok()?,
                };
                // Decimal, without sign and without leading zero.
                let plain = port.bytes().all(|b| b.is_ascii_digit()) && (port.len() == 1 || !port.starts_with('0'));
                Some(SocketAddr::new(ip, port.parse().ok().filter(|_| plain)?))
            };
            let (from, to) = (address(from, from_port), address(to, to_port));
            ProxyHeader::Client(from.ok_or(ProxyHeaderError::BadLine)?, to.ok_or(ProxyHeaderError::BadLine)?)
        }
        _ => return Err(ProxyHeaderError::BadLine),
    };
    Ok(Some((header, end + 2)))
}

fn version2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let Some(head) = bytes.first_chunk::<16>() else { return Ok(None) };
    let [version_command, family, length @ ..] = [head[12], head[13], head[14], head[15]];
    let length = usize::from(u16::from_be_bytes(length));
    if version_command >> 4 != 2 || version_command & 0xf > 1 {
        return Err(ProxyHeaderError::BadBinary);
    }
    if length > PROXY_V2_BYTES_MAX - 16 {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(body) = bytes.get(16..16 + length) else { return Ok(None) };
    let total = 16 + length;
    if version_command & 0xf == 0 {
        return Ok(Some((ProxyHeader::Local, total)));
    }
    let (addresses, extensions) = match family {
        0x00 => return Ok(Some((ProxyHeader::Local, total))),
        0x11 => body.split_at_checked(12).ok_or(ProxyHeaderError::BadBinary)?,
        0x21 => body.split_at_checked(36).ok_or(ProxyHeaderError::BadBinary)?,
        _ => return Err(ProxyHeaderError::BadTransport),
    };
    check_extensions(extensions)?;
    Ok(Some((client(addresses), total)))
}

/// Both addresses, then both ports; 4 or 16 bytes for an address.
fn client(body: &[u8]) -> ProxyHeader {
    let size = if body.len() == 12 { 4 } else { 16 };
    let ip = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => <[u8; 16]>::try_from(bytes).map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::from),
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let from = SocketAddr::new(ip(&body[..size]), port(2 * size));
    ProxyHeader::Client(from, SocketAddr::new(ip(&body[size..2 * size]), port(2 * size + 2)))
}

/// Each is a type, a length in two bytes, and as many bytes; together they fill the header.
fn check_extensions(mut rest: &[u8]) -> Result<(), ProxyHeaderError> {
    while let [_, high, low, tail @ ..] = rest {
        rest = tail.get(usize::from(u16::from_be_bytes([*high, *low]))..).ok_or(ProxyHeaderError::BadBinary)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(ProxyHeaderError::BadBinary) }
}

/// The header for a connection from `from` to `to`. Addresses of two kinds are both written as IPv6.
pub fn encode(version: ProxyProtocol, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (from_ip, to_ip) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (IpAddr::V4(from), IpAddr::V4(to)),
        (from, to) => (IpAddr::V6(mapped(from)), IpAddr::V6(mapped(to))),
    };
    if version == ProxyProtocol::V1 {
        let family = if from_ip.is_ipv4() { "TCP4" } else { "TCP6" };
        return format!("PROXY {family} {from_ip} {to_ip} {} {}\r\n", from.port(), to.port()).into_bytes();
    }
    let mut bytes = SIGNATURE.to_vec();
    let (family, length) = if from_ip.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
    bytes.extend_from_slice(&[0x21, family, 0, length]);
    for ip in [from_ip, to_ip] {
        match ip {
            IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
        }
    }
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Reads the header of a fresh connection; what follows it is read again from the stream. Dropping the future loses bytes.
///
/// # Errors
/// When there is none, it is malformed ([`io::ErrorKind::InvalidData`]), or it has not come before `deadline`.
pub async fn read<S: AsyncRead + Unpin>(mut stream: S, deadline: Instant) -> io::Result<(ProxyHeader, Prefixed<S>)> {
    let mut bytes = BytesMut::with_capacity(PROXY_V1_BYTES_MAX * 2);
    loop {
        match parse(&bytes) {
            Ok(Some((header, length))) => {
                bytes.advance(length);
                return Ok((header, Prefixed::new(bytes, stream)));
            }
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        let read = tokio::time::timeout_at(deadline, stream.read_buf(&mut bytes)).await;
        match read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => continue,
        }
    }
}

/// For the fuzzer: no bytes may panic, and what is understood is understood again after encoding.
#[doc(hidden)]
pub fn fuzz_proxy_protocol(bytes: &[u8]) {
    if let Ok(Some((header, length))) = parse(bytes) {
        assert!(length <= bytes.len() && length <= PROXY_V2_BYTES_MAX, "no more is taken than there is");
        // More bytes behind a header change nothing about it.
        assert_eq!(parse(&bytes[..length]), Ok(Some((header, length))));
        if let ProxyHeader::Client(from, to) = header
            && from.is_ipv4() == to.is_ipv4()
        {
            let again = parse(&encode(ProxyProtocol::V2, from, to)).ok().flatten().map(|(header, _)| header);
            let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
            let same = matches!(again, Some(ProxyHeader::Client(f, t)) if canonical(f) == canonical(from) && canonical(t) == canonical(to));
            assert!(same, "{header:?} became {again:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    fn both_versions_say_the_same_after_the_way_there_and_back() {
        for (from, to) in [
            ("192.0.2.1:1234", "198.51.100.2:443"),
            ("[2001:db8::1]:65535", "[2001:db8::2]:1"),
            ("255.255.255.255:65535", "255.255.255.255:65535"),
        ] {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let bytes = encode(version, address(from), address(to));
                assert_eq!(parse(&bytes), Ok(Some((ProxyHeader::Client(address(from), address(to)), bytes.len()))), "{from} {version:?}");
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} bytes of {version:?} may still become a header");
                }
            }
        }
        let mixed = encode(ProxyProtocol::V1, address("192.0.2.1:1"), address("[2001:db8::2]:2"));
        assert_eq!(String::from_utf8_lossy(&mixed), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
    }

    #[test]
    fn lines_are_read_strictly() {
        use ProxyHeaderError::{Absent, BadLine, TooLong};
        let bad = |line: &str| parse(line.as_bytes()).err();
        for (line, why) in [
            ("GET / HTTP/1.1\r\n", Absent),
            ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Absent),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", BadLine),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", BadLine),
            ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", BadLine),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", BadLine),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", BadLine),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", BadLine),
            ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", BadLine),
            ("PROXY TCP4 ::1 ::1 1 2\r\n", BadLine),
            ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", BadLine),
            ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", BadLine),
            ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n", BadLine),
        ] {
            assert_eq!(bad(line), Some(why), "{line:?}");
        }
        assert_eq!(parse(b"PROXY UNKNOWN ffff::1 whatever\r\nrest"), Ok(Some((ProxyHeader::Local, 32))));
        assert_eq!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()), Err(TooLong));
    }

    #[test]
    fn binary_headers_are_bounded_and_filled() {
        let header = |command: u8, family: u8, length: u16, body: &[u8]| {
            [SIGNATURE.as_slice(), &[command, family], &length.to_be_bytes(), body].concat()
        };
        let v4 = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 0];
        let client = ProxyHeader::Client(address("1.2.3.4:80"), address("5.6.7.8:256"));
        assert_eq!(parse(&header(0x21, 0x11, 12, &v4)), Ok(Some((client, 28))));
        assert_eq!(parse(&header(0x20, 0x11, 12, &v4)), Ok(Some((ProxyHeader::Local, 28))), "a health check");
        let extended = [v4.as_slice(), &[0x04, 0, 2, 9, 9]].concat();
        assert_eq!(parse(&header(0x21, 0x11, 17, &extended)), Ok(Some((client, 33))));
        for bad in [
            header(0x11, 0x11, 12, &v4),
            header(0x22, 0x11, 12, &v4),
            header(0x21, 0x11, 11, &v4),
            header(0x21, 0x12, 12, &v4),
            header(0x21, 0x31, 216, &[0; 216]),
            header(0x21, 0x11, 16, &[v4.as_slice(), &[0x04, 0, 2, 9]].concat()),
            header(0x21, 0x11, 0xffff, &v4),
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        let mut seed = 1_u32;
        let seeds: [&[u8]; 3] =
            [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nx", b"PROXY TCP6 ::1 ::2 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0caaaabbbbccdd"];
        for round in 0..200_000 {
            let mut bytes = seeds[round % 3].to_vec();
            for _ in 0..=round % 4 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % bytes.len();
                bytes[at] = (seed >> 24) as u8;
            }
            bytes.truncate(bytes.len() - (seed as usize >> 4) % 3);
            fuzz_proxy_protocol(&bytes);
        }
    }

    #[tokio::test]
    async fn what_follows_is_read_again() {
        let deadline = weft_std::clock::now() + std::time::Duration::from_secs(5);
        let bytes = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nhello".as_slice();
        let (header, mut rest) = read(bytes, deadline).await.expect("a header");
        assert_eq!(header, ProxyHeader::Client(address("1.2.3.4:1"), address("5.6.7.8:2")));
        let mut text = String::new();
        rest.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "hello");
        assert!(read(b"PROXY TC".as_slice(), deadline).await.is_err());
    }
}
