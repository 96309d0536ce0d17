//! New paths, authorities and locations.

use crate::{Pattern, Replaced, RequestHead, limits::REWRITE_BYTES_MAX};
use serde::{Deserialize, Serialize};

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// The whole path.
    Full(String),
    /// The matched prefix.
    Prefix {
        /// What the rule matched.
        matched: String,
        /// What takes its place.
        replacement: String,
        /// True (Gateway API): whole segments, slashes are joined sensibly. False (Istio): plain text.
        segments: bool,
    },
    /// RE2 substitution.
    Regex {
        /// Pattern.
        pattern: Pattern,
        /// Substitution with `\1`.
        substitution: String,
    },
}

impl PathRewrite {
    /// The new path for `path` (without query); `None` when it would be longer than [`REWRITE_BYTES_MAX`].
    pub fn apply(&self, path: &str) -> Option<String> {
        Some(self.apply_unbounded(path)?).filter(|new| new.len() <= REWRITE_BYTES_MAX)
    }
    fn apply_unbounded(&self, path: &str) -> Option<String> {
        Some(match self {
            Self::Full(full) => full.clone(),
            Self::Prefix { matched, replacement, segments: false } => match path.get(matched.len()..) {
                Some(rest) => format!("{replacement}{rest}"),
                None => replacement.clone(),
            },
            Self::Prefix { matched, replacement, segments: true } => {
                let rest = path.get(matched.trim_end_matches('/').len()..).unwrap_or_default().trim_start_matches('/');
                let base = replacement.trim_end_matches('/');
                match (base, rest) {
                    ("", rest) => format!("/{rest}"),
                    (base, "") if !replacement.ends_with('/') || base.is_empty() => base.to_owned(),
                    (base, rest) => format!("{base}/{rest}"),
                }
            }
            Self::Regex { pattern, substitution } => match pattern.replace(path, substitution) {
                Replaced::Text(new) => new,
                Replaced::NoMatch => path.to_owned(),
                Replaced::TooLong => return None,
            },
        })
    }
}

/// Changes to the request on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// New path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// New authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// Port of a redirect's location.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPort {
    /// The well-known port of the new scheme (none is written), or the request's where the scheme stays.
    #[default]
    FromScheme,
    /// The listener's port.
    FromRequest,
    /// The well-known port of the location's scheme: none is written.
    WellKnown,
    /// This one.
    Number(u16),
}

/// Answer with a redirect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// New scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// New host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// New port.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub port: RedirectPort,
    /// New path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
}

impl Redirect {
    /// The `location` for a request that came in on `listener_port`; `None` when it would be too long.
    pub fn location(&self, request: &RequestHead<'_>, listener_port: u16) -> Option<String> {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        // An IPv6 address stands in brackets, which the host of a request head has not.
        let bracketed = (self.host.is_none() && request.host.contains(':')).then(|| format!("[{}]", request.host));
        let host = bracketed.as_deref().or(self.host.as_deref()).unwrap_or(request.host);
        let well_known = if scheme == "https" { 443 } else { 80 };
        let port = match self.port {
            RedirectPort::Number(port) => port,
            RedirectPort::FromRequest => listener_port,
            RedirectPort::WellKnown => well_known,
            RedirectPort::FromScheme if self.scheme.is_some() => well_known,
            RedirectPort::FromScheme => listener_port,
        };
        let port = if port == well_known { String::new() } else { format!(":{port}") };
        let path = self.path.as_ref().map_or_else(|| Some(request.path.to_owned()), |p| p.apply(request.path))?;
        let query = request.query.map(|q| format!("?{q}")).unwrap_or_default();
        Some(format!("{scheme}://{host}{port}{path}{query}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn head<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestHead<'a> {
        RequestHead {
            method: "GET",
            scheme: "http",
            authority: "shop:8080",
            host: "shop",
            path,
            query: Some("a=1&b"),
            headers,
            claims: None,
        }
    }

    #[test]
    fn a_substitution_cannot_blow_up() {
        let regex =
            |pattern: &str, to: &str| PathRewrite::Regex { pattern: Pattern::new(pattern).expect("legal"), substitution: to.into() };
        assert_eq!(regex("^/a/(.*)$", r"/b/\1").apply("/a/x").as_deref(), Some("/b/x"));
        let twice = regex("(.*)", &r"\1".repeat(1000));
        assert_eq!(twice.apply(&format!("/{}", "a".repeat(8000))), None);
        assert_eq!(regex("a", &"b".repeat(4000)).apply(&"a".repeat(4000)), None);
    }

    #[test]
    fn rewrites_of_prefixes() {
        let gw = |m: &str, r: &str, p: &str| {
            PathRewrite::Prefix { matched: m.into(), replacement: r.into(), segments: true }.apply(p).expect("short")
        };
        assert_eq!(gw("/foo", "/xyz", "/foo/bar"), "/xyz/bar");
        assert_eq!(gw("/foo/", "/xyz/", "/foo/bar"), "/xyz/bar");
        assert_eq!(gw("/foo", "/", "/foo/bar"), "/bar");
        assert_eq!(gw("/foo", "/", "/foo"), "/");
        assert_eq!(gw("/foo", "/xyz", "/foo"), "/xyz");
        let istio = PathRewrite::Prefix { matched: "/ratings".into(), replacement: "/v1/bookRatings".into(), segments: false };
        assert_eq!(istio.apply("/ratings/7").as_deref(), Some("/v1/bookRatings/7"));
    }

    #[test]
    fn redirect_ports() {
        let headers = HeaderMap::new();
        let to = |scheme: Option<&str>, port| Redirect { status: 302, scheme: scheme.map(Into::into), host: None, port, path: None };
        assert_eq!(
            to(Some("https"), RedirectPort::FromScheme).location(&head("/x", &headers), 80).as_deref(),
            Some("https://shop/x?a=1&b")
        );
        assert_eq!(to(None, RedirectPort::FromScheme).location(&head("/x", &headers), 8080).as_deref(), Some("http://shop:8080/x?a=1&b"));
        assert_eq!(to(None, RedirectPort::Number(80)).location(&head("/x", &headers), 8080).as_deref(), Some("http://shop/x?a=1&b"));
    }
}
