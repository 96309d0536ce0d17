//! The other paths: one hop, gRPC, bytes in bulk, handshakes, idle connections. Each case measures the proxies' own cost per unit.

use crate::{
    Options, certificates, pair,
    peers::{self, Shape, Wire},
    procfs, report,
    scenario::{Children, find, find_envoy, on_core},
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Hop,
    GrpcHop,
    Grpc,
    Tcp,
    Handshake,
    Idle,
}

impl Case {
    const ALL: [Self; 6] = [Self::Hop, Self::GrpcHop, Self::Grpc, Self::Tcp, Self::Handshake, Self::Idle];

    fn name(self) -> &'static str {
        match self {
            Self::Hop => "hop",
            Self::GrpcHop => "grpc-hop",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Handshake => "handshake",
            Self::Idle => "idle",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Hop => "HTTP/1.1, one hop in plain text, 64 connections: CPU µs per request",
            Self::GrpcHop => "gRPC unary, one hop in plain text, 8 connections × 8 streams: CPU µs per request",
            Self::Grpc => "gRPC unary, pair with mutual TLS, 8 connections × 8 streams: CPU µs per request of both",
            Self::Tcp => "TCP in bulk, pair with mutual TLS, one connection: CPU s per GB of both",
            Self::Handshake => "Full TLS 1.3 handshakes with client certificates (X25519, P-256): the server side's CPU µs each",
            Self::Idle => "Idle HTTP/1.1 connections that were used once, pair: KiB each at the caller's side",
        }
    }

    fn shape(self) -> Shape {
        let (wire, pair) = match self {
            Self::Hop => (Wire::Http1, false),
            Self::GrpcHop => (Wire::Http2, false),
            Self::Grpc => (Wire::Http2, true),
            Self::Tcp => (Wire::Tcp, true),
            Self::Handshake | Self::Idle => (Wire::Http1, true),
        };
        Shape { wire, pair }
    }

    fn protocol(self) -> &'static str {
        match self.shape().wire {
            Wire::Http1 => "HTTP",
            Wire::Http2 => "GRPC",
            Wire::Tcp => "TCP",
        }
    }
}

const SUBJECTS: [&str; 4] = ["pair", "envoy", "haproxy", "nginx"];
const GRPC_REQUESTS: u64 = 40_000;
const BULK_BYTES: u64 = 1_000_000_000;
const HANDSHAKES: u64 = 400;
const IDLE_CONNECTIONS: usize = 400;

