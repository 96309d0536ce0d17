//! Heads of messages: fields of a block → a checked request, response or trailers, and back (RFC 9113 §8.2 and §8.3).

use super::hpack::{Decoder, Encoder, Field};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};

/// The `:protocol` of an extended CONNECT (RFC 8441), among a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol(pub HeaderValue);

/// Limits on one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    pub bytes: usize,
    pub count: usize,
}

/// What a decoded block amounts to.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    status: Option<StatusCode>,
    protocol: Option<HeaderValue>,
    headers: HeaderMap,
    content_length: Option<u64>,
    regular: bool,
    pseudo: bool,
    bytes: usize,
    count: usize,
    malformed: Option<&'static str>,
    too_large: bool,
}

/// Why a head is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// A malformed message: an error of its stream (§8.1.1).
    Malformed(&'static str),
    /// More than we take, in bytes or fields.
    TooLarge,
}

/// A checked request and its `content-length`.
pub(crate) type RequestHead = (Request<()>, Option<u64>);

impl Fields {
    /// Decodes a block. What is beyond the limits is decoded but not kept, so that the tables stay in step.
    pub(crate) fn decode(decoder: &mut Decoder, block: &[u8], limits: HeadLimits) -> Result<Self, &'static str> {
        let mut fields = Self { headers: HeaderMap::with_capacity(12), ..Self::default() };
        decoder.decode(block, |field, size| fields.take(field, size, limits)).map_err(|e| e.0)?;
        Ok(fields)
    }

    fn take(&mut self, field: Field, size: usize, limits: HeadLimits) {
        self.bytes += size;
        self.count += 1;
        if self.bytes > limits.bytes || self.count > limits.count {
            self.too_large = true;
            return;
        }
        let taken = match field {
            Field::Header(name, value) => return self.header(name, value),
            Field::Bad(why) => Err(why),
            _ if self.regular => Err("a pseudo-header after a header"),
            Field::Method(value) => once(&mut self.method, value),
            Field::Scheme(value) => once(&mut self.scheme, value),
            Field::Authority(value) => once(&mut self.authority, value),
            Field::Path(value) => once(&mut self.path, value),
            Field::Status(value) => once(&mut self.status, value),
            Field::Protocol(value) => once(&mut self.protocol, value),
        };
        self.pseudo = true;
        self.refuse(taken);
    }

    fn header(&mut self, name: HeaderName, value: HeaderValue) {
        self.regular = true;
        if is_for_the_connection(&name) {
            return self.refuse(Err("a header that concerns the connection"));
        }
        if name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers") {
            return self.refuse(Err("te other than trailers"));
        }
        if name == header::CONTENT_LENGTH {
            let length = content_length(value.as_bytes());
            match (length, self.content_length) {
                (None, _) => return self.refuse(Err("an illegal content-length")),
                (Some(new), Some(old)) if new != old => return self.refuse(Err("two content-lengths")),
                // The same once more: it goes on once.
                (Some(_), Some(_)) => return,
                (Some(new), None) => self.content_length = Some(new),
            }
        }
        if self.headers.try_append(name, value).is_err() {
            self.too_large = true;
        }
    }

    fn refuse(&mut self, taken: Result<(), &'static str>) {
        if let (Err(why), None) = (taken, self.malformed) {
            self.malformed = Some(why);
        }
    }

    fn checked(&self) -> Result<(), BadHead> {
        match self.malformed {
            Some(why) => Err(BadHead::Malformed(why)),
            None if self.too_large => Err(BadHead::TooLarge),
            None => Ok(()),
        }
    }

    /// As a request (§8.3.1; RFC 8441 §4). `extended`: may it be an extended CONNECT?
    pub(crate) fn request(self, extended: bool) -> Result<RequestHead, BadHead> {
        self.checked()?;
        let malformed = |why| Err(BadHead::Malformed(why));
        let Some(method) = self.method else { return malformed("no :method") };
        if self.status.is_some() {
            return malformed(":status in a request");
        }
        let mut uri = http::uri::Parts::default();
        if method == Method::CONNECT && self.protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                return malformed("a CONNECT with :scheme or :path, or without :authority");
            }
            uri.authority = self.authority;
        } else {
            if self.protocol.is_some() && (method != Method::CONNECT || !extended || self.authority.is_none()) {
                return malformed(":protocol where it must not be");
            }
            let (Some(scheme), Some(path)) = (self.scheme, self.path) else { return malformed("no :scheme or no :path") };
            if path.as_str() == "*" && method != Method::OPTIONS {
                return malformed("* is for OPTIONS");
            }
            uri.scheme = self.authority.is_some().then_some(scheme);
            uri.authority = self.authority;
            uri.path_and_query = Some(path);
        }
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| BadHead::Malformed("an illegal target"))?;
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        if let Some(protocol) = self.protocol {
            request.extensions_mut().insert(Protocol(protocol));
        }
        Ok((request, self.content_length))
    }

    /// As a response (§8.3.2).
    pub(crate) fn response(self) -> Result<(Response<()>, Option<u64>), BadHead> {
        self.checked()?;
        if self.method.is_some() || self.scheme.is_some() || self.authority.is_some() || self.path.is_some() || self.protocol.is_some() {
            return Err(BadHead::Malformed("a request's pseudo-header in a response"));
        }
        let Some(status) = self.status else { return Err(BadHead::Malformed("no :status")) };
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(BadHead::Malformed("101 does not exist in HTTP/2"));
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = self.headers;
        Ok((response, self.content_length))
    }

    /// As trailers (§8.1).
    pub(crate) fn trailers(self) -> Result<HeaderMap, BadHead> {
        self.checked()?;
        if self.pseudo {
            return Err(BadHead::Malformed("a pseudo-header among the trailers"));
        }
        Ok(self.headers)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("a pseudo-header twice"),
    }
}

