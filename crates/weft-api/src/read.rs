//! Reading typed values from [`Node`]s: the `object!` and `choice!` macros, the [`Read`] trait and the plain types.
//!
//! A type is written once, as `object! { pub struct … }`; reading, the warnings about unknown and not-yet-acted-on fields, and
//! (later) its JSON schema all come from that one text. Every problem of an object is reported, not only the first.

use crate::diag::{self, Diagnostic};
use crate::limits::DOCUMENT_DIAGNOSTICS_MAX;
use crate::node::{Field, Node, Value};
use std::{collections::BTreeMap, fmt, ops::Deref, time::Duration};
use weft_model::Origin;

/// A list item (or a value) with the line on which it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spanned<T> {
    /// Line in the file, from 1; 0 when unknown.
    pub line: u32,
    /// Path of the field in the resource, e.g. `spec.http[1]`.
    pub field: String,
    /// The value.
    pub value: T,
}

impl<T> Spanned<T> {
    /// A value that nobody wrote, without a line.
    pub fn unplaced(value: T) -> Self {
        Self { line: 0, field: String::new(), value }
    }
    /// The provenance of this value, given that of its document.
    pub fn origin(&self, document: &Origin) -> Origin {
        document.at(self.line, self.field.clone())
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where a value stands in its resource; made into text only for messages and [`Spanned::field`].
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    /// The resource itself.
    Root,
    /// A named field.
    Name(&'a Path<'a>, &'a str),
    /// An item of a list.
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Name(Self::Root, name) => f.write_str(name),
            Self::Name(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Collects what is wrong while one document is read.
pub(crate) struct Reader {
    origin: Origin,
    diagnostics: Vec<Diagnostic>,
    failed: bool,
    unlisted: usize,
}

impl Reader {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, diagnostics: Vec::new(), failed: false, unlisted: 0 }
    }
    /// Name of the object that is read.
    pub(crate) fn object_name(&self) -> &str {
        &self.origin.name
    }
    /// Was there an error?
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }
    /// All that was found, in the order of the lines.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|d| d.origin.line);
        if self.unlisted > 0 {
            self.diagnostics.push(diag::more_findings(self.origin, self.unlisted));
        }
        self.diagnostics
    }
    /// The provenance of a value at `line` and `at`.
    pub(crate) fn place(&self, line: u32, at: &Path<'_>) -> Origin {
        self.origin.at(line, at.to_string())
    }
    /// Notes a diagnostic.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.failed |= diagnostic.is_error();
        match self.diagnostics.len() < DOCUMENT_DIAGNOSTICS_MAX {
            true => self.diagnostics.push(diagnostic),
            false => self.unlisted += 1,
        }
    }
    /// Notes that the node is not what it should be. Always `None`, so that a reader can end with it.
    pub(crate) fn wrong_type<T>(&mut self, node: &Node, at: &Path<'_>, expected: &str) -> Option<T> {
        let place = self.place(node.line, at);
        self.report(diag::wrong_type(place, node.what(), expected));
        None
    }
    /// Notes that a text is not of the expected form. Always `None`.
    pub(crate) fn bad_value<T>(&mut self, node: &Node, at: &Path<'_>, why: &str) -> Option<T> {
        let place = self.place(node.line, at);
        self.report(diag::bad_value(place, why));
        None
    }
    /// The text of a node, or a diagnostic.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, at: &Path<'_>) -> Option<&'n str> {
        match node.text() {
            Some(text) => Some(text),
            None => self.wrong_type(node, at, "text"),
        }
    }
    /// The fields of an object, or a diagnostic.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, at: &Path<'_>) -> Option<&'n [Field]> {
        match &node.value {
            Value::Object(fields) => Some(fields),
            _ => self.wrong_type(node, at, "an object"),
        }
    }
    /// Warns about the fields of an object that are unknown or not acted on.
    pub(crate) fn check_fields(&mut self, fields: &[Field], at: &Path<'_>, known: &Known) {
        for field in fields {
            let name = field.name.as_str();
            let path = Path::Name(at, name);
            if known.later.contains(&name) && !matches!(field.node.value, Value::Null) {
                let place = self.place(field.line, &path);
                self.report(diag::not_acted_on(place));
            } else if !known.open && !known.has(name) {
                let place = self.place(field.line, &path);
                // Looking for the name that was meant costs more than the rest; a list that is full needs none.
                let meant = (self.unlisted == 0).then(|| known.closest(name)).flatten();
                self.report(diag::unknown_field(place, name, meant));
            }
        }
    }
    /// Reads one field of an object; an absent or null field is what its type says it is.
    pub(crate) fn field<T: Read>(&mut self, object: &Node, name: &str, at: &Path<'_>) -> Option<T> {
        let path = Path::Name(at, name);
        match object.field(name) {
            Some(node) => T::read(node, &path, self),
            None => T::absent().or_else(|| {
                let place = self.place(object.line, &path);
                self.report(diag::missing_field(place));
                None
            }),
        }
    }
}

