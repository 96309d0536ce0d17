//! Types that several of Istio's resources use.

use crate::diag;
use crate::node::{Node, Value};
use crate::read::{Path, Read, Reader};
use std::collections::BTreeMap;

object! {
    /// Which workloads a policy is for (`type.v1beta1.WorkloadSelector`): those with all of these labels, in the policy's namespace.
    pub struct WorkloadSelector {
        /// Labels; empty selects all.
        match_labels: BTreeMap<String, String> = "matchLabels",
    }
}

object! {
    /// Which workloads something is for, in the older networking resources (`networking.v1.WorkloadSelector`).
    pub struct LabelSelector {
        /// Labels.
        labels: BTreeMap<String, String> = "labels",
    }
}

object! {
    /// The resource that a policy is attached to.
    pub struct PolicyTargetReference {
        /// API group; empty for the core group.
        group: Option<String> = "group",
        /// Kind, e.g. `Gateway` or `Service`.
        kind: String = "kind",
        /// Name, in the policy's namespace.
        name: String = "name",
        /// Must be empty.
        namespace: Option<String> = "namespace",
    }
}

object! {
    /// A port by number.
    pub struct PortSelector {
        /// The number.
        number: u16 = "number",
    }
}

/// How a text is matched (`networking.v1.StringMatch`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// The whole text, as an RE2 expression.
    Regex(String),
    /// Any text: the attribute must be there. Written `{}`; only meant for headers and query parameters.
    Present,
}

impl Read for StringMatch {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        if matches!(node.value, Value::Null) {
            return Some(Self::Present);
        }
        let raw = StringMatchFields::read(node, at, reader)?;
        let place = reader.place(node.line, at);
        let mut both = |first, second| {
            reader.report(diag::exclusive_fields(place.clone(), first, second));
            None
        };
        match (raw.exact, raw.prefix, raw.regex) {
            (Some(text), None, None) => Some(Self::Exact(text)),
            (None, Some(text), None) => Some(Self::Prefix(text)),
            (None, None, Some(text)) => Some(Self::Regex(text)),
            (None, None, None) => Some(Self::Present),
            (Some(_), Some(_), _) => both("exact", "prefix"),
            (Some(_), _, Some(_)) => both("exact", "regex"),
            (None, Some(_), Some(_)) => both("prefix", "regex"),
        }
    }
}

object! {
    /// The fields of [`StringMatch`].
    pub struct StringMatchFields {
        /// The whole text.
        exact: Option<String> = "exact",
        /// Its beginning.
        prefix: Option<String> = "prefix",
        /// RE2.
        regex: Option<String> = "regex",
    }
}

object! {
    /// A share of requests.
    pub struct Percent {
        /// From 0.0 to 100.0.
        value: Option<f64> = "value",
    }
}
