//! Diagnostics: what is wrong with a resource, where, and what to do. Values, never errors that stop something.
//!
//! Every diagnostic is made by a function here (or by a sibling of this module in the crate that finds it), so that a code has one
//! wording. Codes in the 1000s come from reading, those in the 2000s from linking. [`CODES`] explains each for `weft explain`.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};
use weft_model::Origin;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The resource (or the named part) is not used.
    Error,
    /// It is used, but not all of it, or probably not as meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// One finding about one place in one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, e.g. `WEFT-1203`; see [`CODES`].
    pub code: Cow<'static, str>,
    /// What is wrong, as a sentence for people.
    pub message: String,
    /// Where: kind, namespace, name, file, line and field.
    pub origin: Origin,
    /// What to do, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Diagnostic {
    /// A diagnostic of any severity. Meant for constructor functions, not for the places that find something.
    pub fn new(severity: Severity, code: &'static str, origin: Origin, message: impl Into<String>) -> Self {
        Self { severity, code: Cow::Borrowed(code), message: message.into(), origin, fix: None }
    }
    /// An error.
    pub fn error(code: &'static str, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, origin, message)
    }
    /// A warning.
    pub fn warning(code: &'static str, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, origin, message)
    }
    /// A remark.
    pub fn info(code: &'static str, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, origin, message)
    }
    /// The same, with what to do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
    /// Is it an error?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `warning[WEFT-1203] VirtualService default/x (file.yaml:12): message; fix: …`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.origin.to_string();
        // A document that is not a resource has no name: then the place alone, without brackets.
        let place = match self.origin.object().trim() {
            "" => place.trim().trim_start_matches('(').trim_end_matches(')').to_owned(),
            _ => place,
        };
        write!(f, "{}[{}] {place}: {}", self.severity, self.code, self.message)?;
        match &self.fix {
            Some(fix) => write!(f, "; fix: {fix}"),
            None => Ok(()),
        }
    }
}

/// One row of the table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Code {
    /// The code, e.g. `WEFT-1201`.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// One or two sentences: what happened, and what Weft does about it.
    pub explanation: &'static str,
}

const fn code(code: &'static str, title: &'static str, explanation: &'static str) -> Code {
    Code { code, title, explanation }
}

/// Every code of this crate. Other crates keep a table of the same form beside their constructors.
pub const CODES: &[Code] = &[
    code(
        "WEFT-1001",
        "not YAML",
        "The text of a document cannot be read as YAML or JSON. That document is skipped; the others of the file are used.",
    ),
    code(
        "WEFT-1002",
        "over a limit",
        "A document or the whole input is larger, deeper or more repetitive than Weft accepts. It is skipped before it can cost memory.",
    ),
    code("WEFT-1003", "not text", "The input has bytes that are not UTF-8. They are replaced, and the rest is read."),
    code(
        "WEFT-1004",
        "field given twice",
        "An object has two fields of the same name. Which one was meant cannot be known, so the document is not used.",
    ),
    code("WEFT-1005", "no resource in the file", "The input has no document in it: it is empty or has comments only."),
    code(
        "WEFT-1006",
        "template, not YAML",
        "The document has template marks ({{ … }}) that a tool such as Helm must fill in before Weft can read it.",
    ),
    code("WEFT-1101", "not a resource", "A document is not an object with apiVersion, kind and metadata.name, so it is not a resource."),
    code("WEFT-1102", "unknown kind", "Weft does not know this apiVersion and kind. The document is kept but has no effect."),
    code(
        "WEFT-1103",
        "kind not acted on yet",
        "The kind belongs to an API that Weft follows, but this version does not act on it. The document is kept but has no effect.",
    ),
    code(
        "WEFT-1104",
        "kind has no effect on the mesh",
        "A well-known Kubernetes kind that says nothing about traffic. It is kept and otherwise left alone.",
    ),
    code(
        "WEFT-1105",
        "unknown version of a known kind",
        "The kind is known but not under this version. It is read as the newest version that Weft knows.",
    ),
    code(
        "WEFT-1106",
        "bad name",
        "A resource's name, namespace or label is not of the form that Kubernetes asks for. The document is not used.",
    ),
    code(
        "WEFT-1201",
        "unknown field",
        "A field is not part of the resource's API, often by a slip of spelling or indentation. The field is ignored.",
    ),
    code("WEFT-1202", "field not acted on yet", "The field is part of the API and is read, but this version of Weft does not act on it."),
    code("WEFT-1203", "value not acted on yet", "The value is legal, but this version of Weft does not act on it."),
    code(
        "WEFT-1301",
        "wrong type",
        "A field holds another kind of value than its API says, e.g. text where a list belongs. The document is not used.",
    ),
    code("WEFT-1302", "bad value", "A field's value is out of range or not of the expected form. The document is not used."),
    code("WEFT-1303", "not one of the allowed words", "A field takes one of a few words and holds another. The document is not used."),
    code("WEFT-1304", "required field missing", "A field that the API requires is absent. The document is not used."),
    code("WEFT-1305", "fields exclude each other", "Two fields are given of which only one may be. The document is not used."),
    code("WEFT-1399", "more of the same", "The document has more findings than are listed."),
];

/// The row of a code, if this crate has it.
pub fn explain(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|row| row.code.eq_ignore_ascii_case(code))
}

