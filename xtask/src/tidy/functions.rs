//! Functions fit on one screen. What was longer when the rule came is listed with its length, and may only get shorter.

use super::sources::File;
use crate::root;
use anyhow::{Context, Result};
use std::{collections::BTreeMap, fs};

/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
const RATCHET: &str = "xtask/tidy-ratchet.txt";

/// Compares every function with the bound, or with its line in the ratchet. `UPDATE=1` writes the ratchet.
pub(super) fn check(files: &[File]) -> Result<Vec<String>> {
    let long: BTreeMap<String, usize> = files
        .iter()
        .filter(|f| f.is_rust() && !f.is_generated() && !f.is_test())
        .flat_map(|f| functions(&f.text).into_iter().map(|(name, lines)| (format!("{} {name}", f.path), lines)))
        .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
        .collect();
    let path = root().join(RATCHET);
    if std::env::var_os("UPDATE").is_some() {
        let text: String = long.iter().map(|(name, lines)| format!("{name} {lines}\n")).collect();
        fs::write(&path, text).context(RATCHET)?;
        return Ok(vec![]);
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeMap<&str, usize> =
        known.lines().filter_map(|l| l.rsplit_once(' ')).filter_map(|(name, n)| Some((name, n.parse().ok()?))).collect();
    let mut problems = Vec::new();
    for (name, lines) in &long {
        let bound = known.get(name.as_str()).copied().unwrap_or(FUNCTION_LINES_MAX);
        if *lines > bound {
            problems.push(format!("{name}: {lines} lines, at most {bound}"));
        }
    }
    Ok(problems)
}

/// Each function's name and number of lines, from `fn` to its closing brace.
fn functions(text: &str) -> Vec<(String, usize)> {
    let code = code_only(text);
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = code.get(at..).and_then(|rest| rest.find("fn ")) {
        let start = at + next;
        at = start + 3;
        let word_start = start == 0 || !bytes[start - 1].is_ascii_alphanumeric() && bytes[start - 1] != b'_';
        let name: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !word_start || name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(bytes, at) {
            let lines = bytes[start..end].iter().filter(|b| **b == b'\n').count() + 1;
            found.push((name, lines));
        }
    }
    found
}

/// Where the body that begins after `from` ends; none for a declaration without body.
fn body_end(bytes: &[u8], from: usize) -> Option<usize> {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (i, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            b';' if braces == 0 && others == 0 => return None,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces <= 0 && others <= 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// The text with comments, strings and character literals blanked out; line feeds stay.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = literal(rest);
        if skip == 0 {
            // Multi-byte characters become one byte, so that offsets in the result are offsets in bytes.
            out.push(if first.is_ascii() { first } else { '_' });
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..skip].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    out
}

/// Length of the comment, string or character literal at the start of `rest`; 0 when there is none.
fn literal(rest: &str) -> usize {
    let until = |end: &str, from: usize| rest.get(from..).and_then(|r| r.find(end)).map_or(rest.len(), |i| from + i + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.bytes().take_while(|b| *b == b'#').count();
        if raw[hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    match rest.as_bytes() {
        [b'"', tail @ ..] => quoted(tail, b'"') + 1,
        // A lifetime has no closing quote right after its first character.
        [b'\'', b'\\', ..] => quoted(&rest.as_bytes()[1..], b'\'') + 1,
        [b'\'', ..] => {
            let mut chars = rest.char_indices().skip(2);
            chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(i, _)| i + 1)
        }
        _ => 0,
    }
}

/// Length up to and with the closing quote, minding backslashes.
fn quoted(tail: &[u8], quote: u8) -> usize {
    let mut escaped = false;
    for (i, byte) in tail.iter().enumerate() {
        if *byte == quote && !escaped {
            return i + 1;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    tail.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text = "fn a() {\n  let s = \"}\"; let c = '}'; // }\n  r#\"}\"#;\n}\ntrait T<'a> { fn b(&'a self);\n fn c() -> [u8; 2] { [1, 2] } }\n";
        assert_eq!(functions(text), [("a".to_owned(), 4), ("c".to_owned(), 1)]);
    }
}
