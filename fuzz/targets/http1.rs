//! Heads and bodies of HTTP/1, of both sides: whatever the pieces in which they come.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::http1::whole::fuzz_http1(data));
