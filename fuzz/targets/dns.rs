//! Answers of name servers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_wire::resolve::fuzz_dns_message(data));
