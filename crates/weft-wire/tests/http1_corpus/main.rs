//! The malformed corpus against the engine, without a connection: every case has the verdict that the RFC asks for.
//!
//! The files are checked in, so that a change of a verdict is a diff. `UPDATE=1` writes them from the rules in `generate.rs`.

mod generate;

use generate::{Case, Corpus, Verdict};
use http::Method;
use std::{fmt::Write as _, path::PathBuf};
use weft_wire::http1::{
    Malformed, TargetRule,
    whole::{self, Read},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/http1")
}

/// One line per case: number, verdict, rule, bytes with escapes.
fn text(corpus: &Corpus) -> String {
    corpus.0.iter().enumerate().fold(String::new(), |mut text, (number, case)| {
        let verdict = match case.verdict {
            Verdict::Accept => "accept".into(),
            Verdict::Rest => "accept+rest".into(),
            Verdict::Incomplete => "incomplete".into(),
            Verdict::Reject(status) => format!("reject {status}"),
        };
        writeln!(text, "{number:04}\t{verdict}\t{}\t{}", case.rule, case.bytes.escape_ascii()).expect("a String takes all");
        text
    })
}

fn check_file(name: &str, corpus: &Corpus) {
    let (path, want) = (folder().join(name), text(corpus));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(folder()).expect("the folder can be made");
        return std::fs::write(&path, want).expect("the corpus can be written");
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == want, "{} is not what the rules make; look at the difference and run with UPDATE=1", path.display());
}

fn verdict<H>(read: Result<Read<H>, Malformed>, length: usize) -> Verdict {
    match read {
        Err(malformed) => Verdict::Reject(malformed.status),
        Ok(Read::Incomplete) => Verdict::Incomplete,
        Ok(Read::Message(message)) if message.used == length => Verdict::Accept,
        Ok(Read::Message(_)) => Verdict::Rest,
    }
}

fn judge(corpus: &Corpus, read: impl Fn(&Case) -> Verdict) {
    let wrong: Vec<String> = corpus
        .0
        .iter()
        .enumerate()
        .filter(|(_, case)| read(case) != case.verdict)
        .map(|(number, case)| {
            let shown: String = case.bytes.escape_ascii().to_string().chars().take(200).collect();
            format!("{number:04} {}: expected {:?}, got {:?}: {shown}", case.rule, case.verdict, read(case))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.0.len(), wrong.join("\n"));
}

#[test]
fn every_request_gets_its_verdict() {
    let corpus = generate::requests();
    check_file("requests.txt", &corpus);
    assert!(corpus.0.len() >= 2000, "{}", corpus.0.len());
    judge(&corpus, |case| verdict(whole::request(&case.bytes, TargetRule::Browsers), case.bytes.len()));
}

#[test]
fn every_response_gets_its_verdict() {
    let corpus = generate::responses();
    check_file("responses.txt", &corpus);
    judge(&corpus, |case| verdict(whole::response(&case.bytes, &Method::GET), case.bytes.len()));
}

#[test]
fn the_strict_rule_takes_nothing_beyond_rfc_3986() {
    for b in 0..=255_u8 {
        let legal = b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
        for before in [&b"GET /"[..], b"GET /?"] {
            let bytes = [before, &[b], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(whole::request(&bytes, TargetRule::Rfc3986).is_ok(), legal, "{}", bytes.escape_ascii());
        }
    }
}

/// The corpus is the seed of the fuzz target; here each case runs once with a few cuts.
#[test]
fn cuts_do_not_matter() {
    for case in generate::requests().0.iter().chain(&generate::responses().0) {
        for step in [0, 1, 6] {
            whole::fuzz_http1(&[&[step], case.bytes.as_slice()].concat());
        }
    }
}

#[test]
fn forbidden_trailers_are_dropped() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\nX-A: 1\r\nHost: b\r\nX-Forwarded-For: c\r\n\r\n";
    let Ok(Read::Message(message)) = whole::request(bytes, TargetRule::Browsers) else { unreachable!("it is legal") };
    let names: Vec<String> = message.trailers.iter().flat_map(http::HeaderMap::keys).map(ToString::to_string).collect();
    assert_eq!(names, ["x-a"]);
}
