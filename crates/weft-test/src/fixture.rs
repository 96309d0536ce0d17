//! A fixture file: its sections, and the comparison with what is computed.

use crate::{explain_text, mesh::Running, probe, view_text};
use std::{fmt::Write, fs, path::Path};

/// One section: its heading (after `--- `) and its lines.
struct Section {
    heading: String,
    first_line: u32,
    text: String,
}

/// Checks every `.weft` file of `tests/golden/<concept>`, and that there is one.
///
/// # Panics
/// When a file differs from what is computed, unless `UPDATE=1` is set, which rewrites it.
#[allow(clippy::panic, reason = "this is a test assertion")]
pub fn check_folder(concept: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(concept);
    let entries = fs::read_dir(&folder).expect("the folder of the concept exists");
    let mut files: Vec<_> = entries.map(|e| e.expect("a readable entry").path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "weft"));
    files.sort();
    assert!(!files.is_empty(), "no fixture in {}", folder.display());
    let mut wrong = String::new();
    for file in files {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let before = fs::read_to_string(&file).expect("a readable fixture");
        let after = compute(&name, &before);
        if before == after {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, after).expect("a writable fixture");
        } else {
            let diff = similar::TextDiff::from_lines(&before, &after);
            let _ = writeln!(wrong, "{concept}/{name}\n{}", diff.unified_diff().context_radius(2).header("written", "computed"));
        }
    }
    assert!(wrong.is_empty(), "fixtures differ (UPDATE=1 rewrites them):\n{wrong}");
}

/// The mesh of a fixture and its probes as written.
pub(crate) fn probes_of(name: &str, text: &str) -> (Running, Vec<String>) {
    let sections = split(text);
    let running = start(name, &sections);
    let probes = sections.iter().filter(|s| s.heading == "probes").flat_map(|s| s.text.lines().map(str::to_owned));
    (running, probes.collect())
}

fn start(name: &str, sections: &[Section]) -> Running {
    let resources = sections.iter().find(|s| s.heading == "resources");
    let workloads = sections.iter().find(|s| s.heading == "workloads").map(|s| s.text.as_str()).unwrap_or_default();
    let (yaml, line) = resources.map_or(("", 1), |s| (s.text.as_str(), s.first_line));
    Running::start(yaml, name, line, workloads)
}

/// The file as it should be.
fn compute(name: &str, text: &str) -> String {
    let sections = split(text);
    let running = start(name, &sections);
    let mut out = String::new();
    for section in &sections {
        if !section.heading.is_empty() {
            let _ = writeln!(out, "--- {}", section.heading);
        }
        let body = match section.heading.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["diagnostics"] => running.diagnostics.iter().map(|d| format!("{d}\n")).collect(),
            ["view", who, roots @ ..] => view_text::view(&running, who, roots),
            ["explain", ..] => explain_text::text(&running, section.heading.strip_prefix("explain ").unwrap_or_default()),
            ["probes"] => section.text.lines().map(|l| format!("{}\n", probe::run(&running, l))).collect(),
            _ => section.text.clone(),
        };
        out.push_str(&body);
        if !body.ends_with('\n') && !body.is_empty() {
            out.push('\n');
        }
    }
    out
}

fn split(text: &str) -> Vec<Section> {
    let mut sections = vec![Section { heading: String::new(), first_line: 1, text: String::new() }];
    for (index, line) in (1u32..).zip(text.lines()) {
        match line.strip_prefix("--- ") {
            Some(heading) => sections.push(Section { heading: heading.trim().into(), first_line: index + 1, text: String::new() }),
            None => {
                let last = sections.last_mut().expect("the first is always there");
                last.text.push_str(line);
                last.text.push('\n');
            }
        }
    }
    sections
}
