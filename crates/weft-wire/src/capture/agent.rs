//! The agent: a small single-threaded process inside the program's namespaces. It sets them up, makes sockets for the proxy
//! outside, runs the program, and sees to it that nothing is left behind.

use super::{
    CaptureUnavailable, confine,
    confine::{DNS_ADDRESS, OUTBOUND_PORT, unavailable},
    message::{self, Event, Family, Request},
    raw,
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};
use socket2::{Domain, Socket, Type};
use std::{
    ffi::OsString,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd, RawFd},
    process::Command,
    time::Duration,
};
use weft_std::clock;

/// The hidden first argument that makes a binary the agent.
pub const AGENT_COMMAND: &str = "capture-agent";

/// How long leftovers of the program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// Is this process to be the agent? Then it is, until the program has ended, and the answer is the exit code.
///
/// A binary that calls [`super::Capture::start`] calls this first of all in `main`: before any thread or runtime is made, since a
/// process with threads cannot enter a user namespace.
pub fn run_if_agent() -> Option<i32> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == AGENT_COMMAND).then(|| agent_main(arguments))
}

/// The agent's life; `arguments` are those after [`AGENT_COMMAND`]: the control socket's number, the number of workers, the search
/// domains, then the program and its arguments.
pub fn agent_main(mut arguments: impl Iterator<Item = OsString>) -> i32 {
    let mut next = || arguments.next()?.into_string().ok();
    let (Some(fd), Some(workers), Some(search)) = (next(), next(), next()) else { return usage() };
    let (Ok(fd), Ok(workers)) = (fd.parse::<RawFd>(), workers.parse::<u8>()) else { return usage() };
    let Ok(control) = raw::claim_inherited(fd) else { return usage() };
    let program: Vec<OsString> = arguments.collect();

    let ready = set_up(workers, &search).and_then(|sockets| {
        let agent = Agent::new(control.try_clone().map_err(failed("copy a socket"))?, program).map_err(failed("watch signals"))?;
        Ok((sockets, agent))
    });
    match ready {
        Ok((sockets, agent)) => {
            let told = message::send(control.as_fd(), &sockets.event.encode(), &sockets.fds);
            // The proxy has its own copies; while one is open here, a closed listener would still take connections.
            drop(sockets);
            told.map_or(1, |()| agent.run())
        }
        Err(CaptureUnavailable { reason, fix }) => {
            // A parent that is gone needs no answer.
            message::send(control.as_fd(), &Event::Unavailable { reason, fix }.encode(), &[]).ok();
            1
        }
    }
}

fn usage() -> i32 {
    eprintln!("`{AGENT_COMMAND}` is started by `weft run` and is of no use by itself");
    2
}

/// The sockets of the proxy inside the namespace, and the message that goes with them.
struct Sockets {
    event: Event,
    fds: Vec<OwnedFd>,
}

fn set_up(workers: u8, search: &str) -> Result<Sockets, CaptureUnavailable> {
    confine::enter_namespaces()?;
    let v6 = confine::set_up_network()?;
    confine::set_up_resolver(search)?;
    let listen = |address: IpAddr| crate::listen::reuse_port_listeners(SocketAddr::new(address, OUTBOUND_PORT), workers.into());
    let v4 = listen(Ipv4Addr::LOCALHOST.into()).map_err(failed("listen for outbound connections"))?;
    let v6 = if v6 { listen(Ipv6Addr::LOCALHOST.into()).unwrap_or_default() } else { Vec::new() };
    let dns = SocketAddr::from(DNS_ADDRESS);
    let udp = UdpSocket::bind(dns).map_err(failed("serve DNS over UDP"))?;
    let tcp = TcpListener::bind(dns).map_err(failed("serve DNS over TCP"))?;
    let count = |listeners: &[TcpListener]| u8::try_from(listeners.len()).unwrap_or(u8::MAX);
    let event = Event::Ready { v4: count(&v4), v6: count(&v6) };
    let fds = v4.into_iter().chain(v6).map(OwnedFd::from).chain([udp.into(), tcp.into()]).collect();
    Ok(Sockets { event, fds })
}

fn failed<E: std::fmt::Display>(action: &'static str) -> impl Fn(E) -> CaptureUnavailable {
    move |error| unavailable(format!("the agent in the namespace cannot {action}: {error}"), "this should not happen; please report it")
}

struct Agent {
    control: OwnedFd,
    signals: SignalFd,
    command: Vec<OsString>,
    program: Option<Pid>,
}