/// User text for a message: quoted, without control characters, shortened.
pub fn quote(text: &str) -> String {
    let mut out: String = text.chars().take(crate::limits::QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > crate::limits::QUOTE_CHARS_MAX {
        out.push('…');
    }
    format!("\"{out}\"")
}

/// `field` with its name, as messages begin.
fn subject(origin: &Origin) -> String {
    match origin.field.as_str() {
        "" => "the document".into(),
        field => field.into(),
    }
}

/// The text is not YAML.
pub fn not_yaml(origin: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-1001", origin, format!("cannot be read as YAML: {why}"))
}
/// The text is a template.
pub fn template(origin: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-1006", origin, "is a template, not YAML: it has {{ … }} in it")
        .fix("render it first, e.g. with `helm template`, and give Weft the result")
}
/// Something is larger than allowed.
pub fn over_limit(origin: Origin, what: &str, max: usize) -> Diagnostic {
    Diagnostic::error("WEFT-1002", origin, format!("{what}: {max} at most"))
}
/// The bytes are not UTF-8.
pub fn not_utf8(origin: Origin) -> Diagnostic {
    Diagnostic::error("WEFT-1003", origin, "has bytes that are not UTF-8; they are replaced by U+FFFD").fix("save the file as UTF-8")
}
/// An object has a field twice.
pub fn field_twice(origin: Origin, name: &str, first_line: u32) -> Diagnostic {
    Diagnostic::error("WEFT-1004", origin, format!("field {} is given twice; the first is on line {first_line}", quote(name)))
        .fix("delete or merge one of the two")
}
/// The input holds nothing.
pub fn nothing_there(origin: Origin) -> Diagnostic {
    Diagnostic::warning("WEFT-1005", origin, "has no resource in it")
}
/// A document is not a resource.
pub fn not_a_resource(origin: Origin, why: &str) -> Diagnostic {
    Diagnostic::error("WEFT-1101", origin, format!("is not a resource: {why}"))
        .fix("a resource is an object with apiVersion, kind and metadata.name")
}
/// The kind is not known.
pub fn unknown_kind(origin: Origin, api_version: &str, kind: &str, meant: Option<String>) -> Diagnostic {
    let found = Diagnostic::warning(
        "WEFT-1102",
        origin,
        format!("Weft does not know kind {} of apiVersion {}; it has no effect", quote(kind), quote(api_version)),
    );
    match meant {
        Some(meant) => found.fix(format!("did you mean {meant}?")),
        None => found,
    }
}
/// The kind is known, and for later.
pub fn kind_not_acted_on(origin: Origin) -> Diagnostic {
    let kind = origin.kind.clone();
    Diagnostic::warning("WEFT-1103", origin, format!("kind {kind} is read but not acted on yet"))
}
/// The kind says nothing to a mesh.
pub fn kind_without_effect(origin: Origin) -> Diagnostic {
    let kind = origin.kind.clone();
    Diagnostic::info("WEFT-1104", origin, format!("kind {kind} has no effect on the mesh"))
}
/// The version is not known.
pub fn unknown_version(origin: Origin, found: &str, known: &str) -> Diagnostic {
    Diagnostic::warning("WEFT-1105", origin, format!("apiVersion {} is not known for this kind; it is read as {known}", quote(found)))
        .fix(format!("write apiVersion: {known}"))
}
/// A name is not legal.
pub fn bad_name(origin: Origin, name: &str, rule: &str) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::error("WEFT-1106", origin, format!("{subject} is {}: {rule}", quote(name)))
}
/// A field is not part of the API.
pub fn unknown_field(origin: Origin, name: &str, meant: Option<&str>) -> Diagnostic {
    let parent = origin.field.strip_suffix(name).map(|p| p.trim_end_matches('.')).filter(|p| !p.is_empty()).unwrap_or("the document");
    let message = format!("{parent} has no field {}; it is ignored", quote(name));
    let found = Diagnostic::warning("WEFT-1201", origin, message);
    match meant {
        Some(meant) => found.fix(format!("did you mean {meant}?")),
        None => found,
    }
}
/// A field is for later.
pub fn not_acted_on(origin: Origin) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::warning("WEFT-1202", origin, format!("{subject} is read but not acted on yet"))
}
/// A value is for later.
pub fn value_not_acted_on(origin: Origin, value: &str) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::warning("WEFT-1203", origin, format!("{subject}: {value} is read but not acted on yet"))
}
/// A field holds the wrong kind of value.
pub fn wrong_type(origin: Origin, found: &str, expected: &str) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::error("WEFT-1301", origin, format!("{subject} is {found}, but must be {expected}"))
}
/// A field holds a bad value.
pub fn bad_value(origin: Origin, why: &str) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::error("WEFT-1302", origin, format!("{subject}: {why}"))
}
/// A field holds none of its words.
pub fn bad_choice(origin: Origin, found: &str, known: &[&str], meant: Option<&str>) -> Diagnostic {
    let subject = subject(&origin);
    let words = known.join(", ");
    let found = Diagnostic::error("WEFT-1303", origin, format!("{subject} is {}, but must be one of {words}", quote(found)));
    match meant {
        Some(meant) => found.fix(format!("did you mean {meant}?")),
        None => found,
    }
}
/// A required field is absent.
pub fn missing_field(origin: Origin) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::error("WEFT-1304", origin, format!("{subject} is missing"))
}
/// Two fields exclude each other.
pub fn exclusive_fields(origin: Origin, first: &str, second: &str) -> Diagnostic {
    let subject = subject(&origin);
    Diagnostic::error("WEFT-1305", origin, format!("{subject} has both {first} and {second}; only one may be given"))
}
/// The list of findings was cut.
pub fn more_findings(origin: Origin, count: usize) -> Diagnostic {
    Diagnostic::warning("WEFT-1399", origin, format!("and {count} more findings in this document"))
}
