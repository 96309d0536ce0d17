//! Capture end to end: real namespaces, real programs. Without a test harness, since this binary is also the agent (re-executed)
//! and the programs that are captured.
//!
//! Run as root it does everything twice: as root, and as an ordinary user. Where user namespaces are off it says so and skips.
#![allow(clippy::print_stderr, clippy::panic, reason = "a test binary without harness reports by itself")]

use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_wire::{
    capture::{Capture, CaptureOptions, CaptureSockets, ProgramEnd, run_if_agent},
    dns::{Answer, Question, serve},
    listen::{Acceptor, original_dst},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    if let Some(code) = run_if_agent() {
        std::process::exit(code);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["program", name, rest @ ..] => program(name, rest),
        ["scenarios"] => scenarios(),
        ["holder"] => holder(),
        ["try"] => match Capture::start(&options(&["true"])) {
            Ok(_) => println!("works"),
            Err(unavailable) => println!("{unavailable}"),
        },
        // What nextest asks for.
        ["--list", .., "--ignored"] => {}
        ["--list", ..] => println!("capture: test"),
        _ => both_users(),
    }
}

/// As this user and, when that is root, as an ordinary one.
fn both_users() {
    scenarios();
    if !nix::unistd::getuid().is_root() {
        return eprintln!("capture: not root, so tried as this user only");
    }
    // The build folder may be closed to others.
    let folder = tempfile::tempdir().expect("temp dir");
    open_to_all(folder.path());
    let copy = folder.path().join("capture-test");
    std::fs::copy(std::env::current_exe().expect("own path"), &copy).expect("copied");
    open_to_all(&copy);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("scenarios").current_dir("/");
    command.env("TMPDIR", "/tmp").env_remove("HOME");
    match command.status() {
        Ok(status) => assert!(status.success(), "as an ordinary user: {status}"),
        Err(error) => eprintln!("capture: SKIPPED as an ordinary user: setpriv: {error}"),
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

fn scenarios() {
    let user = format!("uid {}", nix::unistd::getuid());
    match Capture::start(&options(&["true"])) {
        Err(unavailable) => return eprintln!("capture: SKIPPED as {user}: {unavailable}"),
        Ok(world) => drop(world),
    }
    type Scenario = fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>;
    let all: [(&str, Scenario); 11] = [
        ("connections arrive with their destination", || Box::pin(outbound())),
        ("many connections at once keep their destinations", || Box::pin(crowd())),
        ("the proxy reaches the program", || Box::pin(inbound())),
        ("names are asked of the mesh", || Box::pin(names())),
        ("where namespaces are off it says so", || Box::pin(unavailable())),
        ("there is no way around", || Box::pin(no_way_around())),
        ("no privilege is left", || Box::pin(no_privilege())),
        ("exit codes and signals pass through", || Box::pin(exits_and_signals())),
        ("a program that cannot start is named", || Box::pin(cannot_start())),
        ("nothing is left behind", || Box::pin(nothing_left())),
        ("kill -9 of the parent ends all", || Box::pin(parent_killed())),
    ];
    for (name, scenario) in all {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async { tokio::time::timeout(PATIENCE, scenario()).await }).unwrap_or_else(|_| panic!("{name}: takes too long"));
        eprintln!("capture: ok as {user}: {name}");
    }
}

fn options(program: &[&str]) -> CaptureOptions {
    let search = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"].map(str::to_owned).to_vec();
    CaptureOptions { program: program.iter().map(OsString::from).collect(), workers: 2, search, ..CaptureOptions::default() }
}

/// This binary as the program, in one of its roles.
fn own(role: &[&str]) -> CaptureOptions {
    let exe = std::env::current_exe().expect("own path");
    let mut program = vec![exe.into_os_string(), "program".into()];
    program.extend(role.iter().map(OsString::from));
    CaptureOptions { program, ..options(&[]) }
}

fn start(options: &CaptureOptions) -> (Capture, CaptureSockets) {
    Capture::start(options).expect("it worked a moment ago")
}

async fn outbound() {
    for (target, use_v6) in [("240.240.1.2:9080", false), ("[2001:db8::7]:443", true)] {
        let (capture, sockets) = start(&own(&["connect", target]));
        let listeners = if use_v6 { sockets.outbound_v6 } else { sockets.outbound };
        if listeners.is_empty() {
            eprintln!("capture: no IPv6 here");
            continue;
        }
        capture.start_program().await.expect("started");
        let mut stream = accept_any(listeners).await;
        assert_eq!(original_dst(&stream).expect("alive"), target.parse::<SocketAddr>().expect("an address"));
        stream.write_all(b"pong").await.expect("written");
        let mut text = [0; 4];
        stream.read_exact(&mut text).await.expect("read");
        assert_eq!(&text, b"ping");
        assert_eq!(capture.wait().await, ProgramEnd::Exited(0));
    }
}

/// 2,000 connections from 8 threads to 250 addresses: each hears the address that it wanted.
async fn crowd() {
    let (capture, sockets) = start(&own(&["crowd"]));
    let serve = async |listener: TcpListener| {
        let mut acceptor = Acceptor::new(listener).expect("registered");
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                (mut stream, _) = acceptor.accept() => answers.push(async move {
                    let wanted = original_dst(&stream).expect("alive").to_string();
                    stream.write_all(format!("{wanted}\n").as_bytes()).await.expect("written");
                }),
                Some(()) = answers.next() => {}
            }
        }
    };
    capture.start_program().await.expect("started");
    let all = futures_util::future::join_all(sockets.outbound.into_iter().map(serve));
    tokio::select! { end = capture.wait() => assert_eq!(end, ProgramEnd::Exited(0)), _ = all => {} }
}

