//! What users write: any text gives documents and diagnostics, never a panic.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = weft_api::parse(text, "fuzz.yaml");
    for diagnostic in &parsed.diagnostics {
        assert!(!diagnostic.to_string().is_empty());
    }
});
