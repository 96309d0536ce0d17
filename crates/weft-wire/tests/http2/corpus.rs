//! Malformed HTTP/2, made by rule: each case is what a client sends after its preface and SETTINGS, and what RFC 9113, RFC 7541
//! and RFC 8441 want to happen. Nothing is random, so that a case keeps its name.

/// A case.
pub(crate) struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

/// What must happen. Codes are those of RFC 9113 §7; where several rules are broken at once, each of their codes will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Taken or ignored: neither stream nor connection ends in an error.
    Fine,
    /// The stream is reset, the connection lives.
    Stream(u32, Vec<u32>),
    /// The connection ends.
    Connection(Vec<u32>),
    /// An error of either kind.
    Either(u32, Vec<u32>),
    /// Ignored or an error of the stream, as the time falls.
    Late,
}

use Verdict::{Connection, Either, Fine, Late, Stream};

pub(crate) const PROTOCOL: u32 = 1;
pub(crate) const FLOW: u32 = 3;
pub(crate) const CLOSED: u32 = 5;
pub(crate) const SIZE: u32 = 6;
pub(crate) const COMPRESSION: u32 = 9;
pub(crate) const CALM: u32 = 11;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITY: u8 = 0x20;

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block of literals that touch no table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        for (at, text) in [name, value].into_iter().enumerate() {
            if at == 0 {
                out.push(0);
            }
            match text.len() {
                short @ 0..127 => out.push(short as u8),
                long => {
                    out.push(127);
                    let mut rest = long - 127;
                    while rest >= 128 {
                        out.push(rest as u8 | 128);
                        rest >>= 7;
                    }
                    out.push(rest as u8);
                }
            }
            out.extend(text.as_bytes());
        }
    }
    out
}

/// A request's pseudo-headers; the host is one that the tests' proxies know.
pub(crate) const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "reviews"), (":path", "/malformed")];
const POST: [(&str, &str); 4] = [(":method", "POST"), GET[1], GET[2], GET[3]];

fn head(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, flags | END_HEADERS, stream, &block(fields))
}

/// A request that waits for its body.
fn open(stream: u32) -> Vec<u8> {
    head(0, stream, &POST)
}

/// A request that is over.
fn over(stream: u32) -> Vec<u8> {
    head(END_STREAM, stream, &GET)
}

pub(crate) fn all() -> Vec<Case> {
    let mut out = Vec::new();
    shapes(&mut out);
    heads(&mut out);
    texts(&mut out);
    compression(&mut out);
    lengths(&mut out);
    sequences(&mut out);
    settings(&mut out);
    windows(&mut out);
    out
}

fn add(out: &mut Vec<Case>, name: impl Into<String>, bytes: Vec<u8>, verdict: Verdict) {
    out.push(Case { name: name.into(), bytes, verdict });
}

/// §4.2 and §6: every type of frame, in many lengths, where it may be and where it may not.
fn shapes(out: &mut Vec<Case>) {
    let places = [("stream 0", 0), ("an idle stream", 3), ("an even stream", 2), ("an open stream", 1), ("a finished stream", 1)];
    for kind in [0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 22, 255] {
        for length in [0usize, 1, 3, 4, 5, 6, 7, 8, 9, 16_384, 16_385] {
            for (place, stream) in places {
                let mut bytes = match place {
                    "an open stream" => open(1),
                    "a finished stream" => over(1),
                    _ => Vec::new(),
                };
                let flags = if kind == 1 { END_HEADERS } else { 0 };
                bytes.extend(frame(kind, flags, stream, &vec![0; length]));
                let finished = place == "a finished stream";
                add(out, format!("type {kind}, {length} bytes, on {place}"), bytes, shape(kind, length, stream, finished));
            }
        }
    }
}

