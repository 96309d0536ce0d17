//! Starts real meshes: `weft up`, `weft run` and the command line as processes, on ports and folders of their own.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// The program under test.
pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// How long anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running mesh. Dropping it ends its processes.
pub(crate) struct Mesh {
    pub(crate) state: tempfile::TempDir,
    pub(crate) api: SocketAddr,
    pub(crate) token: String,
    pub(crate) gateway_port: u16,
    /// Where port 8080 of a gateway is.
    pub(crate) gateway_8080: u16,
    xds_port: u16,
    up: Option<Process>,
    runs: Vec<Process>,
}

/// A child process with its output collected by line.
pub(crate) struct Process {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (sender, lines) = mpsc::channel();
        for stream in [
            Box::new(child.stdout.take().expect("piped")) as Box<dyn Read + Send>,
            Box::new(child.stderr.take().expect("piped")) as Box<dyn Read + Send>,
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains `text`; fails with all output so far when it does not come.
    pub(crate) fn expect_line(&mut self, text: &str) -> String {
        if let Some(line) = self.seen.iter().find(|l| l.contains(text)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with {text:?}; it printed:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// All that it has printed by now.
    pub(crate) fn output(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill exists");
        assert!(status.success(), "kill -s {name} failed");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; it printed:\n{}", self.output());
            pause();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
            let deadline = Instant::now() + Duration::from_secs(5);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                pause();
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Yields for a moment between two looks at something outside of this process.
fn pause() {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_millis(10));
}

/// Looks again and again until `look` gives something; fails with `what` when it never does.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        pause();
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback has ports").port()
}

impl Mesh {
    /// `weft up` with these further arguments, on a new state folder.
    pub(crate) fn up(args: &[&str]) -> Self {
        Self::up_on(tempfile::tempdir().expect("a temporary folder"), args)
    }

    pub(crate) fn up_on(state: tempfile::TempDir, args: &[&str]) -> Self {
        let gateway_port = free_port();
        let mut mesh = Self {
            state,
            api: ([127, 0, 0, 1], 0).into(),
            token: String::new(),
            gateway_port,
            gateway_8080: free_port(),
            xds_port: free_port(),
            up: None,
            runs: Vec::new(),
        };
        mesh.start_up(args);
        mesh
    }

    /// Starts (again) `weft up` on the mesh's state folder.
    pub(crate) fn start_up(&mut self, args: &[&str]) {
        let (gateway, gateway_8080) = (format!("80={}", self.gateway_port), format!("8080={}", self.gateway_8080));
        let xds = self.xds_port.to_string();
        let mut command = Command::new(WEFT);
        command.arg("up").args(["--api-port", "0", "--xds-port", &xds, "--gateway", &gateway, "--gateway", &gateway_8080]).args(args);
        command.env("WEFT_STATE_DIR", self.state.path());
        let mut up = Process::start(&mut command);
        up.expect_line("Try");
        self.up = Some(up);
        let running: Value = serde_json::from_slice(&std::fs::read(self.state.path().join("up.json")).expect("up.json")).expect("JSON");
        self.api = running["api"].as_str().and_then(|a| a.parse().ok()).expect("api address");
        self.token = std::fs::read_to_string(self.state.path().join("api-token")).expect("token").trim().to_owned();
    }

    pub(crate) fn up_process(&mut self) -> &mut Process {
        self.up.as_mut().expect("up runs")
    }

    /// Kills `weft up` without any chance to clean up.
    pub(crate) fn kill_up(&mut self) {
        if let Some(mut up) = self.up.take() {
            up.child.kill().expect("a running child");
            up.child.wait().expect("a child");
        }
    }

    /// A command of the command line on this mesh.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(WEFT);
        command.args(args).env("WEFT_STATE_DIR", self.state.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("weft runs")
    }

    /// Runs a command that must succeed; its standard output.
    pub(crate) fn cli_ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "weft {args:?} failed: {out}\n{err}");
        out
    }

    /// `weft run … -- weft demo-app …`: a stand-in program in the mesh; returns when it is in the catalogue and healthy.
    pub(crate) fn run_app(&mut self, name: &str, version: &str, port: u16, run_args: &[&str], calls: &[&str]) -> usize {
        let port = port.to_string();
        let mut command = self.command(&["run", "--name", name, "--version", version, "--port", &port]);
        command.args(run_args).args(["--", WEFT, "demo-app", "--name", name, "--version", version, "--port", &port]);
        for call in calls {
            command.args(["--call", call]);
        }
        let mut process = Process::start(&mut command);
        process.expect_line("in the mesh as");
        self.runs.push(process);
        let workload = format!("{name}-{version}");
        eventually(&format!("{workload} is healthy in the catalogue"), || {
            let workloads = self.get("workloads");
            let mine = list(&workloads).iter().find(|w| w["name"] == *workload)?.clone();
            (mine["healthy"] == true).then_some(())
        });
        self.runs.len() - 1
    }

    pub(crate) fn run_process(&mut self, index: usize) -> &mut Process {
        &mut self.runs[index]
    }

    /// A GET on the REST API that must succeed.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = http(self.api, "GET", &format!("/api/v1/{path}"), &[("authorization", &format!("Bearer {}", self.token))], "");
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// A GET through the gateway.
    pub(crate) fn through_gateway(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        http(([127, 0, 0, 1], self.gateway_port).into(), "GET", path, headers, "")
    }

    /// Where the proxy of a workload listens for its first port.
    pub(crate) fn proxy_address(&self, workload: &str) -> SocketAddr {
        let services = self.get("services");
        let service = workload.rsplit_once('-').map_or(workload, |(s, _)| s);
        let found = list(&services).iter().find(|s| s["name"] == service).expect("has a service").clone();
        let detail = self.get(&format!("services/{}/{service}", found["namespace"].as_str().expect("text")));
        let endpoint = list(&detail["endpoints"]).iter().find(|e| e["workloadName"] == workload).expect("has an endpoint").clone();
        let (address, port) = (endpoint["address"].as_str().expect("text"), endpoint["port"].as_u64().unwrap_or_default());
        address.parse().unwrap_or_else(|_| format!("{address}:{port}").parse().expect("an address"))
    }

    pub(crate) fn state_path(&self) -> &Path {
        self.state.path()
    }
}

/// A list, whether the API wraps it in `items` or not.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.get("items").unwrap_or(value).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
    }
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// One HTTP/1.1 exchange on a connection of its own; status 0 when there was no answer.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("host: {address}\r\n"));
    }
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    text.push_str(body);
    let answer = raw(address, text.as_bytes());
    let answer = String::from_utf8_lossy(&answer);
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(rest) } else { rest.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

/// Sends bytes and reads until the other side closes.
pub(crate) fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.write_all(bytes);
        let _ = stream.read_to_end(&mut answer);
    }
    answer
}

fn unchunk(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        match rest.get(..size) {
            Some(chunk) if size > 0 => out.push_str(chunk),
            _ => break,
        }
        text = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

/// The corpus of public configuration, or `None` with a loud word when the environment does not name it.
pub(crate) fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("WEFT_CORPUS").map(PathBuf::from).filter(|p| p.is_dir());
    if path.is_none() {
        eprintln!("SKIPPED: WEFT_CORPUS does not name a folder with Istio's samples");
    }
    path
}
