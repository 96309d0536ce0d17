//! Expressions over a request: the part of CEL that filters of access logs and labels of metrics are written in.
//!
//! There are texts, whole numbers, booleans, durations, lists, `&& || ! ?:`, comparisons, `in`, `+`, `has()`, and the methods
//! `startsWith endsWith contains matches`; no loops and no macros, so that the cost is bounded by the text. What is not known is
//! *missing*: it makes a comparison missing too, a filter not apply, and a label `unknown`.

use crate::{
    HeaderSource,
    limits::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX, REGEX_COMPILED_BYTES_MAX, REGEX_PATTERN_BYTES_MAX},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, sync::Arc};

mod parse;

/// A parsed expression; serialised as its text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    text: Arc<str>,
    root: Arc<Node>,
}

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(String);

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpressionValue<'a> {
    /// Not known, or not defined.
    Missing,
    /// Text.
    Text(Cow<'a, str>),
    /// Whole number.
    Number(i64),
    /// Number with a fraction.
    Double(f64),
    /// Truth.
    Truth(bool),
    /// Length of time, in microseconds.
    Micros(i64),
    /// List.
    List(Vec<ExpressionValue<'a>>),
}

/// What expressions are evaluated over.
pub trait Attributes {
    /// The value of a dotted name: `response.code`, `connection.mtls`.
    fn attribute(&self, name: &str) -> ExpressionValue<'_>;
    /// An entry of a map: header `key` (in lower case) of `request.headers`, a label of `source.labels`.
    fn entry(&self, map: &str, key: &str) -> ExpressionValue<'_>;
}

#[derive(Debug)]
enum Node {
    Text(String),
    Number(i64),
    Double(f64),
    Truth(bool),
    Null,
    List(Vec<Node>),
    /// A dotted name.
    Name(String),
    /// `map['key']`.
    Entry(String, Box<Node>),
    Not(Box<Node>),
    Minus(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Choose(Box<Node>, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    /// `x in list`, `'key' in map`.
    In(Box<Node>, Box<Node>),
    Add(Box<Node>, Box<Node>),
    Has(Box<Node>),
    Method(Method, Box<Node>, Box<Node>),
    Matches(Box<Node>, regex::Regex),
    Convert(Conversion, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy)]
enum Method {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Debug, Clone, Copy)]
enum Conversion {
    Text,
    Number,
    Size,
    Lower,
    Duration,
}

/// Names that are maps: their entries are asked for one by one.
const MAPS: [&str; 7] =
    ["request.headers", "response.headers", "response.trailers", "source.labels", "destination.labels", "node.metadata", "request.query"];

/// Names that have a value. `filter_state.…`, `metadata.…` and others of Envoy are not known to Weft.
pub const EXPRESSION_NAMES: [&str; 53] = [
    "request.path",
    "request.url_path",
    "request.host",
    "request.scheme",
    "request.method",
    "request.headers",
    "request.referer",
    "request.useragent",
    "request.time",
    "request.id",
    "request.protocol",
    "request.query",
    "request.duration",
    "request.size",
    "request.total_size",
    "response.code",
    "response.code_details",
    "response.flags",
    "response.grpc_status",
    "response.headers",
    "response.trailers",
    "response.size",
    "response.total_size",
    "response.backend_latency",
    "source.address",
    "source.port",
    "source.principal",
    "source.namespace",
    "source.workload",
    "source.service",
    "source.version",
    "source.labels",
    "destination.address",
    "destination.port",
    "destination.principal",
    "destination.namespace",
    "destination.workload",
    "destination.service",
    "destination.version",
    "destination.labels",
    "connection.mtls",
    "connection.requested_server_name",
    "connection.tls_version",
    "connection.uri_san_peer_certificate",
    "connection.termination_details",
    "upstream.address",
    "upstream.port",
    "upstream.request_attempt_count",
    "upstream.transport_failure_reason",
    "xds.cluster_name",
    "xds.route_name",
    "node.id",
    "node.metadata",
];

impl Expression {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Is it true of `of`? Missing is not.
    pub fn is_true(&self, of: &dyn Attributes) -> bool {
        matches!(self.root.value(of), ExpressionValue::Truth(true))
    }
    /// Its value as text; `None` when missing.
    pub fn as_text(&self, of: &dyn Attributes) -> Option<String> {
        match self.root.value(of) {
            ExpressionValue::Missing => None,
            value => Some(value.to_string()),
        }
    }
    /// Names that Weft has no value for.
    pub fn unknown_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.root.each(&mut |node| match node {
            Node::Name(name) if !EXPRESSION_NAMES.contains(&name.as_str()) => names.push(name.clone()),
            Node::Entry(map, _) if !MAPS.contains(&map.as_str()) => names.push(map.clone()),
            _ => {}
        });
        names.sort();
        names.dedup();
        names
    }
    /// Adds the headers that it reads to `names`.
    pub fn headers(&self, from: HeaderSource, names: &mut Vec<String>) {
        let wanted = match from {
            HeaderSource::Request => "request.headers",
            HeaderSource::Response => "response.headers",
            HeaderSource::Trailers => "response.trailers",
        };
        self.root.each(&mut |node| match node {
            Node::Entry(map, key) if map == wanted => names.extend(key.literal().map(str::to_ascii_lowercase)),
            Node::In(key, map) if matches!(&**map, Node::Name(name) if name == wanted) => {
                names.extend(key.literal().map(str::to_ascii_lowercase));
            }
            Node::Name(name) if from == HeaderSource::Request && name == "request.referer" => names.push("referer".into()),
            _ => {}
        });
    }
}

impl Node {
    fn literal(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn each(&self, visit: &mut dyn FnMut(&Self)) {
        visit(self);
        match self {
            Self::Text(_) | Self::Number(_) | Self::Double(_) | Self::Truth(_) | Self::Null | Self::Name(_) => {}
            Self::List(list) => list.iter().for_each(|n| n.each(visit)),
            Self::Entry(_, a) | Self::Not(a) | Self::Minus(a) | Self::Has(a) | Self::Matches(a, _) | Self::Convert(_, a) => a.each(visit),
            Self::And(a, b) | Self::Or(a, b) | Self::Compare(_, a, b) | Self::In(a, b) | Self::Add(a, b) | Self::Method(_, a, b) => {
                a.each(visit);
                b.each(visit);
            }
            Self::Choose(a, b, c) => [a, b, c].into_iter().for_each(|n| n.each(visit)),
        }
    }

    fn value<'a>(&'a self, of: &'a dyn Attributes) -> ExpressionValue<'a> {
        use ExpressionValue as V;
        match self {
            Self::Text(text) => V::Text(text.as_str().into()),
            Self::Number(n) => V::Number(*n),
            Self::Double(n) => V::Double(*n),
            Self::Truth(truth) => V::Truth(*truth),
            Self::Null => V::Missing,
            Self::List(list) => V::List(list.iter().map(|n| n.value(of)).collect()),
            Self::Name(name) => of.attribute(name),
            Self::Entry(map, key) => match key.value(of) {
                V::Text(key) => entry(of, map, &key),
                _ => V::Missing,
            },
            Self::Not(inner) => match inner.value(of) {
                V::Truth(truth) => V::Truth(!truth),
                _ => V::Missing,
            },
            Self::Minus(inner) => match inner.value(of) {
                V::Number(n) => n.checked_neg().map_or(V::Missing, V::Number),
                V::Double(n) => V::Double(-n),
                _ => V::Missing,
            },
            // As in CEL: a side that decides makes the other, even a missing one, irrelevant.
            Self::And(a, b) => decided(false, a, b, of),
            Self::Or(a, b) => decided(true, a, b, of),
            Self::Choose(condition, yes, no) => match condition.value(of) {
                V::Truth(true) => yes.value(of),
                V::Truth(false) => no.value(of),
                _ => V::Missing,
            },
            Self::Compare(how, a, b) => how.of(a, b, of),
            Self::In(item, list) => contained(item, list, of),
            Self::Add(a, b) => match (a.value(of), b.value(of)) {
                (V::Number(a), V::Number(b)) => a.checked_add(b).map_or(V::Missing, V::Number),
                (V::Text(a), V::Text(b)) => V::Text(format!("{a}{b}").into()),
                _ => V::Missing,
            },
            Self::Has(inner) => V::Truth(inner.value(of) != V::Missing),
            Self::Method(method, on, argument) => match (on.value(of), argument.value(of)) {
                (V::Text(text), V::Text(part)) => V::Truth(match method {
                    Method::StartsWith => text.starts_with(&*part),
                    Method::EndsWith => text.ends_with(&*part),
                    Method::Contains => text.contains(&*part),
                }),
                _ => V::Missing,
            },
            Self::Matches(on, pattern) => match on.value(of) {
                V::Text(text) => V::Truth(pattern.is_match(&text)),
                _ => V::Missing,
            },
            Self::Convert(how, inner) => how.of(inner.value(of)),
        }
    }
}

fn entry<'a>(of: &'a dyn Attributes, map: &str, key: &str) -> ExpressionValue<'a> {
    match map.ends_with("headers") || map.ends_with("trailers") {
        true => of.entry(map, &key.to_ascii_lowercase()),
        false => of.entry(map, key),
    }
}

