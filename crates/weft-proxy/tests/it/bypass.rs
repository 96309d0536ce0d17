//! Variants of paths against policies, through a running pair: what reaches the program is judged anew, on exactly the bytes that the
//! program saw. Whatever a policy forbids there has gone past it.

use crate::fixture::{Pair, inbound_with, loopback, origin};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weft_model::{Authorization, AuthorizationInput, ModelValue, RequestHead, View};

/// Connections that send at once.
const AT_ONCE: usize = 16;
const MODES: [&str; 5] = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES", "STRICT"];

/// Different variants in all, over modes and policies.
const VARIANTS: usize = if cfg!(debug_assertions) { 6_000 } else { 25_000 };

/// Rolls the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).expect("small")).expect("small")
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of[self.roll(of.len())]
    }
}

const SEEDS: [&str; 10] = [
    "/admin",
    "/admin/users",
    "/public/a",
    "/public/../admin",
    "/files/report.secret",
    "/tenants/a/keys",
    "/public/x/../../admin/users",
    "/x/files/.secret",
    "/tenants/a/b/../keys",
    "/",
];

const SLASHES: [&str; 18] = [
    "//",
    "///",
    "%2F",
    "%2f",
    "%5C",
    "%5c",
    "\\",
    "/./",
    "/x/../",
    "/;a=1/",
    "/..;/",
    "/%2e/",
    "/x/%2e%2E/",
    "%252F",
    "%c0%af",
    "%e0%80%af",
    "/x%2f..%2f",
    "\\..\\",
];

const ENDS: [&str; 26] = [
    "/",
    "//",
    "/.",
    "/..",
    "/x/..",
    "?",
    "?x=/../admin",
    "?/public/a",
    "#",
    "#/public/",
    "%23",
    "%3F",
    "%3fa",
    "%00",
    "%00.html",
    ";",
    ";jsessionid=1",
    "%3B",
    "..;",
    ".",
    "%20",
    "%09",
    "%2e",
    "%",
    "%zz",
    "/..;/",
];

const FRONTS: [&str; 14] = [
    "/",
    "/.",
    "/..",
    "/x/..",
    "/public/..",
    "/public/%2e%2e",
    "/public/..;",
    "/public%2f..",
    "/;a",
    "\\",
    "http://reviews",
    "HTTP://reviews:80",
    "http://a@reviews",
    "%2f",
];

/// A character of `path` written in another way.
fn respell(dice: &mut Dice, path: &str) -> String {
    let chars: Vec<char> = path.chars().collect();
    let at = dice.roll(chars.len());
    let c = u32::from(chars[at]);
    let other = match dice.roll(6) {
        0 => format!("%{c:02x}"),
        1 => format!("%{c:02X}"),
        2 => format!("%25{c:02x}"),
        // Overlong UTF-8: the character in two bytes.
        3 => format!("%{:02x}%{:02x}", 0xc0 | (c >> 6), 0x80 | (c & 0x3f)),
        4 if chars[at].is_ascii_lowercase() => chars[at].to_ascii_uppercase().to_string(),
        4 => format!("%%{c:02x}"),
        _ => format!("{}%u{c:04x}", chars[at]),
    };
    chars.iter().enumerate().map(|(i, c)| if i == at { other.clone() } else { c.to_string() }).collect()
}

/// One variant: a seed changed in one to three ways.
fn variant(dice: &mut Dice) -> String {
    let mut path = dice.one(&SEEDS).to_owned();
    for _ in 0..=dice.roll(3) {
        path = match dice.roll(5) {
            0 | 1 => respell(dice, &path),
            2 => {
                let slashes: Vec<usize> = path.match_indices('/').map(|(i, _)| i).collect();
                match slashes.len() {
                    0 => format!("/{path}"),
                    n => {
                        let at = slashes[dice.roll(n)];
                        format!("{}{}{}", &path[..at], dice.one(&SLASHES), &path[at + 1..])
                    }
                }
            }
            3 => format!("{path}{}", dice.one(&ENDS)),
            _ => format!("{}{path}", dice.one(&FRONTS)),
        };
    }
    path
}