async fn inbound() {
    for address in ["127.0.0.1:9080", "0.0.0.0:80", "[::]:9080", "[::1]:9080"] {
        let port = address.parse::<SocketAddr>().expect("an address").port();
        let (capture, sockets) = start(&own(&["echo", address]));
        if address.starts_with('[') && sockets.outbound_v6.is_empty() {
            continue;
        }
        let program = capture.program_sockets();
        let refused = program.connect(port).await.expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        capture.start_program().await.expect("started");
        while program.connect(port).await.is_err() {
            tokio::task::yield_now().await;
        }
        // More than a batch of sockets at once, from another thread's runtime as well.
        let streams: Vec<_> = futures_util::future::join_all((0..50).map(|_| program.connect(port))).await;
        for stream in streams {
            let mut stream = stream.expect("connected");
            stream.write_all(b"hello").await.expect("written");
            let mut text = [0; 5];
            stream.read_exact(&mut text).await.expect("echoed");
            assert_eq!(&text, b"hello");
        }
        capture.shutdown().await;
        assert_eq!(program.connect(port).await.expect_err("ended").kind(), std::io::ErrorKind::BrokenPipe);
    }
}

/// The program connects by a short name: its own resolver library appends the search domain, the mesh answers with a virtual
/// address, and the connection arrives with that as its destination.
async fn names() {
    let ask_v4_only = options(&["getent", "ahostsv4", "reviews"]);
    for (program, connects) in [(own(&["connect", "reviews:9080"]), true), (ask_v4_only, false)] {
        let (capture, mut sockets) = start(&program);
        let resolve = async |question: Question| match question.name.as_str() {
            "reviews.default.svc.cluster.local" => {
                Answer::Addresses { addresses: vec![Ipv4Addr::new(240, 240, 1, 2).into()], ttl: Duration::from_secs(5) }
            }
            _ => Answer::NxDomain,
        };
        let acceptors = std::mem::take(&mut sockets.outbound);
        let program = async {
            capture.start_program().await.expect("started");
            if connects {
                let mut stream = accept_any(acceptors).await;
                assert_eq!(original_dst(&stream).expect("alive"), "240.240.1.2:9080".parse().expect("an address"));
                stream.write_all(b"pong").await.expect("written");
            }
            assert_eq!(capture.wait().await, ProgramEnd::Exited(0));
        };
        tokio::select! { served = serve(sockets.dns, resolve) => served.expect("serves on"), () = program => {} }
    }

    // A program with a resolver of its own asks the mesh as well.
    let (capture, sockets) = start(&own(&["udp", "8.8.8.8:53"]));
    sockets.dns.udp.set_nonblocking(true).expect("non-blocking");
    let udp = tokio::net::UdpSocket::from_std(sockets.dns.udp).expect("registered");
    capture.start_program().await.expect("started");
    let mut text = [0; 16];
    let (length, from) = udp.recv_from(&mut text).await.expect("received");
    udp.send_to(&text[..length], from).await.expect("answered");
    assert_eq!(capture.wait().await, ProgramEnd::Exited(0));
}

/// In a user namespace whose owner allows no further ones.
async fn unavailable() {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" try";
    let exe = std::env::current_exe().expect("own path");
    let output = Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", script]).arg(exe).output().expect("unshare");
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "programs cannot be captured here: there are no user namespaces left";
    assert!(text.starts_with(expected) && text.contains("sysctl -w user.max_user_namespaces"), "{output:?}");
}

