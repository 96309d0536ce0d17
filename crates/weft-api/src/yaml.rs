//! YAML (and so JSON) text to [`Node`]s: anchors and merge keys resolved, everything bounded, one result per document.
//!
//! Scalars are understood as Kubernetes understands them: YAML 1.2's core schema, but octal numbers may be written with a leading 0.

use crate::limits::{ALIAS_NODES_MAX, DOCUMENT_NODES_MAX, NESTING_LEVELS_MAX};
use crate::node::{Field, Node, Value};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::collections::BTreeMap;

/// A part of the text between two `---` lines.
pub(crate) struct Chunk<'t> {
    /// Line of the file on which it starts.
    pub(crate) line: u32,
    /// The text, with the `---` line that opens it.
    pub(crate) text: &'t str,
}

/// A field that an object has twice.
pub(crate) struct Twice {
    pub(crate) name: String,
    pub(crate) line: u32,
    pub(crate) first_line: u32,
}

/// One document that is YAML.
pub(crate) struct Loaded {
    pub(crate) node: Node,
    pub(crate) twice: Vec<Twice>,
}

/// Why a document is not read.
pub(crate) struct Problem {
    pub(crate) line: u32,
    pub(crate) what: ProblemKind,
}

/// Why a document is not read.
pub(crate) enum ProblemKind {
    /// It is not YAML.
    Syntax(String),
    /// It is beyond a limit.
    Limit(&'static str, usize),
}

/// Cuts a text at its `---` lines, so that a document that is not YAML harms no other.
///
/// A line that begins with `---` is always such a mark: YAML forbids it inside every kind of multi-line text.
pub(crate) fn split(text: &str, first_line: u32) -> impl Iterator<Item = Chunk<'_>> {
    let mut lines = text.split_inclusive('\n').peekable();
    let mut offset = 0usize;
    let mut line = first_line;
    std::iter::from_fn(move || {
        lines.peek()?;
        let (start, start_line) = (offset, line);
        let (mut marked, mut only_directives) = (false, true);
        while let Some(next) = lines.peek() {
            let mark = is_mark(next);
            // Directives (%YAML 1.2) stand before the mark of the document that they are for.
            if mark && offset > start && (marked || !only_directives) {
                break;
            }
            marked |= mark;
            only_directives &= next.starts_with('%') || next.starts_with('#');
            offset += next.len();
            line = line.saturating_add(1);
            lines.next();
        }
        Some(Chunk { line: start_line, text: text.get(start..offset).unwrap_or_default() })
    })
}