/// A policy with one rule about paths.
fn policy(action: &str, path: Value) -> Value {
    json!({ "type": "Authorization", "value": {
        "name": "default/paths", "action": action, "origin": origin("AuthorizationPolicy", 1),
        "rules": [{ "to": [{ "paths": { "any": [path] } }], "origin": origin("AuthorizationPolicy", 2) }]
    }})
}

fn policies() -> Vec<Value> {
    vec![
        policy("ALLOW", json!({ "prefix": "/public/" })),
        policy("DENY", json!({ "exact": "/admin" })),
        policy("DENY", json!({ "prefix": "/admin/" })),
        policy("DENY", json!({ "suffix": ".secret" })),
        // `/tenants/{*}/keys`, as it is compiled.
        policy("DENY", json!({ "regex": "/tenants/[^/]+/keys" })),
    ]
}

/// Of a path without its query.
fn lets_through(policy: &Authorization, path: &str) -> bool {
    let headers = http::HeaderMap::new();
    let head = RequestHead {
        method: "GET",
        scheme: "http",
        authority: "reviews",
        host: "reviews",
        path,
        query: None,
        headers: &headers,
        claims: None,
    };
    let ip = loopback().ip();
    let input = AuthorizationInput {
        peer: None,
        token: None,
        source_ip: ip,
        remote_ip: ip,
        destination_ip: ip,
        destination_port: 80,
        sni: None,
        http: Some(&head),
    };
    weft_model::authorize([policy].into_iter(), &input).is_allowed()
}