fn shape(kind: u8, length: usize, stream: u32, finished: bool) -> Verdict {
    let (zero, idle) = (stream == 0, stream != 1);
    let odd = |right: usize, bad_place: bool| match (length == right, bad_place) {
        (true, false) => None,
        (true, true) => Some(Connection(vec![PROTOCOL])),
        (false, false) => Some(Connection(vec![SIZE])),
        (false, true) => Some(Connection(vec![PROTOCOL, SIZE])),
    };
    match kind {
        _ if length > 16_384 => Connection(vec![SIZE]),
        // DATA
        0 if idle => Connection(vec![PROTOCOL]),
        0 if finished => Either(1, vec![CLOSED]),
        0 => Fine,
        // HEADERS: three zeros are a field without a name, anything else is cut off in the middle of one.
        1 if zero => Connection(vec![PROTOCOL]),
        1 if !length.is_multiple_of(3) => Connection(vec![COMPRESSION]),
        1 if stream == 2 => Connection(vec![PROTOCOL]),
        1 if finished => Either(1, vec![CLOSED]),
        1 => Stream(stream, vec![PROTOCOL]),
        // PRIORITY
        2 if zero => Connection(vec![PROTOCOL, SIZE]),
        2 if length != 5 => Either(stream, vec![SIZE]),
        2 => Fine,
        // RST_STREAM
        3 => odd(4, idle).unwrap_or(Fine),
        // SETTINGS
        4 if length.is_multiple_of(6) => {
            if zero {
                Fine
            } else {
                Connection(vec![PROTOCOL])
            }
        }
        4 => Connection(if zero { vec![SIZE] } else { vec![PROTOCOL, SIZE] }),
        // PUSH_PROMISE and CONTINUATION
        5 | 9 => Connection(vec![PROTOCOL]),
        // PING
        6 => odd(8, !zero).unwrap_or(Fine),
        // GOAWAY
        7 if length >= 8 => {
            if zero {
                Fine
            } else {
                Connection(vec![PROTOCOL])
            }
        }
        7 => Connection(if zero { vec![SIZE] } else { vec![PROTOCOL, SIZE] }),
        // WINDOW_UPDATE by nothing
        8 if length != 4 => Connection(vec![PROTOCOL, SIZE]),
        8 if idle => Connection(vec![PROTOCOL]),
        // §5.1: on a closed stream it may be late, and is ignored; whether the answer is out already is a matter of time.
        8 if finished => Late,
        8 => Either(1, vec![PROTOCOL]),
        // §4.1
        _ => Fine,
    }
}

/// §8.2 and §8.3: heads that are no request.
fn heads(out: &mut Vec<Case>) {
    let mut bad = |name: String, fields: &[(&str, &str)]| {
        add(out, format!("head: {name}"), head(END_STREAM, 1, fields), Stream(1, vec![PROTOCOL]));
    };
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    for missing in [0, 1, 3] {
        let mut fields = GET.to_vec();
        fields.remove(missing);
        bad(format!("without {}", GET[missing].0), &fields);
    }
    for (at, twice) in GET.iter().enumerate() {
        bad(format!("{} twice", twice.0), &with(&[*twice]));
        let mut late = GET.to_vec();
        late.remove(at);
        late.extend([("x", "y"), *twice]);
        bad(format!("{} after a header", twice.0), &late);
        let mut empty = GET.to_vec();
        empty[at].1 = "";
        bad(format!("{} empty", twice.0), &empty);
    }
    for pseudo in [":status", ":protocol", ":foo", ":", ":Path", ":path ", ":host"] {
        bad(format!("{pseudo:?} in a GET"), &with(&[(pseudo, "200")]));
    }
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        for value in ["close", "x", "chunked", "trailers"] {
            bad(format!("{name}: {value}"), &with(&[(name, value)]));
        }
    }
    for te in ["gzip", "chunked", "trailers, chunked", "", "trailers;q=1"] {
        bad(format!("te: {te:?}"), &with(&[("te", te)]));
    }
}