/// `weft-bench paths`.
pub(crate) fn paths(options: &Options) -> Result<()> {
    on_core(0);
    let chosen = |name: &str, all: &[&'static str]| -> Vec<&'static str> {
        let list: Vec<&str> = options.text(name).map(|l| l.split(',').collect()).unwrap_or_default();
        all.iter().copied().filter(|n| list.is_empty() || list.contains(n)).collect()
    };
    let cases = chosen("only", &Case::ALL.map(Case::name));
    let subjects = chosen("subjects", &SUBJECTS);
    let rounds = options.number("rounds", 3)?;
    let envoy = options.text("envoy").map(str::to_owned).or_else(find_envoy);
    let mut text = format!(
        "# Paths of {}\n\n{}\n\nMedians of {rounds} rounds (range in brackets); everything on core 0, fresh processes each round.\n",
        report::today(),
        report::machine()
    );
    for case in Case::ALL.into_iter().filter(|c| cases.contains(&c.name())) {
        let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for number in 0..rounds {
            let mut order = subjects.clone();
            if number % 2 == 1 {
                order.reverse();
            }
            for subject in order {
                match measure(case, subject, envoy.as_deref()) {
                    Ok(figure) => figures.entry(subject).or_default().push(figure),
                    Err(error) => eprintln!("{} {subject}: left out: {error:#}", case.name()),
                }
            }
        }
        write!(text, "\n## {}\n\n| | | vs Envoy | vs HAProxy |\n|---|--:|--:|--:|\n", case.title())?;
        let median = |name: &str| figures.get(name).and_then(|f| report::median(f.clone()));
        for (subject, values) in &figures {
            let own = report::median(values.clone()).unwrap_or_default();
            let ratio = |to: Option<f64>| to.filter(|to| *to > 0.0).map_or("–".to_owned(), |to| format!("{:.2}", own / to));
            let digits = if case == Case::Tcp { 2 } else { 1 };
            writeln!(
                text,
                "| {subject} | {} | {} | {} |",
                report::range(values.clone(), digits),
                ratio(median("envoy")),
                ratio(median("haproxy"))
            )?;
        }
    }
    println!("{text}");
    if let Some(folder) = options.text("data") {
        fs::create_dir_all(folder)?;
        fs::write(format!("{folder}/{}-paths.md", report::today()), text)?;
    }
    Ok(())
}

/// The proxies of one subject in one round.
struct Bed {
    folder: tempfile::TempDir,
    children: Children,
    target: String,
    /// Address of the callee's side, where there are two.
    callee: String,
    roots: Vec<u32>,
    mesh: bool,
}

fn set_up(case: Case, subject: &str, envoy: Option<&str>) -> Result<Bed> {
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let (path, shape, protocol) = (folder.path().to_owned(), case.shape(), case.protocol());
    let mut children = Children::default();
    let origin = children.listening(&["origin", "--protocol", protocol])?;
    certificates::write(&path)?;
    let mut bed = Bed { folder, children, target: String::new(), callee: String::new(), roots: vec![], mesh: subject == "pair" };
    if bed.mesh {
        let text = path.display().to_string();
        bed.target = origin;
        for side in if shape.pair { vec!["server", "client"] } else { vec!["alone"] } {
            let next = bed.target.clone();
            bed.target = bed.children.listening(&["proxy", "--side", side, "--next", &next, "--folder", &text, "--protocol", protocol])?;
            if side == "server" {
                bed.callee.clone_from(&bed.target);
            }
            bed.roots.extend(bed.children.0.last().map(Child::id));
        }
        pair::write_client(&path)?;
        return Ok(bed);
    }
    let made = match subject {
        "envoy" => peers::envoy(envoy.context("not installed")?, &path, &origin, shape)?,
        "haproxy" => peers::haproxy(&find("haproxy").context("not installed")?, &path, &origin, shape)?,
        _ => peers::nginx(&find("nginx").context("not installed")?, &path, &origin, shape)?,
    };
    (bed.target, bed.callee) = (made.target, made.callee);
    for mut side in made.sides {
        let log = fs::File::options().create(true).append(true).open(path.join("log"))?;
        bed.roots.push(bed.children.spawn(side.command.stdout(log.try_clone()?).stderr(log))?);
    }
    Ok(bed)
}

fn measure(case: Case, subject: &str, envoy: Option<&str>) -> Result<f64> {
    eprintln!("{} {subject}", case.name());
    let bed = set_up(case, subject, envoy)?;
    let figure = match case {
        Case::Hop => hop(&bed),
        Case::GrpcHop | Case::Grpc => grpc(&bed),
        Case::Tcp => bulk(&bed),
        Case::Handshake => handshakes(&bed),
        Case::Idle => idle(&bed),
    };
    let log = || fs::read_to_string(bed.folder.path().join("log")).unwrap_or_default();
    figure.with_context(|| format!("{subject}: {}", log().lines().rev().take(3).collect::<Vec<_>>().join(" | ")))
}

impl Bed {
    /// CPU time of the proxies from now to the end of `work`, in nanoseconds.
    fn cost<T>(&self, roots: &[u32], work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
        let pids = procfs::proxies(roots);
        let before = procfs::cpu(&pids);
        let done = work()?;
        Ok((procfs::cpu(&pids).run_ns.saturating_sub(before.run_ns) as f64, done))
    }

    fn host(&self) -> &str {
        if self.mesh { "origin" } else { &self.target }
    }

    /// Waits until a connection to `address` is accepted.
    fn wait(address: &str) -> Result<TcpStream> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match TcpStream::connect(address) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > deadline => bail!("{address}: {error}"),
                Err(_) => drop(nix::poll::poll(&mut [], 20_u8)),
            }
        }
    }
}

fn hop(bed: &Bed) -> Result<f64> {
    let roots = bed.folder.path().join("roots");
    fs::write(&roots, bed.roots.iter().map(|r| format!("{r}\n")).collect::<String>())?;
    let output = Command::new(std::env::current_exe()?)
        .args(["client", "--target", &bed.target, "--host", bed.host(), "--connections", "64", "--seconds", "3", "--roots"])
        .arg(&roots)
        .stderr(Stdio::inherit())
        .output()?;
    let outcome: crate::client::Outcome = serde_json::from_slice(&output.stdout).context("the client failed")?;
    anyhow::ensure!(outcome.errors == 0, "{} errors", outcome.errors);
    Ok(outcome.cpu_us)
}

