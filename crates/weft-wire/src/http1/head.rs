//! Heads: request lines, status lines, headers and trailers, from bytes to checked values. Pure; the strictness lives here.
//!
//! The rule is RFC 9112 without its leniencies (bare LF, folded lines, white space around the line's parts, repeated lengths): two
//! readers that are lenient in different ways disagree on where a message ends, and that is request smuggling.

use super::{framing::Framing, limits};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header};

/// Why bytes are not a message, in the words of the person who sent them, and the status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    /// Status to answer a request with.
    pub status: u16,
    /// What is wrong.
    pub reason: &'static str,
    /// The limit that was hit, by the name of its constant.
    pub limit: Option<&'static str>,
}

impl Malformed {
    pub(super) const fn new(reason: &'static str) -> Self {
        Self { status: 400, reason, limit: None }
    }
    pub(super) const fn status(status: u16, reason: &'static str) -> Self {
        Self { status, reason, limit: None }
    }
    pub(super) const fn limit(status: u16, limit: &'static str, reason: &'static str) -> Self {
        Self { status, reason, limit: Some(limit) }
    }
}

/// Which characters a request target may hold unescaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetRule {
    /// RFC 3986 and what the URL standard of the browsers leaves unescaped: `[ ] | \ ^` in a path, and `{ } [ ] | \ ^` and the
    /// grave accent in a query. RFC 9112 §3 says that a recipient *should* refuse them; every browser and HTTP library sends them.
    #[default]
    Browsers,
    /// RFC 3986 alone.
    Rfc3986,
}

/// What bounds a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Most bytes, from the first line to the empty one.
    pub bytes: usize,
    /// Most header lines.
    pub headers: usize,
}

/// A request's head, checked.
#[derive(Debug)]
pub struct RequestHead {
    /// Its method.
    pub method: Method,
    /// Its target: a path, an absolute URI, an authority (CONNECT) or `*` (OPTIONS).
    pub target: Uri,
    /// 1.0 or 1.1.
    pub version: Version,
    /// Its headers as they came.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// May another request follow on this connection?
    pub keep_alive: bool,
    /// It waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// It asks to leave HTTP, for something other than HTTP/2.
    pub upgrade: bool,
}

/// A response's head, checked.
#[derive(Debug)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// 1.0 or 1.1.
    pub version: Version,
    /// Its headers as they came.
    pub headers: HeaderMap,
    /// Where its body ends.
    pub framing: Framing,
    /// May another request follow on this connection?
    pub keep_alive: bool,
}