/// RFC 9113 §8.2.2.
fn is_for_the_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Digits only; a list of the same number, which RFC 9110 §8.6 lets through, is not worth the doubt.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Encodes a request's head. Its target must have an authority, unless a Host header stands in for it.
pub(crate) fn encode_request<B>(encoder: &mut Encoder, request: &Request<B>, out: &mut Vec<u8>) {
    encoder.begin(out);
    encoder.pseudo(":method", request.method().as_str().as_bytes(), out);
    let (uri, protocol) = (request.uri(), request.extensions().get::<Protocol>());
    let has_path = *request.method() != Method::CONNECT || protocol.is_some();
    if has_path {
        encoder.pseudo(":scheme", uri.scheme_str().unwrap_or("http").as_bytes(), out);
    }
    let host = || request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    if let Some(authority) = uri.authority().map(|a| a.as_str().as_bytes()).or_else(host) {
        encoder.pseudo(":authority", authority, out);
    }
    if has_path {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        encoder.pseudo(":path", if path.is_empty() { b"/" } else { path.as_bytes() }, out);
    }
    if let Some(protocol) = protocol {
        encoder.pseudo(":protocol", protocol.0.as_bytes(), out);
    }
    encode_headers(encoder, request.headers(), true, out);
}

/// Encodes a response's head.
pub(crate) fn encode_response(encoder: &mut Encoder, status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    encoder.begin(out);
    encoder.pseudo(":status", status.as_str().as_bytes(), out);
    encode_headers(encoder, headers, false, out);
}

/// Encodes trailers.
pub(crate) fn encode_trailers(encoder: &mut Encoder, headers: &HeaderMap, out: &mut Vec<u8>) {
    encoder.begin(out);
    encode_headers(encoder, headers, false, out);
}

