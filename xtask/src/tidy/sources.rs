//! Rules about source files as text.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest file, in lines: beyond it a concept has been missed.
const LINES_MAX: usize = 1_000;

/// A text file of the repository.
pub(super) struct File {
    /// Path from the root.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
    /// Without the tests at its end.
    pub(super) fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }
    pub(super) fn is_generated(&self) -> bool {
        let head: String = self.text.chars().take(400).collect();
        self.path.contains("/generated") || head.contains("@generated") || self.path.contains("/gen/")
    }
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

/// All sources and documents, in order.
pub(super) fn files(root: &Path) -> Vec<File> {
    let mut files = Vec::new();
    walk(root, root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            let skip = ["target", "node_modules", "dist", ".git", "test-results"].contains(&name.as_str());
            if !skip {
                walk(root, &path, files);
            }
        } else if [".rs", ".md", ".toml", ".ts", ".proto"].iter().any(|e| name.ends_with(e)) || name == "run" {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.extend(fs::read_to_string(&path).ok().map(|text| File { path: relative, text }));
        }
    }
}

/// No ignored tests, no file that is too long, no path of one machine.
pub(super) fn check(files: &[File]) -> Vec<String> {
    // Put together, so that this file does not match itself.
    let ignored = ["#[ig", "nore"].concat();
    let machine = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat()];
    let mut problems = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        if file.is_rust() && !file.is_generated() && lines > LINES_MAX {
            problems.push(format!("{}: {lines} lines, more than {LINES_MAX}: split it by concept", file.path));
        }
        for (number, line) in file.text.lines().enumerate() {
            let at = format!("{}:{}", file.path, number + 1);
            if file.is_rust() && line.trim_start().starts_with(&ignored) {
                problems.push(format!("{at}: an ignored test: assert what happens today instead, and say why it is wrong"));
            }
            if machine.iter().any(|m| line.contains(m.as_str())) {
                problems.push(format!("{at}: a path of one machine"));
            }
        }
    }
    problems
}
