//! The first bytes of a connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::sniff::fuzz_sniff(data));
