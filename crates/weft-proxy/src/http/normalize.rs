//! Normalisation: one form of path and authority, before any decision looks at them.
//!
//! By default Istio's BASE mode (RFC 3986 §6.2.2): percent-encoded unreserved characters are decoded, `\` becomes `/`, dot segments are
//! removed. Policy, routing and the upstream see the same bytes. What cannot be made unambiguous is refused.

use super::{Connection, reject::Reject};
use crate::limits::AUTHORITY_BYTES_MAX;
use http::{HeaderMap, Method, Uri, header::HOST, uri::PathAndQuery};
use std::{net::IpAddr, rc::Rc};
use weft_model::PathNormalization;

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
    /// Address of the client behind the proxies that are believed; `None` until headers were looked at.
    pub remote_ip: Option<IpAddr>,
}

impl Target {
    /// Address of the client: behind the proxies that are believed, else the other end of the connection.
    pub(crate) fn remote_ip(&self, conn: &Connection) -> IpAddr {
        self.remote_ip.unwrap_or(conn.peer_address.ip())
    }
}

/// Reads and normalises the target of a request.
pub(crate) fn normalize(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    is_http2: bool,
    mode: PathNormalization,
) -> Result<Target, Reject> {
    if mode == PathNormalization::Strict && headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(Reject::BadRequest("a header name holds an underscore"));
    }
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
        Some(path) => normal_path(method, path, mode)?,
        None => PathAndQuery::from_static("/"),
    };
    Ok(Target { path, authority: authority.to_owned(), host, port, token: None, remote_ip: None })
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

fn normal_path(method: &Method, path: &PathAndQuery, mode: PathNormalization) -> Result<PathAndQuery, Reject> {
    let text = path.path();
    if text == "*" && method == Method::OPTIONS {
        return Ok(path.clone());
    }
    if !text.starts_with('/') {
        return Err(Reject::BadRequest("the path does not begin with a slash"));
    }
    if !needs_work(text, mode) {
        return Ok(path.clone());
    }
    let clean = normal_text(text, mode)?;
    let whole = match path.query() {
        Some(query) => format!("{clean}?{query}"),
        None => clean,
    };
    PathAndQuery::try_from(whole).map_err(|_| Reject::BadRequest("the path is not legal"))
}

fn needs_work(path: &str, mode: PathNormalization) -> bool {
    let bytes = path.as_bytes();
    let slashes = !matches!(mode, PathNormalization::None | PathNormalization::Base);
    let special = |b: &u8| matches!(b, b'%' | b'\\' | b'#') || mode == PathNormalization::Strict && (*b == b';' || !b.is_ascii_graphic());
    bytes.iter().any(special) || bytes.windows(2).any(|w| w == b"/." || slashes && w == b"//")
}

/// The one form of a path that begins with a slash. Applying it twice is applying it once.
fn normal_text(path: &str, mode: PathNormalization) -> Result<String, Reject> {
    if mode == PathNormalization::Strict {
        strict(path)?;
    }
    let decoded = decode(path, mode)?;
    match mode {
        PathNormalization::None => Ok(decoded),
        PathNormalization::Base => remove_dot_segments(&decoded),
        PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes | PathNormalization::Strict => {
            // Slashes first: `/a//../b` is `/b`, as a program that merges them reads it.
            remove_dot_segments(&merge_slashes(&decoded))
        }
    }
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if !(c == '/' && out.ends_with('/')) {
            out.push(c);
        }
    }
    out
}

/// What two programs could read in two ways.
fn strict(path: &str) -> Result<(), Reject> {
    if path.contains([';', '\\']) {
        return Err(Reject::BadRequest("the path holds a parameter (';') or a backslash"));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(b) = rest.next() {
        let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
        let plain = match b {
            b'%' => {
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(Reject::BadRequest("the path holds a broken percent escape"));
                };
                match u8::try_from(high * 16 + low).unwrap_or_default() {
                    b'/' | b'\\' | b'%' | b';' => return Err(Reject::BadRequest("the path holds an encoded slash, percent sign or ';'")),
                    other => other,
                }
            }
            other => other,
        };
        if plain.is_ascii_control() {
            return Err(Reject::BadRequest("the path holds a control character"));
        }
        bytes.push(plain);
    }
    // Overlong forms, surrogates and cut sequences are not UTF-8 (RFC 3629 §3).
    std::str::from_utf8(&bytes).map(drop).map_err(|_| Reject::BadRequest("the path is not UTF-8"))
}

/// Decodes what RFC 3986 §2.3 calls unreserved, and slashes where the mode says so; `%00` and broken escapes are refused; other
/// escapes stay, with upper-case digits. In mode NONE nothing is changed.
fn decode(path: &str, mode: PathNormalization) -> Result<String, Reject> {
    let slashes = mode == PathNormalization::DecodeAndMergeSlashes;
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' if mode != PathNormalization::None => out.push(b'/'),
            b'#' | 0 => return Err(Reject::BadRequest("the path holds a raw '#' or NUL")),
            b'%' => {
                let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16).map(|value| (d, value)));
                let (Some((first, high)), Some((second, low))) = (digit(), digit()) else {
                    return Err(Reject::BadRequest("the path holds a broken percent escape"));
                };
                match u8::try_from(high * 16 + low).unwrap_or_default() {
                    0 => return Err(Reject::BadRequest("the path holds an encoded NUL")),
                    _ if mode == PathNormalization::None => out.extend_from_slice(&[b'%', first, second]),
                    b'/' | b'\\' if slashes => out.push(b'/'),
                    c if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~') => out.push(c),
                    c => out.extend_from_slice(format!("%{c:02X}").as_bytes()),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| Reject::BadRequest("the path is not text"))
}

