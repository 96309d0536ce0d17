//! Changes to headers, as routes and destinations ask for them. Names and values are parsed once, when an edit is first applied.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Changes to headers: `set` replaces, `add` appends, `remove` deletes; applied remove, set, add.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderEdits {
    /// Replace or create.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// Append.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
    /// Delete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// The three in the form in which they are applied.
    #[serde(skip)]
    parsed: OnceLock<Parsed>,
}

#[derive(Debug, Clone, Default)]
struct Parsed {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    authority: Option<HeaderValue>,
}

impl PartialEq for HeaderEdits {
    fn eq(&self, other: &Self) -> bool {
        (&self.set, &self.add, &self.remove) == (&other.set, &other.add, &other.remove)
    }
}
impl Eq for HeaderEdits {}

/// Is it the request's authority that an edit of this name means?
pub fn names_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

impl HeaderEdits {
    /// Edits of these three kinds.
    pub fn new(set: Vec<(String, String)>, add: Vec<(String, String)>, remove: Vec<String>) -> Self {
        Self { set, add, remove, parsed: OnceLock::new() }
    }
    /// Nothing to do?
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
    /// Applies the edits. What HTTP does not allow is skipped (the compiler has reported it), and so is the authority.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if self.is_empty() {
            return;
        }
        let parsed = self.parsed();
        for name in &parsed.remove {
            headers.remove(name);
        }
        for (name, value) in &parsed.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &parsed.add {
            headers.append(name, value.clone());
        }
    }
    /// The authority that an edit of `Host` or `:authority` sets.
    pub fn authority(&self) -> Option<&HeaderValue> {
        if self.set.is_empty() { None } else { self.parsed().authority.as_ref() }
    }

    fn parsed(&self) -> &Parsed {
        self.parsed.get_or_init(|| {
            let pair = |(name, value): &(String, String)| {
                let legal = (!names_authority(name)).then(|| HeaderName::from_bytes(name.as_bytes()).ok())??;
                Some((legal, HeaderValue::from_str(value).ok()?))
            };
            let host = self.set.iter().find(|(name, _)| names_authority(name));
            Parsed {
                remove: self.remove.iter().filter(|n| !names_authority(n)).filter_map(|n| n.parse().ok()).collect(),
                set: self.set.iter().filter_map(pair).collect(),
                add: self.add.iter().filter_map(pair).collect(),
                authority: host.and_then(|(_, value)| HeaderValue::from_str(value).ok()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remove_then_set_then_add() {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let edits = HeaderEdits::new(
            vec![pair("X-A", "set"), pair("host", "other:80")],
            vec![pair("x-a", "added"), pair("bad name", "x")],
            vec!["x-b".into()],
        );
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("old"));
        headers.append("x-a", HeaderValue::from_static("older"));
        headers.append("x-b", HeaderValue::from_static("gone"));
        headers.append("host", HeaderValue::from_static("h"));
        edits.apply(&mut headers);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["set", "added"]);
        assert_eq!((headers.get("x-b"), headers.len()), (None, 3));
        assert_eq!(
            (edits.authority().expect("set"), &headers["host"]),
            (&HeaderValue::from_static("other:80"), &HeaderValue::from_static("h"))
        );
    }
}
