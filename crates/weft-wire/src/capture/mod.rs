//! Capture: an unmodified program in a user, network and mount namespace of its own, whose only way out is the proxy.
//!
//! No privilege is needed. [`Capture::start`] re-executes this binary as a small *agent*, which enters the namespaces, brings the
//! loopback up, routes everything to it, redirects TCP to a listener, and gives the program its own `/etc/resolv.conf`. The
//! listeners are made inside and handed out over a Unix socket, so the proxy outside accepts what the program connects to (asking
//! [`crate::listen::original_dst`] where to) and answers its DNS. The other direction works alike: a socket belongs to the namespace
//! it was made in, so the agent makes unconnected sockets in batches, and [`ProgramSockets`] connects them to the program's ports.
//!
//! The program runs as the caller's user, without capabilities. When it ends, what it has left behind is ended; when the parent
//! dies, however it dies, the agent ends the program.

mod agent;
mod confine;
mod message;
mod program_sockets;
mod raw;

pub use agent::{AGENT_COMMAND, agent_main, run_if_agent};
pub use confine::{DNS_ADDRESS, OUTBOUND_PORT, PROGRAM_ADDRESS};
pub use program_sockets::ProgramSockets;

/// See [`crate::memory`]; it is here because what is unsafe is in one place.
pub(crate) use message::{receive, send};
pub(crate) use raw::{FDS_MAX, own};

pub(crate) fn forget_clean_code(start: usize, length: usize) -> bool {
    raw::forget_clean_code(start, length)
}

use message::{Event, Request};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair},
};
use program_sockets::Pool;
use std::{
    ffi::OsString,
    io::IsTerminal,
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
};
use tokio::sync::watch;

/// Workers that can have a listener each.
pub const WORKERS_MAX: usize = 64;

/// How long the agent may take to be ready, in milliseconds. It needs some ten.
const START_TIMEOUT_MS: u16 = 20_000;

/// What to run, and for how many workers.
#[derive(Debug, Clone, Default)]
pub struct CaptureOptions {
    /// The program and its arguments. A name without slash is looked for in PATH.
    pub program: Vec<OsString>,
    /// Variables to add to this process's environment.
    pub env: Vec<(OsString, OsString)>,
    /// The program's working folder; this process's when `None`.
    pub cwd: Option<PathBuf>,
    /// Workers of the proxy: so many listeners are made for each IP version.
    pub workers: usize,
    /// Where short names are looked for: `default.svc.cluster.local svc.cluster.local cluster.local`.
    pub search: Vec<String>,
    /// The binary that calls [`run_if_agent`]; this process's own when `None`.
    pub agent: Option<PathBuf>,
}

/// Why capture does not work on this machine, and what would make it work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("programs cannot be captured here: {reason}; {fix}")]
pub struct CaptureUnavailable {
    /// What does not work.
    pub reason: String,
    /// What to do about it.
    pub fix: String,
}

/// The sockets inside the namespace, for the proxy.
#[derive(Debug)]
pub struct CaptureSockets {
    /// For connections over IPv4, one for each worker.
    pub outbound: Vec<TcpListener>,
    /// For connections over IPv6, one for each worker; none on a machine without IPv6.
    pub outbound_v6: Vec<TcpListener>,
    /// For name lookups.
    pub dns: DnsSockets,
}

/// The two sockets of a DNS server.
#[derive(Debug)]
pub struct DnsSockets {
    /// Where most questions come.
    pub udp: UdpSocket,
    /// Where long answers are asked for.
    pub tcp: TcpListener,
}

/// The program could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotStarted {
    /// What a shell would exit with: 127 when it was not found, 126 when it cannot be executed.
    pub code: i32,
    /// Which program, and why.
    pub reason: String,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramEnd {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// Its agent was killed from outside, and the program with it.
    AgentLost,
}

impl ProgramEnd {
    /// The exit code to pass on, as a shell gives it: 128 + signal when killed.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
            Self::AgentLost => 128 + nix::sys::signal::Signal::SIGKILL as i32,
        }
    }
}

/// What is known of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Program {
    Waiting,
    Running { pid: i32 },
    NotStarted(NotStarted),
    Ended(ProgramEnd),
}

/// A captured program, or the world that is ready for it. Dropping it ends the program and all that it started.
#[derive(Debug)]
pub struct Capture {
    control: Arc<OwnedFd>,
    program: watch::Receiver<Program>,
    agent_gone: watch::Receiver<bool>,
    sockets: ProgramSockets,
}

