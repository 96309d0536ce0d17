//! Input that means harm, or that was damaged: never a panic, never out of bounds, always a diagnostic with a line.

use weft_api::{diag, limits, parse, parse_bytes};

/// The codes that a text gives.
fn codes(text: &str) -> Vec<String> {
    let parsed = parse(text, "x.yaml");
    assert!(parsed.diagnostics.iter().all(|d| d.origin.line > 0), "{:?}", parsed.diagnostics);
    parsed.diagnostics.iter().map(|d| d.code.to_string()).collect()
}

#[test]
fn billion_laughs_end_at_a_limit() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for i in 1..30 {
        text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
    }
    assert_eq!(codes(&text), ["WEFT-1002"]);
    let chain: String = (1..200).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)).collect();
    assert_eq!(codes(&format!("a0: &a0 [x]\n{chain}")), ["WEFT-1002"]);
    assert_eq!(codes("a: &a [*a]\n"), ["WEFT-1001"]);
}

#[test]
fn deep_nesting_ends_at_a_limit() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        (0..5_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>(),
        format!("{}{}", "[".repeat(200), "]".repeat(200)),
    ] {
        assert_eq!(codes(&text), ["WEFT-1002"], "{}…", &text[..40]);
    }
}

#[test]
fn large_input_ends_at_a_limit() {
    assert_eq!(codes(&"a".repeat(limits::TEXT_BYTES_MAX + 1)), ["WEFT-1002"]);
    assert_eq!(codes(&format!("a: \"{}\"", "b".repeat(limits::DOCUMENT_BYTES_MAX))), ["WEFT-1002"]);
    assert_eq!(codes(&"- 1\n".repeat(limits::DOCUMENT_NODES_MAX + 10)), ["WEFT-1002"]);
    let many = codes(&"---\na\n".repeat(limits::DOCUMENTS_MAX + 10));
    assert_eq!((many.len(), many.last().map(String::as_str)), (limits::DOCUMENTS_MAX + 1, Some("WEFT-1002")));
}

#[test]
fn a_flood_of_unknown_fields_is_counted_not_listed() {
    let fields: String = (0..50_000).map(|i| format!("  field{i}: 1\n")).collect();
    let found = codes(&format!("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n{fields}"));
    assert_eq!(found.len(), limits::DOCUMENT_DIAGNOSTICS_MAX + 1);
    assert_eq!(found.last().map(String::as_str), Some("WEFT-1399"));
}

#[test]
fn bytes_that_are_not_text_are_said_with_their_line() {
    let parsed = parse_bytes(b"apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {x: \"\xff\"}}\n", "x.yaml");
    assert_eq!(
        parsed.diagnostics[0].to_string(),
        "error[WEFT-1003] x.yaml:3: has bytes that are not UTF-8; they are replaced by U+FFFD; fix: save the file as UTF-8"
    );
    assert_eq!(parsed.documents.len(), 1);
    let controls = parse_bytes(b"a: \x00\x07\x1b[31m\n", "x.yaml");
    assert!(controls.diagnostics.iter().all(|d| !d.to_string().contains('\x1b')), "{:?}", controls.diagnostics);
}

#[test]
fn every_code_is_explained_once_and_in_order() {
    let codes: Vec<&str> = diag::CODES.iter().map(|row| row.code).collect();
    let mut sorted = codes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(codes.len(), sorted.len());
    assert!(diag::explain("weft-1201").is_some_and(|row| !row.title.is_empty() && row.explanation.ends_with('.')));
}

/// A small generator of pseudo-random numbers (xorshift64*): the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }
}

/// Damages a text as editors, transfers and attackers do.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    const PIECES: [&str; 24] = [
        "\n",
        "---\n",
        "...\n",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "\t",
        "# ",
        "%YAML 1.2\n",
        "{{ .x }}",
        "\0",
        "\r",
        "? ",
    ];
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(40)).min(bytes.len());
    match random.below(6) {
        0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        1 => drop(bytes.drain(at..end)),
        2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].bytes())),
        3 => {
            let copy: Vec<u8> = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            drop(bytes.splice(to..to, copy));
        }
        4 => {
            let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
            let (a, b) = (random.below(lines.len()), random.below(lines.len()));
            lines.swap(a, b);
            *bytes = lines.join(&b'\n');
        }
        _ => bytes.truncate(end),
    }
}

#[test]
fn damaged_input_never_panics_and_what_is_read_reads_again() {
    let seeds = [include_str!("seeds/mesh.yaml"), include_str!("seeds/gateway.yaml"), include_str!("seeds/list.json")];
    for seed in 0..3_000u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut bytes = seeds[seed as usize % seeds.len()].as_bytes().to_vec();
        for _ in 0..=random.below(8) {
            damage(&mut random, &mut bytes);
        }
        let parsed = parse_bytes(&bytes, "x.yaml");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!parsed.documents.is_empty() || !parsed.diagnostics.is_empty(), "seed {seed}: silence about\n{text}");
        assert!(parsed.diagnostics.iter().all(|d| d.origin.line > 0), "seed {seed}: no line: {:?}", parsed.diagnostics);
        for document in &parsed.documents {
            let again = weft_api::parse_at(&document.raw, "x.yaml", document.first_line);
            let same = again.documents.iter().any(|d| d.hash() == document.hash() && d.resource == document.resource);
            assert!(same, "seed {seed}: {} does not read again from\n{}", document.origin, document.raw);
        }
    }
}
