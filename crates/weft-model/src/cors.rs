//! Cross-origin rules (the Fetch standard's CORS protocol): which pages of other origins a browser may let read an answer.

use crate::{Origin, StringMatch};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};

/// Cross-origin rules of a route (Istio `corsPolicy`, Gateway API filter `CORS`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cors {
    /// Origins that may read answers; none when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<StringMatch>,
    /// Methods that may be used; `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Request headers that may be sent; `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Response headers that the page may read; `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<String>,
    /// How long a browser may keep the answer to a preflight, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
    /// May cookies and the like be sent along?
    #[serde(skip_serializing_if = "crate::is_default")]
    pub credentials: bool,
    /// True: what no allowed origin sends goes on to the upstream, whose own answer stands (Istio `FORWARD`). False: it is answered
    /// here, and no answer names an origin that is not allowed.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub forward_unmatched: bool,
    /// Where it was written.
    pub origin: Origin,
}

/// What becomes of a preflight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preflight {
    /// It is answered here, with these headers (none: the origin is not allowed).
    Answer(Vec<(HeaderName, HeaderValue)>),
    /// It goes on like any other request.
    Forward,
}

/// Every header by which an upstream could speak for itself.
const OWN: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// Is the request a preflight: a browser's question before the request itself?
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|m| !m.is_empty())
}

fn list(words: &[String]) -> Option<HeaderValue> {
    if words.is_empty() { None } else { HeaderValue::from_str(&words.join(",")).ok() }
}

/// `*` means "all" to a browser only when no credentials are sent; with them the very words that it asked for are allowed.
fn wildcard(words: &[String], credentials: bool, asked: Option<&HeaderValue>) -> Option<HeaderValue> {
    match words.iter().any(|w| w == "*") {
        true if credentials => asked.cloned(),
        true => Some(HeaderValue::from_static("*")),
        false => list(words),
    }
}

impl Cors {
    /// The request's origin, when it has exactly one and that is allowed.
    pub fn allowed<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|want| want.matches(text)).then_some(origin)
    }

    /// Answers a preflight.
    pub fn preflight(&self, request: &HeaderMap) -> Preflight {
        let Some(origin) = self.allowed(request) else {
            return if self.forward_unmatched { Preflight::Forward } else { Preflight::Answer(Vec::new()) };
        };
        let mut answer = vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()), (header::VARY, HeaderValue::from_static("origin"))];
        let mut say = |name, value: Option<HeaderValue>| answer.extend(value.map(|v| (name, v)));
        say(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, self.credentials.then(|| HeaderValue::from_static("true")));
        let method = request.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        say(header::ACCESS_CONTROL_ALLOW_METHODS, wildcard(&self.methods, self.credentials, method));
        let headers = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        say(header::ACCESS_CONTROL_ALLOW_HEADERS, wildcard(&self.headers, self.credentials, headers));
        say(header::ACCESS_CONTROL_MAX_AGE, self.max_age_s.map(HeaderValue::from));
        Preflight::Answer(answer)
    }

    /// The headers that an answer gets in place of the upstream's: computed from the request, before it is sent on. `None`: the
    /// answer stands as it comes.
    pub fn response_headers(&self, request: &HeaderMap) -> Option<Vec<(HeaderName, HeaderValue)>> {
        request.get(header::ORIGIN)?;
        let Some(origin) = self.allowed(request) else { return (!self.forward_unmatched).then(Vec::new) };
        let mut answer = vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())];
        if self.credentials {
            answer.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        answer.extend(list(&self.exposed).map(|v| (header::ACCESS_CONTROL_EXPOSE_HEADERS, v)));
        Some(answer)
    }
}

