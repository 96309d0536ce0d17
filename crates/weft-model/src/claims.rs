//! Claims of a proven token, as routes and policies ask for them.

use crate::StringMatch;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The claims of a token whose signature, issuer, audience and times were checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims(pub Map<String, Value>);

/// Claims whose text is a list parted by spaces (RFC 8693 §4.2, and Istio's `permission`).
const SPACED: [&str; 2] = ["scope", "permission"];

impl Claims {
    /// Does any text at `path` (a name at each level) satisfy `test`? A list is asked item by item; numbers and booleans in their JSON form.
    pub fn any(&self, path: &[String], mut test: impl FnMut(&str) -> bool) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let start = self.0.get(first);
        let found = rest.iter().fold(start, |value, name| value?.as_object()?.get(name));
        let spaced = rest.is_empty() && SPACED.contains(&first.as_str());
        match found {
            Some(Value::String(text)) if spaced => text.split(' ').any(test),
            Some(Value::Array(items)) => items.iter().any(|item| text_of(item).is_some_and(|text| test(&text))),
            Some(value) => text_of(value).is_some_and(|text| test(&text)),
            None => false,
        }
    }
}

fn text_of(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(flag) => Some(if *flag { "true" } else { "false" }.into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A condition on a claim (Istio: a header condition named `@request.auth.claims.…`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimMatch {
    /// The claim's name, one item for each level.
    pub path: Vec<String>,
    /// Value. `None`: the claim must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<StringMatch>,
    /// True: the claim must *not* match (Istio `withoutHeaders`); a request without a token satisfies that.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub invert: bool,
}

impl ClaimMatch {
    /// Reads `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`; `None` when the name is of another form.
    pub fn path_of(name: &str) -> Option<Vec<String>> {
        let rest = name.strip_prefix("@request.auth.claims")?;
        let path: Vec<String> = match rest.strip_prefix('.') {
            Some(dotted) => dotted.split('.').map(str::to_owned).collect(),
            None => rest.strip_prefix('[')?.strip_suffix(']')?.split("][").map(str::to_owned).collect(),
        };
        (!path.is_empty() && path.iter().all(|part| !part.is_empty())).then_some(path)
    }
    /// Does it hold?
    pub fn matches(&self, claims: Option<&Claims>) -> bool {
        let found = claims.is_some_and(|c| c.any(&self.path, |text| self.value.as_ref().is_none_or(|want| want.matches(text))));
        found != self.invert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_claims() {
        let path = |name: &str| ClaimMatch::path_of(name).map(|p| p.join("|"));
        assert_eq!(path("@request.auth.claims.group"), Some("group".into()));
        assert_eq!(path("@request.auth.claims.a.b"), Some("a|b".into()));
        assert_eq!(path("@request.auth.claims[https://x.example/y][b]"), Some("https://x.example/y|b".into()));
        for bad in ["@request.auth.claims", "@request.auth.claims.", "@request.auth.claims[]", "@request.auth.claims[a", "@request.auth.x"]
        {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn claims_are_asked_item_by_item() {
        let Value::Object(map) = serde_json::json!({ "group": ["dev", "ops"], "scope": "read write", "org": { "id": 7 }, "ok": true })
        else {
            unreachable!("an object")
        };
        let claims = Claims(map);
        let check = |name: &str, value: &str, want: bool| {
            let path = ClaimMatch::path_of(&format!("@request.auth.claims.{name}")).expect("a claim");
            let exact = |invert| ClaimMatch { path: path.clone(), value: Some(StringMatch::Exact(value.into())), invert };
            assert_eq!(exact(false).matches(Some(&claims)), want, "{name}={value}");
            assert_eq!(exact(true).matches(Some(&claims)), !want, "not {name}={value}");
            assert!(!exact(false).matches(None) && exact(true).matches(None));
        };
        check("group", "ops", true);
        check("group", "dev ops", false);
        check("scope", "write", true);
        check("org.id", "7", true);
        check("ok", "true", true);
        check("org", "7", false);
        check("missing", "x", false);
    }
}
