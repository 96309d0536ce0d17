//! Probes as data, for a test that sends them through a running proxy: what is asked, the view that the proxy gets, and the answer
//! that the evaluators gave.

use crate::{fixture, mesh::Running, probe::bracketed};
use http::HeaderMap;
use std::{fs, path::Path};
use weft_model::{SpiffeId, View, host_of};

/// One probe of a fixture.
#[derive(Debug, Clone)]
pub struct LiveProbe {
    /// `<concept>/<file>: <question>`.
    pub name: String,
    /// What stands behind `=>` in the fixture.
    pub answer: String,
    /// The view of the proxy that is asked.
    pub view: View,
    /// What to send.
    pub ask: Ask,
}

/// A request of a probe.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host and perhaps port.
    pub authority: String,
    /// Port that is called.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
}

/// Who sends what to which proxy.
#[derive(Debug, Clone)]
pub enum Ask {
    /// A program behind its sidecar.
    Outbound(Request),
    /// Somebody outside, at a gateway.
    Gateway(Request),
    /// A peer (or plain text) to a port of the workload.
    Inbound {
        /// Proven identity.
        peer: Option<SpiffeId>,
        /// Port of the workload.
        port: u16,
        /// Method and path; host in the headers.
        request: Request,
    },
}

/// Every probe with a request (not `tcp`) of every fixture below `tests/golden`.
///
/// # Panics
/// When a fixture cannot be read.
pub fn probes() -> Vec<LiveProbe> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let mut files: Vec<_> =
        fs::read_dir(root).expect("the goldens").flatten().flat_map(|d| fs::read_dir(d.path()).expect("a folder").flatten()).collect();
    files.sort_by_key(fs::DirEntry::path);
    let mut found = Vec::new();
    for file in files {
        let path = file.path();
        let name = path.iter().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect::<std::path::PathBuf>();
        let text = fs::read_to_string(&path).expect("a readable fixture");
        let (running, lines) = fixture::probes_of(&file.file_name().to_string_lossy(), &text);
        found.extend(lines.iter().filter_map(|line| live(&running, &name.to_string_lossy(), line)));
    }
    found
}

fn live(running: &Running, file: &str, line: &str) -> Option<LiveProbe> {
    let (question, answer) = line.split_once(" => ")?;
    let (who, what) = question.split_once(" -> ")?;
    let name = format!("{file}: {question}");
    let (view, ask) = match who.starts_with("spiffe://") || who == "plaintext" {
        true => inbound(running, who, what)?,
        false => outbound(running, who, what)?,
    };
    Some(LiveProbe { name, answer: answer.to_owned(), view, ask })
}

fn outbound(running: &Running, who: &str, what: &str) -> Option<(View, Ask)> {
    let (what, headers) = bracketed(what);
    let (method, url) = what.split_once(' ').unwrap_or(("GET", what));
    if method == "tcp" {
        return None;
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |i| rest.split_at(i));
    let well_known = if scheme == "https" { 443 } else { 80 };
    let port = authority.rsplit_once(':').and_then(|(_, p)| p.parse().ok()).unwrap_or(well_known);
    let projection = running.project(who, &[&host_of(authority)])?;
    let request = Request { method: method.into(), scheme: scheme.into(), authority: authority.into(), port, path: path.into(), headers };
    Some((projection.view, if running.is_gateway(who) { Ask::Gateway(request) } else { Ask::Outbound(request) }))
}

fn inbound(running: &Running, who: &str, what: &str) -> Option<(View, Ask)> {
    let (what, headers) = bracketed(what);
    let words: Vec<&str> = what.split_whitespace().collect();
    let (name, port) = words.first()?.split_once(':')?;
    let port: u16 = port.parse().ok()?;
    let method = words.get(1).copied().unwrap_or("GET");
    if method == "tcp" {
        return None;
    }
    let authority = headers.get("host").and_then(|v| v.to_str().ok()).unwrap_or("localhost").to_owned();
    let path = words.get(2).copied().unwrap_or("/").to_owned();
    let request = Request { method: method.into(), scheme: "http".into(), authority, port, path, headers };
    Some((running.project(name, &[])?.view, Ask::Inbound { peer: who.parse().ok(), port, request }))
}
