//! What commands print: tables for people, JSON and YAML for programs, errors with what, where and what to do.

use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// `-o`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For files.
    Yaml,
}

/// Prints `value` as JSON or YAML, or by `table` for people. A closed pipe ends the program quietly.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value)?,
        Format::Yaml => serde_saphyr::to_string(value)?,
    };
    print_text(&text)
}

/// Prints text and a line end.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Prints an error and its causes.
pub(crate) fn print_error(error: &anyhow::Error) {
    let mut message = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !message.contains(&cause) {
            message.push_str("\n  because: ");
            message.push_str(&cause);
        }
    }
    let _ = writeln!(io::stderr().lock(), "{} {message}", styled("error:", RED, io::stderr().is_terminal()));
}

/// A table without borders, columns two spaces apart: as the field's command lines print it, and easy to cut.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let lines = || std::iter::once(&header).chain(rows);
    let width = |column: usize| lines().filter_map(|l| l.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines().map(line).collect::<Vec<_>>().join("\n")
}

/// SGR codes of the few styles that are used.
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BOLD: &str = "1";
const DIM: &str = "2";

/// `text` in a style, if `terminal` and the user has not asked for none (<https://no-color.org>).
fn styled(text: &str, style: &str, terminal: bool) -> String {
    match terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) {
        true => format!("\x1b[{style}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// A tick, a warning sign or a cross, coloured on a terminal.
pub(crate) fn mark(status: &str) -> String {
    let (sign, style) = match status {
        "ok" => ("√", GREEN),
        "warning" => ("‼", YELLOW),
        "skipped" => ("-", DIM),
        _ => ("×", RED),
    };
    styled(sign, style, io::stdout().is_terminal())
}

/// Bold on a terminal.
pub(crate) fn bold(text: &str) -> String {
    styled(text, BOLD, io::stdout().is_terminal())
}

/// Dim on a terminal.
pub(crate) fn dim(text: &str) -> String {
    styled(text, DIM, io::stdout().is_terminal())
}

/// Microseconds as people read them: `850 µs`, `12 ms`, `1.2 s`.
pub(crate) fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_have_no_trailing_space() {
        let text = table(&["NAME", "RPS"], &[vec!["reviews".into(), "2.0".into()], vec!["a".into(), "10.5".into()]]);
        assert_eq!(text, "NAME     RPS\nreviews  2.0\na        10.5");
    }

    #[test]
    fn durations() {
        assert_eq!([850, 1_200, 45_000, 7_000_000].map(duration), ["850 µs", "1.2 ms", "45 ms", "7.0 s"]);
    }
}
