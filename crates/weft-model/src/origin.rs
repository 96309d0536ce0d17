//! Provenance: which line of which object a model value comes from.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a model value was written. Every value that can decide about a request carries one, all the way to the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Resource kind, e.g. `VirtualService`; empty for Weft's own defaults.
    pub kind: String,
    /// Namespace of the resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// File (or other source) it was read from; empty when it came through the API.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Line in that file, from 1; 0 when unknown.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub line: u32,
    /// Path of the field inside the resource, e.g. `spec.http[1]`; empty for the whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Origin {
    /// The origin of a value that no user wrote: Weft's default, named.
    pub fn built_in(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
    /// True for Weft's own defaults.
    pub fn is_built_in(&self) -> bool {
        self.kind.is_empty()
    }
    /// The same resource, at another line and field.
    pub fn at(&self, line: u32, field: impl Into<String>) -> Self {
        Self { line, field: field.into(), ..self.clone() }
    }
    /// `Kind namespace/name`, without file or line.
    pub fn object(&self) -> String {
        match (self.kind.as_str(), self.namespace.as_str()) {
            ("", _) => self.name.clone(),
            (kind, _) if self.name.is_empty() => kind.into(),
            (kind, "") => format!("{kind} {}", self.name),
            (kind, namespace) => format!("{kind} {namespace}/{}", self.name),
        }
    }
}

/// `VirtualService default/ratings (ratings.yaml:9)`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object())?;
        match (self.file.as_str(), self.line) {
            ("", 0) => Ok(()),
            ("", line) => write!(f, " (line {line})"),
            (file, 0) => write!(f, " ({file})"),
            (file, line) => write!(f, " ({file}:{line})"),
        }
    }
}