async fn no_way_around() {
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let address = outside.local_addr().expect("address").to_string();
    for (role, target) in [("unreachable", address.as_str()), ("no-udp", "192.0.2.1:7"), ("no-udp", "8.8.8.8:123")] {
        let (capture, _sockets) = start(&own(&[role, target]));
        capture.start_program().await.expect("started");
        assert_eq!(capture.wait().await, ProgramEnd::Exited(0), "{role} {target}");
    }
    outside.set_nonblocking(true).expect("non-blocking");
    assert_eq!(outside.accept().expect_err("nobody came").kind(), std::io::ErrorKind::WouldBlock);
}

async fn no_privilege() {
    let (capture, _sockets) = start(&own(&["powerless", &nix::unistd::getuid().to_string(), &nix::unistd::getgid().to_string()]));
    capture.start_program().await.expect("started");
    assert_eq!(capture.wait().await, ProgramEnd::Exited(0));
}

async fn exits_and_signals() {
    let (capture, _sockets) = start(&options(&["sh", "-c", "exit 42"]));
    capture.start_program().await.expect("started");
    assert_eq!(capture.wait().await.code(), 42);
    assert_eq!(capture.wait().await.code(), 42, "asked again");

    let (capture, _sockets) = start(&options(&["sh", "-c", "kill -9 $$"]));
    capture.start_program().await.expect("started");
    assert_eq!(capture.wait().await.code(), 137);

    let with_env = CaptureOptions {
        env: vec![("WEFT_TEST".into(), "7".into())],
        cwd: Some("/".into()),
        ..options(&["sh", "-c", "exit $WEFT_TEST$(pwd | wc -c)"])
    };
    let (capture, _sockets) = start(&with_env);
    capture.start_program().await.expect("started");
    assert_eq!(capture.wait().await.code(), 72, "environment and working folder");

    for (signal, code) in [(15, 15), (1, 1), (10, 10), (12, 12), (28, 28)] {
        // The program tells by connecting that its traps are set.
        let (capture, sockets) = start(&own(&["await-signal", &signal.to_string()]));
        capture.start_program().await.expect("started");
        let stream = accept_any(sockets.outbound).await;
        capture.signal(signal);
        assert_eq!(capture.wait().await, ProgramEnd::Exited(code));
        drop(stream);
    }
}

async fn accept_any(listeners: Vec<TcpListener>) -> tokio::net::TcpStream {
    let mut acceptors: Vec<_> = listeners.into_iter().map(|listener| Acceptor::new(listener).expect("registered")).collect();
    assert_eq!(acceptors.len(), 2, "one for each worker");
    let (mut second, mut first) = (acceptors.pop().expect("two"), acceptors.pop().expect("two"));
    tokio::select! { accepted = first.accept() => accepted.0, accepted = second.accept() => accepted.0 }
}

async fn cannot_start() {
    let (capture, _sockets) = start(&options(&["./no-such-program"]));
    let error = capture.start_program().await.expect_err("not there");
    assert_eq!(error.code, 127);
    assert!(error.reason.contains("cannot start ./no-such-program: No such file"), "{error}");

    let (capture, _sockets) = start(&options(&["/etc/passwd"]));
    let error = capture.start_program().await.expect_err("not executable");
    assert_eq!(error.code, 126);
    assert!(error.reason.contains("Permission denied"), "{error}");

    let no_folder = CaptureOptions { cwd: Some("/no/such/folder".into()), ..options(&["true"]) };
    let error = Capture::start(&no_folder).expect_err("no folder").to_string();
    assert!(error.contains("/no/such/folder is not there"), "{error}");
}

/// A program that leaves a stubborn grandchild: it is ended, and with it the last process in the namespace.
async fn nothing_left() {
    let script = "trap '' TERM; (trap '' TERM; while :; do sleep 1000; done) & echo $! > $0; exit 3";
    let folder = tempfile::tempdir().expect("temp dir");
    let file = folder.path().join("pid");
    let path = file.to_str().expect("text");
    let (capture, _sockets) = start(&options(&["sh", "-c", script, path]));
    let agent = children().into_iter().max().expect("the agent");
    capture.start_program().await.expect("started");
    assert_eq!(capture.wait().await.code(), 3);
    let left: u32 = read_number(&file).expect("written before the end");
    capture.shutdown().await;
    assert!(!Path::new(&format!("/proc/{left}")).exists(), "the grandchild is gone");
    assert!(!Path::new(&format!("/proc/{agent}")).exists(), "the agent is gone and reaped");
}