/// Where the head ends, if all of it is there. `seen` bytes were looked at before.
pub(super) fn end_of_head(bytes: &[u8], seen: usize) -> Result<Option<usize>, Malformed> {
    let from = seen.saturating_sub(2);
    for at in memchr::memchr_iter(b'\n', &bytes[from..]) {
        let at = from + at;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Malformed::new("a line ends with a bare line feed"));
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// Bytes before a request that are passed over, and where its head ends behind them, once all of it is here. `seen` bytes were looked
/// at before.
///
/// RFC 9112 §2.2: one empty line before a request is the leftover of a sloppy caller's last body.
pub(super) fn bounds(bytes: &[u8], seen: usize, may_skip: bool, most: usize) -> Result<(usize, Option<usize>), Malformed> {
    let skip = if may_skip && bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let (bytes, seen) = (&bytes[skip..], if skip > 0 { 0 } else { seen });
    match bytes {
        [] => return Ok((skip, None)),
        [b'\r'] if skip == 0 && may_skip => return Ok((skip, None)),
        [first, ..] if is_token(*first) => {}
        _ => return Err(Malformed::new("this is not an HTTP request")),
    }
    match end_of_head(&bytes[..bytes.len().min(most)], seen)? {
        None if bytes.len() >= most => Err(Malformed::limit(431, "HEADER_BYTES_MAX", "the request's head is too long")),
        end => Ok((skip, end)),
    }
}

/// Where a response's head ends, once all of it is here.
pub(super) fn end_of_response_head(bytes: &[u8], seen: usize, most: usize) -> Result<Option<usize>, Malformed> {
    if !bytes.starts_with(&b"HTTP/"[..bytes.len().min(5)]) {
        return Err(Malformed::new("this is not an HTTP response"));
    }
    match end_of_head(&bytes[..bytes.len().min(most)], seen)? {
        None if bytes.len() >= most => Err(Malformed::limit(502, "HEADER_BYTES_MAX", "the response's head is too long")),
        end => Ok(end),
    }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Reads a request's head: `bytes` ends with its empty line. `headers` is empty and lends its room.
pub fn request(bytes: &Bytes, rule: TargetRule, most: HeadLimits, headers: HeaderMap) -> Result<RequestHead, Malformed> {
    let (line, rest) = first_line(bytes)?;
    let method_end = memchr::memchr(b' ', line).ok_or(Malformed::new("the request line has no target"))?;
    let method = method(&line[..method_end])?;
    let after = &line[method_end + 1..];
    let target_bytes = memchr::memchr(b' ', after).ok_or(Malformed::new("the request line has no version"))?;
    let version = version(&after[target_bytes + 1..])?;
    let target = target(&method, &bytes.slice(method_end + 1..method_end + 1 + target_bytes), rule)?;
    let (headers, seen) = fields(bytes, rest, most.headers, headers)?;
    seen.host(&headers, version, &method, &target)?;
    let framing = Framing::of_request(&seen, version)?;
    if method == Method::CONNECT && framing != Framing::None {
        return Err(Malformed::new("a CONNECT request has no body"));
    }
    let is_new = version == Version::HTTP_11;
    let expects_continue = match &seen.expect {
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => is_new && framing != Framing::None,
        Some(_) => return Err(Malformed::status(417, "the only expectation that can be met is 100-continue")),
        None => false,
    };
    let upgrade = is_new && seen.upgrade && headers.get(header::UPGRADE).is_some_and(|to| !is_h2c(to));
    let keep_alive = seen.keeps_alive(version);
    Ok(RequestHead { method, target, version, headers, framing, keep_alive, expects_continue, upgrade })
}

/// Reads a response's head: `bytes` ends with its empty line. `method` is the request's.
pub fn response(bytes: &Bytes, method: &Method, most: HeadLimits, headers: HeaderMap) -> Result<ResponseHead, Malformed> {
    let (line, rest) = first_line(bytes)?;
    if line.len() < 13 || line[8] != b' ' || line[12] != b' ' {
        return Err(Malformed::new("the status line is not a version, a code and a reason"));
    }
    let version = version(&line[..8])?;
    let code = &line[9..12];
    if !code.iter().all(u8::is_ascii_digit) || !(b'1'..=b'5').contains(&code[0]) {
        return Err(Malformed::new("the status is not a number from 100 to 599"));
    }
    if line[13..].iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err(Malformed::new("the reason phrase holds control characters"));
    }
    let status = StatusCode::from_bytes(code).map_err(|_| Malformed::new("the status is not a number from 100 to 599"))?;
    let (headers, seen) = fields(bytes, rest, most.headers, headers)?;
    let framing = Framing::of_response(&seen, version, status, method)?;
    let keep_alive = framing != Framing::Close && seen.keeps_alive(version);
    Ok(ResponseHead { status, version, headers, framing, keep_alive })
}

/// Reads trailers: `bytes` ends with their empty line. Those that must not be trailers are dropped (RFC 9110 §6.5.1).
pub(super) fn trailers(bytes: &Bytes) -> Result<HeaderMap, Malformed> {
    let (mut map, seen) = fields(bytes, 0, limits::TRAILERS_MAX, HeaderMap::new())?;
    if seen.any_of_framing() || map.keys().any(is_no_trailer) {
        let named: Vec<HeaderName> = map.keys().filter(|name| is_no_trailer(name)).cloned().collect();
        for name in named {
            map.remove(name);
        }
    }
    Ok(map)
}

/// Fields that decide on framing, routing, authentication, caching or how content is read are not believed at the end.
pub(super) fn is_no_trailer(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 28] = [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TRAILER,
        header::TE,
        header::EXPECT,
        header::MAX_FORWARDS,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::RANGE,
        header::CACHE_CONTROL,
        header::AGE,
        header::DATE,
        header::EXPIRES,
        header::LOCATION,
        header::RETRY_AFTER,
        header::VARY,
        header::AUTHORIZATION,
        header::WWW_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::COOKIE,
        header::SET_COOKIE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    NEVER.contains(name) || name.as_str().starts_with("x-forwarded-") || name.as_str().starts_with("x-weft-")
}

/// HTTP/2 is never begun this way through a proxy.
fn is_h2c(protocol: &HeaderValue) -> bool {
    protocol.is_empty() || protocol.as_bytes().split(|b| *b == b',').any(|p| p.trim_ascii().to_ascii_lowercase().starts_with(b"h2"))
}

fn first_line(bytes: &Bytes) -> Result<(&[u8], usize), Malformed> {
    let end = memchr::memchr(b'\n', bytes).ok_or(Malformed::new("there is no first line"))?;
    Ok((&bytes[..end.saturating_sub(1)], end + 1))
}

fn method(bytes: &[u8]) -> Result<Method, Malformed> {
    if bytes.is_empty() || bytes.iter().any(u8::is_ascii_lowercase) {
        return Err(Malformed::new("the method is not a word in upper case"));
    }
    Method::from_bytes(bytes).map_err(|_| Malformed::new("the method is not a word in upper case"))
}

fn version(bytes: &[u8]) -> Result<Version, Malformed> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Malformed::status(505, "only HTTP/1.0 and HTTP/1.1 are spoken here"))
        }
        _ => Err(Malformed::new("the request line does not end with an HTTP version")),
    }
}

