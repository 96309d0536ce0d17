//! The corpus against other proxies: what they pass on that this engine refuses, and the other way round.
//!
//! Takes a minute and other people's programs, so it runs only when asked: `DIFFERENTIAL=1 cargo test -p weft-wire --test
//! http1_differential`. It fails when the checked-in list of differences from Envoy is not what it found; `UPDATE=1` writes it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Cases that run at once against a proxy.
const AT_ONCE: usize = 32;

/// A proxy that has not answered for so long waits for more.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    PassedOn,
    Refused,
    Waits,
}

struct Case {
    accepted: bool,
    rule: String,
    shown: String,
    bytes: Vec<u8>,
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/http1")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(corpus().join("requests.txt")).expect("the corpus is checked in");
    let parse = |line: &str| {
        let [_, verdict, rule, shown] = line.splitn(4, '\t').collect::<Vec<_>>()[..] else { return None };
        let accepted = verdict.starts_with("accept");
        (verdict != "incomplete").then(|| Case { accepted, rule: rule.into(), shown: shown.into(), bytes: unescape(shown) })
    };
    text.lines().filter_map(parse).collect()
}

/// The reverse of `escape_ascii`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(b) = bytes.next() {
        out.push(if b != b'\\' {
            b
        } else {
            match bytes.next().unwrap_or_default() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [bytes.next().unwrap_or_default(), bytes.next().unwrap_or_default()];
                    u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).expect("two digits")
                }
                other => other,
            }
        });
    }
    out
}

/// Answers every head with a mark, whatever it is.
async fn origin(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut part = [0; 8192];
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut part).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => seen.extend_from_slice(&part[..count]),
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-reached: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.ok();
            // What still comes is read away, so that the answer is not lost to a reset.
            while matches!(stream.read(&mut part).await, Ok(1..)) {}
        });
    }
}

async fn ask(to: SocketAddr, case: &Case) -> Outcome {
    let Ok(mut stream) = TcpStream::connect(to).await else { return Outcome::Refused };
    stream.write_all(&case.bytes).await.ok();
    let mut answer = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(count) => answer.extend_from_slice(&part[..count]),
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, reading).await;
    match (String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("x-reached"), ended) {
        (true, _) => Outcome::PassedOn,
        (false, Ok(())) => Outcome::Refused,
        (false, Err(_)) => Outcome::Waits,
    }
}

const NGINX: &str = "worker_processes 1; daemon off; pid DIR/nginx.pid; error_log DIR/nginx.log crit;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path DIR/a; proxy_temp_path DIR/b; fastcgi_temp_path DIR/c; uwsgi_temp_path DIR/d; scgi_temp_path DIR/e;
  server { listen LISTEN; location / { proxy_pass http://ORIGIN; proxy_http_version 1.1; } } }
";

const HAPROXY: &str = "global
  nbthread 1
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend f
  bind LISTEN
  default_backend b
backend b
  server o ORIGIN
";

const ENVOY: &str = r#"{"static_resources":{"listeners":[{"name":"l","address":{"socket_address":{"address":"127.0.0.1","port_value":PORT}},
"filter_chains":[{"filters":[{"name":"h","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
"stat_prefix":"h","codec_type":"HTTP1","http_protocol_options":{"accept_http_10":true,"default_host_for_http_10":"a"},"route_config":{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"o"}}]}]},
"http_filters":[{"name":"r","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}],
"clusters":[{"name":"o","type":"STATIC","connect_timeout":"5s","load_assignment":{"cluster_name":"o","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":TARGET}}}}]}]}}]}}"#;