/// Puts the headers of [`Cors::response_headers`] into an answer. What the upstream said of origins is removed.
pub fn apply_cors(answer: Vec<(HeaderName, HeaderValue)>, response: &mut HeaderMap) {
    OWN.iter().for_each(|name| drop(response.remove(name)));
    for (name, value) in answer {
        response.insert(name, value);
    }
    // A cache must not hand the answer for one origin to another.
    response.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pattern;

    fn request(origin: &str, method: Option<&str>, headers: Option<&str>) -> HeaderMap {
        let mut map = HeaderMap::new();
        let mut put = |name, value: &str| drop(map.insert(name, value.parse().expect("a value")));
        put(header::ORIGIN, origin);
        method.into_iter().for_each(|m| put(header::ACCESS_CONTROL_REQUEST_METHOD, m));
        headers.into_iter().for_each(|h| put(header::ACCESS_CONTROL_REQUEST_HEADERS, h));
        map
    }
    fn cors(origin: StringMatch) -> Cors {
        Cors { origins: vec![origin], methods: vec!["GET".into(), "PUT".into()], ..Cors::default() }
    }
    fn value<'a>(list: &'a [(HeaderName, HeaderValue)], name: &HeaderName) -> Option<&'a str> {
        list.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.to_str().ok())
    }

    #[test]
    fn an_origin_is_echoed_only_when_it_is_allowed() {
        let rule = cors(StringMatch::Regex(Pattern::new(r"https://[a-z]+\.example\.com").expect("legal")));
        let allowed = |origin: &str| rule.allowed(&request(origin, None, None)).is_some();
        assert!(allowed("https://shop.example.com"));
        for other in ["https://shop.example.com.evil.net", "http://shop.example.com", "https://evil.net/https://a.example.com", "null", ""]
        {
            assert!(!allowed(other), "{other}");
        }
        let mut twice = request("https://shop.example.com", None, None);
        twice.append(header::ORIGIN, HeaderValue::from_static("https://evil.net"));
        assert_eq!(rule.allowed(&twice), None, "two origins are none");
        assert_eq!(Cors::default().allowed(&request("https://a", None, None)), None, "no rule allows nobody");
    }

    #[test]
    fn preflights() {
        let mut rule = cors(StringMatch::Exact("https://a".into()));
        rule.max_age_s = Some(600);
        let Preflight::Answer(answer) = rule.preflight(&request("https://a", Some("PUT"), Some("x-a"))) else { unreachable!("answered") };
        assert_eq!(value(&answer, &header::ACCESS_CONTROL_ALLOW_METHODS), Some("GET,PUT"));
        assert_eq!(value(&answer, &header::ACCESS_CONTROL_MAX_AGE), Some("600"));
        assert_eq!(value(&answer, &header::ACCESS_CONTROL_ALLOW_HEADERS), None);
        assert_eq!(rule.preflight(&request("https://b", Some("PUT"), None)), Preflight::Answer(Vec::new()));
        rule.forward_unmatched = true;
        assert_eq!(rule.preflight(&request("https://b", Some("PUT"), None)), Preflight::Forward);
    }

    #[test]
    fn with_credentials_a_star_becomes_what_was_asked_for() {
        let mut rule = Cors { methods: vec!["*".into()], headers: vec!["*".into()], ..cors(StringMatch::Present) };
        let ask = |rule: &Cors| match rule.preflight(&request("https://a", Some("PATCH"), Some("x-a,x-b"))) {
            Preflight::Answer(answer) => (
                value(&answer, &header::ACCESS_CONTROL_ALLOW_METHODS).map(str::to_owned),
                value(&answer, &header::ACCESS_CONTROL_ALLOW_HEADERS).map(str::to_owned),
            ),
            Preflight::Forward => unreachable!("answered"),
        };
        assert_eq!(ask(&rule), (Some("*".into()), Some("*".into())));
        rule.credentials = true;
        assert_eq!(ask(&rule), (Some("PATCH".into()), Some("x-a,x-b".into())));
    }

    #[test]
    fn what_the_upstream_says_of_origins_gives_way() {
        let rule = cors(StringMatch::Exact("https://a".into()));
        let answer = |origin: &str| {
            let mut response = HeaderMap::new();
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            if let Some(headers) = rule.response_headers(&request(origin, None, None)) {
                apply_cors(headers, &mut response);
            }
            response.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        assert_eq!(answer("https://a").expect("allowed"), "https://a");
        assert_eq!(answer("https://b"), None);
    }
}