/// §8.2.1: names and values that no field may have.
fn texts(out: &mut Vec<Case>) {
    let mut bad = |name: String, fields: &[(&str, &str)]| {
        add(out, format!("head: {name}"), head(END_STREAM, 1, fields), Stream(1, vec![PROTOCOL]));
    };
    let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
    for name in
        ["X", "Host", "a b", "a\tb", "a:b", "", " a", "a ", "a\0", "a\r", "a\n", "a\r\nb: c", "(a)", "a\x7f", "\u{e9}", "a,b", "a/b", "a=b"]
    {
        bad(format!("the name {name:?}"), &with(&[(name, "v")]));
    }
    for value in ["a\0b", "a\rb", "a\nb", "a\r\nb: c", " a", "a ", "\ta", "a\t", "\r\n", "\0", "a\x01", "a\x7fb", "\x0b"] {
        bad(format!("the value {value:?}"), &with(&[("x", value)]));
        bad(format!("the cookie {value:?}"), &with(&[("cookie", value)]));
    }
    for path in ["a", "malformed", "http://reviews/", "*", "/a b", "/a\tb", "/a\0", "/a\rb", "/a\nb", "/a#b", "#", "?a", "/a\x7f", "//\r\n"]
    {
        bad(format!("the path {path:?}"), &[GET[0], GET[1], GET[2], (":path", path)]);
    }
    for scheme in ["ftp", "HTTPX", "http ", " http", "http:", "http\0", "javascript"] {
        bad(format!("the scheme {scheme:?}"), &[GET[0], (":scheme", scheme), GET[2], GET[3]]);
    }
    for method in ["G ET", " GET", "GET ", "GET\r\n", "G\0T", "GET /x HTTP/1.1\r\nx:", "(GET)", "G@T"] {
        bad(format!("the method {method:?}"), &[(":method", method), GET[1], GET[2], GET[3]]);
    }
    for authority in ["user@reviews", "user:pw@reviews", "rev iews", "reviews/x", "reviews\r\n", "reviews\0", "reviews?x", "reviews#x", "@"]
    {
        bad(format!("the authority {authority:?}"), &[GET[0], GET[1], (":authority", authority), GET[3]]);
    }
    for length in ["", "+1", "-1", "1,2", "1 ", " 1", "0x1", "1.0", "18446744073709551616", "a"] {
        bad(format!("content-length: {length:?}"), &with(&[("content-length", length)]));
    }
    bad("two content-lengths".into(), &with(&[("content-length", "0"), ("content-length", "1")]));
    let connect = (":method", "CONNECT");
    bad("CONNECT with a path".into(), &[connect, GET[2], GET[3]]);
    bad("CONNECT with a scheme".into(), &[connect, GET[1], GET[2]]);
    bad("CONNECT without an authority".into(), &[connect]);
    bad("CONNECT with a protocol and no path".into(), &[connect, (":protocol", "websocket"), GET[1], GET[2]]);
    bad("CONNECT with a protocol and no scheme".into(), &[connect, (":protocol", "websocket"), GET[2], GET[3]]);
    bad("CONNECT with an empty protocol".into(), &[connect, (":protocol", ""), GET[1], GET[2], GET[3]]);
    bad("no fields at all".into(), &[]);
    let trailers = |fields: &[(&str, &str)], flags| [open(1), frame(0, 0, 1, b"a"), head(flags, 1, fields)].concat();
    add(out, "trailers that do not end the stream", trailers(&[("a", "b")], 0), Stream(1, vec![PROTOCOL]));
    for field in [
        (":path", "/"),
        (":status", "200"),
        ("connection", "x"),
        ("A", "b"),
        ("a", "b\r\nc"),
        ("te", "x"),
        ("transfer-encoding", "chunked"),
    ] {
        add(out, format!("trailers with {field:?}"), trailers(&[field], END_STREAM), Stream(1, vec![PROTOCOL]));
    }
}

