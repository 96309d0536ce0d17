//! The run: every subject fresh in every round, the order reversed every other round, three measurements each.

use crate::{Options, certificates, client::Outcome, peers, procfs, report, weft};
use anyhow::{Context, Result, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What lies between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Direct,
    Weft,
    Pair,
    Envoy,
    Haproxy,
    Nginx,
}

impl Subject {
    const ALL: [Self; 6] = [Self::Direct, Self::Weft, Self::Pair, Self::Envoy, Self::Haproxy, Self::Nginx];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weft => "weft",
            Self::Pair => "pair",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }
}

/// One subject in one round.
pub(crate) struct Round {
    pub(crate) subject: Subject,
    /// 64 connections, as fast as it goes.
    pub(crate) closed: Outcome,
    /// A fixed rate.
    pub(crate) open: Outcome,
    /// One connection.
    pub(crate) single: Outcome,
    /// Resident memory of each process of one side before any load, in KiB.
    pub(crate) idle_kib: Vec<u64>,
}

/// What to run and how long.
struct Settings {
    weft: Option<PathBuf>,
    envoy: Option<String>,
    seconds: u64,
    rate: u64,
    rounds: u64,
    subjects: Vec<Subject>,
}

/// `weft-bench load`.
pub(crate) fn load(options: &Options) -> Result<()> {
    on_core(0);
    let quick = options.flag("quick");
    let only: Vec<&str> = options.text("only").map(|o| o.split(',').collect()).unwrap_or_default();
    let settings = Settings {
        weft: options.text("weft").map(PathBuf::from).filter(|p| p.exists()),
        envoy: options.text("envoy").map(str::to_owned).or_else(find_envoy),
        seconds: options.number("seconds", if quick { 2 } else { 5 })?,
        rate: options.number("rate", 2_000)?,
        rounds: options.number("rounds", if quick { 1 } else { 3 })?,
        subjects: Subject::ALL.into_iter().filter(|s| only.is_empty() || only.contains(&s.name())).collect(),
    };
    let mut rounds = vec![];
    for number in 0..settings.rounds {
        let mut order = settings.subjects.clone();
        if number % 2 == 1 {
            order.reverse();
        }
        for subject in order {
            eprintln!("round {} of {}: {}", number + 1, settings.rounds, subject.name());
            match round(subject, &settings) {
                Ok(round) => rounds.push(round),
                Err(error) => eprintln!("  left out: {error:#}"),
            }
        }
    }
    let text = report::text(&rounds, settings.rounds, settings.seconds, settings.rate);
    println!("{text}");
    if let Some(folder) = options.text("data") {
        fs::create_dir_all(folder)?;
        let path = format!("{folder}/{}.md", report::today());
        fs::write(&path, text).with_context(|| format!("cannot write {path}"))?;
        eprintln!("written to {path}");
    }
    match rounds.is_empty() {
        true => bail!("nothing was measured"),
        false => Ok(()),
    }
}

/// Pins this process, and what it starts from now on, to one core.
pub(crate) fn on_core(core: usize) {
    let mut set = CpuSet::new();
    // Where there is no such core, the processes stay where they are.
    if set.set(core).is_ok() {
        let _absent = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// The full path of a program in PATH or where administrators' programs are.
pub(crate) fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    folders.map(|f| format!("{f}/{program}")).find(|p| Path::new(p).is_file())
}

/// Envoy itself: where pip installed it, the program in PATH is a script that starts it and stays in memory.
pub(crate) fn find_envoy() -> Option<String> {
    let found = find("envoy")?;
    if !fs::read(&found).is_ok_and(|bytes| bytes.starts_with(b"#!")) {
        return Some(found);
    }
    let libraries = Path::new(&found).parent()?.parent()?.join("lib");
    let pythons = fs::read_dir(libraries).ok()?.flatten();
    pythons.map(|p| p.path().join("site-packages/envoy/_bin/envoy")).find(|p| p.is_file()).map(|p| p.display().to_string())
}

/// Processes that end with their owner.
#[derive(Default)]
pub(crate) struct Children(pub(crate) Vec<Child>);

impl Children {
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<u32> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let pid = child.id();
        self.0.push(child);
        Ok(pid)
    }

    /// Starts this program again with `args` and waits for the address that it prints.
    pub(crate) fn listening(&mut self, args: &[&str]) -> Result<String> {
        self.started(Command::new(std::env::current_exe()?).args(args))
    }

    /// Starts `command` and waits for the address that it prints.
    pub(crate) fn started(&mut self, command: &mut Command) -> Result<String> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        self.0.push(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(line.trim().strip_prefix("listening ").with_context(|| format!("{command:?} did not start"))?.to_owned())
    }
}