/// What a byte of a target may be: bit 0 by RFC 3986, bit 1 in a browser's path, bit 2 in a browser's query.
const TARGET_BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'@' | b'/' | b'?') {
            table[byte] = 7;
        }
        if matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=') {
            table[byte] = 7;
        }
        if matches!(b, b'[' | b']' | b'|' | b'\\' | b'^') {
            table[byte] = 6;
        }
        if matches!(b, b'{' | b'}' | b'`') {
            table[byte] = 4;
        }
        byte += 1;
    }
    table
};

fn target(method: &Method, bytes: &Bytes, rule: TargetRule) -> Result<Uri, Malformed> {
    const ILLEGAL: Malformed = Malformed::new("the target holds a character that must be escaped");
    if bytes.len() > limits::TARGET_BYTES_MAX {
        return Err(Malformed::limit(414, "TARGET_BYTES_MAX", "the target is too long"));
    }
    let is_connect = *method == Method::CONNECT;
    match bytes.first() {
        Some(b'/') if !is_connect => {}
        Some(b'*') if bytes.len() == 1 && *method == Method::OPTIONS => return Ok(Uri::from_static("*")),
        Some(b'*') | None => return Err(Malformed::new("the target is neither a path nor a URI")),
        Some(_) => return absolute(is_connect, bytes),
    }
    let legal = |bytes: &[u8], bit: u8| bytes.iter().all(|b| TARGET_BYTES[usize::from(*b)] & bit != 0);
    let all = match rule {
        TargetRule::Rfc3986 => legal(bytes, 1),
        TargetRule::Browsers => {
            let path = memchr::memchr(b'?', bytes).unwrap_or(bytes.len());
            legal(&bytes[..path], 2) && legal(&bytes[path..], 4)
        }
    };
    if !all {
        return Err(ILLEGAL);
    }
    Uri::from_maybe_shared(bytes.clone()).map_err(|_| ILLEGAL)
}

/// The absolute form, for proxies, and the authority form of CONNECT.
fn absolute(is_connect: bool, bytes: &Bytes) -> Result<Uri, Malformed> {
    const NEITHER: Malformed = Malformed::new("the target is neither a path nor a URI");
    if bytes.iter().any(|b| TARGET_BYTES[usize::from(*b)] & 1 == 0 && !matches!(b, b'[' | b']')) {
        return Err(Malformed::new("the target holds a character that must be escaped"));
    }
    let uri = Uri::from_maybe_shared(bytes.clone()).map_err(|_| NEITHER)?;
    let authority = uri.authority().ok_or(NEITHER)?.as_str();
    if !is_authority(authority.as_bytes()) {
        return Err(Malformed::new("the target's authority is not a host with an optional port"));
    }
    match (is_connect, uri.scheme_str()) {
        (true, None) if uri.path_and_query().is_none() && uri.port_u16().is_some() => Ok(uri),
        (true, _) => Err(Malformed::new("the target of CONNECT is not a host and a port")),
        (false, Some(scheme)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => Ok(uri),
        (false, _) => Err(NEITHER),
    }
}

/// A host with an optional port (RFC 3986 §3.2 without userinfo). What a resolver makes of the host is not looked at.
fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes {
        [b'[', rest @ ..] => match memchr::memchr(b']', rest) {
            Some(end) if end > 0 => (&rest[..end], &rest[end + 1..]),
            _ => return false,
        },
        _ => bytes.split_at(memchr::memchr(b':', bytes).unwrap_or(bytes.len())),
    };
    let is_v6 = bytes.first() == Some(&b'[');
    let of_host = |b: &u8| match is_v6 {
        true => b.is_ascii_hexdigit() || matches!(b, b':' | b'.'),
        false => {
            b.is_ascii_alphanumeric()
                || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
        }
    };
    let port_is_legal = match port {
        [] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit) && digits.len() <= 5 && decimal(digits).is_none_or(|port| port <= u64::from(u16::MAX))
        }
        _ => false,
    };
    !host.is_empty() && host.iter().all(of_host) && port_is_legal
}