/// Is the line a `---` mark?
fn is_mark(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

impl<'t> Chunk<'t> {
    /// The text without a bare `---` line in front, and the line on which that starts.
    pub(crate) fn body(&self) -> (&'t str, u32) {
        match self.text.split_once('\n') {
            Some((first, rest)) if is_mark(first) && first.get(3..).is_some_and(|t| t.trim().is_empty() || t.trim().starts_with('#')) => {
                (rest, self.line.saturating_add(1))
            }
            _ if is_mark(self.text.trim_end()) && self.text.trim().len() == 3 => ("", self.line),
            _ => (self.text, self.line),
        }
    }
}

/// Reads the documents of a text whose first line is `line`. Ends at the first problem.
pub(crate) fn load(text: &str, line: u32) -> Vec<Result<Loaded, Problem>> {
    let options = granit_parser::options! {
        block_nesting_limit: NESTING_LEVELS_MAX,
        flow_nesting_limit: NESTING_LEVELS_MAX,
        emit_comments: false,
    };
    let mut builder = Builder { line, ..Builder::default() };
    let mut out = Vec::new();
    for event in Parser::new_from_str_with_options(text, options) {
        let step = match event {
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => Err(scan_problem(&error, line)),
        };
        match step {
            Ok(None) => {}
            Ok(Some(loaded)) => out.push(Ok(loaded)),
            Err(problem) => {
                out.push(Err(problem));
                break;
            }
        }
    }
    out
}

fn scan_problem(error: &ScanError, base: u32) -> Problem {
    let line = place(base, error.marker().line());
    let what = match error.kind() {
        granit_parser::ErrorKind::RecursionLimitExceeded => ProblemKind::Limit("levels of nesting", NESTING_LEVELS_MAX),
        _ => ProblemKind::Syntax(format!("{} (column {})", error.info(), error.marker().col() + 1)),
    };
    Problem { line, what }
}

/// A line of the file from one of the chunk.
fn place(base: u32, line: usize) -> u32 {
    base.saturating_add(u32::try_from(line.saturating_sub(1)).unwrap_or(u32::MAX))
}

/// An open list or object.
enum Frame {
    List { node: Start, items: Vec<Node> },
    Object { node: Start, fields: Vec<Field>, seen: BTreeMap<String, u32>, key: Option<(String, u32, bool)>, merged: Vec<Node> },
}

/// Where an open list or object started.
struct Start {
    line: u32,
    byte: usize,
    column: usize,
    anchor: usize,
}

/// Builds nodes from events.
#[derive(Default)]
struct Builder {
    line: u32,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    alias_nodes: usize,
    twice: Vec<Twice>,
}

impl Builder {
    /// Takes one event; gives a document when one ends.
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Loaded>, Problem> {
        let line = place(self.line, span.start.line());
        let start = |anchor| Start { line, byte: span.start.byte_offset().unwrap_or(0), column: span.start.col(), anchor };
        match event {
            Event::DocumentStart(..) => {
                *self = Self { line: self.line, ..Self::default() };
            }
            Event::DocumentEnd => {
                let twice = std::mem::take(&mut self.twice);
                return Ok(self.root.take().map(|node| Loaded { node, twice }));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(text.into_owned(), style, tag.as_deref());
                let bytes = (span.start.byte_offset().unwrap_or(0), span.end.byte_offset().unwrap_or(0));
                let plain = matches!(style, ScalarStyle::Plain);
                self.add(Node { line, bytes, column: span.start.col(), value }, anchor, plain)?;
            }
            Event::SequenceStart(_, anchor, _) => self.stack.push(Frame::List { node: start(anchor), items: Vec::new() }),
            Event::MappingStart(_, anchor, _) => self.stack.push(Frame::Object {
                node: start(anchor),
                fields: Vec::new(),
                seen: BTreeMap::new(),
                key: None,
                merged: Vec::new(),
            }),
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Alias(anchor) => self.alias(anchor, line)?,
            _ => {}
        }
        Ok(None)
    }

    /// Ends the innermost list or object.
    fn close(&mut self, span: &Span) -> Result<(), Problem> {
        let end = span.end.byte_offset().unwrap_or(0);
        let (start, value) = match self.stack.pop() {
            Some(Frame::List { node, items }) => (node, Value::List(items)),
            Some(Frame::Object { node, mut fields, seen, merged, .. }) => {
                merge(&mut fields, seen, merged, node.line)?;
                (node, Value::Object(fields))
            }
            None => return Ok(()),
        };
        let node = Node { line: start.line, bytes: (start.byte, end), column: start.column, value };
        self.add(node, start.anchor, false)
    }

    /// Puts a copy of an anchored node.
    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem { line, what: ProblemKind::Syntax("an alias inside of its own anchor".into()) });
        };
        let (count, depth) = (node.count(), node.depth());
        self.alias_nodes = self.alias_nodes.saturating_add(count);
        if self.alias_nodes > ALIAS_NODES_MAX {
            return Err(Problem { line, what: ProblemKind::Limit("values that aliases add", ALIAS_NODES_MAX) });
        }
        if self.stack.len() + depth > NESTING_LEVELS_MAX {
            return Err(Problem { line, what: ProblemKind::Limit("levels of nesting", NESTING_LEVELS_MAX) });
        }
        let mut node = node.clone();
        node.bytes = (0, 0);
        self.add(node, 0, true)
    }

    /// Puts a finished node where it belongs: into the innermost list or object, or as the document.
    fn add(&mut self, node: Node, anchor: usize, plain: bool) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > DOCUMENT_NODES_MAX {
            return Err(Problem { line: node.line, what: ProblemKind::Limit("values in one document", DOCUMENT_NODES_MAX) });
        }
        if anchor != 0 {
            // The copy that is kept counts like an alias: anchors on every level would otherwise cost the square of the text.
            self.alias_nodes = self.alias_nodes.saturating_add(node.count());
            if self.alias_nodes > ALIAS_NODES_MAX {
                return Err(Problem { line: node.line, what: ProblemKind::Limit("values with anchors and aliases", ALIAS_NODES_MAX) });
            }
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Object { fields, seen, key, merged, .. }) => match key.take() {
                None => *key = Some(key_text(node, plain)?),
                Some((name, _, true)) if name == "<<" => merged.push(node),
                Some((name, line, _)) => match seen.get(&name) {
                    Some(first_line) => self.twice.push(Twice { name, line, first_line: *first_line }),
                    None => {
                        seen.insert(name.clone(), line);
                        fields.push(Field { name, line, node });
                    }
                },
            },
        }
        Ok(())
    }
}