/// RFC 7541: blocks that cannot be decoded.
fn compression(out: &mut Vec<Case>) {
    let start = block(&GET);
    let blocks: &[(&str, &[u8])] = &[
        ("index 0", &[0x80]),
        ("an index beyond the tables", &[0xbe]),
        ("a large index", &[0xff, 0xff, 0x01]),
        ("a number without end", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("a number cut off", &[0xff]),
        ("a literal with an unknown name", &[0x7f, 0x20, 0x01, b'a']),
        ("an unindexed literal with an unknown name", &[0x0f, 0x40, 0x01, b'a']),
        ("a string longer than its block", &[0x00, 0x05, b'a']),
        ("a string without a length", &[0x00]),
        ("a value without a length", &[0x00, 0x01, b'a']),
        ("a table size update after a field", &[0x20]),
        ("a table size update that is too large", &[0x3f, 0xff, 0x7f]),
        ("Huffman padding of zeros", &[0x00, 0x81, 0x00, 0x01, b'a']),
        ("Huffman padding longer than seven bits", &[0x00, 0x82, 0x1f, 0xff, 0x01, b'a']),
        ("the end of string in a Huffman string", &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'a']),
        ("eight bits of padding alone", &[0x00, 0x01, b'a', 0x81, 0xff]),
    ];
    for (name, bytes) in blocks {
        let whole = [&start[..], bytes].concat();
        add(out, format!("hpack: {name}"), frame(1, END_HEADERS | END_STREAM, 1, &whole), Connection(vec![COMPRESSION]));
        let trailers = [open(1), frame(1, END_HEADERS | END_STREAM, 1, bytes)].concat();
        if !name.starts_with("a table size update after") {
            add(out, format!("hpack in trailers: {name}"), trailers, Connection(vec![COMPRESSION]));
        }
        let refused = [head(END_STREAM, 1, &GET[1..]), frame(1, END_HEADERS | END_STREAM, 3, &whole)].concat();
        add(out, format!("hpack after a malformed request: {name}"), refused, Connection(vec![COMPRESSION]));
    }
}

/// §8.1.1: content-length and DATA.
fn lengths(out: &mut Vec<Case>) {
    for (promised, sent) in [(0usize, 1usize), (1, 0), (1, 2), (5, 4), (5, 6), (10, 3), (100, 99), (0, 16_384)] {
        let text = promised.to_string();
        let start = head(0, 1, &[&POST[..], &[("content-length", text.as_str())]].concat());
        let data = vec![b'a'; sent];
        let name = format!("content-length {promised}, {sent} bytes");
        let once = [start.clone(), frame(0, END_STREAM, 1, &data)].concat();
        add(out, name.clone(), once, Stream(1, vec![PROTOCOL]));
        let trailers = [start.clone(), frame(0, 0, 1, &data), head(END_STREAM, 1, &[("a", "b")])].concat();
        add(out, format!("{name}, then trailers"), trailers, Stream(1, vec![PROTOCOL]));
        let (first, second) = data.split_at(sent / 2);
        let split = [start, frame(0, 0, 1, first), frame(0, END_STREAM, 1, second)].concat();
        add(out, format!("{name}, in two"), split, Stream(1, vec![PROTOCOL]));
    }
    let promised = head(END_STREAM, 1, &[&POST[..], &[("content-length", "1")]].concat());
    add(out, "content-length 1 and no DATA frame", promised, Stream(1, vec![PROTOCOL]));
}

