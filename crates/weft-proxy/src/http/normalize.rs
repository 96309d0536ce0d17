//! Normalisation: one form of path and authority, before any decision looks at them.
//!
//! Istio's BASE mode (RFC 3986 §6.2.2): percent-encoded unreserved characters are decoded, `\` becomes `/`, dot segments are
//! removed. Policy, routing and the upstream see the same bytes. What cannot be made unambiguous is refused.

use super::reject::Reject;
use crate::limits::AUTHORITY_BYTES_MAX;
use http::{HeaderMap, Method, Uri, header::HOST, uri::PathAndQuery};
use std::rc::Rc;

/// A request's target in its one form.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Path and query, from `/`.
    pub path: PathAndQuery,
    /// Authority as sent: host and perhaps port.
    pub authority: String,
    /// Host alone: lower case, no port.
    pub host: String,
    /// Port of the authority, where it has one.
    pub port: Option<u16>,
    /// The caller's token, once it was checked.
    pub token: Option<Rc<weft_model::Token>>,
}

/// Reads and normalises the target of a request.
pub(crate) fn normalize(method: &Method, uri: &Uri, headers: &HeaderMap, is_http2: bool) -> Result<Target, Reject> {
    let authority = authority(uri, headers, is_http2)?;
    if authority.len() > AUTHORITY_BYTES_MAX || authority.bytes().any(|b| matches!(b, b'@' | b'/' | b'\\' | b' ' | b'#' | b'?')) {
        return Err(Reject::BadRequest("the authority is not a host with an optional port"));
    }
    let host = weft_model::host_of(authority);
    let port = match authority.rsplit_once(':') {
        Some((before, digits)) if !before.contains(':') || before.ends_with(']') => {
            Some(digits.parse().map_err(|_| Reject::BadRequest("the port of the authority is not a number"))?)
        }
        _ => None,
    };
    let path = match uri.path_and_query() {
        _ if method == Method::CONNECT => PathAndQuery::from_static("/"),
        Some(path) => normal_path(method, path)?,
        None => PathAndQuery::from_static("/"),
    };
    Ok(Target { path, authority: authority.to_owned(), host, port, token: None })
}

/// RFC 9112 §3.2: exactly one Host in HTTP/1.1, and an absolute target wins; in HTTP/2 the two must agree (RFC 9113 §8.3.1).
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap, is_http2: bool) -> Result<&'a str, Reject> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match hosts.next() {
        Some(value) => Some(value.to_str().map_err(|_| Reject::BadRequest("the Host header is not text"))?),
        None => None,
    };
    if hosts.next().is_some() {
        return Err(Reject::BadRequest("there is more than one Host header"));
    }
    match (uri.authority().map(http::uri::Authority::as_str), host) {
        (Some(target), Some(host)) if is_http2 && !target.eq_ignore_ascii_case(host) => {
            Err(Reject::BadRequest(":authority and Host do not agree"))
        }
        (Some(target), _) => Ok(target),
        (None, Some(host)) if !host.is_empty() => Ok(host),
        (None, _) => Err(Reject::BadRequest("there is no Host header")),
    }
}

fn normal_path(method: &Method, path: &PathAndQuery) -> Result<PathAndQuery, Reject> {
    let text = path.path();
    if text == "*" && method == Method::OPTIONS {
        return Ok(path.clone());
    }
    if !text.starts_with('/') {
        return Err(Reject::BadRequest("the path does not begin with a slash"));
    }
    if !needs_work(text) {
        return Ok(path.clone());
    }
    let decoded = decode_unreserved(text)?;
    let clean = remove_dot_segments(&decoded)?;
    let whole = match path.query() {
        Some(query) => format!("{clean}?{query}"),
        None => clean,
    };
    PathAndQuery::try_from(whole).map_err(|_| Reject::BadRequest("the path is not legal"))
}

fn needs_work(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().any(|b| matches!(b, b'%' | b'\\' | b'#')) || bytes.windows(2).any(|w| w == b"/.")
}

/// Decodes what RFC 3986 §2.3 calls unreserved; `%00` and broken escapes are refused; other escapes stay, with upper-case digits.
fn decode_unreserved(path: &str) -> Result<String, Reject> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => out.push(b'/'),
            b'#' | 0 => return Err(Reject::BadRequest("the path holds a raw '#' or NUL")),
            b'%' => {
                let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(Reject::BadRequest("the path holds a broken percent escape"));
                };
                match u8::try_from(high * 16 + low).unwrap_or_default() {
                    0 => return Err(Reject::BadRequest("the path holds an encoded NUL")),
                    c if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~') => out.push(c),
                    c => out.extend_from_slice(format!("%{c:02X}").as_bytes()),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| Reject::BadRequest("the path is not text"))
}

/// RFC 3986 §5.2.4. A path that climbs above the root is refused, as in Envoy.
fn remove_dot_segments(path: &str) -> Result<String, Reject> {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let last = segments.len().saturating_sub(1);
    for (i, segment) in segments.iter().enumerate() {
        match *segment {
            "." | ".." => {
                if *segment == ".." && kept.pop().is_none() {
                    return Err(Reject::BadRequest("the path climbs above the root"));
                }
                // `/a/.` and `/a/b/..` keep their final slash.
                if i == last {
                    kept.push("");
                }
            }
            name => kept.push(name),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<String> {
        let path = PathAndQuery::try_from(text).ok()?;
        normal_path(&Method::GET, &path).ok().map(|p| p.to_string())
    }

    #[test]
    fn paths_have_one_form() {
        let check = |given: &str, want: &str| assert_eq!(path(given).as_deref(), Some(want), "{given}");
        check("/a/b?x=/../y", "/a/b?x=/../y");
        check("/a/./b/../c", "/a/c");
        check("/a/%2e%2E/b", "/b");
        check("/%61dmin", "/admin");
        check("/a%2fb", "/a%2Fb");
        check("/a/..", "/");
        check("/a/b/.", "/a/b/");
        check("//a//b", "//a//b");
        check("/a%5cb", "/a%5Cb");
        for refused in ["/..", "/a/../../b", "/%00", "/%4", "/%zz"] {
            assert_eq!(path(refused), None, "{refused}");
        }
        assert_eq!(decode_unreserved(r"/a\..\b").ok().as_deref(), Some("/a/../b"));
        assert!(decode_unreserved("/a#b").is_err());
    }

    #[test]
    fn authorities() {
        let target = |uri: &str, hosts: &[&str], h2: bool| {
            let mut headers = HeaderMap::new();
            hosts.iter().for_each(|h| {
                headers.append(HOST, h.parse().expect("value"));
            });
            normalize(&Method::GET, &uri.parse().expect("uri"), &headers, h2)
        };
        let ok = |uri, hosts: &[&str], h2| target(uri, hosts, h2).map(|t| (t.host, t.port)).ok();
        assert_eq!(ok("/", &["Shop:8080"], false), Some(("shop".into(), Some(8080))));
        assert_eq!(ok("/", &["[::1]:80"], false), Some(("::1".into(), Some(80))));
        assert_eq!(ok("http://a/", &["b"], false), Some(("a".into(), None)), "an absolute target wins in HTTP/1");
        assert_eq!(ok("http://a/", &["b"], true), None, "in HTTP/2 they must agree");
        for hosts in [&[][..], &["a", "a"], &["user@a"], &["a:port"], &[""]] {
            assert_eq!(ok("/", hosts, false), None, "{hosts:?}");
        }
    }
}