impl Agent {
    fn new(control: OwnedFd, command: Vec<OsString>) -> nix::Result<Self> {
        // Signals of the terminal reach the program by themselves, and others are forwarded by the parent: the agent takes none.
        let mut mask = SigSet::all();
        for fatal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT] {
            mask.remove(fatal);
        }
        mask.thread_block()?;
        let mut watched = SigSet::empty();
        watched.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // What the program leaves behind becomes the agent's child, so that it can be found and ended.
        prctl::set_child_subreaper(true)?;
        // The program is of the same user and must not be able to look into its keeper.
        prctl::set_dumpable(false)?;
        Ok(Self { control, signals, command, program: None })
    }

    /// Serves until the program has ended or the parent is gone.
    fn run(mut self) -> i32 {
        loop {
            let (asked, child) = match self.wait(PollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            };
            if child && let Some(event) = self.reap() {
                // Nothing more to do for a parent that is gone.
                self.tell(&event, &[]).ok();
                break;
            }
            if asked && !self.serve() {
                break;
            }
        }
        self.end_everything();
        0
    }

    /// Waits for the parent or for children: which of them?
    fn wait(&self, timeout: PollTimeout) -> nix::Result<(bool, bool)> {
        let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, timeout)?;
        Ok((fds[0].any().unwrap_or(true), fds[1].any().unwrap_or(true)))
    }

    /// Does what the parent asks; false when it is gone.
    fn serve(&mut self) -> bool {
        let Ok(Some((bytes, _))) = message::receive(&self.control) else { return false };
        let done = match Request::decode(&bytes) {
            Some(Request::Start) => self.start(),
            Some(Request::Sockets(family, count)) => self.hand_out(family, count),
            Some(Request::Signal(signal)) => {
                if let (Some(program), Ok(signal)) = (self.program, Signal::try_from(signal)) {
                    // It fails only for a program that has just ended, which is told anyway.
                    kill(program, signal).ok();
                }
                Ok(())
            }
            None => Ok(()),
        };
        done.is_ok()
    }

    /// Starts the program without privileges.
    fn start(&mut self) -> io::Result<()> {
        if self.program.is_some() {
            return Ok(());
        }
        let Some((name, arguments)) = self.command.split_first() else {
            return self.tell(&Event::NotStarted { code: 127, reason: "no program is given".into() }, &[]);
        };
        let mut command = Command::new(name);
        command.args(arguments);
        raw::confine_child(&mut command);
        let event = match command.spawn() {
            Ok(child) => {
                let pid = i32::try_from(child.id()).unwrap_or(-1);
                self.program = Some(Pid::from_raw(pid));
                Event::Started { pid }
            }
            Err(error) => {
                let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
                Event::NotStarted { code, reason: format!("cannot start {}: {error}", name.display()) }
            }
        };
        self.tell(&event, &[])
    }

    /// Makes sockets that belong to this namespace; whoever connects them reaches the program.
    fn hand_out(&self, family: Family, count: u8) -> io::Result<()> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        // One in a message: a parent that is out of file descriptors then loses one and not a part of a message.
        for _ in 0..count {
            let Ok(socket) = Socket::new(domain, Type::STREAM, None) else { break };
            self.tell(&Event::Sockets(family), &[socket.into()])?;
        }
        // The end of the batch.
        self.tell(&Event::Sockets(family), &[])
    }

    fn tell(&self, event: &Event, fds: &[OwnedFd]) -> io::Result<()> {
        message::send(self.control.as_fd(), &event.encode(), fds)
    }

    /// Takes note of ended children; answers when the program is among them.
    fn reap(&mut self) -> Option<Event> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let mut end = None;
        loop {
            let status = waitpid(None, Some(WaitPidFlag::WNOHANG));
            let event = match status {
                Ok(WaitStatus::Exited(pid, code)) if Some(pid) == self.program => Event::Exited { code },
                Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == self.program => Event::Killed { signal: signal as i32 },
                Ok(WaitStatus::StillAlive) | Err(_) => return end,
                Ok(_) => continue,
            };
            self.program = None;
            end = Some(event);
        }
    }

    /// Ends the program and all that it started: politely first. Processes whose parent ends come to the agent, so it goes on until
    /// there is none.
    fn end_everything(&mut self) {
        let deadline = clock::now() + GRACE;
        let mut signal = Signal::SIGTERM;
        loop {
            for child in children() {
                kill(child, signal).ok();
            }
            while self.has_children() {
                let left = deadline.saturating_duration_since(clock::now());
                let pause = if signal == Signal::SIGTERM { left } else { Duration::from_millis(20) };
                let timeout = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
                let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, timeout).ok();
                while let Ok(Some(_)) = self.signals.read_signal() {}
                if signal == Signal::SIGKILL || clock::now() >= deadline {
                    break;
                }
            }
            if !self.has_children() {
                return;
            }
            signal = Signal::SIGKILL;
        }
    }

    /// Reaps what has ended; is anything left?
    fn has_children(&self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return false,
                Ok(WaitStatus::StillAlive) | Err(_) => return true,
                Ok(_) => {}
            }
        }
    }
}

/// The processes whose parent is this one (proc_pid_stat(5): the fourth field, after the name in parentheses).
fn children() -> Vec<Pid> {
    let me = getpid().to_string();
    let parent_of = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && parent_of(name).as_deref() == Some(&me));
    pids.filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