/// h2load sends messages of 1 KB; a run before the measured one warms up.
fn grpc(bed: &Bed) -> Result<f64> {
    let program = find("h2load").context("h2load is not installed (nghttp2-client)")?;
    drop(Bed::wait(&bed.target)?);
    let message = bed.folder.path().join("message");
    fs::write(&message, [&[0, 0, 0, 4, 0], "x".repeat(1_024).as_bytes()].concat())?;
    let run = |requests: u64| -> Result<()> {
        let output = Command::new(&program)
            .args(["-c", "8", "-m", "8", "-n", &requests.to_string(), "-H", "content-type: application/grpc", "-H", "te: trailers", "-H"])
            .arg(format!(":authority: {}", bed.host()))
            .arg("-d")
            .arg(&message)
            .arg(format!("http://{}/bench.Bench/Call", bed.target))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match text.contains(&format!("{requests} succeeded")) && text.contains(&format!("status codes: {requests} 2xx")) {
            true => Ok(()),
            false => {
                bail!("not all succeeded: {}", text.lines().filter(|l| l.contains("requests:") || l.contains("status")).collect::<String>())
            }
        }
    };
    run(GRPC_REQUESTS / 8)?;
    let (ns, ()) = bed.cost(&bed.roots, || run(GRPC_REQUESTS))?;
    Ok(ns / 1_000.0 / GRPC_REQUESTS as f64)
}

fn bulk(bed: &Bed) -> Result<f64> {
    let mut chunk = vec![0; 256 * 1024];
    let mut stream = Bed::wait(&bed.target)?;
    stream.write_all(b"x")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut take = |bytes: u64| -> Result<()> {
        let mut taken = 0;
        while taken < bytes {
            match stream.read(&mut chunk)? {
                0 => bail!("closed after {taken} bytes"),
                n => taken += n as u64,
            }
        }
        Ok(())
    };
    take(BULK_BYTES / 10)?;
    let (ns, ()) = bed.cost(&bed.roots, || take(BULK_BYTES))?;
    Ok(ns / 1e9 / (BULK_BYTES as f64 / 1e9))
}

/// The client is Python's `ssl` (OpenSSL), the same for all: only the server side is measured.
const HANDSHAKE_CLIENT: &str = "
import socket, ssl, sys
host, port, count, cert, key, alpn = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6]
for _ in range(count):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols([alpn])
    with socket.create_connection((host, port)) as plain:
        with context.wrap_socket(plain, server_hostname='server') as tls:
            tls.sendall(b'GET / HTTP/1.1\\r\\nhost: origin\\r\\nconnection: close\\r\\n\\r\\n')
            answer = tls.recv(100)
            assert answer.startswith(b'HTTP/1.1 200'), answer
";

fn handshakes(bed: &Bed) -> Result<f64> {
    drop(Bed::wait(&bed.callee)?);
    let (host, port) = bed.callee.rsplit_once(':').context("no callee")?;
    let dir = bed.folder.path();
    let name = if bed.mesh { "mesh-client" } else { "client" };
    let run = |count: u64| -> Result<()> {
        let output = Command::new("python3")
            .args(["-c", HANDSHAKE_CLIENT, host, port, &count.to_string()])
            .args([dir.join(format!("{name}.pem")), dir.join(format!("{name}.key"))])
            .arg(if bed.mesh { "weft-http/1.1" } else { "http/1.1" })
            .output()
            .context("python3")?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default());
        Ok(())
    };
    run(HANDSHAKES / 10)?;
    let callee = if bed.mesh { bed.roots.first() } else { bed.roots.get(1) };
    let (ns, ()) = bed.cost(&[*callee.context("no callee")?], || run(HANDSHAKES))?;
    Ok(ns / 1_000.0 / HANDSHAKES as f64)
}

fn idle(bed: &Bed) -> Result<f64> {
    let caller = if bed.mesh { bed.roots.get(1) } else { bed.roots.first() };
    let pids = procfs::proxies(&[*caller.context("no caller")?]);
    let mut open = Vec::with_capacity(IDLE_CONNECTIONS);
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host());
    let mut use_once = |count: usize| -> Result<()> {
        for _ in 0..count {
            let mut stream = Bed::wait(&bed.target)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(request.as_bytes())?;
            let (mut got, mut buffer) = (0, [0; 4_096]);
            while got < 1_100 {
                match stream.read(&mut buffer)? {
                    0 => bail!("closed"),
                    n => got += n,
                }
            }
            open.push(stream);
        }
        Ok(())
    };
    use_once(100)?;
    let resident = || procfs::resident_kib(&pids).iter().sum::<u64>() as f64;
    let before = resident();
    use_once(IDLE_CONNECTIONS)?;
    Ok((resident() - before) / IDLE_CONNECTIONS as f64)
}
