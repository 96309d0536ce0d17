//! A tap: single exchanges of one proxy, shown to an operator while they happen, with secrets taken out.
//!
//! Redaction happens where the head is copied, before a filter sees it: a filter that could read a secret would tell it bit by bit.

use crate::{Extras, RequestContext, RequestRecord};
use serde::{Deserialize, Serialize};
use weft_model::Expression;

/// Exchanges of one tap that a proxy shows in a second.
pub const TAP_PER_SECOND_MAX: u32 = 50;
/// Exchanges of one tap in all.
pub const TAP_TOTAL_MAX: u32 = 10_000;
/// Longest tap, in seconds.
pub const TAP_SECONDS_MAX: u32 = 600;
/// Taps at one proxy at the same time.
pub const TAPS_MAX: usize = 4;
/// Headers of a head that are shown.
pub const TAP_HEADERS_MAX: usize = 64;
/// Bytes of a header's value, and of a path, that are shown.
pub const TAP_VALUE_BYTES_MAX: usize = 1024;
/// Bytes of a head's headers that are shown.
pub const TAP_HEAD_BYTES_MAX: usize = 8 * 1024;

/// What stands in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// Headers whose value is always a secret.
const SECRET_HEADERS: [&str; 7] =
    ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key", "x-amz-security-token", "cookie2"];
/// A header or parameter with one of these in its name is a secret: `x-forwarded-authorization` is as good as the original.
const SECRET_WORDS: [&str; 7] = ["token", "secret", "password", "api_key", "apikey", "authorization", "cookie"];

/// What a proxy is asked to show.
#[derive(Debug, Clone)]
pub struct TapOrder {
    /// Name of the tap.
    pub id: String,
    /// Only exchanges of which it is true.
    pub filter: Option<Expression>,
    /// Most in a second.
    pub per_second: u32,
    /// Most in all.
    pub total: u32,
    /// How long; 0 ends the tap.
    pub duration_ms: u64,
}

impl TapOrder {
    /// Reads a filter; an empty one is none.
    ///
    /// # Errors
    /// When it is no expression, or names what no request has.
    pub fn read_filter(text: &str) -> Result<Option<Expression>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let expression: Expression = text.parse().map_err(|error| format!("the filter is not an expression: {error}"))?;
        match expression.unknown_names().as_slice() {
            [] => Ok(Some(expression)),
            names => Err(format!("the filter asks for what no request has: {}", names.join(", "))),
        }
    }

    /// Does the tap show this exchange?
    pub fn wants(&self, exchange: &Tapped, extras: &Extras) -> bool {
        let Some(filter) = &self.filter else { return true };
        filter.is_true(&RequestContext { record: &exchange.record, extras })
    }
}

/// The head of a request or response, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TappedHead {
    /// In the order in which they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Headers that were left out because there were too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl TappedHead {
    /// Copies what may be shown.
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut head = Self::default();
        let mut bytes = 0;
        for (name, value) in headers {
            if head.headers.len() >= TAP_HEADERS_MAX || bytes >= TAP_HEAD_BYTES_MAX {
                head.left_out += 1;
                continue;
            }
            let value = redacted_header(name, value);
            bytes += name.len() + value.len();
            head.headers.push((name.to_owned(), value));
        }
        head
    }
}

/// One exchange as a tap shows it. There are no bodies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tapped {
    /// The tap that it is for.
    pub tap: String,
    /// The record: method, path, authority, status, and what the mesh did. Secrets in the path are taken out.
    pub record: RequestRecord,
    /// Headers as the request came.
    pub request: TappedHead,
    /// Headers of the answer; none when there was no answer.
    pub response: TappedHead,
}

impl Tapped {
    /// Puts record and heads together, without secrets.
    pub fn new(mut record: RequestRecord, request: TappedHead, response: TappedHead) -> Self {
        record.path = redacted_parameters(&cut(&record.path));
        Self { tap: String::new(), record, request, response }
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TAP_VALUE_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// The value of a header as it may be shown.
fn redacted_header(name: &str, value: &[u8]) -> String {
    let name = name.to_ascii_lowercase();
    if SECRET_HEADERS.contains(&name.as_str()) || is_secret_name(&name) {
        return REDACTED.into();
    }
    // `Referer` and `Location` carry addresses with parameters of their own.
    redacted_parameters(&cut(&String::from_utf8_lossy(value)))
}

/// Takes the values of secret parameters out of an address or any other text with `name=value` in it.
fn redacted_parameters(text: &str) -> String {
    let is_end = |c: char| matches!(c, '?' | '&' | '#' | ';' | ',' | ' ' | '"');
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(is_end) {
        let (body, end) = match part.char_indices().next_back() {
            Some((at, last)) if is_end(last) => part.split_at(at),
            _ => (part, ""),
        };
        match body.split_once('=') {
            Some((name, _)) if is_secret_name(&percent_decoded(name)) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(REDACTED);
            }
            _ => shown.push_str(body),
        }
        shown.push_str(end);
    }
    shown
}

/// A name may be written with `%5F` for `_`.
fn percent_decoded(name: &str) -> String {
    let mut rest = name.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_headers_are_never_shown() {
        let secret = [
            "authorization",
            "cookie",
            "set-cookie",
            "proxy-authorization",
            "x-api-key",
            "x-amz-security-token",
            "X-Auth-Token",
            "client-secret",
            "db-password-hint",
        ];
        for name in secret {
            let head = TappedHead::of([(name, &b"hush"[..])]);
            assert_eq!(head.headers, [(name.to_owned(), REDACTED.to_owned())], "{name}");
        }
        assert_eq!(TappedHead::of([("accept", &b"text/html"[..])]).headers[0].1, "text/html");
    }

    #[test]
    fn secret_parameters_are_never_shown() {
        let cases = [
            ("/a?access_token=hush&b=1", "/a?access_token=<redacted>&b=1"),
            ("/a?b=1&token=hush", "/a?b=1&token=<redacted>"),
            ("/a?access%5Ftoken=hush", "/a?access%5Ftoken=<redacted>"),
            ("/a?TOKEN=hush#access_token=hush", "/a?TOKEN=<redacted>#access_token=<redacted>"),
            ("/a?token=x=hush", "/a?token=<redacted>"),
            ("/a?page=2", "/a?page=2"),
        ];
        for (path, shown) in cases {
            let record = RequestRecord { path: path.into(), ..RequestRecord::default() };
            assert_eq!(Tapped::new(record, TappedHead::default(), TappedHead::default()).record.path, shown);
        }
        let head = TappedHead::of([("location", &b"https://x/y?access_token=hush&z=1"[..])]);
        assert_eq!(head.headers[0].1, "https://x/y?access_token=<redacted>&z=1");
    }

    #[test]
    fn heads_are_bounded() {
        let long = vec![b'x'; 5 * TAP_VALUE_BYTES_MAX];
        let head = TappedHead::of((0..100).map(|_| ("a", long.as_slice())));
        assert!(head.headers.len() <= 9 && head.headers.len() + head.left_out == 100);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_in_words() {
        assert!(TapOrder::read_filter(" ").expect("none").is_none());
        assert!(TapOrder::read_filter("response.code >= 500").expect("legal").is_some());
        let refused = TapOrder::read_filter("response.code >=").expect_err("not whole");
        assert!(refused.starts_with("the filter is not an expression: "), "{refused}");
        let refused = TapOrder::read_filter("response.colour == 'red'").expect_err("unknown");
        assert!(refused.contains("response.colour"), "{refused}");
    }
}