fn decided<'a>(by: bool, a: &'a Node, b: &'a Node, of: &'a dyn Attributes) -> ExpressionValue<'a> {
    use ExpressionValue::{Missing, Truth};
    match (a.value(of), by) {
        (Truth(a), by) if a == by => Truth(by),
        (Truth(_), _) => match b.value(of) {
            Truth(b) => Truth(b),
            _ => Missing,
        },
        _ => match b.value(of) {
            Truth(b) if b == by => Truth(by),
            _ => Missing,
        },
    }
}

fn contained<'a>(item: &'a Node, list: &'a Node, of: &'a dyn Attributes) -> ExpressionValue<'a> {
    use ExpressionValue as V;
    if let (Node::Name(map), V::Text(key)) = (list, item.value(of))
        && MAPS.contains(&map.as_str())
    {
        return V::Truth(entry(of, map, &key) != V::Missing);
    }
    match (item.value(of), list.value(of)) {
        (V::Missing, _) => V::Missing,
        (item, V::List(list)) => V::Truth(list.iter().any(|other| same(&item, other) == Some(true))),
        _ => V::Missing,
    }
}

fn same(a: &ExpressionValue<'_>, b: &ExpressionValue<'_>) -> Option<bool> {
    order(a, b).map(std::cmp::Ordering::is_eq)
}

