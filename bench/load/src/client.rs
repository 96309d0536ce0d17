//! The client: many keep-alive connections in one thread over `ppoll`, whose time-out is exact enough for an open loop.

use crate::{Options, procfs};
use anyhow::{Context, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

/// What to do.
pub(crate) struct Plan {
    target: String,
    host: String,
    connections: usize,
    warmup: Duration,
    window: Duration,
    /// Requests per second; `None` sends the next when the last is answered.
    rate: Option<u64>,
    /// A file with the process ids of the proxies, one per line.
    roots: Option<PathBuf>,
}

/// What came of it, in the window after the warm-up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    /// CPU time of all proxies per request, in microseconds.
    pub(crate) cpu_us: f64,
    pub(crate) user_us: f64,
    pub(crate) kernel_us: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// Resident memory of each proxy process at the end, in KiB.
    pub(crate) resident_kib: Vec<u64>,
}

impl Plan {
    pub(crate) fn from_options(options: &Options) -> Result<Self> {
        let target = options.text("target").context("--target")?.to_owned();
        let rate = options.number("rate", 0)?;
        Ok(Self {
            host: options.text("host").unwrap_or(&target).to_owned(),
            target,
            connections: usize::try_from(options.number("connections", 64)?)?,
            warmup: Duration::from_secs(options.number("warmup", 1)?),
            window: Duration::from_secs(options.number("seconds", 5)?),
            rate: (rate > 0).then_some(rate),
            roots: options.text("roots").map(PathBuf::from),
        })
    }
}

struct Connection {
    stream: TcpStream,
    /// When the request in flight should have been sent.
    since: Option<Instant>,
    received: Vec<u8>,
}

/// Runs the plan.
pub(crate) fn run(plan: &Plan) -> Result<Outcome> {
    // Timers of an ordinary thread may be 50 µs late by default, as long as a direct request takes.
    nix::sys::prctl::set_timerslack(1).context("timer slack")?;
    let address = wait_for(&plan.target, &plan.host)?;
    let request = format!("GET /bench HTTP/1.1\r\nhost: {}\r\nuser-agent: weft-bench\r\n\r\n", plan.host);
    let mut load =
        Load { plan, address, request, connections: vec![], waiting: VecDeque::new(), latencies_us: vec![], errors: 0, counting: false };
    for _ in 0..plan.connections {
        load.connections.push(connect(address)?);
    }
    load.drive()
}

/// The first answer may take until the configuration has arrived.
fn wait_for(target: &str, host: &str) -> Result<SocketAddr> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut last = String::new();
    while Instant::now() < deadline {
        match probe(target, host) {
            Ok(address) => return Ok(address),
            Err(error) => last = format!("{error:#}"),
        }
        let _interrupted = nix::poll::poll(&mut [], 100_u8);
    }
    bail!("{target} gives no 200: {last}")
}

fn probe(target: &str, host: &str) -> Result<SocketAddr> {
    let address = target.to_socket_addrs().context("name")?.next().context("no address")?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 512];
    let length = stream.read(&mut head)?;
    let text = String::from_utf8_lossy(head.get(..length).unwrap_or_default());
    match text.starts_with("HTTP/1.1 200") {
        true => Ok(address),
        false => bail!("{}", text.lines().next().unwrap_or("no answer")),
    }
}

fn connect(address: SocketAddr) -> Result<Connection> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Connection { stream, since: None, received: Vec::with_capacity(8_192) })
}

struct Load<'a> {
    plan: &'a Plan,
    address: SocketAddr,
    request: String,
    connections: Vec<Connection>,
    /// Intended times of requests for which no connection is free.
    waiting: VecDeque<Instant>,
    latencies_us: Vec<u64>,
    errors: u64,
    counting: bool,
}