/// The field names of an object type.
pub(crate) struct Known {
    /// Fields that are read.
    pub(crate) fields: &'static [&'static str],
    /// Fields of the API that Weft does not act on yet; may overlap `fields`.
    pub(crate) later: &'static [&'static str],
    /// Fields that need no action: they mean nothing to a mesh, or nothing on one machine.
    pub(crate) inert: &'static [&'static str],
    /// Are unknown fields fine? True for foreign types of which only a part is read.
    pub(crate) open: bool,
}

impl Known {
    fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
    fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.fields.iter().chain(self.later).chain(self.inert).copied()
    }
    /// The known name that was probably meant.
    fn closest(&self, name: &str) -> Option<&'static str> {
        closest(name, self.names())
    }
}

/// The candidate that differs least from `name`, when it is close enough to be a slip.
pub(crate) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (name.chars().count() / 3).clamp(1, 3);
    candidates.map(|c| (distance(&name.to_lowercase(), &c.to_lowercase()), c)).filter(|(d, _)| *d <= bound).min().map(|(_, c)| c)
}

/// Edit distance (insert, delete, replace, swap of neighbours), for names only: quadratic.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// A type that can be read from a node.
pub(crate) trait Read: Sized {
    /// Reads it, or reports why not and returns `None`.
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self>;
    /// What an absent field of this type is; `None` makes the field required.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        T::read(node, at, reader).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Read> Read for Box<T> {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        T::read(node, at, reader).map(Box::new)
    }
}

impl<T: Read> Read for Spanned<T> {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        T::read(node, at, reader).map(|value| Self { line: node.line, field: at.to_string(), value })
    }
}

/// All items, or none: half a list of conditions would mean something that nobody wrote.
impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let Value::List(items) = &node.value else { return reader.wrong_type(node, at, "a list") };
        let read: Vec<Option<T>> = items.iter().enumerate().map(|(i, item)| T::read(item, &Path::Index(at, i), reader)).collect();
        read.into_iter().collect()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let fields = reader.fields(node, at)?;
        let read: Vec<Option<(String, T)>> =
            fields.iter().map(|f| T::read(&f.node, &Path::Name(at, &f.name), reader).map(|value| (f.name.clone(), value))).collect();
        read.into_iter().collect()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl Read for String {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Text { text, .. } => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => reader.wrong_type(node, at, "text (write it in quotes)"),
            _ => reader.wrong_type(node, at, "text"),
        }
    }
}

impl Read for bool {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            // YAML 1.1 words, which Kubernetes takes where a boolean is expected.
            Value::Text { text, plain: true } if matches!(text.as_str(), "yes" | "on" | "Yes" | "On") => Some(true),
            Value::Text { text, plain: true } if matches!(text.as_str(), "no" | "off" | "No" | "Off") => Some(false),
            _ => reader.wrong_type(node, at, "true or false"),
        }
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl Read for f64 {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Number(value) => value.as_f64(),
            _ => reader.wrong_type(node, at, "a number"),
        }
    }
}

/// Whole numbers, with their range in the message.
macro_rules! read_integer {
    ($($type:ty),*) => {$(
        impl Read for $type {
            fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
                let Value::Number(value) = &node.value else { return reader.wrong_type(node, at, "a whole number") };
                let whole = value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 1e15).map(|f| f as i64));
                match whole.and_then(|whole| <$type>::try_from(whole).ok()) {
                    Some(whole) => Some(whole),
                    None => reader.bad_value(node, at, &format!("{value} is not a whole number from {} to {}", <$type>::MIN, <$type>::MAX)),
                }
            }
        }
    )*};
}
read_integer!(u16, u32, i32, i64);

impl Read for Duration {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let text = match &node.value {
            Value::Text { text, .. } => text.as_str(),
            _ => return reader.wrong_type(node, at, "a duration such as 10s or 250ms"),
        };
        match parse_duration(text) {
            Some(duration) => Some(duration),
            None => reader.bad_value(node, at, &format!("{} is not a duration such as 10s, 250ms or 1m30s", diag::quote(text))),
        }
    }
}

