//! What commands print: tables for people, JSON and YAML for programs, errors with what, where and what to do.

use clap::ValueEnum;
use owo_colors::{OwoColorize, Stream};
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
    let _ = writeln!(io::stderr().lock(), "{} {message}", "error:".if_supports_color(Stream::Stderr, |t| t.red()));
}

/// A table without borders, columns two spaces apart: as the field's command lines print it, and easy to cut.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(header.iter().map(|h| comfy_table::Cell::new(h)));
    if !io::stdout().is_terminal() {
        table.force_no_tty();
    }
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A tick, a warning sign or a cross, coloured on a terminal.
pub(crate) fn mark(status: &str) -> String {
    match status {
        "ok" => "√".if_supports_color(Stream::Stdout, |t| t.green()).to_string(),
        "warning" => "‼".if_supports_color(Stream::Stdout, |t| t.yellow()).to_string(),
        _ => "×".if_supports_color(Stream::Stdout, |t| t.red()).to_string(),
    }
}

/// Bold on a terminal.
pub(crate) fn bold(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |t| t.bold()).to_string()
}

/// Dim on a terminal.
pub(crate) fn dim(text: &str) -> String {
    text.if_supports_color(Stream::Stdout, |t| t.dimmed()).to_string()
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
