//! Nothing is sent on without a `Permit`: it is made in one place, cannot be copied, and whatever sends takes one. What the types
//! prevent from building, this keeps from being taken out of the types.

use std::path::{Path, PathBuf};

/// Senders that take no permit themselves: who they are, and why they may.
const WITHOUT: [(&str, &str, &str); 6] = [
    ("http/upstream.rs", "attempt", "private: one try of a function below"),
    ("http/upstream.rs", "one", "private: one try of `Sending::run`, which takes it"),
    ("http/upstream.rs", "send_copy", "a copy of a request that was permitted and sent; called by mirror.rs only"),
    ("http/upstream.rs", "ask", "a question of the proxy itself: health checks, external authorization"),
    ("http/upstream.rs", "attempt_once", "a call of the proxy itself"),
    ("http/tunnel.rs", "start", "after the program has accepted an upgrade that was sent with one"),
];

/// What sends a caller's bytes to somebody else.
const SENDS: [&str; 5] = ["lease.send(", " attempt(", "(attempt(", " forward(&mut", "copy_bidirectional("];

struct Function {
    file: String,
    name: String,
    signature: String,
    body: String,
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// Every file with its text: comments and tests left out.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let of = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("readable");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        (path.strip_prefix(&root).expect("below").to_string_lossy().into_owned(), lines.join("\n"))
    };
    files.iter().map(of).collect()
}

/// The functions of a file: each ends where the next begins.
fn functions(file: &str, text: &str) -> Vec<Function> {
    let starts: Vec<usize> = text
        .match_indices("fn ")
        .map(|(at, _)| at)
        .filter(|at| {
            let line = text[..*at].rsplit('\n').next().unwrap_or_default();
            line.split_whitespace().all(|word| ["pub", "async", "const", "unsafe", "pub(crate)", "pub(super)"].contains(&word))
        })
        .collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let one = |(start, end): (&usize, usize)| {
        let whole = &text[*start..end];
        let (signature, body) = whole.split_once("{\n").unwrap_or((whole, ""));
        let name = signature[3..].split(['(', '<']).next().unwrap_or_default();
        Function { file: file.into(), name: name.into(), signature: signature.into(), body: body.into() }
    };
    starts.iter().zip(ends).map(one).collect()
}

#[test]
fn a_permit_is_made_by_authorization_alone() {
    let mut definitions = 0;
    for (file, text) in texts() {
        if file == "policy/authorization.rs" {
            definitions += text.matches("pub(crate) struct Permit(());").count();
            let before = text.split("pub(crate) struct Permit").next().unwrap_or_default();
            assert_eq!(before.lines().last(), Some("#[derive(Debug)]"), "a permit cannot be copied or made of nothing");
            for of in ["Clone for Permit", "Default for Permit", "From<"] {
                assert!(!text.contains(of), "{of}");
            }
            continue;
        }
        for made in ["Permit(", "Permit {", "Permit::default", "transmute", "zeroed"] {
            assert!(!text.contains(made), "{file} has {made}");
        }
    }
    assert_eq!(definitions, 1);
}

#[test]
fn whatever_sends_takes_a_permit() {
    let mut with = Vec::new();
    for function in texts().iter().flat_map(|(file, text)| functions(file, text)) {
        let sends = SENDS.iter().any(|send| function.body.contains(send));
        if !sends {
            continue;
        }
        if function.signature.contains("Permit") {
            with.push(function.name);
            continue;
        }
        let known = WITHOUT.iter().any(|(file, name, _)| *file == function.file && *name == function.name);
        assert!(known, "{}: {} sends without a permit: {}", function.file, function.name, function.signature);
    }
    for sender in ["send_to_program", "copy"] {
        assert!(with.iter().any(|name| name == sender), "{sender} is not found among {with:?}: what this test looks for has changed");
    }
    let all = texts();
    let run = all.iter().flat_map(|(file, text)| functions(file, text)).find(|f| f.file == "http/upstream.rs" && f.name == "run");
    assert!(run.is_some_and(|f| f.signature.contains("_permit: Permit") && f.body.contains("self.one(")));
    for (file, text) in &all {
        assert!(!text.contains("send_copy(") || ["http/upstream.rs", "http/mirror.rs"].contains(&file.as_str()), "{file}");
    }
}
