//! The PROXY protocol, both versions.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::proxy_protocol::fuzz_proxy_protocol(data));