fn read_number(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn children() -> Vec<u32> {
    let me = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A second process holds a capture and is killed; agent and program must not survive it. Both have its standard output open, so
/// the end of that pipe is the end of them all.
async fn parent_killed() {
    let exe = std::env::current_exe().expect("own path");
    let mut holder = Command::new(exe).arg("holder").stdout(Stdio::piped()).spawn().expect("started");
    let mut output = BufReader::new(holder.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("read");
    let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect();
    assert_eq!(pids.len(), 2, "agent and program: {line}");
    assert!(pids.iter().all(|pid| Path::new(&format!("/proc/{pid}")).exists()));
    holder.kill().expect("killed");
    holder.wait().expect("reaped");
    // The program ignores SIGTERM, so the agent needs its grace.
    tokio::task::spawn_blocking(move || output.read_to_string(&mut line)).await.expect("no panic").expect("everybody has gone");
}

fn holder() {
    let (capture, _sockets) = start(&own(&["ignore-term"]));
    let agent = children().into_iter().max().expect("the agent");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        println!("{agent} {}", capture.start_program().await.expect("started"));
        capture.wait().await;
    });
}

/// The captured side. What goes wrong is a panic, hence exit code 101.
fn program(role: &str, rest: &[&str]) {
    let target = rest.first().copied().unwrap_or_default();
    match role {
        "connect" => {
            let mut stream = TcpStream::connect(target).expect("connected");
            stream.write_all(b"ping").expect("written");
            let mut text = [0; 4];
            stream.read_exact(&mut text).expect("read");
            assert_eq!(&text, b"pong");
        }
        "crowd" => connect_crowd(),
        "echo" => echo(target),
        "udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            socket.send_to(b"question", target).expect("sent");
            let mut text = [0; 16];
            let (length, from) = socket.recv_from(&mut text).expect("answered");
            assert_eq!((&text[..length], from.to_string().as_str()), (b"question".as_slice(), target));
        }
        "no-udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
            let told = socket.connect(target).and_then(|()| socket.send(b"x")).and_then(|_| socket.recv(&mut [0; 8]));
            told.expect_err("nothing answers");
        }
        "unreachable" => {
            // The machine's loopback is not the program's.
            TcpStream::connect(target).expect_err("refused");
            // Nor do the names of the network devices show any but the loopback.
            let devices = std::fs::read_to_string("/proc/net/dev").expect("read");
            assert_eq!(devices.lines().skip(2).filter(|line| !line.trim_start().starts_with("lo:")).count(), 0, "{devices}");
        }
        "powerless" => powerless(rest),
        "await-signal" => await_signal(target.parse().expect("a number")),
        "ignore-term" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("registered");
                while term.recv().await.is_some() {}
            });
        }
        other => panic!("no role {other}"),
    }
}

fn connect_crowd() {
    let connect = |thread: u16| {
        for number in 0..250 {
            let wanted = format!("240.240.{thread}.{number}:{}", 1000 + number);
            let mut told = String::new();
            TcpStream::connect(&wanted).expect("connected").read_to_string(&mut told).expect("read");
            assert_eq!(told.trim_end(), wanted);
        }
    };
    let threads: Vec<_> = (0..8).map(|thread| std::thread::spawn(move || connect(thread))).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

fn echo(address: &str) {
    let listener = TcpListener::bind(address).expect("bound");
    for stream in listener.incoming() {
        let mut stream = stream.expect("accepted");
        std::thread::spawn(move || {
            let mut text = [0; 5];
            if stream.read_exact(&mut text).is_ok() {
                stream.write_all(&text).expect("written");
            }
        });
    }
}

fn powerless(ids: &[&str]) {
    assert_eq!(ids, [nix::unistd::getuid().to_string(), nix::unistd::getgid().to_string()], "the caller's own user and group");
    let status = std::fs::read_to_string("/proc/self/status").expect("read");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).expect("there");
        assert!(line.ends_with("\t0000000000000000"), "{line}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "set-user-id programs gain nothing");
    // The redirect cannot be taken away, nor can the network be left.
    for tool in [["nft", "flush", "ruleset"], ["ip", "link", "del"], ["nsenter", "--net=/proc/1/ns/net", "true"]] {
        let path = "/usr/sbin:/sbin:/usr/bin:/bin";
        let Ok(output) = Command::new(tool[0]).args(&tool[1..]).env("PATH", path).output() else { continue };
        assert!(!output.status.success(), "{tool:?}");
    }
    let resolver = std::fs::read_to_string("/etc/resolv.conf").expect("read");
    assert!(resolver.contains("nameserver 127.0.0.53") && resolver.contains("ndots:5"), "{resolver}");
    assert_eq!(status.lines().find(|line| line.starts_with("SigBlk")), Some("SigBlk:\t0000000000000000"), "no signal is blocked");
}

fn await_signal(signal: i32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(signal)).expect("registered");
        let _told = tokio::net::TcpStream::connect("240.240.1.2:1").await.expect("captured");
        signals.recv().await;
    });
    std::process::exit(signal);
}
