//! Matching text: exact, prefix, suffix, presence, regular expression.

use crate::limits::{REGEX_COMPILED_BYTES_MAX, REGEX_PATTERN_BYTES_MAX, REWRITE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// A regular expression in RE2 syntax that must match the *whole* text, compiled when it is made.
///
/// Matching is linear in the length of the text. Equality is equality of the pattern text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    compiled: regex::Regex,
    /// Without anchors, for rewrites; made when first asked for.
    free: OnceLock<Option<regex::Regex>>,
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
        Ok(Self { text: text.into(), compiled, free: OnceLock::new() })
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
    pub fn replace(&self, text: &str, substitution: &str) -> Replaced {
        let made = || regex::RegexBuilder::new(&self.text).size_limit(REGEX_COMPILED_BYTES_MAX).build().ok();
        let Some(free) = self.free.get_or_init(made).as_ref() else { return Replaced::NoMatch };
        let mut out = String::new();
        let mut done = 0;
        for captures in free.captures_iter(text) {
            let whole = captures.get(0).map_or(0..0, |m| m.range());
            out.push_str(text.get(done..whole.start).unwrap_or_default());
            done = whole.end;
            if !expand(&captures, substitution, &mut out) {
                return Replaced::TooLong;
            }
        }
        match free.is_match(text) {
            false => Replaced::NoMatch,
            true => {
                out.push_str(text.get(done..).unwrap_or_default());
                if out.len() > REWRITE_BYTES_MAX { Replaced::TooLong } else { Replaced::Text(out) }
            }
        }
    }
}

/// What became of a substitution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// The pattern matches nowhere.
    NoMatch,
    /// The new text.
    Text(String),
    /// It would be longer than [`REWRITE_BYTES_MAX`].
    TooLong,
}

/// Appends RE2's substitution: `\0` to `\9` are groups, `\\` is a backslash. False when it becomes too long.
fn expand(captures: &regex::Captures<'_>, substitution: &str, out: &mut String) -> bool {
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        match (c, (c == '\\').then(|| chars.clone().next()).flatten()) {
            ('\\', Some(next)) => {
                chars.next();
                match next.to_digit(10) {
                    Some(group) => out.push_str(captures.get(group as usize).map_or("", |m| m.as_str())),
                    None => out.push(next),
                }
            }
            _ => out.push(c),
        }
        if out.len() > REWRITE_BYTES_MAX {
            return false;
        }
    }
    true
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
    /// Ends with, ASCII case ignored.
    SuffixIgnoreCase(String),
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
            Self::SuffixIgnoreCase(want) => {
                let tail = text.len().checked_sub(want.len()).and_then(|at| text.as_bytes().get(at..));
                tail.is_some_and(|t| t.eq_ignore_ascii_case(want.as_bytes()))
            }
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
        assert_eq!(p.replace("/service/foo/v1/api", r"\2/instance/\1"), Replaced::Text("/v1/api/instance/foo".into()));
        assert_eq!(p.replace("/other", r"\2"), Replaced::NoMatch);
        let every = Pattern::new("a").expect("legal");
        assert_eq!(every.replace("/a-a$1", r"$\0\\"), Replaced::Text(r"/$a\-$a\$1".into()));
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
