//! The book's chapter of diagnostic codes is made from the tables beside the constructors: code, title, explanation.

use super::sources::File;
use std::fmt::Write;

/// The chapter, and what each thousand is about.
const HEAD: &str = "\
# Diagnostics

Weft never stops at a bad resource: it uses what it can and says what is wrong as a *diagnostic*, with a code, the object, the file and line, and often a fix:

```
warning[WEFT-1203] VirtualService default/reviews (reviews.yaml:12): …; fix: …
```

An *error* means that the resource, or the named part, is not used. A *warning* means that not all of it is used, or probably not as meant. See them with `weft get diagnostics`, in `weft apply --dry-run`, in
`weft status` and on the page; `weft explain CODE` prints what a code means.
Codes in the 1000s come from reading, those in the 2000s and above from linking and later.
This chapter is generated from the sources by `UPDATE=1 cargo xtask tidy`.
";

/// The chapter's text.
pub(super) fn chapter(files: &[File]) -> String {
    let sources = files.iter().filter(|f| f.is_rust() && f.path.starts_with("crates/") && !f.is_test());
    let mut rows: Vec<[String; 3]> = sources.flat_map(|f| rows(&f.text)).collect();
    rows.sort();
    rows.dedup();
    let mut out = HEAD.to_owned();
    for [code, title, explanation] in rows {
        write!(out, "\n## {code}: {title}\n\n{explanation}\n").expect("a String takes all");
    }
    out
}

fn rows(text: &str) -> Vec<[String; 3]> {
    let starts = text.match_indices("\"WEFT-").map(|(at, _)| at);
    let row = |at: usize| {
        // Three texts in a row, with or without field names: only tables have that.
        let mut rest = text.get(at..)?;
        let mut fields = [const { String::new() }; 3];
        for field in &mut fields {
            let (value, tail) = literal(rest.trim_start_matches(|c: char| c.is_ascii_lowercase() || ",: \n".contains(c)))?;
            *field = value;
            rest = tail;
        }
        Some(fields)
    };
    starts.filter_map(row).collect()
}

/// The string literal at the start of `text`, unescaped, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text.strip_prefix('"')?.chars();
    loop {
        match rest.next()? {
            '"' => return Some((out, rest.as_str())),
            '\\' => match rest.next()? {
                // A continued line: its indentation is not part of the text.
                '\n' => rest = rest.as_str().trim_start().chars(),
                'n' => out.push('\n'),
                other => out.push(other),
            },
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_source() {
        let text = "code(\n  \"WEFT-1\",\n \"a \\\"b\\\"\",\n \"one \\\n    two\",\n), Code { code: \"WEFT-2\", title: \"c\", explanation: \"d\" } warn(\"WEFT-2\", x)";
        assert_eq!(rows(text), [["WEFT-1", "a \"b\"", "one two"], ["WEFT-2", "c", "d"]].map(|r| r.map(String::from)));
    }
}