/// What HTTP/2 cannot carry is left out, whoever put it in.
fn encode_headers(encoder: &mut Encoder, headers: &HeaderMap, request: bool, out: &mut Vec<u8>) {
    for (name, value) in headers {
        let te = *name == header::TE && !value.as_bytes().eq_ignore_ascii_case(b"trailers");
        if te || is_for_the_connection(name) || (request && *name == header::HOST) {
            continue;
        }
        encoder.header(name, value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 4096, count: 20 };

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut block = Vec::new();
        for (name, value) in list {
            assert!(name.len() < 127 && value.len() < 127);
            block.extend([0, name.len() as u8]);
            block.extend(name.as_bytes());
            block.push(value.len() as u8);
            block.extend(value.as_bytes());
        }
        Fields::decode(&mut Decoder::default(), &block, LIMITS).expect("decodes")
    }

    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

    fn with(more: &[(&str, &str)]) -> bool {
        fields(&[&GET[..], more].concat()).request(true).is_ok()
    }

    #[test]
    fn rfc9113_8_3_1_request_pseudo_headers() {
        assert!(with(&[]) && with(&[("a", "b"), ("te", "trailers")]));
        for missing in [0, 1, 3] {
            let mut list = GET.to_vec();
            list.remove(missing);
            assert!(fields(&list).request(true).is_err(), "without {}", GET[missing].0);
        }
        for twice in GET {
            assert!(!with(&[twice]), "{twice:?} twice");
        }
        assert!(!with(&[(":status", "200")]) && !with(&[(":unknown", "x")]) && !with(&[(":protocol", "websocket")]));
        assert!(fields(&[&[("a", "b")][..], &GET].concat()).request(true).is_err(), "pseudo-headers come first");
        let star = |method| fields(&[(":method", method), GET[1], GET[2], (":path", "*")]).request(true).is_ok();
        assert!(star("OPTIONS") && !star("GET"));
    }

    #[test]
    fn rfc9113_8_2_2_connection_headers() {
        for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
            assert!(!with(&[(name, "x")]), "{name}");
        }
        assert!(!with(&[("te", "gzip")]) && !with(&[("te", "trailers, gzip")]));
    }

    #[test]
    fn rfc9113_8_5_and_rfc8441_connect() {
        let connect = |list: &[(&str, &str)], extended| fields(&[&[(":method", "CONNECT")], list].concat()).request(extended).is_ok();
        assert!(connect(&[(":authority", "a:1")], false));
        assert!(!connect(&[], false) && !connect(&GET[1..], false) && !connect(&[GET[1], GET[2]], false));
        let websocket = [&GET[1..], &[(":protocol", "websocket")]].concat();
        assert!(connect(&websocket, true) && !connect(&websocket, false));
    }

    #[test]
    fn rfc9110_8_6_content_length() {
        for bad in ["", "+1", "-1", "1,1", "1, 1", "0x1", "18446744073709551616", "1 "] {
            assert!(!with(&[("content-length", bad)]), "{bad:?}");
        }
        assert!(!with(&[("content-length", "1"), ("content-length", "2")]));
        let (request, length) =
            fields(&[&GET[..], &[("content-length", "7"), ("content-length", "7")]].concat()).request(true).expect("legal");
        assert_eq!((request.headers().get_all("content-length").iter().count(), length), (1, Some(7)));
    }

    #[test]
    fn rfc9113_8_3_2_responses_and_trailers() {
        assert!(fields(&[(":status", "200")]).response().is_ok());
        for bad in [&[(":status", "101")][..], &[], &[(":status", "200"), (":status", "200")], &[(":status", "200"), (":path", "/")]] {
            assert!(fields(bad).response().is_err(), "{bad:?}");
        }
        assert!(fields(&[("a", "b")]).trailers().is_ok() && fields(&[(":status", "200")]).trailers().is_err());
    }

    #[test]
    fn limits_hold_on_the_decoded_size_and_count() {
        let many: Vec<(&str, &str)> = vec![("a", "b"); 17];
        assert_eq!(fields(&[&GET[..], &many].concat()).request(true).err(), Some(BadHead::TooLarge));
        // 0x82 is `:method: GET`, 42 bytes each.
        let bomb = Fields::decode(&mut Decoder::default(), &[0x82; 100], HeadLimits { bytes: 4096, count: 1000 }).expect("decodes");
        assert!(bomb.checked().is_err());
    }
}
