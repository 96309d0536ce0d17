//! Frames of HTTP/2, as they would come in on a connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::http2::fuzz_frames(data));