/// A number of digits alone; `None` for anything else and for what does not fit in 63 bits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|d| *d <= 9)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (value <= i64::MAX.unsigned_abs()).then_some(value)
}

/// What the headers say about the message itself.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub length: Option<HeaderValue>,
    pub length_again: bool,
    pub coding: Option<HeaderValue>,
    pub coding_again: bool,
    hosts: u8,
    expect: Option<HeaderValue>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Seen {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Malformed> {
        if *name == header::HOST {
            self.hosts = self.hosts.saturating_add(1);
        } else if *name == header::CONTENT_LENGTH {
            self.length_again = self.length.replace(value.clone()).is_some();
        } else if *name == header::TRANSFER_ENCODING {
            self.coding_again = self.coding.replace(value.clone()).is_some();
        } else if *name == header::CONNECTION {
            for token in value.as_bytes().split(|b| *b == b',') {
                let token = token.trim_ascii();
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
        } else if *name == header::EXPECT && self.expect.replace(value.clone()).is_some() {
            return Err(Malformed::status(417, "there is more than one expectation"));
        }
        Ok(())
    }

    fn any_of_framing(&self) -> bool {
        self.length.is_some() || self.coding.is_some() || self.hosts > 0
    }

    /// RFC 9112 §9.3.
    fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// RFC 9112 §3.2: exactly one Host in HTTP/1.1, at most one in HTTP/1.0, and it is a host.
    fn host(&self, headers: &HeaderMap, version: Version, method: &Method, target: &Uri) -> Result<(), Malformed> {
        match self.hosts {
            0 if version == Version::HTTP_10 => return Ok(()),
            0 => return Err(Malformed::new("there is no Host header")),
            1 => {}
            _ => return Err(Malformed::new("there is more than one Host header")),
        }
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
        // It may be empty only where the target has no authority (RFC 9110 §7.2), and then there is none at all to route by.
        let may_be_empty = target.authority().is_some() && *method != Method::CONNECT;
        if is_authority(host) || (host.is_empty() && may_be_empty) {
            return Ok(());
        }
        Err(Malformed::new("the Host header is not a host with an optional port"))
    }
}

/// Reads header lines from `at` to the empty line that ends `bytes`.
fn fields(bytes: &Bytes, mut at: usize, most: usize, mut map: HeaderMap) -> Result<(HeaderMap, Seen), Malformed> {
    let mut seen = Seen::default();
    let mut count = 0;
    loop {
        let end = at + memchr::memchr(b'\n', &bytes[at..]).ok_or(Malformed::new("a header line does not end"))?;
        let line = &bytes[at..end.saturating_sub(1)];
        if line.is_empty() {
            return Ok((map, seen));
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(Malformed::new("a header line is folded"));
        }
        let colon = line.iter().position(|b| *b == b':').ok_or(Malformed::new("a header line has no colon"))?;
        let name = super::names::parse(&line[..colon]).ok_or(Malformed::new("a header's name is not a word"))?;
        let (mut begin, mut stop) = (colon + 1, line.len());
        while begin < stop && matches!(line[begin], b' ' | b'\t') {
            begin += 1;
        }
        while stop > begin && matches!(line[stop - 1], b' ' | b'\t') {
            stop -= 1;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice(at + begin..at + stop))
            .map_err(|_| Malformed::new("a header's value holds control characters"))?;
        count += 1;
        if count > most {
            return Err(Malformed::limit(431, "HEADERS_MAX", "there are too many headers"));
        }
        seen.note(&name, &value)?;
        map.try_append(name, value).map_err(|_| Malformed::limit(431, "HEADERS_MAX", "there are too many headers"))?;
        at = end + 1;
    }
}
