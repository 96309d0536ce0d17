//! Names, fields and the two tables that a decoder looks into (RFC 7541 §2.3).

use super::ENTRY_OVERHEAD;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, StatusCode, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use std::{collections::VecDeque, sync::LazyLock};

/// A header field, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Method(Method),
    Scheme(Scheme),
    Authority(Authority),
    Path(PathAndQuery),
    Status(StatusCode),
    Protocol(HeaderValue),
    Header(HeaderName, HeaderValue),
    /// Not legal, and why.
    Bad(&'static str),
}

/// A name, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
    Header(HeaderName),
    Bad(&'static str),
}

impl Name {
    /// RFC 9113 §8.2.1: lower-case tokens only; §8.3: no other names begin with a colon.
    pub(crate) fn parse(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            b":protocol" => Self::Protocol,
            [b':', ..] => Self::Bad("an unknown pseudo-header"),
            // `from_lowercase` is lenient in no way that matters: it takes tokens without upper-case letters.
            _ => HeaderName::from_lowercase(name).map_or(Self::Bad("an illegal header name"), Self::Header),
        }
    }

    /// A field of this name, with its value checked.
    pub(crate) fn field(&self, value: Bytes) -> Field {
        let parsed = match self {
            Self::Method => Method::from_bytes(&value).ok().map(Field::Method),
            Self::Scheme if value.eq_ignore_ascii_case(b"http") => Some(Field::Scheme(Scheme::HTTP)),
            Self::Scheme if value.eq_ignore_ascii_case(b"https") => Some(Field::Scheme(Scheme::HTTPS)),
            Self::Scheme => None,
            Self::Authority if value.contains(&b'@') => None,
            Self::Authority => Authority::from_maybe_shared(value).ok().map(Field::Authority),
            Self::Path => path(value).map(Field::Path),
            Self::Status => status(&value).map(Field::Status),
            Self::Protocol => HeaderValue::from_maybe_shared(value).ok().filter(|v| !v.is_empty()).map(Field::Protocol),
            Self::Header(name) => header_value(value).map(|value| Field::Header(name.clone(), value)),
            Self::Bad(why) => return Field::Bad(why),
        };
        parsed.unwrap_or(Field::Bad(match self {
            Self::Header(_) => "an illegal header value",
            _ => "an illegal value of a pseudo-header",
        }))
    }
}

/// RFC 9113 §8.2.1: no NUL, CR or LF anywhere, no white space at the ends. Other controls are refused too (§10.3).
fn header_value(value: Bytes) -> Option<HeaderValue> {
    let edge = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if edge(value.first()) || edge(value.last()) {
        return None;
    }
    HeaderValue::from_maybe_shared(value).ok()
}

/// RFC 9113 §8.3.1: `/…`, or `*` (for OPTIONS only, which is checked when all is known). `PathAndQuery` would cut a fragment off.
fn path(value: Bytes) -> Option<PathAndQuery> {
    let begins = value.first() == Some(&b'/') || &value[..] == b"*";
    (begins && !value.contains(&b'#')).then(|| PathAndQuery::from_maybe_shared(value).ok()).flatten()
}

/// Three digits, 100 to 599 or beyond as RFC 9110 §15 lets through.
fn status(value: &[u8]) -> Option<StatusCode> {
    (value.len() == 3).then(|| StatusCode::from_bytes(value).ok()).flatten()
}

/// What stands in a table.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: Name,
    pub field: Field,
    /// Bytes by which it counts.
    pub size: usize,
    pub name_bytes: usize,
}

/// The dynamic table of a decoder.
#[derive(Debug)]
pub(crate) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, max }
    }

    /// The entry at a one-based index over both tables (RFC 7541 §2.3.3).
    pub(crate) fn at(&self, index: usize) -> Option<&Entry> {
        let index = index.checked_sub(1)?;
        match index.checked_sub(STATIC_ENTRIES) {
            None => STATIC.get(index),
            Some(dynamic) => self.entries.get(dynamic),
        }
    }

    /// RFC 7541 §4.4: older entries make room; one that is larger than the table empties it.
    pub(crate) fn insert(&mut self, entry: Entry) {
        self.evict(self.max.saturating_sub(entry.size));
        if entry.size <= self.max {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    pub(crate) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
    }

    fn evict(&mut self, to: usize) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }

    #[cfg(test)]
    pub(crate) fn state(&self) -> (usize, Vec<Field>) {
        (self.size, self.entries.iter().map(|e| e.field.clone()).collect())
    }
}

pub(crate) const STATIC_ENTRIES: usize = 61;

/// RFC 7541 Appendix A.
#[rustfmt::skip]
pub(crate) const STATIC_FIELDS: [(&str, &str); STATIC_ENTRIES] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

static STATIC: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let entry = |(name, value): &(&'static str, &'static str)| {
        let (parsed, size) = (Name::parse(name.as_bytes()), name.len() + value.len() + ENTRY_OVERHEAD);
        // `:authority` has no value of its own; as a field it would be illegal, as a name it is fine.
        Entry { field: parsed.field(Bytes::from_static(value.as_bytes())), name: parsed, size, name_bytes: name.len() }
    };
    STATIC_FIELDS.iter().map(entry).collect()
});

/// Where the names of the static table are, by hash, for encoders.
static STATIC_NAMES: LazyLock<[u8; 128]> = LazyLock::new(|| {
    let mut slots = [0u8; 128];
    for (at, (name, _)) in STATIC_FIELDS.iter().enumerate().rev() {
        let mut slot = hash(0, name.as_bytes()) as usize & 127;
        while slots[slot] != 0 && STATIC_FIELDS[usize::from(slots[slot]) - 1].0 != *name {
            slot = (slot + 1) & 127;
        }
        slots[slot] = at as u8 + 1;
    }
    slots
});

/// One-based index of a name in the static table; 0 when it is not there.
pub(crate) fn static_name(name: &str, hash: u32) -> usize {
    let mut slot = hash as usize & 127;
    loop {
        match STATIC_NAMES[slot] {
            0 => return 0,
            at if STATIC_FIELDS[usize::from(at) - 1].0 == name => return usize::from(at),
            _ => slot = (slot + 1) & 127,
        }
    }
}

/// A quick hash; nothing depends on its being hard to predict, because a wrong guess only costs a table entry.
pub(crate) fn hash(seed: u32, bytes: &[u8]) -> u32 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = u64::from(seed) ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3], chunk[4], chunk[5], chunk[6], chunk[7]]);
        state = (state ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    }
    let mut last = 0u64;
    for byte in chunks.remainder() {
        last = last << 8 | u64::from(*byte);
    }
    state = (state ^ last).wrapping_mul(MULTIPLIER);
    (state >> 32) as u32
}

/// What is worth guessing does not enter a table, where its length could be probed (RFC 7541 §7.1.3).
pub(crate) fn is_secret(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || *name == header::COOKIE || *name == header::SET_COOKIE || *name == header::PROXY_AUTHORIZATION
}
