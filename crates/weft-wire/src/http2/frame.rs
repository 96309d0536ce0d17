//! Frames as bytes (RFC 9113 §4 and §6). What a frame means is `connection.rs`'s business.

use super::error::{ErrorCode, Violation};

/// What a client sends before its first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before each frame's payload.
pub(crate) const HEAD_BYTES: usize = 9;

/// The least `SETTINGS_MAX_FRAME_SIZE`, and the one that we announce.
pub(crate) const FRAME_BYTES_MAX: usize = 16_384;

pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The nine bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHead {
    /// The reserved bit is ignored (§4.1).
    pub(crate) fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        Self {
            length: usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]),
            kind: bytes[3],
            flags: bytes[4],
            stream: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & 0x7fff_ffff,
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The payload without its padding (§6.1).
pub(crate) fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Violation> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let Some((padding, rest)) = payload.split_first() else {
        return Err(Violation::size("a padded frame without the length of its padding"));
    };
    match rest.len().checked_sub(usize::from(*padding)) {
        Some(length) => Ok(&rest[..length]),
        None => Err(Violation::protocol("the padding is longer than the frame")),
    }
}

/// The four bytes at `at`; zero where the payload is shorter, which its caller has excluded.
pub(crate) fn number(payload: &[u8], at: usize) -> u32 {
    payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

pub(crate) fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = (length as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags, stream[0], stream[1], stream[2], stream[3]]);
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put_head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    put_head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}

pub(crate) fn put_ping(out: &mut Vec<u8>, flags: u8, opaque: [u8; 8]) {
    put_head(out, 8, kind::PING, flags, 0);
    out.extend_from_slice(&opaque);
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode, why: &str) {
    put_head(out, 8 + why.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(why.as_bytes());
}

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9113_4_1_a_head_comes_back() {
        let mut out = Vec::new();
        put_head(&mut out, 0x01_02_03, 9, 0x2d, 0x7fff_fffe);
        let head = FrameHead::read(out.as_slice().try_into().expect("nine bytes"));
        assert_eq!(head, FrameHead { length: 0x01_02_03, kind: 9, flags: 0x2d, stream: 0x7fff_fffe });
        out[5] |= 0x80;
        assert_eq!(FrameHead::read(out.as_slice().try_into().expect("nine bytes")), head, "the reserved bit is ignored");
    }

    #[test]
    fn rfc9113_6_1_padding() {
        let head = FrameHead { length: 0, kind: kind::DATA, flags: flag::PADDED, stream: 1 };
        assert_eq!(unpadded(head, &[2, 7, 0, 0]), Ok(&[7][..]));
        assert_eq!(unpadded(head, &[0]), Ok(&[][..]));
        assert!(unpadded(head, &[]).is_err());
        assert!(unpadded(head, &[3, 0, 0]).is_err());
        assert_eq!(unpadded(FrameHead { flags: 0, ..head }, &[3, 0, 0]), Ok(&[3, 0, 0][..]));
    }
}