fn order(a: &ExpressionValue<'_>, b: &ExpressionValue<'_>) -> Option<std::cmp::Ordering> {
    use ExpressionValue as V;
    match (a, b) {
        (V::Text(a), V::Text(b)) => Some(a.cmp(b)),
        (V::Number(a), V::Number(b)) | (V::Micros(a), V::Micros(b)) => Some(a.cmp(b)),
        (V::Truth(a), V::Truth(b)) => Some(a.cmp(b)),
        (V::Double(a), V::Double(b)) => a.partial_cmp(b),
        (V::Number(a), V::Double(b)) => (*a as f64).partial_cmp(b),
        (V::Double(a), V::Number(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

impl Comparison {
    fn of<'a>(self, a: &'a Node, b: &'a Node, of: &'a dyn Attributes) -> ExpressionValue<'a> {
        let (left, right) = (a.value(of), b.value(of));
        // `x == null` asks whether there is a value.
        if matches!(a, Node::Null) || matches!(b, Node::Null) {
            let both = left == ExpressionValue::Missing && right == ExpressionValue::Missing;
            return match self {
                Self::Equal => ExpressionValue::Truth(both),
                Self::Unequal => ExpressionValue::Truth(!both),
                _ => ExpressionValue::Missing,
            };
        }
        if left == ExpressionValue::Missing || right == ExpressionValue::Missing {
            return ExpressionValue::Missing;
        }
        let order = order(&left, &right);
        match (self, order) {
            // Of different kinds: not equal, and in no order.
            (Self::Equal, None) => ExpressionValue::Truth(false),
            (Self::Unequal, None) => ExpressionValue::Truth(true),
            (_, None) => ExpressionValue::Missing,
            (Self::Equal, Some(o)) => ExpressionValue::Truth(o.is_eq()),
            (Self::Unequal, Some(o)) => ExpressionValue::Truth(o.is_ne()),
            (Self::Less, Some(o)) => ExpressionValue::Truth(o.is_lt()),
            (Self::LessOrEqual, Some(o)) => ExpressionValue::Truth(o.is_le()),
            (Self::Greater, Some(o)) => ExpressionValue::Truth(o.is_gt()),
            (Self::GreaterOrEqual, Some(o)) => ExpressionValue::Truth(o.is_ge()),
        }
    }
}

impl Conversion {
    fn of(self, value: ExpressionValue<'_>) -> ExpressionValue<'_> {
        use ExpressionValue as V;
        match (self, value) {
            (_, V::Missing) => V::Missing,
            (Self::Text, value) => V::Text(value.to_string().into()),
            (Self::Number, V::Text(text)) => text.trim().parse().map_or(V::Missing, V::Number),
            (Self::Number, V::Number(n)) => V::Number(n),
            (Self::Number, V::Double(n)) => V::Number(n as i64),
            (Self::Size, V::Text(text)) => V::Number(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
            (Self::Size, V::List(list)) => V::Number(i64::try_from(list.len()).unwrap_or(i64::MAX)),
            (Self::Lower, V::Text(text)) => V::Text(text.to_ascii_lowercase().into()),
            (Self::Duration, V::Text(text)) => parse::duration(&text).map_or(V::Missing, V::Micros),
            _ => V::Missing,
        }
    }
}

impl fmt::Display for ExpressionValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("unknown"),
            Self::Text(text) => f.write_str(text),
            Self::Number(n) => write!(f, "{n}"),
            Self::Double(n) => write!(f, "{n}"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Micros(us) => write!(f, "{}s", *us as f64 / 1e6),
            Self::List(list) => {
                for (i, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Expression {}
impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.text)
    }
}
impl TryFrom<String> for Expression {
    type Error = ExpressionError;
    fn try_from(text: String) -> Result<Self, ExpressionError> {
        text.parse()
    }
}
impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text.to_string()
    }
}
impl std::str::FromStr for Expression {
    type Err = ExpressionError;
    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let root = parse::parse(text)?;
        Ok(Self { text: text.into(), root: Arc::new(root) })
    }
}

#[cfg(test)]
mod tests;
