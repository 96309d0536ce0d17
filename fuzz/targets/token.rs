//! JSON web tokens.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_model::fuzz_token(data));
