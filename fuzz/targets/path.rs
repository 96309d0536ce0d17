//! Paths in every mode of normalisation: the result is stable, and what is judged is what is forwarded.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_proxy::fuzz_path(data));