/// §5.1, §6.1, §6.2, §6.10: what may follow what.
fn sequences(out: &mut Vec<Case>) {
    let half = || frame(1, 0, 1, &block(&GET));
    for kind in [0u8, 1, 2, 3, 4, 5, 6, 7, 8, 10, 200] {
        for stream in [0u32, 1, 3] {
            let interrupted = [half(), frame(kind, 0, stream, &[0; 8])].concat();
            add(out, format!("type {kind} on stream {stream} inside a header block"), interrupted, Connection(vec![PROTOCOL]));
        }
    }
    add(out, "CONTINUATION of another stream", [half(), frame(9, END_HEADERS, 3, &[])].concat(), Connection(vec![PROTOCOL]));
    add(out, "CONTINUATION after END_HEADERS", [over(1), frame(9, END_HEADERS, 1, &[])].concat(), Connection(vec![PROTOCOL]));
    let flood: Vec<u8> = std::iter::once(half()).chain((0..100).map(|_| frame(9, 0, 1, &[]))).flatten().collect();
    add(out, "CONTINUATIONs without end", flood, Connection(vec![CALM]));
    for (kind, flags, start) in [(0u8, PADDED, open(1)), (1, PADDED | END_HEADERS, Vec::new())] {
        for (padding, rest) in [(1u8, 0usize), (2, 1), (255, 10), (255, 254)] {
            let payload: Vec<u8> = std::iter::once(padding).chain(std::iter::repeat_n(0, rest)).collect();
            let bytes = [start.clone(), frame(kind, flags, 1, &payload)].concat();
            add(out, format!("type {kind} padded by {padding} of {rest}"), bytes, Connection(vec![PROTOCOL]));
        }
        add(
            out,
            format!("type {kind} padded without a length"),
            [start, frame(kind, flags, 1, &[])].concat(),
            Connection(vec![PROTOCOL, SIZE]),
        );
    }
    for length in 0..5 {
        let short = frame(1, PRIORITY | END_HEADERS, 1, &vec![0; length]);
        add(out, format!("HEADERS with a priority of {length} bytes"), short, Connection(vec![SIZE]));
    }
    let itself = [&[0, 0, 0, 1, 16][..], &block(&GET)].concat();
    add(out, "HEADERS that depend on themselves", frame(1, PRIORITY | END_HEADERS | END_STREAM, 1, &itself), Either(1, vec![PROTOCOL]));
    add(out, "PRIORITY of a stream on itself", [open(1), frame(2, 0, 1, &[0, 0, 0, 1, 16])].concat(), Either(1, vec![PROTOCOL]));
    for (lower, higher) in [(1u32, 3u32), (3, 5), (1, 101), (7, 9)] {
        let falling = [over(higher), over(lower)].concat();
        add(out, format!("stream {lower} after {higher}"), falling, Connection(vec![PROTOCOL, CLOSED]));
    }
    for stream in [2u32, 4, 100, 0x7fff_fffe] {
        add(out, format!("a request on stream {stream}"), over(stream), Connection(vec![PROTOCOL]));
    }
    let reset = || [open(1), frame(3, 0, 1, &[0, 0, 0, 8])].concat();
    for (name, after) in [("DATA", frame(0, 0, 1, b"a")), ("HEADERS", head(END_STREAM, 1, &[("a", "b")]))] {
        add(out, format!("{name} after RST_STREAM"), [reset(), after].concat(), Either(1, vec![CLOSED]));
    }
    for again in [1, 2] {
        let twice: Vec<u8> = std::iter::once(over(1)).chain((0..again).map(|_| over(1))).flatten().collect();
        add(out, format!("HEADERS {again} times more on a finished stream"), twice, Either(1, vec![CLOSED]));
    }
    add(out, "DATA after END_STREAM", [over(1), frame(0, END_STREAM, 1, b"a")].concat(), Either(1, vec![CLOSED]));
    let upper = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), over(1)].concat();
    add(out, "the preface once more", upper, Connection(vec![SIZE, PROTOCOL]));
    add(out, "HTTP/1 on an HTTP/2 connection", b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n".to_vec(), Connection(vec![SIZE, PROTOCOL]));
}

