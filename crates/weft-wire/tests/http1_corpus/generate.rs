//! The corpus, made by rules: each case is written from the RFC and a class of bugs, none from what the engine answers.

/// A case.
pub(crate) struct Case {
    pub verdict: Verdict,
    /// The rule of an RFC, or the class of bugs.
    pub rule: &'static str,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// A message, and all bytes belong to it.
    Accept,
    /// A message, and what follows it is not part of it.
    Rest,
    /// Answered with this status, and the connection is closed.
    Reject(u16),
    /// More must come.
    Incomplete,
}

#[derive(Default)]
pub(crate) struct Corpus(pub Vec<Case>);

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn if_legal(legal: bool) -> Verdict {
    if legal { Verdict::Accept } else { Verdict::Reject(400) }
}

impl Corpus {
    fn add(&mut self, rule: &'static str, verdict: Verdict, bytes: impl Into<Vec<u8>>) {
        self.0.push(Case { verdict, rule, bytes: bytes.into() });
    }
    fn bytes(&mut self, rule: &'static str, verdict: Verdict, parts: &[&[u8]]) {
        self.add(rule, verdict, parts.concat());
    }
    /// A GET with this header line after its Host.
    fn line(&mut self, rule: &'static str, verdict: Verdict, line: &str) {
        self.add(rule, verdict, format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"));
    }
    /// A POST with these header lines and this body.
    fn post(&mut self, rule: &'static str, verdict: Verdict, lines: &str, body: &str) {
        self.add(rule, verdict, format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}"));
    }
    fn chunked(&mut self, rule: &'static str, verdict: Verdict, body: &[u8]) {
        self.bytes(rule, verdict, &[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body]);
    }
}

/// All requests.
pub(crate) fn requests() -> Corpus {
    let mut corpus = Corpus::default();
    request_lines(&mut corpus);
    targets(&mut corpus);
    header_lines(&mut corpus);
    hosts(&mut corpus);
    lengths(&mut corpus);
    codings(&mut corpus);
    both(&mut corpus);
    chunk_sizes(&mut corpus);
    chunk_extensions(&mut corpus);
    chunk_data(&mut corpus);
    trailers(&mut corpus);
    connections(&mut corpus);
    limits(&mut corpus);
    corpus
}

fn request_lines(corpus: &mut Corpus) {
    const METHOD: &str = "RFC 9112 §3.1 method is a token; Istio: upper case";
    for b in 0..=255_u8 {
        let legal = is_token(b) && !b.is_ascii_lowercase();
        // A leading CR or LF is an empty line that is not one; a space in it makes another target.
        corpus.bytes(METHOD, if_legal(legal), &[b"G", &[b], b"T / HTTP/1.1\r\nHost: a\r\n\r\n"]);
        corpus.bytes(METHOD, if_legal(legal), &[&[b], b"ET / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    }
    const LINE: &str = "RFC 9112 §3 request-line = method SP request-target SP HTTP-version";
    for line in [
        "GET\t/\tHTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1\t",
        "GET /",
        "GET",
        "GET ",
        "GET / ",
        "GET /a b HTTP/1.1",
        "GET\x0b/\x0bHTTP/1.1",
        "GET\x0c/ HTTP/1.1",
        "GET\u{a0}/ HTTP/1.1",
        "/ HTTP/1.1",
        " / HTTP/1.1",
        "GET HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET / / HTTP/1.1",
        "\tGET / HTTP/1.1",
    ] {
        corpus.add(LINE, Verdict::Reject(400), format!("{line}\r\nHost: a\r\n\r\n"));
    }
    const VERSION: &str = "RFC 9112 §2.3 HTTP-version is case-sensitive, one digit, a dot, one digit";
    for version in [
        "http/1.1",
        "Http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1.1.1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1,1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1 .1",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP/a.1",
        "HTTP/1.a",
        "HTTPS/1.1",
        "HTT/1.1",
        "XHTTP/1.1",
        "HTTP/1.1x",
        "ICY/1.1",
        "SIP/2.0",
        "HTTP1.1",
        "HTTP\\1.1",
        "HTTP/1\u{ff0e}1",
        "RTSP/1.0",
        "HTTP-1.1",
        "HTTP/1:1",
        "/1.1",
        "1.1",
        "HTTP",
        "HTTP/",
        "HTTP//1.1",
    ] {
        corpus.add(VERSION, Verdict::Reject(400), format!("GET / {version}\r\nHost: a\r\n\r\n"));
    }
    for major in 0..=9 {
        for minor in 0..=9 {
            if (major, minor) != (1, 0) && (major, minor) != (1, 1) {
                let line = format!("GET / HTTP/{major}.{minor}\r\nHost: a\r\n\r\n");
                corpus.add("RFC 9110 §15.6.6 505 for versions that are not spoken", Verdict::Reject(505), line);
            }
        }
    }
    const ENDS: &str = "RFC 9112 §2.2 lines end with CR LF; a bare LF or CR is where readers disagree";
    for bytes in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX: 1\r\n\r\n",
    ] {
        corpus.add(ENDS, Verdict::Reject(400), bytes);
    }
    const EMPTY: &str = "RFC 9112 §2.2 one empty line before a request is passed over";
    corpus.add(EMPTY, Verdict::Accept, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    corpus.add(EMPTY, Verdict::Reject(400), "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    corpus.add(EMPTY, Verdict::Reject(400), "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    corpus.add(EMPTY, Verdict::Reject(400), "\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    const BEGUN: &str = "RFC 9112 §8 an incomplete message is not a message";
    let whole = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for end in 0..whole.len() {
        corpus.add(BEGUN, Verdict::Incomplete, &whole.as_bytes()[..end]);
    }
    corpus.add(BEGUN, Verdict::Accept, whole);
    const NOT: &str = "bytes of another protocol";
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0",
        b"\x80\x2e\x01\x03",
        b"\xff\xfe",
        b"(abc)",
        b"{\"a\":1}\r\n",
        b"<xml/>",
    ] {
        corpus.add(NOT, Verdict::Reject(400), bytes);
    }
    corpus.add(NOT, Verdict::Reject(505), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".replace("PRI *", "OPTIONS *"));
    corpus.add("RFC 9113 §3.4 the preface of HTTP/2 is not an HTTP/1 request", Verdict::Reject(505), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    corpus.add("RFC 1945 §4.1 HTTP/0.9 is not spoken", Verdict::Reject(400), "GET /\r\n\r\n");
    for method in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "MKCOL", "REPORT", "M-SEARCH", "PURGE", "X_1",
        "QUERY",
    ] {
        corpus.add("RFC 9110 §9.1 any token is a method", Verdict::Accept, format!("{method} /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for method in ["get", "Get", "gET", "pOST", "head", "connect", "options", "x"] {
        corpus.add(
            "Istio: methods are case-sensitive and in upper case",
            Verdict::Reject(400),
            format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
        );
    }
}

fn targets(corpus: &mut Corpus) {
    const PATH: &str = "RFC 9112 §3.2.1 absolute-path of RFC 3986 §3.3, and what the URL standard leaves unescaped";
    const QUERY: &str = "RFC 9112 §3.2.1 query of RFC 3986 §3.4, and what the URL standard leaves unescaped";
    const INSIDE: &[u8] = b"-._~!$&'()*+,;=:@/?%";
    for b in 0..=255_u8 {
        let path = b.is_ascii_alphanumeric() || INSIDE.contains(&b) || b"[]|\\^".contains(&b);
        let query = path || b"{}`".contains(&b);
        corpus.bytes(PATH, if_legal(path), &[b"GET /a", &[b], b"c HTTP/1.1\r\nHost: a\r\n\r\n"]);
        corpus.bytes(PATH, if_legal(path), &[b"GET /", &[b], b" HTTP/1.1\r\nHost: a\r\n\r\n"]);
        corpus.bytes(QUERY, if_legal(query), &[b"GET /?a", &[b], b"c HTTP/1.1\r\nHost: a\r\n\r\n"]);
    }
    const FORM: &str = "RFC 9112 §3.2 origin-form, absolute-form, authority-form (CONNECT), asterisk-form (OPTIONS)";
    for target in [
        "a",
        "a/b",
        "?x",
        "*",
        "*/",
        "**",
        ":80",
        "a:80",
        "http:",
        "http:/",
        "http://",
        "http:///a",
        "ftp://a/",
        "file:///etc",
        "javascript:a",
        "ws://a/",
        "http:a",
        "://a/",
        "http//a/",
        "http://a b/",
        "http://u@a/",
        "http://u:p@a/",
        "http://@a/",
        "http://a:x/",
        "http://a:99999/",
        "http://a:-1/",
        "http://[::1/",
        "http://::1]/",
        "http://a\\b/",
        "http://a/#f",
        "http://a#f",
        "http://a/<",
        "http://é/",
        "http://a,b/",
        "http://a/\u{7f}",
    ] {
        corpus.add(FORM, Verdict::Reject(400), format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for target in [
        "/",
        "//",
        "//a",
        "/a//b",
        "/%41",
        "/a;b=c",
        "/?",
        "/??",
        "/a?b#".trim_end_matches('#'),
        "http://a/",
        "HTTP://a/",
        "https://a/b?c",
        "http://b/",
        "http://a:80/",
        "http://a:/",
        "http://a",
        "http://a?b",
        "http://[::1]/",
        "http://[::1]:80/",
        "http://a.b-c_d/",
    ] {
        corpus.add(FORM, Verdict::Accept, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for target in ["/#", "/a#b", "/a?b#c", "#", "#/", "/%23#"] {
        corpus.add(
            "CVE-2021-32779: a fragment is never sent, and hides what follows",
            Verdict::Reject(400),
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        );
    }
    for target in ["a:443", "[::1]:443", "a.b:1"] {
        corpus.add(FORM, Verdict::Accept, format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    }
    for target in
        ["/", "*", "a", "http://a/", "http://a:80/", "a:", "a:b", ":443", "u@a:443", "a:443/", "a:443?x", "a:99999", "https://a:443"]
    {
        corpus.add(FORM, Verdict::Reject(400), format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    corpus.add(FORM, Verdict::Accept, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    for lines in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        corpus.add(
            "RFC 9110 §9.3.6 a CONNECT request has no content",
            Verdict::Reject(400),
            format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{lines}"),
        );
    }
}

fn header_lines(corpus: &mut Corpus) {
    const NAME: &str = "RFC 9110 §5.1 field-name is a token";
    const VALUE: &str = "RFC 9110 §5.5 field-value: visible characters, obs-text, and SP or HTAB between";
    for b in 0..=255_u8 {
        if b != b':' {
            corpus.bytes(NAME, if_legal(is_token(b)), &[b"GET / HTTP/1.1\r\nHost: a\r\nx", &[b], b"y: 1\r\n\r\n"]);
        }
        corpus.bytes(NAME, if_legal(is_token(b)), &[b"GET / HTTP/1.1\r\nHost: a\r\n", &[b], b": 1\r\n\r\n"]);
        let legal = b == b'\t' || (b >= b' ' && b != 0x7f);
        corpus.bytes(VALUE, if_legal(legal), &[b"GET / HTTP/1.1\r\nHost: a\r\nX: p", &[b], b"q\r\n\r\n"]);
        corpus.bytes(VALUE, if_legal(legal), &[b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &[b], b"\r\n\r\n"]);
    }
    const SPACE: &str = "RFC 9112 §5.1 no white space between name and colon";
    for name in ["X ", "X\t", "Host ", "Content-Length ", "Transfer-Encoding ", "Transfer-Encoding\t", " X", "\tX", "X Y", ""] {
        corpus.line(SPACE, Verdict::Reject(400), &format!("{name}: 1"));
    }
    const FOLD: &str = "RFC 9112 §5.2 obs-fold is refused";
    for lines in [
        "X: 1\r\n 2",
        "X: 1\r\n\t2",
        "X:\r\n 1",
        "X: 1\r\n ",
        "X: 1\r\n \r\nY: 2",
        "Transfer-Encoding:\r\n chunked",
        "Content-Length:\r\n 5",
        "Host:\r\n b",
        "X: 1\r\n :2",
        "X: 1\r\n Content-Length: 5",
    ] {
        corpus.line(FOLD, Verdict::Reject(400), lines);
    }
    corpus.add(FOLD, Verdict::Reject(400), "GET / HTTP/1.1\r\n Host: a\r\n\r\n");
    corpus.add(FOLD, Verdict::Reject(400), "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n");
    corpus.add(FOLD, Verdict::Reject(400), "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n");
    const COLON: &str = "RFC 9112 §5 a field line has a name and a colon";
    for line in ["X", "X 1", "X=1", "garbage", "GET / HTTP/1.1", ":", ": 1", ":x"] {
        corpus.line(COLON, Verdict::Reject(400), line);
    }
    for line in
        ["X:", "X: ", "X:1", "X:  1  ", "X:\t1\t", "X: \t ", "X::", "X: a:b", "x-y_z: 1", "X: \"q\"", "X: a, b", "!#$%&'*+-.^_`|~: 1"]
    {
        corpus.line(COLON, Verdict::Accept, line);
    }
}

fn hosts(corpus: &mut Corpus) {
    const HOST: &str = "RFC 9112 §3.2 exactly one Host, which is a host with an optional port";
    for b in 0..=255_u8 {
        let legal = b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&b);
        corpus.bytes(HOST, if_legal(legal), &[b"GET / HTTP/1.1\r\nHost: a", &[b], b"b\r\n\r\n"]);
    }
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    for lines in [
        "",
        "X: 1\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nX: 1\r\nhost: a\r\n",
        "Host:\r\nHost: a\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: u@a\r\n",
        "Host: u:p@a\r\n",
        "Host: @a\r\n",
        "Host: http://a\r\n",
        "Host: a/\r\n",
        "Host: a/b\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: a\\b\r\n",
        "Host: a:b\r\n",
        "Host: a:80:80\r\n",
        "Host: a:99999\r\n",
        "Host: a:-1\r\n",
        "Host: a:+1\r\n",
        "Host: a:0x50\r\n",
        "Host: :80\r\n",
        "Host: [::1\r\n",
        "Host: ::1\r\n",
        "Host: [::1]x\r\n",
        "Host: [::1]:x\r\n",
        "Host: []\r\n",
        "Host: [a]\r\n".replace("[a]", "[g]").as_str(),
        "Host: \u{e9}\r\n",
        "Host: a\tb\r\n",
        "Host: \"a\"\r\n",
        "Host:\r\n",
        "Host: \r\n",
        "Host: a:80 80\r\n",
        "Host: a:123456\r\n",
    ] {
        corpus.add(HOST, Verdict::Reject(400), get(lines));
    }
    for lines in [
        "Host: a\r\n",
        "HOST: a\r\n",
        "host:a\r\n",
        "Host:  a \r\n",
        "Host: a:80\r\n",
        "Host: a:\r\n",
        "Host: A.B.\r\n",
        "Host: [::1]\r\n",
        "Host: [::1]:80\r\n",
        "Host: [2001:db8::1]\r\n",
        "Host: 127.0.0.1:1\r\n",
        "Host: xn--a\r\n",
        "Host: a_b\r\n",
    ] {
        corpus.add(HOST, Verdict::Accept, get(lines));
    }
    const OLD: &str = "RFC 9112 §3.2 HTTP/1.0 may come without Host, and has at most one";
    corpus.add(OLD, Verdict::Accept, "GET / HTTP/1.0\r\n\r\n");
    corpus.add(OLD, Verdict::Accept, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    corpus.add(OLD, Verdict::Reject(400), "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n");
    corpus.add(OLD, Verdict::Reject(400), "GET / HTTP/1.0\r\nHost: a b\r\n\r\n");
    const ABSOLUTE: &str = "RFC 9112 §3.2.2 an absolute target wins over Host, which must be there";
    corpus.add(ABSOLUTE, Verdict::Accept, "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n");
    corpus.add(ABSOLUTE, Verdict::Accept, "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n");
    corpus.add(ABSOLUTE, Verdict::Reject(400), "GET http://a/ HTTP/1.1\r\n\r\n");
    corpus.add(ABSOLUTE, Verdict::Reject(400), "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
}

fn lengths(corpus: &mut Corpus) {
    const LENGTH: &str = "RFC 9110 §8.6 Content-Length is digits, once";
    for b in 0..=255_u8 {
        if !b.is_ascii_digit() && b != b' ' && b != b'\t' {
            corpus.bytes(LENGTH, Verdict::Reject(400), &[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ", &[b], b"5\r\n\r\nhello"]);
            corpus.bytes(LENGTH, Verdict::Reject(400), &[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5", &[b], b"\r\n\r\nhello"]);
        }
    }
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "5.0",
        "5e0",
        "0x5",
        "5 5",
        "5,5",
        "5, 5",
        "5,",
        ",5",
        "5;",
        "\"5\"",
        "five",
        "5\u{660}",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999",
        "00000000000000000000005",
        "4294967296999999999999",
        "1_0",
        "5a",
        "a5",
        "0b1",
        "٥",
    ] {
        corpus.post(LENGTH, Verdict::Reject(400), &format!("Content-Length: {value}"), "hello");
    }
    for (lines, verdict) in [
        ("Content-Length: 5\r\nContent-Length: 5", Verdict::Reject(400)),
        ("Content-Length: 5\r\nContent-Length: 6", Verdict::Reject(400)),
        ("Content-Length: 6\r\nContent-Length: 5", Verdict::Reject(400)),
        ("Content-Length: 5\r\ncontent-length: 0", Verdict::Reject(400)),
        ("Content-Length: 0\r\nContent-Length: 5", Verdict::Reject(400)),
        ("Content-Length: 5\r\nX: 1\r\nCONTENT-LENGTH: 5", Verdict::Reject(400)),
        ("Content-Length: 5\r\nContent-Length:", Verdict::Reject(400)),
        ("Content-Length:\r\nContent-Length: 5", Verdict::Reject(400)),
        ("Content-Length: 5", Verdict::Accept),
        ("content-length:5", Verdict::Accept),
        ("CONTENT-LENGTH:  5  ", Verdict::Accept),
        ("Content-Length: \t5\t", Verdict::Accept),
        ("Content-Length: 05", Verdict::Accept),
        ("Content-Length: 4", Verdict::Rest),
        ("Content-Length: 0", Verdict::Rest),
        ("Content-Length: 6", Verdict::Incomplete),
        ("Content-Length: 9223372036854775807", Verdict::Incomplete),
        ("X-Content-Length: 5", Verdict::Rest),
        ("Content_Length: 5", Verdict::Rest),
        ("Content-Lengthx: 5", Verdict::Rest),
    ] {
        corpus.post(LENGTH, verdict, lines, "hello");
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        corpus.add("RFC 9110 §9.3.1 any request may have content, and its framing counts", Verdict::Accept, bytes);
        let two = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
        corpus.add("pipelining: the next request begins where the framing says", Verdict::Rest, two);
    }
}

fn codings(corpus: &mut Corpus) {
    const CODING: &str = "RFC 9112 §6.1 the only coding that is understood is one final chunked";
    const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";
    for (value, verdict) in [
        ("chunked", Verdict::Accept),
        ("Chunked", Verdict::Accept),
        ("CHUNKED", Verdict::Accept),
        (" chunked ", Verdict::Accept),
        ("\tchunked\t", Verdict::Accept),
        ("gzip", Verdict::Reject(501)),
        ("identity", Verdict::Reject(501)),
        ("deflate", Verdict::Reject(501)),
        ("compress", Verdict::Reject(501)),
        ("x-chunked", Verdict::Reject(501)),
        ("xchunked", Verdict::Reject(501)),
        ("chunkedx", Verdict::Reject(501)),
        ("chunk", Verdict::Reject(501)),
        ("chunke", Verdict::Reject(501)),
        ("chunkeed", Verdict::Reject(501)),
        ("gzip, chunked", Verdict::Reject(400)),
        ("chunked, gzip", Verdict::Reject(400)),
        ("chunked, chunked", Verdict::Reject(400)),
        ("identity, chunked", Verdict::Reject(400)),
        ("chunked, identity", Verdict::Reject(400)),
        ("chunked,", Verdict::Reject(400)),
        (",chunked", Verdict::Reject(400)),
        (", chunked", Verdict::Reject(400)),
        ("", Verdict::Reject(400)),
        ("chunked;", Verdict::Reject(400)),
        ("chunked;q=1", Verdict::Reject(400)),
        ("\"chunked\"", Verdict::Reject(400)),
        ("'chunked'", Verdict::Reject(400)),
        ("chunked chunked", Verdict::Reject(400)),
        ("chun ked", Verdict::Reject(400)),
        ("chunked\u{b}", Verdict::Reject(400)),
        ("\u{b}chunked", Verdict::Reject(400)),
        ("\u{c}chunked", Verdict::Reject(400)),
        ("\u{0}chunked", Verdict::Reject(400)),
        ("chunked\u{0}", Verdict::Reject(400)),
        ("\u{a0}chunked", Verdict::Reject(400)),
        ("chunked\u{a0}", Verdict::Reject(400)),
        ("\u{85}chunked", Verdict::Reject(400)),
        ("chunKed", Verdict::Accept),
        ("\u{212a}chun", Verdict::Reject(400)),
        ("chun\u{212a}ed", Verdict::Reject(400)),
        ("[chunked]", Verdict::Reject(400)),
        ("chunked/1", Verdict::Reject(400)),
        ("chunked=1", Verdict::Reject(400)),
        (":chunked", Verdict::Reject(400)),
        (": chunked", Verdict::Reject(400)),
        ("*", Verdict::Reject(400)),
        ("trailers", Verdict::Reject(501)),
        ("chunked\r", Verdict::Reject(400)),
        ("\rchunked", Verdict::Reject(400)),
        ("chunked, ", Verdict::Reject(400)),
        ("gzip,chunked", Verdict::Reject(400)),
        ("chunked,chunked", Verdict::Reject(400)),
        ("x, y, chunked", Verdict::Reject(400)),
    ] {
        corpus.post(CODING, verdict, &format!("Transfer-Encoding: {value}"), BODY);
    }
    for b in 0..=255_u8 {
        if b != b' ' && b != b'\t' {
            let verdict = if b.is_ascii_alphanumeric() || b"-_.".contains(&b) { Verdict::Reject(501) } else { Verdict::Reject(400) };
            corpus.bytes(CODING, verdict, &[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", &[b], b"\r\n\r\n0\r\n\r\n"]);
            corpus.bytes(CODING, verdict, &[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ", &[b], b"chunked\r\n\r\n0\r\n\r\n"]);
        }
    }
    for (lines, verdict) in [
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Verdict::Reject(400)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", Verdict::Reject(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", Verdict::Reject(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding:", Verdict::Reject(400)),
        ("Transfer-Encoding:\r\nTransfer-Encoding: chunked", Verdict::Reject(400)),
        ("Transfer-Encoding: identity\r\ntransfer-encoding: chunked", Verdict::Reject(400)),
        ("transfer-encoding:chunked", Verdict::Accept),
        ("TRANSFER-ENCODING: chunked", Verdict::Accept),
        ("Transfer_Encoding: chunked", Verdict::Rest),
        ("X-Transfer-Encoding: chunked", Verdict::Rest),
        ("Transfer-Encodingx: chunked", Verdict::Rest),
        ("Transfer-Encoding : chunked", Verdict::Reject(400)),
        ("Transfer\\Encoding: chunked", Verdict::Reject(400)),
        ("Transfer-Encoding\u{b}: chunked", Verdict::Reject(400)),
        ("\u{0}Transfer-Encoding: chunked", Verdict::Reject(400)),
        ("X: x\rTransfer-Encoding: chunked", Verdict::Reject(400)),
        ("X: x\nTransfer-Encoding: chunked", Verdict::Reject(400)),
        ("TE: chunked", Verdict::Rest),
    ] {
        corpus.post(CODING, verdict, lines, BODY);
    }
    for value in ["chunked", "Chunked", "gzip", "identity", "", "gzip, chunked"] {
        let bytes = format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: {value}\r\n\r\n{BODY}");
        corpus.add("RFC 9112 §6.1 Transfer-Encoding in HTTP/1.0 is a framing error", Verdict::Reject(400), bytes);
    }
}

fn both(corpus: &mut Corpus) {
    const BOTH: &str = "RFC 9112 §6.1 Content-Length beside Transfer-Encoding is an attack (CL.TE, TE.CL, TE.TE)";
    for coding in
        ["chunked", "Chunked", "gzip", "identity", "gzip, chunked", "chunked, chunked", "xchunked", "", "chunked;a", "\"chunked\""]
    {
        for length in ["0", "5", "15", "999", "", "-1", "abc", "0x5"] {
            for version in ["1.1", "1.0"] {
                for lines in [
                    format!("Transfer-Encoding: {coding}\r\nContent-Length: {length}"),
                    format!("Content-Length: {length}\r\nTransfer-Encoding: {coding}"),
                ] {
                    let bytes = format!(
                        "POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n"
                    );
                    corpus.add(BOTH, Verdict::Reject(400), bytes);
                }
            }
        }
    }
}

fn chunk_sizes(corpus: &mut Corpus) {
    const SIZE: &str = "RFC 9112 §7.1 chunk-size = 1*HEXDIG";
    for b in 0..=255_u8 {
        if !b.is_ascii_hexdigit() {
            corpus.chunked(SIZE, Verdict::Reject(400), &[&[b][..], b"5\r\nhello\r\n0\r\n\r\n"].concat());
        }
        if !b.is_ascii_hexdigit() && b != b';' {
            corpus.chunked(SIZE, Verdict::Reject(400), &[&b"5"[..], &[b], b"\r\nhello\r\n0\r\n\r\n"].concat());
        }
    }
    for size in [
        "0x5",
        "+5",
        "-5",
        "5.",
        " 5",
        "\t5",
        "5 ",
        "5\t",
        "",
        ";",
        "5h",
        "g",
        "5 5",
        "5,5",
        "ffffffffffffffff",
        "10000000000000005",
        "8000000000000000",
        "0000000000000000000000005",
        "fffffffffffffffff",
        "\u{665}",
        "5\u{0}",
        "'5'",
        "\"5\"",
        "0x",
        "5L",
        "_5",
        "5_",
    ] {
        corpus.chunked(SIZE, Verdict::Reject(400), format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes());
    }
    for (body, verdict) in [
        ("5\r\nhello\r\n0\r\n\r\n", Verdict::Accept),
        ("05\r\nhello\r\n0\r\n\r\n", Verdict::Accept),
        ("005\r\nhello\r\n000\r\n\r\n", Verdict::Accept),
        ("a\r\nhellohello\r\n0\r\n\r\n", Verdict::Accept),
        ("A\r\nhellohello\r\n0\r\n\r\n", Verdict::Accept),
        ("0\r\n\r\n", Verdict::Accept),
        ("1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", Verdict::Accept),
        ("5\r\nhello\r\n0\r\n\r\nx", Verdict::Rest),
        ("0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Verdict::Rest),
        ("000000000000005\r\nhello\r\n0\r\n\r\n", Verdict::Accept),
        ("fffffffffffffff\r\nhello", Verdict::Incomplete),
    ] {
        corpus.chunked(SIZE, verdict, body.as_bytes());
    }
}

fn chunk_extensions(corpus: &mut Corpus) {
    const EXTENSION: &str = "RFC 9112 §7.1.1 chunk-ext = *( BWS ';' BWS name [ BWS '=' BWS value ] )";
    for (extension, legal) in [
        (";a", true),
        (";a=b", true),
        (";a=\"b\"", true),
        (";a=\"b;c\"", true),
        (";a=\"b\\\"c\"", true),
        (";a;b", true),
        (";a=b;c=d", true),
        ("; a = b", true),
        (" ;a", true),
        ("\t;a", true),
        (";a=\"\"", true),
        (";", false),
        (";;", false),
        (";a;", false),
        (";=b", false),
        (";a=", false),
        (";a=\"b", false),
        (";a=b\"", false),
        (";a=\"b\"c", false),
        (";a b", false),
        ("g", false),
        (" a", false),
        (";a\u{0}", false),
        (";a=\u{1}", false),
        (";a=\"\u{1}\"", false),
        (";a=\"\\\"", false),
        (";\u{7f}", false),
        (";é", false),
        (";a,b", false),
        (";a=b c", false),
        (";a\r", false),
        (";a\rb", false),
        (";a=\"b\r\"", false),
        (";a ", false),
        (" ", false),
        (";a=b ", false),
        (";(a)", false),
        (";a=/b", false),
        (";a=\"b\" ", false),
        (";a=@", false),
        (";a:b", false),
    ] {
        corpus.chunked(EXTENSION, if_legal(legal), format!("5{extension}\r\nhello\r\n0\r\n\r\n").as_bytes());
        corpus.chunked(EXTENSION, if_legal(legal), format!("5\r\nhello\r\n0{extension}\r\n\r\n").as_bytes());
    }
    for b in 0..=255_u8 {
        if b != b'\n' {
            let in_name = is_token(b);
            corpus.chunked(EXTENSION, if_legal(in_name), &[&b"5;a"[..], &[b], b"c=d\r\nhello\r\n0\r\n\r\n"].concat().replace_if(b, b"=;"));
            let in_quotes = b == b'\t' || (b >= b' ' && b != 0x7f && b != b'"' && b != b'\\');
            corpus.chunked(EXTENSION, if_legal(in_quotes || b == b'\\'), &[&b"5;a=\"p"[..], &[b], b"q\"\r\nhello\r\n0\r\n\r\n"].concat());
        }
    }
    let long = "a".repeat(300);
    corpus.chunked("bound of a chunk's line", Verdict::Reject(413), format!("5;{long}\r\nhello\r\n0\r\n\r\n").as_bytes());
    let many = format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(30);
    corpus.chunked("bound of a message's extensions", Verdict::Reject(413), format!("{many}0\r\n\r\n").as_bytes());
    corpus.chunked("bound of a chunk's line", Verdict::Reject(413), "0".repeat(300).replace('0', "g").as_bytes());
}

trait ReplaceIf {
    fn replace_if(self, b: u8, among: &[u8]) -> Vec<u8>;
}

impl ReplaceIf for Vec<u8> {
    /// `=` and `;` inside of a name begin something else, which other cases cover: here they stand for a letter.
    fn replace_if(mut self, b: u8, among: &[u8]) -> Vec<u8> {
        if among.contains(&b)
            && let Some(at) = self.windows(3).position(|w| w[0] == b'a' && w[1] == b && w[2] == b'c')
        {
            self[at + 1] = b'@';
        }
        self
    }
}

fn chunk_data(corpus: &mut Corpus) {
    const DATA: &str = "RFC 9112 §7.1 chunk-data is as long as it says, and followed by CR LF";
    for body in [
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\nX: 1\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "5\r\nhello \r\n0\r\n\r\n",
        "\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        corpus.chunked(DATA, Verdict::Reject(400), body.as_bytes());
    }
    let whole = b"5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nX: 1\r\n\r\n";
    for end in 0..whole.len() {
        corpus.chunked("RFC 9112 §8 a chunked body without its end is incomplete", Verdict::Incomplete, &whole[..end]);
    }
    corpus.chunked(DATA, Verdict::Accept, whole);
    let mut small = "1\r\nx\r\n".repeat(1000);
    small.push_str("0\r\n\r\n");
    corpus.chunked("one-byte chunks are one piece", Verdict::Accept, small.as_bytes());
}

fn trailers(corpus: &mut Corpus) {
    const TRAILER: &str = "RFC 9112 §7.1.2 trailers are field lines; those that must not be are dropped";
    for (lines, verdict) in [
        ("X: 1\r\n", Verdict::Accept),
        ("X: 1\r\nY: 2\r\n", Verdict::Accept),
        ("Content-Length: 5\r\n", Verdict::Accept),
        ("Transfer-Encoding: chunked\r\n", Verdict::Accept),
        ("Host: b\r\n", Verdict::Accept),
        ("Authorization: x\r\n", Verdict::Accept),
        ("X\r\n", Verdict::Reject(400)),
        ("X : 1\r\n", Verdict::Reject(400)),
        (" X: 1\r\n", Verdict::Reject(400)),
        ("X: 1\r\n 2\r\n", Verdict::Reject(400)),
        (": 1\r\n", Verdict::Reject(400)),
        ("X: \u{0}\r\n", Verdict::Reject(400)),
        ("X: 1\n", Verdict::Reject(400)),
        ("X: 1\rY: 2\r\n", Verdict::Reject(400)),
        ("X Y: 1\r\n", Verdict::Reject(400)),
        ("X: 1\n\n", Verdict::Reject(400)),
        ("GET / HTTP/1.1\r\nHost: a\r\n", Verdict::Reject(400)),
        ("X:\r\n", Verdict::Accept),
        ("\u{e9}: 1\r\n", Verdict::Reject(400)),
        ("X: 1\r\n\t\r\n", Verdict::Reject(400)),
    ] {
        corpus.chunked(TRAILER, verdict, format!("0\r\n{lines}\r\n").as_bytes());
        corpus.chunked(TRAILER, verdict, format!("5\r\nhello\r\n0\r\n{lines}\r\n").as_bytes());
    }
    for b in 0..=255_u8 {
        if b != b':' {
            corpus.chunked(TRAILER, if_legal(is_token(b)), &[&b"0\r\nx"[..], &[b], b"y: 1\r\n\r\n"].concat());
        }
    }
    corpus.chunked("bound of trailers", Verdict::Reject(431), format!("0\r\nX: {}\r\n\r\n", "a".repeat(9000)).as_bytes());
    corpus.chunked("bound of trailers", Verdict::Reject(431), format!("0\r\n{}\r\n", "X: 1\r\n".repeat(100)).as_bytes());
}

fn connections(corpus: &mut Corpus) {
    const CONNECTION: &str = "RFC 9112 §9 persistence, and RFC 9110 §7.8 upgrades";
    for line in [
        "Connection: close",
        "Connection: keep-alive",
        "Connection: Close, X",
        "Connection: upgrade\r\nUpgrade: websocket",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA",
        "Connection:",
        "Connection: ,",
        "Upgrade: websocket",
        "Connection: host",
        "Connection: content-length",
        "Keep-Alive: timeout=5",
    ] {
        corpus.line(CONNECTION, Verdict::Accept, line);
        corpus.add(CONNECTION, Verdict::Accept, format!("GET / HTTP/1.0\r\nHost: a\r\n{line}\r\n\r\n"));
    }
    corpus.add(
        "pipelining after an upgrade: nothing of it belongs to the request",
        Verdict::Rest,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    const EXPECT: &str = "RFC 9110 §10.1.1 the only expectation is 100-continue";
    corpus.post(EXPECT, Verdict::Accept, "Expect: 100-continue\r\nContent-Length: 5", "hello");
    corpus.post(EXPECT, Verdict::Accept, "Expect: 100-Continue\r\nContent-Length: 5", "hello");
    for value in ["100", "continue", "200-ok", "", "100-continue, x", "100-continue;q=1", "x"] {
        corpus.post(EXPECT, Verdict::Reject(417), &format!("Expect: {value}\r\nContent-Length: 5"), "hello");
    }
    corpus.post(EXPECT, Verdict::Reject(417), "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5", "hello");
}

fn limits(corpus: &mut Corpus) {
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    corpus.add("bound of header lines", Verdict::Accept, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", many(99)));
    corpus.add("bound of header lines", Verdict::Reject(431), format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", many(100)));
    corpus.add("bound of a head", Verdict::Reject(431), format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(70_000)));
    corpus.add("bound of a target", Verdict::Reject(414), format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(33_000)));
    corpus.add("bound of a target", Verdict::Accept, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(30_000)));
}

/// All responses, as an upstream may send them to a GET.
pub(crate) fn responses() -> Corpus {
    let mut corpus = Corpus::default();
    let corpus_ref = &mut corpus;
    const STATUS: &str = "RFC 9112 §4 status-line = HTTP-version SP 3DIGIT SP [ reason ]";
    for line in [
        "HTTP/1.1 200",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 600 X",
        "HTTP/1.1 000 X",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "http/1.1 200 OK",
        "HTTP/1 200 OK",
        "HTTP/1.1 200OK",
        "HTTPS/1.1 200 OK",
        "ICY 200 OK",
        "200 OK",
        "HTTP/1.1 2 0 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 0x2 OK",
        "HTTP/1.1 200 O\u{0}K",
        "HTTP/1.1 200 O\u{1}K",
        "HTTP/1.1 200 O\u{7f}K",
        "HTTP/1.1 200 O\rK",
        " HTTP/1.1 200 OK",
        "\r\nHTTP/1.1 200 OK",
    ] {
        corpus_ref.add(STATUS, Verdict::Reject(400), format!("{line}\r\nContent-Length: 0\r\n\r\n"));
    }
    for version in ["2.0", "0.9", "1.2", "3.0", "9.9"] {
        corpus_ref.add(STATUS, Verdict::Reject(505), format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n\r\n"));
    }
    for line in [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 ",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 299 Strange",
        "HTTP/1.1 200 \u{e9}t\u{e9}",
        "HTTP/1.1 599 X",
        "HTTP/1.1 200 a\tb",
        "HTTP/1.1 404 Not Found",
    ] {
        corpus_ref.add(STATUS, Verdict::Accept, format!("{line}\r\nContent-Length: 0\r\n\r\n"));
    }
    const HEADERS: &str = "response smuggling: header lines are read as strictly as a request's";
    for b in 0..=255_u8 {
        if b != b':' {
            corpus_ref.bytes(HEADERS, if_legal(is_token(b)), &[b"HTTP/1.1 200 OK\r\nx", &[b], b"y: 1\r\nContent-Length: 0\r\n\r\n"]);
        }
        let legal = b == b'\t' || (b >= b' ' && b != 0x7f);
        corpus_ref.bytes(HEADERS, if_legal(legal), &[b"HTTP/1.1 200 OK\r\nX: p", &[b], b"q\r\nContent-Length: 0\r\n\r\n"]);
        if !b.is_ascii_digit() && b != b' ' && b != b'\t' {
            corpus_ref.bytes(HEADERS, Verdict::Reject(400), &[b"HTTP/1.1 200 OK\r\nContent-Length: 5", &[b], b"\r\n\r\nhello"]);
        }
    }
    const FRAMING: &str = "response smuggling: RFC 9112 §6.3";
    for (lines, body, verdict) in [
        ("Content-Length: 5", "hello", Verdict::Accept),
        ("Content-Length: 5", "hellox", Verdict::Rest),
        ("Content-Length: 6", "hello", Verdict::Incomplete),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", Verdict::Accept),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n", Verdict::Reject(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n", Verdict::Reject(400)),
        ("Content-Length: 5\r\nContent-Length: 5", "hello", Verdict::Reject(400)),
        ("Content-Length: 5\r\nContent-Length: 6", "hello", Verdict::Reject(400)),
        ("Content-Length: 5, 5", "hello", Verdict::Reject(400)),
        ("Content-Length:", "", Verdict::Reject(400)),
        ("Content-Length: -1", "", Verdict::Reject(400)),
        ("Content-Length: 18446744073709551616", "", Verdict::Reject(400)),
        ("Transfer-Encoding: gzip", "", Verdict::Reject(501)),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", Verdict::Reject(400)),
        ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n", Verdict::Reject(400)),
        ("Transfer-Encoding:", "", Verdict::Reject(400)),
        ("X: 1", "until the end", Verdict::Accept),
        ("Transfer-Encoding: chunked", "5\r\nhello", Verdict::Incomplete),
        ("Transfer-Encoding: chunked", "x\r\n", Verdict::Reject(400)),
        ("X: 1\r\n 2", "", Verdict::Reject(400)),
        ("X : 1", "", Verdict::Reject(400)),
        ("X", "", Verdict::Reject(400)),
        (" X: 1", "", Verdict::Reject(400)),
        ("X: 1\nY: 2", "", Verdict::Reject(400)),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\nX: 1\r\n\r\n", Verdict::Accept),
    ] {
        corpus_ref.add(FRAMING, verdict, format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}"));
    }
    for status in ["204 No Content", "304 Not Modified"] {
        corpus_ref.add(FRAMING, Verdict::Accept, format!("HTTP/1.1 {status}\r\nX: 1\r\n\r\n"));
        corpus_ref.add(FRAMING, Verdict::Rest, format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello"));
        corpus_ref.add(FRAMING, Verdict::Rest, format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        corpus_ref.add(
            FRAMING,
            Verdict::Reject(400),
            format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
        );
    }
    corpus_ref.add(FRAMING, Verdict::Reject(400), "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    corpus_ref.add(FRAMING, Verdict::Accept, "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    corpus
}