impl Load<'_> {
    fn drive(&mut self) -> Result<Outcome> {
        let roots = match &self.plan.roots {
            Some(file) => fs::read_to_string(file)?.lines().filter_map(|l| l.trim().parse().ok()).collect(),
            None => vec![],
        };
        let start = Instant::now();
        let (begin, end) = (start + self.plan.warmup, start + self.plan.warmup + self.plan.window);
        let interval = self.plan.rate.map(|r| Duration::from_nanos(1_000_000_000 / r.max(1)));
        let mut next = start;
        let mut pids = vec![];
        let mut before = (start, procfs::Cpu::default());
        loop {
            let now = Instant::now();
            if !self.counting && now >= begin {
                self.counting = true;
                (self.latencies_us, self.errors) = (Vec::with_capacity(1 << 20), 0);
                pids = procfs::proxies(&roots);
                before = (Instant::now(), procfs::cpu(&pids));
            }
            if now >= end {
                return Ok(self.outcome(before, &pids));
            }
            while let Some(interval) = interval.filter(|_| next <= now) {
                self.waiting.push_back(next);
                next += interval;
            }
            self.send(now, interval.is_none())?;
            let until = if interval.is_some() { next.min(end) } else { end };
            self.receive(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)))?;
        }
    }

    /// Sends on free connections: what waits, or, in a closed loop, one each.
    fn send(&mut self, now: Instant, closed: bool) -> Result<()> {
        for connection in &mut self.connections {
            if connection.since.is_some() {
                continue;
            }
            let Some(since) = (if closed { Some(now) } else { self.waiting.pop_front() }) else { break };
            connection.since = Some(since);
            if connection.stream.write_all(self.request.as_bytes()).is_err() {
                self.errors += 1;
                *connection = connect(self.address)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, timeout: Duration) -> Result<()> {
        let ready: Vec<usize> = {
            let fds = self.connections.iter().map(|c| c.stream.as_fd());
            let mut polled: Vec<PollFd<'_>> = fds.map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN)).collect();
            ppoll(&mut polled, Some(TimeSpec::from_duration(timeout)), None)?;
            polled.iter().enumerate().filter(|(_, p)| p.any().unwrap_or(false)).map(|(i, _)| i).collect()
        };
        for at in ready {
            let Some(connection) = self.connections.get_mut(at) else { continue };
            match read(connection) {
                Ok(None) => {}
                Ok(Some(status)) => {
                    self.errors += u64::from(status != 200);
                    if let Some(since) = connection.since.take() {
                        self.latencies_us.push(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
                    }
                }
                Err(_) => {
                    self.errors += u64::from(connection.since.is_some());
                    *connection = connect(self.address)?;
                }
            }
        }
        Ok(())
    }

    fn outcome(&mut self, (began, before): (Instant, procfs::Cpu), pids: &[u32]) -> Outcome {
        let (after, elapsed) = (procfs::cpu(pids), began.elapsed());
        self.latencies_us.sort_unstable();
        let requests = self.latencies_us.len() as u64;
        let per = |value: f64| value / requests.max(1) as f64;
        let at = |q: f64| {
            let index = ((requests as f64 * q) as usize).min(self.latencies_us.len().saturating_sub(1));
            self.latencies_us.get(index).copied().unwrap_or(0)
        };
        // A clock tick is 10 ms on all of Linux' usual platforms.
        let ticks_us = |after: u64, before: u64| per(after.saturating_sub(before) as f64 * 10_000.0);
        Outcome {
            requests,
            errors: self.errors,
            seconds: elapsed.as_secs_f64(),
            cpu_us: per(after.run_ns.saturating_sub(before.run_ns) as f64 / 1_000.0),
            user_us: ticks_us(after.user_ticks, before.user_ticks),
            kernel_us: ticks_us(after.kernel_ticks, before.kernel_ticks),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: at(1.0),
            resident_kib: procfs::resident_kib(pids),
        }
    }
}

/// Reads what is there; the status once the response is whole.
fn read(connection: &mut Connection) -> Result<Option<u16>> {
    let mut chunk = [0; 16_384];
    match connection.stream.read(&mut chunk) {
        Ok(0) => bail!("closed"),
        Ok(n) => connection.received.extend(chunk.iter().take(n)),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
        Err(e) => return Err(e.into()),
    }
    let received = &connection.received;
    let Some(head) = received.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(received.get(..head).unwrap_or_default())?.to_ascii_lowercase();
    let body = received.len() - head - 4;
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|n| n.trim().parse::<usize>().ok());
    let whole = match length {
        Some(length) => body >= length,
        None => received.ends_with(b"0\r\n\r\n"),
    };
    if !whole {
        return Ok(None);
    }
    let status = text.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
    connection.received.clear();
    Ok(Some(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_response_in_pieces_is_read_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut connection = connect(listener.local_addr().expect("bound")).expect("connects");
        connection.stream.set_nonblocking(false).expect("own socket");
        let (mut server, _) = listener.accept().expect("was connected");
        let mut answer = |piece: &[u8]| {
            server.write_all(piece).expect("connected");
            read(&mut connection).expect("readable")
        };
        assert_eq!(answer(b"HTTP/1.1 503 Service Unavailable\r\nContent-Le"), None);
        assert_eq!(answer(b"ngth: 3\r\n\r\nab"), None);
        assert_eq!(answer(b"c"), Some(503));
    }
}
