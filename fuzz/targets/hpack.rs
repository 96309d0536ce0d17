//! Header blocks of HTTP/2.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::http2::fuzz_hpack(data));