/// Adds the fields of merged objects (`<<: *base`) that the object does not have itself.
fn merge(fields: &mut Vec<Field>, mut seen: BTreeMap<String, u32>, merged: Vec<Node>, line: u32) -> Result<(), Problem> {
    for base in merged {
        let bases = match base.value {
            Value::List(items) => items,
            _ => vec![base],
        };
        for base in bases {
            let Value::Object(inherited) = base.value else {
                return Err(Problem { line, what: ProblemKind::Syntax("`<<` takes an object, or a list of objects".into()) });
            };
            for field in inherited {
                if !seen.contains_key(&field.name) {
                    seen.insert(field.name.clone(), field.line);
                    fields.push(field);
                }
            }
        }
    }
    Ok(())
}

/// The name of a field: any scalar, as it is written.
fn key_text(node: Node, plain: bool) -> Result<(String, u32, bool), Problem> {
    let text = match node.value {
        Value::Text { text, .. } => text,
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::Null => "null".into(),
        Value::List(_) | Value::Object(_) => {
            let what = ProblemKind::Syntax("a field's name is a list or an object; it must be a word".into());
            return Err(Problem { line: node.line, what });
        }
    };
    Ok((text, node.line, plain))
}

/// The value that a scalar stands for.
fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let as_text =
        !matches!(style, ScalarStyle::Plain) || tag.is_some_and(|tag| tag.core_suffix() == Some("str") || tag.suffix().is_empty());
    if as_text {
        return Value::Text { text, plain: false };
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(&text) {
            Some(number) => Value::Number(number),
            None => Value::Text { text, plain: true },
        },
    }
}

/// The number that a plain scalar stands for, if it does.
fn number(text: &str) -> Option<serde_json::Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1i64, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(|n| (sign * n).into());
    let all = |digits: &str, test: fn(&u8) -> bool| !digits.is_empty() && digits.bytes().all(|b| test(&b));
    if let Some(hex) = digits.strip_prefix("0x").filter(|d| all(d, u8::is_ascii_hexdigit)) {
        return radix(hex, 16);
    }
    if let Some(octal) = digits.strip_prefix("0o").or_else(|| digits.strip_prefix('0')).filter(|d| all(d, |b| (b'0'..=b'7').contains(b))) {
        return radix(octal, 8);
    }
    if all(digits, u8::is_ascii_digit) {
        let whole = format!("{}{digits}", if sign < 0 { "-" } else { "" });
        return whole.parse::<i64>().map(Into::into).or_else(|_| whole.parse::<u64>().map(Into::into)).ok().or_else(|| float(text));
    }
    let starts = digits.starts_with(|c: char| c.is_ascii_digit())
        || digits.strip_prefix('.').is_some_and(|d| d.starts_with(|c: char| c.is_ascii_digit()));
    (starts && all(digits, |b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))).then(|| float(text)).flatten()
}

fn float(text: &str) -> Option<serde_json::Number> {
    text.parse::<f64>().ok().and_then(serde_json::Number::from_f64)
}