/// A duration as protobuf JSON, Go and the Gateway API write it: `10s`, `0.5s`, `1m30s`, `250ms`, `0`. At most 100 years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const HUNDRED_YEARS_S: f64 = 3.2e9;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += value
            * match rest.get(..unit)? {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = rest.get(unit..)?;
    }
    (!text.is_empty() && seconds <= HUNDRED_YEARS_S).then(|| Duration::from_nanos((seconds * 1e9).round() as u64))
}

/// A CIDR block, or a single address as a block of its own.
impl Read for ipnet::IpNet {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let text = reader.text(node, at)?;
        match text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(Self::from)) {
            Some(block) => Some(block),
            None => reader.bad_value(node, at, &format!("{} is not an address or a block such as 10.0.0.0/8", diag::quote(text))),
        }
    }
}

/// Any value, unread.
impl Read for serde_json::Value {
    fn read(node: &Node, _: &Path<'_>, _: &mut Reader) -> Option<Self> {
        Some(node.to_json())
    }
}

/// Declares a struct and how it is read. `field: Type = "nameInYaml"`; then which fields are `later` (part of the API, not acted on
/// yet: a warning), `inert` (nothing to act on: silent), and `open` (unknown fields are silent).
macro_rules! object {
    (
        $(#[$doc:meta])*
        pub struct $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $json:literal),* $(,)? }
        $(later $later:tt)?
        $(inert $inert:tt)?
        $(open $open:literal)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            #[allow(unused_variables, reason = "a struct may leave out the lists")]
            pub(crate) const KNOWN: $crate::read::Known = $crate::read::Known {
                fields: &[$($json),*],
                later: { let names: &[&str] = &[]; $(let names: &[&str] = &$later;)? names },
                inert: { let names: &[&str] = &[]; $(let names: &[&str] = &$inert;)? names },
                open: { let open = false; $(let open = $open;)? open },
            };
        }

        impl $crate::read::Read for $name {
            #[allow(unused_variables, reason = "a struct may have no fields")]
            fn read(
                node: &$crate::node::Node,
                at: &$crate::read::Path<'_>,
                reader: &mut $crate::read::Reader,
            ) -> Option<Self> {
                let fields = reader.fields(node, at)?;
                reader.check_fields(fields, at, &Self::KNOWN);
                $(let $field: Option<$type> = reader.field(node, $json, at);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    };
}

/// Declares an enum of words and how it is read. A `later` word is part of the API and gives a warning that it is not acted on yet.
macro_rules! choice {
    (
        $(#[$doc:meta])*
        pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }
        $(later $later:tt)?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The word that stands in YAML.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::read::Read for $name {
            #[allow(unused_variables, reason = "an enum may have no later words")]
            fn read(
                node: &$crate::node::Node,
                at: &$crate::read::Path<'_>,
                reader: &mut $crate::read::Reader,
            ) -> Option<Self> {
                let later: &[&str] = &[];
                $(let later: &[&str] = &$later;)?
                let words: &[(&str, Self)] = &[$(($word, Self::$variant)),*];
                $crate::read::read_choice(words, later, node, at, reader)
            }
        }
    };
}

/// The shared body of `choice!`.
pub(crate) fn read_choice<T: Copy>(words: &[(&str, T)], later: &[&str], node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<T> {
    let text = reader.text(node, at)?;
    match words.iter().find(|(word, _)| *word == text) {
        Some((word, value)) => {
            if later.contains(word) {
                let place = reader.place(node.line, at);
                reader.report(diag::value_not_acted_on(place, word));
            }
            Some(*value)
        }
        None => {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let place = reader.place(node.line, at);
            reader.report(diag::bad_choice(place, text, &known, closest(text, known.iter().copied())));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_istio_go_and_gateway_api_write_them() {
        for (text, ms) in [("10s", 10_000), ("0.5s", 500), ("1m30s", 90_000), ("250ms", 250), ("0s", 0), ("0", 0), ("2h", 7_200_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "10", "-1s", "10 s", "1e3s", "1y", "1..s", ".s", "99999999999h", "١s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = ["timeout", "retries", "route", "rewrite", "match"];
        assert_eq!(closest("timout", names.into_iter()), Some("timeout"));
        assert_eq!(closest("Retries", names.into_iter()), Some("retries"));
        assert_eq!(closest("matches", names.into_iter()), Some("match"));
        assert_eq!(closest("banana", names.into_iter()), None);
    }
}