/// Latest first, politely, then not.
impl Drop for Children {
    fn drop(&mut self) {
        for mut child in self.0.drain(..).rev() {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while child.try_wait().is_ok_and(|s| s.is_none()) && Instant::now() < deadline {
                let _interrupted = nix::poll::poll(&mut [], 20_u8);
            }
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Everything that runs for one subject.
struct Bed {
    folder: tempfile::TempDir,
    children: Children,
    mesh: Option<weft::Mesh>,
    target: String,
    by_name: bool,
    roots: Vec<u32>,
}

fn round(subject: Subject, settings: &Settings) -> Result<Round> {
    let mut bed = set_up(subject, settings)?;
    // The first answer proves that the pair works; memory is read after it, at rest.
    bed.measure(&["--seconds", "1", "--warmup", "0", "--connections", "1"])?;
    let one_side: Vec<u32> = bed.roots.first().copied().into_iter().collect();
    let idle = procfs::resident_kib(&procfs::proxies(&one_side));
    let (seconds, rate) = (settings.seconds.to_string(), settings.rate.to_string());
    let closed = bed.measure(&["--seconds", &seconds, "--connections", "64"])?;
    let open = bed.measure(&["--seconds", &seconds, "--connections", "64", "--rate", &rate])?;
    let single = bed.measure(&["--seconds", &seconds, "--connections", "1"])?;
    Ok(Round { subject, closed, open, single, idle_kib: idle })
}

fn set_up(subject: Subject, settings: &Settings) -> Result<Bed> {
    let folder = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let mut bed =
        Bed { folder, children: Children::default(), mesh: None, target: String::new(), by_name: subject == Subject::Pair, roots: vec![] };
    if subject == Subject::Weft {
        let program = settings.weft.as_deref().context("no weft program: give --weft")?;
        let mesh = weft::Mesh::start(program, bed.folder.path(), &mut bed.children)?;
        (bed.target, bed.roots) = (weft::Mesh::target(), vec![mesh.origin]);
        bed.mesh = Some(mesh);
        return Ok(bed);
    }
    let origin = bed.children.listening(&["origin"])?;
    certificates::write(bed.folder.path())?;
    if subject == Subject::Pair {
        let folder = bed.folder.path().display().to_string();
        let mut next = origin;
        for side in ["server", "client"] {
            next = bed.children.listening(&["proxy", "--side", side, "--next", &next, "--folder", &folder])?;
            bed.roots.extend(bed.children.0.last().map(Child::id));
        }
        bed.target = next;
        return Ok(bed);
    }
    let pair = match subject {
        Subject::Envoy => peers::envoy(&settings.envoy.clone().context("not installed")?, bed.folder.path(), &origin, peers::Shape::MESH)?,
        Subject::Haproxy => peers::haproxy(&find("haproxy").context("not installed")?, bed.folder.path(), &origin, peers::Shape::MESH)?,
        Subject::Nginx => peers::nginx(&find("nginx").context("not installed")?, bed.folder.path(), &origin, peers::Shape::MESH)?,
        Subject::Direct | Subject::Weft | Subject::Pair => peers::Pair { target: origin, callee: String::new(), sides: vec![] },
    };
    bed.target = pair.target;
    for mut side in pair.sides {
        let log = fs::File::options().create(true).append(true).open(bed.folder.path().join("log"))?;
        bed.roots.push(bed.children.spawn(side.command.stdout(log.try_clone()?).stderr(log))?);
    }
    Ok(bed)
}

impl Bed {
    /// Runs the client, inside the mesh when there is one.
    fn measure(&mut self, more: &[&str]) -> Result<Outcome> {
        let roots = self.folder.path().join("roots");
        let own = std::env::current_exe()?;
        let mut command = match &self.mesh {
            Some(mesh) => {
                let mut command = mesh.run("client", &[]);
                command.arg(own);
                command
            }
            None => Command::new(own),
        };
        // The name that the proxies know; the address would be a host of its own to them.
        let host = if self.by_name { "origin" } else { self.target.as_str() };
        command.args(["client", "--target", &self.target, "--host", host, "--roots"]).arg(&roots).args(more);
        write_roots(&roots, &self.roots)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if self.mesh.is_some() {
            let both: Vec<u32> = self.roots.iter().copied().chain([child.id()]).collect();
            write_roots(&roots, &both)?;
        }
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let outcome = text.lines().rev().find_map(|l| serde_json::from_str::<Outcome>(l).ok());
        outcome.with_context(|| self.failure(&String::from_utf8_lossy(&output.stderr)))
    }

    fn failure(&self, stderr: &str) -> String {
        let logs = ["log", "up.log", "origin.log"].map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default());
        format!("the client failed: {}{}", stderr.trim(), logs.join("\n"))
    }
}

fn write_roots(path: &Path, roots: &[u32]) -> Result<()> {
    fs::write(path, roots.iter().map(|r| format!("{r}\n")).collect::<String>()).context("cannot write the roots")
}