impl Capture {
    /// Makes the namespaces and their sockets. The program is started later by [`Capture::start_program`], when the proxy serves.
    ///
    /// This blocks for some ten milliseconds (`ip` and `nft` run); call it before the runtime, or from `spawn_blocking`.
    ///
    /// # Errors
    /// When this machine, or this user on it, cannot capture. Nothing is left behind then.
    pub fn start(options: &CaptureOptions) -> Result<(Self, CaptureSockets), CaptureUnavailable> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(broken)?;
        let mut agent = spawn_agent(options, &theirs)?;
        drop(theirs);
        let sockets = match receive_ready(&ours) {
            Ok(sockets) => sockets,
            Err(unavailable) => {
                drop(ours);
                // It ends by itself when it has told a reason; one that hangs does not.
                agent.kill().ok();
                agent.wait().ok();
                return Err(unavailable);
            }
        };
        let control = Arc::new(ours);
        let pool = Arc::new(Pool::new(control.clone()));
        let (program_sender, program) = watch::channel(Program::Waiting);
        let (gone_sender, agent_gone) = watch::channel(false);
        let listener = Listener { control: control.clone(), pool: pool.clone(), program: program_sender, gone: gone_sender, agent };
        std::thread::Builder::new().name("capture".into()).stack_size(128 * 1024).spawn(move || listener.run()).map_err(broken)?;
        Ok((Self { control, program, agent_gone, sockets: ProgramSockets::new(pool) }, sockets))
    }

    /// The way to the program's ports, for all workers.
    pub fn program_sockets(&self) -> ProgramSockets {
        self.sockets.clone()
    }

    /// Starts the program, once. Answers its process id, or 0 when it has ended already.
    ///
    /// # Errors
    /// When it cannot be executed; the text names it.
    pub async fn start_program(&self) -> Result<u32, NotStarted> {
        self.ask(&Request::Start);
        let mut program = self.program.clone();
        let known = program.wait_for(|program| *program != Program::Waiting).await.map(|program| program.clone());
        match known {
            Ok(Program::Running { pid }) => Ok(pid.unsigned_abs()),
            Ok(Program::NotStarted(reason)) => Err(reason),
            // It ended before anybody looked; its exit code tells more than its process id would.
            Ok(Program::Ended(ProgramEnd::Exited(_) | ProgramEnd::Killed(_))) => Ok(0),
            Ok(Program::Ended(ProgramEnd::AgentLost) | Program::Waiting) | Err(_) => {
                Err(NotStarted { code: 126, reason: "the agent that runs the program has ended; was it killed?".into() })
            }
        }
    }

    /// Waits for the end of the program. Safe to cancel, and to call again.
    pub async fn wait(&self) -> ProgramEnd {
        let mut program = self.program.clone();
        let ended = program.wait_for(|program| matches!(program, Program::Ended(_))).await;
        match ended.as_deref() {
            Ok(Program::Ended(end)) => *end,
            _ => ProgramEnd::AgentLost,
        }
    }

    /// Forwards a signal that this process received to the program.
    ///
    /// SIGINT and SIGQUIT are not forwarded when this process is in the foreground of a terminal: the terminal has sent them to the
    /// program as well, and two interrupts often mean something else than one.
    pub fn signal(&self, signal: i32) {
        use nix::sys::signal::Signal;
        let of_terminal = signal == Signal::SIGINT as i32 || signal == Signal::SIGQUIT as i32;
        if !(of_terminal && in_foreground()) {
            self.ask(&Request::Signal(signal));
        }
    }

    /// Ends the program and all that it started, and waits until the namespaces are gone.
    pub async fn shutdown(self) {
        let mut gone = self.agent_gone.clone();
        drop(self);
        // An error means that the thread that tells has ended, and with it the agent.
        gone.wait_for(|gone| *gone).await.ok();
    }

    fn ask(&self, request: &Request) {
        // An agent that is gone is noticed by the thread that listens to it.
        message::send(self.control.as_fd(), &request.encode(), &[]).ok();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // The agent sees the end of the stream and ends everything; it needs nobody to wait for it.
        shutdown(self.control.as_raw_fd(), Shutdown::Both).ok();
    }
}

