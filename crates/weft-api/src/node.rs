//! A YAML or JSON value that remembers its lines.

use serde_json::Value as Json;

/// A value and the line on which it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Line in the file, from 1.
    pub(crate) line: u32,
    /// Where it stands in the text, in bytes; used to cut list items out of a `List`.
    pub(crate) bytes: (usize, usize),
    /// Column of the first character, from 0.
    pub(crate) column: usize,
    /// The value.
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text { text: String, plain: bool },
    List(Vec<Node>),
    Object(Vec<Field>),
}

/// One entry of an object.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: String,
    /// Line of the name.
    pub(crate) line: u32,
    /// Its value.
    pub(crate) node: Node,
}

impl Node {
    /// The value of a field, when this is an object that has it and it is not null.
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Object(fields) => fields.iter().find(|f| f.name == name).map(|f| &f.node).filter(|n| !matches!(n.value, Value::Null)),
            _ => None,
        }
    }
    /// The text, when it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text { text, .. } => Some(text),
            _ => None,
        }
    }
    /// How the value is called in messages.
    pub(crate) fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "empty",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text { .. } => "text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
    /// The same value as JSON, without lines.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(value) => Json::Number(value.clone()),
            Value::Text { text, .. } => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Object(fields) => Json::Object(fields.iter().map(|f| (f.name.clone(), f.node.to_json())).collect()),
        }
    }
    /// How many nodes this is, itself included.
    pub(crate) fn count(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Value::Object(fields) => 1 + fields.iter().map(|f| f.node.count()).sum::<usize>(),
            _ => 1,
        }
    }
    /// How many levels this has: 1 for a scalar.
    pub(crate) fn depth(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.iter().map(|f| f.node.depth()).max().unwrap_or(0),
            _ => 1,
        }
    }
}