/// How a program that is as lenient as the mode allows for reads a path: decoded once (slashes too where the mode decodes these, or
/// refuses them), back-slashes turned, slashes merged, dot segments resolved, controls and all. Written apart from the proxy's own.
fn read_leniently(mode: &str, path: &str) -> Option<String> {
    if mode == "NONE" {
        return None;
    }
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        let slashes = matches!(mode, "DECODE_AND_MERGE_SLASHES" | "STRICT");
        match (first, digits) {
            (b'%', Some(byte)) if slashes || !matches!(byte, b'/' | b'\\') => {
                decoded.push(byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    let text = String::from_utf8_lossy(&decoded).into_owned();
    let text = if mode == "BASE" || mode == "MERGE_SLASHES" { text } else { text.replace('\\', "/") };
    let merged = mode != "BASE";
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/').skip(1) {
        match segment {
            "" if merged && kept.last().is_none_or(|last| last.is_empty()) && !kept.is_empty() => {}
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    Some(format!("/{}", kept.join("/")))
}

/// A program that says which target it got, byte for byte.
async fn program() -> SocketAddr {
    let listener = TcpListener::bind(loopback()).await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut held = Vec::new();
                loop {
                    while let Some(end) = held.windows(4).position(|w| w == b"\r\n\r\n") {
                        let line = held[..end].split(|b| *b == b'\r').next().unwrap_or_default();
                        let target = line.get(4..line.len().saturating_sub(9)).unwrap_or_default();
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", target.len());
                        let answer = [head.as_bytes(), target].concat();
                        held.drain(..end + 4);
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                    match stream.read_buf(&mut held).await {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                }
            });
        }
    });
    address
}

/// Sends `paths` one after the other over a connection that is kept as long as the proxy keeps it. Status and body of each.
async fn ask(to: SocketAddr, paths: &[String]) -> Vec<(u16, String)> {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let mut answers = Vec::new();
    for path in paths {
        let request = format!("GET {path} HTTP/1.1\r\nhost: reviews\r\n\r\n");
        let mut held = Vec::new();
        stream.write_all(request.as_bytes()).await.expect("written");
        let read = async {
            loop {
                if let Some(answer) = whole(&held) {
                    return answer;
                }
                let count = stream.read_buf(&mut held).await.expect("read");
                assert!(count > 0, "{path}: closed after {:?}", String::from_utf8_lossy(&held));
            }
        };
        let (status, body, closes) = tokio::time::timeout(Duration::from_secs(30), read).await.expect("answered");
        answers.push((status, body));
        if closes {
            stream = TcpStream::connect(to).await.expect("connected");
        }
    }
    answers
}

/// The answer in `held`, once it is whole: its status, its body, and whether the connection ends.
fn whole(held: &[u8]) -> Option<(u16, String, bool)> {
    let end = held.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "))?.trim().parse::<usize>().ok()?;
    let body = held.get(end + 4..end + 4 + length)?;
    let status = head.get(9..12)?.parse().ok()?;
    Some((status, String::from_utf8_lossy(body).into_owned(), head.contains("connection: close")))
}

/// Publishes the view that a proxy has, with the settings and policies `more` in it.
fn extend(proxy: &crate::fixture::TestProxy, more: &[Value]) {
    let mut view = View { values: proxy.shared.snapshot().values.clone() };
    for value in more {
        view.insert(serde_json::from_value::<ModelValue>(value.clone()).expect("legal"));
    }
    let (snapshot, rejections) = weft_proxy::snapshot::build(&view, Some(&proxy.shared.snapshot()));
    assert!(rejections.is_empty(), "{} rejected", rejections.len());
    proxy.shared.publish(snapshot, 1);
}

#[tokio::test]
async fn no_variant_of_a_path_goes_past_a_policy() {
    let program = program().await;
    let pair = Pair::with(program, "STRICT", "HTTP", json!({}), json!({}));
    let mut dice = Dice(0x5eed_0bad_cafe_f00d);
    let (mut sent, mut statuses, mut seen) = (0, HashMap::<u16, usize>::new(), HashSet::new());
    let (mut bypasses, mut per_kind) = (Vec::new(), Vec::new());
    let policies = policies();
    let each = VARIANTS / (MODES.len() * policies.len());
    for mode in MODES {
        let settings = json!({ "type": "Settings", "value": { "path_normalization": mode, "origin": origin("ConfigMap", 1) } });
        extend(&pair.client, std::slice::from_ref(&settings));
        for policy in &policies {
            let of_server = vec![inbound_with("reviews", program.port(), "STRICT", "HTTP"), settings.clone(), policy.clone()];
            crate::fixture::publish(&pair.server.shared, of_server);
            let rule: Authorization = serde_json::from_value(policy["value"].clone()).expect("legal");
            let mut paths = Vec::new();
            while paths.len() < each {
                let path = variant(&mut dice);
                if seen.insert((mode, policy["value"].to_string(), path.clone())) {
                    paths.push(path);
                }
            }
            let shares = paths.chunks(each.div_ceil(AT_ONCE));
            let answers = futures_util::future::join_all(shares.map(|share| ask(pair.client.address, share))).await;
            let (mut reached, mut refused) = (0, 0);
            for (given, (status, body)) in paths.iter().zip(answers.into_iter().flatten()) {
                sent += 1;
                *statuses.entry(status).or_default() += 1;
                refused += usize::from(status == 403);
                if status != 200 {
                    continue;
                }
                reached += 1;
                let seen_path = body.split('?').next().unwrap_or_default();
                let lenient = read_leniently(mode, seen_path);
                if !lets_through(&rule, seen_path) || lenient.as_ref().is_some_and(|path| !lets_through(&rule, path)) {
                    bypasses.push(format!("{mode} {:?}: {given} reached the program as {body}, read as {lenient:?}", rule.rules[0].to));
                }
            }
            per_kind.push(format!("{mode} {:?} {:?}: {reached} reached, {refused} refused", rule.action, rule.rules[0].to[0].paths.any));
            // In mode NONE hardly any variant is what the policy names.
            assert!(mode == "NONE" || reached > 0 && refused > 0, "{per_kind:#?}: a policy that says one thing only shows nothing");
        }
    }
    assert!(bypasses.is_empty(), "{} of {sent}:\n{}", bypasses.len(), bypasses.join("\n"));
    assert!(sent == VARIANTS && statuses.keys().all(|s| [200, 400, 403].contains(s)), "{sent} {statuses:?}");
}
