//! Every file of the corpus (Istio's samples, Gateway API's examples, CRDs) parses: it yields a resource or a diagnostic with a line.
//!
//! Set `WEFT_CORPUS` to the corpus; without it the test says loudly that it did nothing.

use std::path::{Path, PathBuf};
use weft_api::{Resource, Severity, parse_bytes};

/// All YAML and JSON files below a folder, in order.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).expect("a readable folder").map(|e| e.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_of_the_corpus_yields_resources_or_a_diagnostic_with_a_line() {
    let Some(corpus) = std::env::var_os("WEFT_CORPUS") else {
        eprintln!("SKIPPED: WEFT_CORPUS is not set, so the corpus was NOT read");
        return;
    };
    let corpus = PathBuf::from(corpus);
    let mut paths = Vec::new();
    files(&corpus, &mut paths);
    assert!(!paths.is_empty(), "no YAML below {}", corpus.display());
    let mut documents = 0;
    for path in &paths {
        let name = path.strip_prefix(&corpus).expect("a path below the corpus").display().to_string();
        let parsed = parse_bytes(&std::fs::read(path).expect("a readable file"), &name);
        let placed = parsed.diagnostics.iter().all(|d| d.origin.line > 0 && d.origin.file == name);
        assert!(placed, "{name}: a diagnostic without file and line: {:#?}", parsed.diagnostics);
        assert!(!parsed.documents.is_empty() || !parsed.diagnostics.is_empty(), "{name}: nothing was said about it");
        for document in &parsed.documents {
            let again = weft_api::parse_at(&document.raw, &name, document.first_line);
            let same = again.documents.iter().find(|d| d.key() == document.key()).unwrap_or_else(|| unread(&name, &document.raw));
            assert_eq!((same.hash(), same.origin.line), (document.hash(), document.origin.line), "{name}: {}", document.origin);
            assert_eq!(same.resource, document.resource, "{name}: {}", document.origin);
        }
        documents += parsed.documents.len();
        if std::env::var_os("WEFT_CORPUS_SHOW").is_some() {
            parsed.diagnostics.iter().for_each(|d| eprintln!("{d}"));
        }
    }
    eprintln!("{} files, {documents} documents", paths.len());
}

#[allow(clippy::panic, reason = "tests")]
fn unread(name: &str, raw: &str) -> ! {
    panic!("{name}: its text alone is not the same document:\n{raw}")
}

/// Upstream's own samples are legal: nothing in them may be called unknown, wrong or missing.
#[test]
fn legal_samples_get_no_false_findings() {
    let Some(corpus) = std::env::var_os("WEFT_CORPUS") else {
        eprintln!("SKIPPED: WEFT_CORPUS is not set, so the samples were NOT read");
        return;
    };
    for folder in ["istio-samples/bookinfo", "gateway-api-examples"] {
        let mut paths = Vec::new();
        files(&PathBuf::from(&corpus).join(folder), &mut paths);
        for path in &paths {
            let parsed = parse_bytes(&std::fs::read(path).expect("a readable file"), &path.display().to_string());
            for found in &parsed.diagnostics {
                let expected = found.severity == Severity::Info || matches!(found.code.as_ref(), "WEFT-1103" | "WEFT-1202" | "WEFT-1203");
                assert!(expected, "{found}");
            }
            assert!(parsed.documents.iter().all(|d| d.resource != Resource::Invalid), "{}", path.display());
        }
    }
}
