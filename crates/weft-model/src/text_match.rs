//! Matching text: exact, prefix, suffix, presence, regular expression.

use crate::limits::{REGEX_COMPILED_BYTES_MAX, REGEX_PATTERN_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// A regular expression in RE2 syntax that must match the *whole* text, compiled when it is made.
///
/// Matching is linear in the length of the text. Equality is equality of the pattern text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    compiled: regex::Regex,
}

/// Why a pattern was refused, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Compiles `text` anchored at both ends.
    ///
    /// # Errors
    /// When the pattern is too long, not legal RE2, or compiles to more than the limit.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.len() > REGEX_PATTERN_BYTES_MAX {
            return Err(PatternError(format!("the expression has {} bytes; {REGEX_PATTERN_BYTES_MAX} are allowed", text.len())));
        }
        let compile = |t: &str| regex::RegexBuilder::new(t).size_limit(REGEX_COMPILED_BYTES_MAX).build();
        // Compiled alone first: `a)(b` must not become legal through the anchoring group.
        let error = |e: regex::Error| PatternError(e.to_string().lines().last().unwrap_or("not a regular expression").trim().into());
        compile(text).map_err(error)?;
        let compiled = compile(&format!("^(?:{text})$")).map_err(error)?;
        Ok(Self { text: text.into(), compiled })
    }
    /// The pattern as the user wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Does the whole of `text` match?
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
    /// `text` rewritten by `substitution` (RE2's `\1` form) when the pattern matches somewhere in it (not anchored: a rewrite edits).
    pub fn replace(&self, text: &str, substitution: &str) -> Option<String> {
        let free = regex::Regex::new(&self.text).ok()?;
        let template = rust_template(substitution);
        free.is_match(text).then(|| free.replace_all(text, template.as_str()).into_owned())
    }
}

/// `\1` (RE2) → `${1}` (this engine); a literal `$` is doubled.
fn rust_template(re2: &str) -> String {
    let mut out = String::with_capacity(re2.len() + 8);
    let mut chars = re2.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(d)) if d.is_ascii_digit() => {
                out.push_str(&format!("${{{d}}}"));
                chars.next();
            }
            ('\\', Some('\\')) => {
                out.push('\\');
                chars.next();
            }
            ('$', _) => out.push_str("$$"),
            _ => out.push(c),
        }
    }
    out
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Pattern {}
impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::new(&text)
    }
}
impl From<Pattern> for String {
    fn from(p: Pattern) -> String {
        p.text
    }
}

/// How a text value is matched. Istio's `StringMatch` and the `abc*`/`*abc`/`*` form of its policies both become this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Equal, byte for byte.
    Exact(String),
    /// Equal, ASCII case ignored.
    ExactIgnoreCase(String),
    /// Starts with.
    Prefix(String),
    /// Starts with, ASCII case ignored.
    PrefixIgnoreCase(String),
    /// Ends with.
    Suffix(String),
    /// Matches as a whole.
    Regex(Pattern),
    /// Present and not empty.
    Present,
}

impl StringMatch {
    /// Does `text` match?
    pub fn matches(&self, text: &str) -> bool {
        let head = |n: usize| text.as_bytes().get(..n);
        match self {
            Self::Exact(want) => text == want,
            Self::ExactIgnoreCase(want) => text.eq_ignore_ascii_case(want),
            Self::Prefix(want) => text.starts_with(want.as_str()),
            Self::PrefixIgnoreCase(want) => head(want.len()).is_some_and(|h| h.eq_ignore_ascii_case(want.as_bytes())),
            Self::Suffix(want) => text.ends_with(want.as_str()),
            Self::Regex(pattern) => pattern.is_match(text),
            Self::Present => !text.is_empty(),
        }
    }
    /// Reads the wildcard form of Istio's AuthorizationPolicy: `*` present, `abc*` prefix, `*abc` suffix, else exact.
    pub fn from_wildcard(text: &str) -> Self {
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(suffix), _) => Self::Suffix(suffix.into()),
            (None, Some(prefix)) => Self::Prefix(prefix.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text_only() {
        let p = Pattern::new("/api/v[0-9]+").expect("legal");
        assert!(p.is_match("/api/v1"));
        assert!(!p.is_match("/api/v1/x"));
        assert!(!p.is_match("x/api/v1"));
        assert!(Pattern::new("a)(b").is_err());
        assert!(Pattern::new("a{1000}{1000}{1000}").is_err());
    }

    #[test]
    fn re2_substitutions_become_ours() {
        let p = Pattern::new("^/service/([^/]+)(/.*)$").expect("legal");
        assert_eq!(p.replace("/service/foo/v1/api", r"\2/instance/\1").as_deref(), Some("/v1/api/instance/foo"));
        assert_eq!(p.replace("/other", r"\2"), None);
    }

    #[test]
    fn wildcards() {
        assert!(StringMatch::from_wildcard("*").matches("x"));
        assert!(!StringMatch::from_wildcard("*").matches(""));
        assert!(StringMatch::from_wildcard("/info*").matches("/info/a"));
        assert!(StringMatch::from_wildcard("*.com").matches("a.com"));
        assert!(!StringMatch::from_wildcard("abc").matches("abcd"));
    }
}