/// A peer that is there: its name, program, configuration and arguments.
fn peers(folder: &Path, origin: SocketAddr) -> Vec<(&'static str, SocketAddr, Command)> {
    let find = |places: &[&str]| places.iter().map(PathBuf::from).find(|path| path.is_file());
    let mut found = Vec::new();
    let envoy = std::env::var_os("ENVOY")
        .map(PathBuf::from)
        .or_else(|| find(&["/tmp/envoyvenv/bin/envoy", "/usr/local/bin/envoy", "/usr/bin/envoy"]));
    for (name, program, template) in [
        ("envoy", envoy, ENVOY),
        ("haproxy", find(&["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]), HAPROXY),
        ("nginx", find(&["/usr/sbin/nginx", "/usr/local/sbin/nginx"]), NGINX),
    ] {
        let Some(program) = program else {
            eprintln!("SKIPPED: {name} is not installed; its verdicts are not compared");
            continue;
        };
        // Other programs cannot be given a listener; the port was free a moment ago.
        let listen = StdListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let path = folder.join(if name == "envoy" { "envoy.json" } else { name });
        let text = template
            .replace("DIR", &folder.display().to_string())
            .replace("LISTEN", &listen.to_string())
            .replace("ORIGIN", &origin.to_string());
        let text = text.replace("PORT", &listen.port().to_string()).replace("TARGET", &origin.port().to_string());
        std::fs::write(&path, text).expect("written");
        let mut command = Command::new(program);
        match name {
            "envoy" => command.args(["--concurrency", "1", "--base-id", &listen.port().to_string(), "-l", "off", "-c"]).arg(&path),
            "haproxy" => command.arg("-f").arg(&path),
            _ => command.arg("-c").arg(&path),
        };
        found.push((name, listen, command));
    }
    found
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn judge(address: SocketAddr, cases: &[Case]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for some in cases.chunks(AT_ONCE) {
        outcomes.extend(futures_util::future::join_all(some.iter().map(|case| ask(address, case))).await);
    }
    outcomes
}

async fn ready(address: SocketAddr) {
    let connect = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), connect).await.expect("the peer starts");
}

type Table = BTreeMap<String, BTreeMap<&'static str, (usize, usize, usize, String)>>;

fn report(cases: usize, names: &[&str], table: &Table) -> String {
    let mut text = String::from(
        "# Where other proxies and Weft's HTTP/1 engine differ\n\nWritten by `DIFFERENTIAL=1 UPDATE=1 cargo test -p weft-wire --test http1_differential`; do not edit.\n\
         Each rule's name says why Weft decides as it does: what Weft refuses is refused by that section of the RFC or for that class of bugs.\n\n",
    );
    writeln!(text, "{cases} cases against {}, each with its defaults. *Laxer*: it passes on what Weft refuses (the\norigin saw its head; a body that is found to be broken later may still have been cut off). *Stricter*:\nit refuses what Weft passes on. *Waits*: it answers nothing and waits for more of what Weft refuses at once.\n", names.join(", ")).expect("a String takes all");
    text.push_str("| rule | proxy | laxer | stricter | waits | for example |\n|---|---|--:|--:|--:|---|\n");
    for (rule, peers) in table {
        for (name, (laxer, stricter, waits, example)) in peers {
            let example: String = example.chars().take(110).collect::<String>().replace('|', "\\|").replace('`', "'");
            writeln!(text, "| {} | {name} | {laxer} | {stricter} | {waits} | `{example}` |", rule.replace('|', "\\|"))
                .expect("a String takes all");
        }
    }
    text
}

#[tokio::test]
async fn differences_are_known() {
    if std::env::var_os("DIFFERENTIAL").is_none() {
        return eprintln!("SKIPPED: set DIFFERENTIAL=1 to replay the corpus against Envoy, HAProxy and nginx");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("address");
    tokio::spawn(origin(listener));
    let cases = cases();
    let (mut table, mut names) = (Table::new(), Vec::new());
    for (name, listen, mut command) in peers(folder.path(), address) {
        let _running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts"));
        ready(listen).await;
        names.push(name);
        for (case, outcome) in cases.iter().zip(judge(listen, &cases).await) {
            let column = match (case.accepted, outcome) {
                (false, Outcome::PassedOn) => 0,
                (true, Outcome::Refused) => 1,
                (false, Outcome::Waits) => 2,
                _ => continue,
            };
            let entry = table.entry(case.rule.clone()).or_default().entry(name).or_default();
            *[&mut entry.0, &mut entry.1, &mut entry.2][column] += 1;
            if entry.3.is_empty() || (column == 0 && entry.0 == 1) {
                entry.3.clone_from(&case.shown);
            }
        }
    }
    let (path, text) = (corpus().join("differences.md"), report(cases.len(), &names, &table));
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(path, text).expect("written");
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let of_envoy = |text: &str| text.lines().filter(|line| line.contains("| envoy |")).map(str::to_owned).collect::<Vec<_>>();
    if names.contains(&"envoy") {
        assert_eq!(of_envoy(&text), of_envoy(&known), "a difference from Envoy is not in the list; look at it, then UPDATE=1");
    }
}
