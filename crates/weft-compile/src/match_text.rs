//! Matches in words: what a rule asks, and the first of its conditions that a request does not meet.

use weft_model::{HttpMatch, NamedMatch, PathMatch, RequestHead, StringMatch};

/// A text match in words.
fn describe_text(m: &StringMatch) -> String {
    match m {
        StringMatch::Exact(t) => t.clone(),
        StringMatch::ExactIgnoreCase(t) => format!("{t} (any case)"),
        StringMatch::Prefix(t) => format!("{t}*"),
        StringMatch::PrefixIgnoreCase(t) => format!("{t}* (any case)"),
        StringMatch::Suffix(t) => format!("*{t}"),
        StringMatch::SuffixIgnoreCase(t) => format!("*{t} (any case)"),
        StringMatch::Regex(p) => format!("~{}", p.as_str()),
        StringMatch::Present => "*".into(),
    }
}

fn describe_path(m: &PathMatch) -> String {
    match m {
        PathMatch::Exact(t) => format!("path={t}"),
        PathMatch::Prefix(t) => format!("path={t}*"),
        PathMatch::SegmentPrefix(t) if t == "/" => "path=/*".into(),
        PathMatch::SegmentPrefix(t) => format!("path={}[/*]", t.trim_end_matches('/')),
        PathMatch::Regex(p) => format!("path~{}", p.as_str()),
    }
}

fn describe_named(what: &str, m: &NamedMatch) -> String {
    let not = if m.invert { "not " } else { "" };
    match &m.value {
        None => format!("{not}{what} {} present", m.name),
        Some(value) => format!("{not}{what} {}={}", m.name, describe_text(value)),
    }
}

/// The conditions of one alternative.
fn conditions(m: &HttpMatch) -> Vec<(String, HttpMatch)> {
    let mut parts = Vec::new();
    let one = |edit: &dyn Fn(&mut HttpMatch)| {
        let mut single = HttpMatch { ignore_path_case: m.ignore_path_case, ..HttpMatch::default() };
        edit(&mut single);
        single
    };
    if let Some(path) = &m.path {
        let case = if m.ignore_path_case { " (any case)" } else { "" };
        parts.push((format!("{}{case}", describe_path(path)), one(&|s| s.path = m.path.clone())));
    }
    if let Some(method) = &m.method {
        parts.push((format!("method={}", describe_text(method)), one(&|s| s.method = m.method.clone())));
    }
    if let Some(scheme) = &m.scheme {
        parts.push((format!("scheme={}", describe_text(scheme)), one(&|s| s.scheme = m.scheme.clone())));
    }
    if let Some(authority) = &m.authority {
        parts.push((format!("authority={}", describe_text(authority)), one(&|s| s.authority = m.authority.clone())));
    }
    for header in &m.headers {
        parts.push((describe_named("header", header), one(&|s| s.headers = vec![header.clone()])));
    }
    for query in &m.query {
        parts.push((describe_named("query", query), one(&|s| s.query = vec![query.clone()])));
    }
    for cookie in &m.cookies {
        parts.push((describe_named("cookie", cookie), one(&|s| s.cookies = vec![cookie.clone()])));
    }
    for claim in &m.claims {
        let named = NamedMatch { name: claim.path.join("."), value: claim.value.clone(), invert: claim.invert };
        parts.push((describe_named("claim", &named), one(&|s| s.claims = vec![claim.clone()])));
    }
    parts
}

/// What one alternative asks.
pub fn describe_match(m: &HttpMatch) -> String {
    let parts: Vec<String> = conditions(m).into_iter().map(|(text, _)| text).collect();
    if parts.is_empty() { "any request".into() } else { parts.join(", ") }
}

/// What a list of alternatives asks.
pub fn describe_matches(matches: &[HttpMatch]) -> String {
    if matches.is_empty() {
        return "any request".into();
    }
    matches.iter().map(describe_match).collect::<Vec<_>>().join(" | ")
}

/// The first condition of an alternative that the request does not meet; `None` when it meets all.
pub(crate) fn refusal(m: &HttpMatch, request: &RequestHead<'_>) -> Option<String> {
    conditions(m).into_iter().find(|(_, single)| !single.matches(request)).map(|(text, single)| match &single.headers.first() {
        Some(header) => match request.headers.get(header.name.as_str()) {
            None => format!("wants {text}; the request has no such header"),
            Some(value) => format!("wants {text}; it is {}", String::from_utf8_lossy(value.as_bytes())),
        },
        None => format!("wants {text}"),
    })
}