/// §6.5.2, RFC 8441 §3.
fn settings(out: &mut Vec<Case>) {
    let one = |id: u16, value: u32| frame(4, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    for (id, value, verdict) in [
        (2, 2, Connection(vec![PROTOCOL])),
        (2, u32::MAX, Connection(vec![PROTOCOL])),
        (4, 0x8000_0000, Connection(vec![FLOW])),
        (4, u32::MAX, Connection(vec![FLOW])),
        (5, 0, Connection(vec![PROTOCOL])),
        (5, 16_383, Connection(vec![PROTOCOL])),
        (5, 16_777_216, Connection(vec![PROTOCOL])),
        (5, u32::MAX, Connection(vec![PROTOCOL])),
        (8, 2, Connection(vec![PROTOCOL])),
        (1, 0, Fine),
        (1, u32::MAX, Fine),
        (3, 0, Fine),
        (4, 0, Fine),
        (4, 0x7fff_ffff, Fine),
        (5, 16_777_215, Fine),
        (6, 0, Fine),
        (8, 1, Fine),
        (0, 7, Fine),
        (9, u32::MAX, Fine),
        (0xffff, 1, Fine),
    ] {
        add(out, format!("setting {id} = {value}"), one(id, value), verdict.clone());
        add(out, format!("setting {id} = {value} with an open stream"), [open(1), one(id, value)].concat(), verdict);
    }
    add(out, "ENABLE_CONNECT_PROTOCOL taken back", [one(8, 1), one(8, 0)].concat(), Connection(vec![PROTOCOL]));
    add(out, "SETTINGS acknowledged with content", frame(4, 1, 0, &[0; 6]), Connection(vec![SIZE]));
    let flood: Vec<u8> = (0..2_000).flat_map(|_| one(4, 65_535)).collect();
    add(out, "a flood of SETTINGS", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..5_000).flat_map(|_| frame(6, 0, 0, &[0; 8])).collect();
    add(out, "a flood of PINGs", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..5_000).flat_map(|_| frame(2, 0, 1, &[0; 5])).collect();
    add(out, "a flood of PRIORITYs", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..5_000).flat_map(|_| frame(77, 0, 1, &[0; 5])).collect();
    add(out, "a flood of unknown frames", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = std::iter::once(open(1)).chain((0..5_000).map(|_| frame(0, 0, 1, &[]))).flatten().collect();
    add(out, "a flood of empty DATA", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..5_000).flat_map(|_| frame(8, 0, 0, &[0, 0, 0, 1])).collect();
    add(out, "a flood of small WINDOW_UPDATEs", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..2_000u32).flat_map(|i| [open(2 * i + 1), frame(3, 0, 2 * i + 1, &[0, 0, 0, 8])].concat()).collect();
    add(out, "rapid reset", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..2_000u32).flat_map(|i| [open(2 * i + 1), frame(8, 0, 2 * i + 1, &[0; 4])].concat()).collect();
    add(out, "resets that we are made to send", flood, Connection(vec![CALM]));
    let flood: Vec<u8> = (0..2_000u32).flat_map(|i| head(END_STREAM, 2 * i + 1, &GET[1..])).collect();
    add(out, "a flood of malformed requests", flood, Connection(vec![CALM]));
}

/// §6.9.
fn windows(out: &mut Vec<Case>) {
    let update = |stream, by: u32| frame(8, 0, stream, &by.to_be_bytes());
    add(out, "the connection's window by 0", update(0, 0), Connection(vec![PROTOCOL]));
    add(out, "a stream's window by 0", [open(1), update(1, 0)].concat(), Stream(1, vec![PROTOCOL]));
    add(out, "the connection's window beyond its bound", update(0, 0x7fff_ffff), Connection(vec![FLOW]));
    add(out, "a stream's window beyond its bound", [open(1), update(1, 0x7fff_ffff)].concat(), Stream(1, vec![FLOW]));
    let twice = [open(1), update(1, 0x4000_0000), update(1, 0x4000_0000)].concat();
    add(out, "a stream's window beyond its bound, in two", twice, Stream(1, vec![FLOW]));
    let grown = [open(1), update(1, 0x7fff_0000), frame(4, 0, 0, &[0, 4, 0, 1, 0, 0])].concat();
    add(out, "a stream's window beyond its bound by SETTINGS", grown, Connection(vec![FLOW]));
    add(out, "an idle stream's window", update(5, 1), Connection(vec![PROTOCOL]));
    add(out, "a reserved bit in an increment", [open(1), update(1, 0x8000_0001)].concat(), Fine);
}