/// Brings any bytes into one form in every mode, for fuzzing: must not panic, and a second time must change nothing.
#[doc(hidden)]
pub fn fuzz_path(data: &[u8]) {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None, Strict};
    let Ok(text) = std::str::from_utf8(data) else { return };
    for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes, Strict] {
        if let Ok(once) = normal_text(&format!("/{text}"), mode) {
            let twice = normal_text(&once, mode);
            assert!(once.starts_with('/') && twice.as_ref() == Ok(&once), "{mode:?} {text:?}: {once:?} then {twice:?}");
        }
    }
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
        normal_path(&Method::GET, &path, PathNormalization::Base).ok().map(|p| p.to_string())
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
        assert_eq!(decode(r"/a\..\b", PathNormalization::Base).ok().as_deref(), Some("/a/../b"));
        assert!(decode("/a#b", PathNormalization::Base).is_err());
    }

    #[test]
    fn modes_differ_in_slashes_only_but_for_strict() {
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None, Strict};
        let check = |mode, given: &str, want: Option<&str>| assert_eq!(normal_text(given, mode).ok().as_deref(), want, "{mode:?} {given}");
        for (given, none, base, merge, all, strict) in [
            ("/a/../b", "/a/../b", "/b", "/b", "/b", Some("/b")),
            ("//a//b", "//a//b", "//a//b", "/a/b", "/a/b", Some("/a/b")),
            ("/a%2fb", "/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b", Option::None),
            ("/a%5c..%2fb", "/a%5c..%2fb", "/a%5C..%2Fb", "/a%5C..%2Fb", "/b", Option::None),
            ("/%61", "/%61", "/a", "/a", "/a", Some("/a")),
            ("/a;x=1/b", "/a;x=1/b", "/a;x=1/b", "/a;x=1/b", "/a;x=1/b", Option::None),
            ("/a%252e", "/a%252e", "/a%252e", "/a%252e", "/a%252e", Option::None),
            ("/%c0%af", "/%c0%af", "/%C0%AF", "/%C0%AF", "/%C0%AF", Option::None),
            ("/%0a", "/%0a", "/%0A", "/%0A", "/%0A", Option::None),
            ("/%c3%a4", "/%c3%a4", "/%C3%A4", "/%C3%A4", "/%C3%A4", Some("/%C3%A4")),
            ("/a//../b", "/a//../b", "/a/b", "/b", "/b", Some("/b")),
        ] {
            check(None, given, Some(none));
            check(Base, given, Some(base));
            check(MergeSlashes, given, Some(merge));
            check(DecodeAndMergeSlashes, given, Some(all));
            check(Strict, given, strict);
        }
        for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes, Strict] {
            check(mode, "/%00", Option::None);
            check(mode, "/%zz", Option::None);
        }
    }

    /// ≥ 20,000 variants of one forbidden path: none that a program would read as it passes a policy on the path that is forwarded.
    #[test]
    fn no_variant_of_a_path_passes_a_policy_on_it() {
        let pieces =
            ["/", "//", "/./", "/x/../", "\\", "%2e", "%2E", ".", "..", "%61", "%41", "a", "admin", "%2f", "%5c", ";", "%25", "%20", "A"];
        let (mut seed, mut judged, mut refused) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0);
        let mut roll = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % u64::try_from(n).expect("small")).expect("small")
        };
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, Strict};
        for round in 0..60_000 {
            let path: String = (0..=roll(7)).map(|_| pieces[roll(pieces.len())]).collect();
            let given = format!("/{path}");
            let mode = [Base, MergeSlashes, DecodeAndMergeSlashes, Strict][round % 4];
            let Ok(normal) = normal_text(&given, mode) else {
                refused += 1;
                continue;
            };
            judged += 1;
            assert_eq!(normal_text(&normal, mode).ok().as_ref(), Some(&normal), "{mode:?} {given}: not one form");
            assert!(!normal.split('/').any(|s| s == "." || s == ".."), "{mode:?} {given}: {normal}");
            assert!(!normal.contains('\\') && !normal.to_ascii_lowercase().contains("%61"), "{mode:?} {given}: {normal}");
            if mode != Base {
                assert!(!normal.contains("//"), "{mode:?} {given}: {normal}");
            }
            if mode == DecodeAndMergeSlashes {
                assert!(!normal.contains("%2F") && !normal.contains("%5C"), "{mode:?} {given}: {normal}");
            }
        }
        assert!(judged > 20_000 && refused > 1_000, "{judged} judged, {refused} refused");
    }

    #[test]
    fn authorities() {
        let target = |uri: &str, hosts: &[&str], h2: bool| {
            let mut headers = HeaderMap::new();
            hosts.iter().for_each(|h| {
                headers.append(HOST, h.parse().expect("value"));
            });
            normalize(&Method::GET, &uri.parse().expect("uri"), &headers, h2, PathNormalization::Base)
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
