//! Doors for fuzzing: any bytes, and what must hold whatever they are.

use super::{
    connection::{Core, Role},
    hpack::{Decoder, Encoder, Field},
    options::Options,
};
use std::rc::Rc;
use weft_std::clock;

/// What a peer may send, to a server and to a client with an open request. The first byte says in what pieces.
pub fn fuzz_frames(bytes: &[u8]) {
    let Some((piece, rest)) = bytes.split_first() else { return };
    for role in [Role::Server, Role::Client] {
        let options =
            Rc::new(Options { streams_max: 8, stream_window_bytes: 65_535, connection_window_bytes: 65_535, ..Options::default() });
        let mut core = Core::new(role, options, clock::now());
        if role == Role::Client {
            let request = http::Request::get("http://host/").body(()).unwrap_or_default();
            core.open(&request, false);
        } else if core.receive(super::PREFACE).is_err() {
            return;
        }
        let mut ended = false;
        for part in rest.chunks(usize::from(*piece).max(1)) {
            let outcome = core.receive(part);
            assert!(!(ended && outcome.is_ok()), "what is closed stays closed");
            ended = outcome.is_err();
        }
        while let Some((key, request)) = core.accepted.pop_front() {
            let path = request.uri().path();
            assert!(path.is_empty() || path.starts_with('/') || path == "*", "a path of another form: {path}");
            assert!(request.headers().values().all(|v| !v.as_bytes().iter().any(|b| matches!(b, b'\r' | b'\n' | 0))));
            core.streams.let_go(key, 1);
        }
        let waiting: usize = core.streams.each().map(|(_, s)| s.queue.iter().map(bytes::Bytes::len).sum::<usize>()).sum();
        assert!(waiting <= 65_535, "no more is kept than the window allows");
        assert!(core.streams.open() <= 8);
    }
}

/// Any header block; what decodes well is encoded and must come back.
pub fn fuzz_hpack(bytes: &[u8]) {
    let mut fields = Vec::new();
    let mut decoder = Decoder::default();
    for block in bytes.chunks(64) {
        let whole = decoder.decode(block, |field, _| fields.push(field)).is_ok();
        if !whole {
            break;
        }
    }
    for huffman in [false, true] {
        let (mut encoder, mut decoder) = (Encoder::new(huffman), Decoder::default());
        for field in &fields {
            let Field::Header(name, value) = field else { continue };
            let (mut out, mut back) = (Vec::new(), None);
            encoder.begin(&mut out);
            encoder.header(name, value, &mut out);
            let decoded = decoder.decode(&out, |field, _| back = Some(field));
            assert!(decoded.is_ok() && back.as_ref() == Some(field), "{field:?} came back as {back:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little of what the fuzzer does at length: valid beginnings, bent.
    #[test]
    fn bent_input_does_no_harm() {
        let mut seed = 7u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let valid: Vec<u8> = [
            &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
            &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x41 & 0xbf],
            &[0, 0, 3, 0, 1, 0, 0, 0, 1, 1, 2, 3],
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        ]
        .concat();
        for _ in 0..2_000 {
            let mut bytes = vec![(next() % 40) as u8];
            for _ in 0..next() % 6 {
                bytes.extend(&valid);
            }
            for _ in 0..next() % 8 {
                let at = next() as usize % bytes.len();
                bytes[at] = next() as u8;
            }
            fuzz_frames(&bytes);
            fuzz_hpack(&bytes);
        }
    }
}
