//! What a TLS client asks for, before any key is agreed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::tls::fuzz_client_hello(data));