fn spawn_agent(options: &CaptureOptions, control: &OwnedFd) -> Result<Child, CaptureUnavailable> {
    // Not by its path: that may have been replaced by a newer build, or lie in a folder that this user may not enter.
    let mut command = Command::new(options.agent.as_deref().unwrap_or(Path::new("/proc/self/exe")));
    command.arg0("weft");
    command.arg(AGENT_COMMAND).arg(control.as_raw_fd().to_string());
    command.arg(options.workers.clamp(1, WORKERS_MAX).to_string()).arg(options.search.join(" ")).args(&options.program);
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &options.cwd {
        command.current_dir(cwd);
    }
    raw::inherit(&mut command, control.as_raw_fd());
    command.spawn().map_err(|error| match &options.cwd {
        Some(cwd) if !cwd.is_dir() => {
            confine::unavailable(format!("the working folder {} is not there", cwd.display()), "name another one")
        }
        _ => broken(error),
    })
}

/// The agent's first message.
fn receive_ready(control: &OwnedFd) -> Result<CaptureSockets, CaptureUnavailable> {
    let lost = || confine::unavailable("the agent ended before it was ready".into(), "look for its message above; was it killed?");
    let ready = loop {
        match poll(&mut [PollFd::new(control.as_fd(), PollFlags::POLLIN)], START_TIMEOUT_MS) {
            Err(Errno::EINTR) => {}
            other => break other.map_err(broken)?,
        }
    };
    if ready == 0 {
        return Err(confine::unavailable("the agent is not ready in time".into(), "look at what `ip` and `nft` do on this machine"));
    }
    let (bytes, fds) = message::receive(control).map_err(broken)?.ok_or_else(lost)?;
    match Event::decode(&bytes) {
        Some(Event::Ready { v4, v6 }) if fds.len() == usize::from(v4) + usize::from(v6) + 2 => {
            let mut fds = fds.into_iter();
            let outbound = fds.by_ref().take(v4.into()).map(TcpListener::from).collect();
            let outbound_v6 = fds.by_ref().take(v6.into()).map(TcpListener::from).collect();
            let (udp, tcp) = (fds.next().ok_or_else(lost)?.into(), fds.next().ok_or_else(lost)?.into());
            Ok(CaptureSockets { outbound, outbound_v6, dns: DnsSockets { udp, tcp } })
        }
        Some(Event::Unavailable { reason, fix }) => Err(CaptureUnavailable { reason, fix }),
        _ => Err(lost()),
    }
}

fn broken(error: impl std::fmt::Display) -> CaptureUnavailable {
    confine::unavailable(format!("the agent cannot be started: {error}"), "check the limits on processes and open files (ulimit -u, -n)")
}

/// Does the terminal, if there is one, send its signals to this process's group, in which the program is, too?
fn in_foreground() -> bool {
    let stdin = std::io::stdin();
    stdin.is_terminal() && nix::unistd::tcgetpgrp(stdin) == Ok(nix::unistd::getpgrp())
}

/// The thread that hears the agent. It waits in the kernel; every runtime of the process can use what it brings.
struct Listener {
    control: Arc<OwnedFd>,
    pool: Arc<Pool>,
    program: watch::Sender<Program>,
    gone: watch::Sender<bool>,
    agent: Child,
}

impl Listener {
    fn run(mut self) {
        while let Ok(Some((bytes, fds))) = message::receive(&self.control) {
            match Event::decode(&bytes) {
                Some(Event::Sockets(family)) => self.pool.arrived(family, fds),
                Some(Event::Started { pid }) => self.note(Program::Running { pid }),
                Some(Event::NotStarted { code, reason }) => self.note(Program::NotStarted(NotStarted { code, reason })),
                Some(Event::Exited { code }) => self.note(Program::Ended(ProgramEnd::Exited(code))),
                Some(Event::Killed { signal }) => self.note(Program::Ended(ProgramEnd::Killed(signal))),
                Some(Event::Ready { .. } | Event::Unavailable { .. }) | None => {}
            }
        }
        self.pool.close();
        // The agent ends when the program has ended, or because it was killed; either way nothing remains to be done.
        self.agent.wait().ok();
        if !matches!(&*self.program.borrow(), Program::Ended(_) | Program::NotStarted(_)) {
            self.note(Program::Ended(ProgramEnd::AgentLost));
        }
        self.gone.send_replace(true);
    }

    fn note(&self, program: Program) {
        self.program.send_replace(program);
    }
}
