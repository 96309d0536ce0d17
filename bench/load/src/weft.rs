//! Weft itself: `weft up`, and the server and the client each as an unmodified program under `weft run`.

use crate::scenario::{Children, on_core};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Port of the server inside its own network namespace.
const ORIGIN_PORT: u16 = 9_000;

/// A mesh with the server in it.
pub(crate) struct Mesh {
    program: PathBuf,
    state: PathBuf,
    /// Process of the server's `weft run`.
    pub(crate) origin: u32,
}

impl Mesh {
    /// Starts the control plane (on another core where there is one: it is not on the path) and the server.
    pub(crate) fn start(program: &Path, folder: &Path, children: &mut Children) -> Result<Self> {
        let state = folder.join("state");
        let log = fs::File::create(folder.join("up.log"))?;
        let mut up = Command::new(program);
        up.arg("--state-dir").arg(&state).args(["up", "--api-port", "0", "--xds-port", "0", "--gateway-workers", "1"]);
        up.stdout(log.try_clone()?).stderr(log);
        on_core(1);
        let started = children.spawn(&mut up);
        on_core(0);
        started?;
        wait(&state.join("up.json")).with_context(|| fs::read_to_string(folder.join("up.log")).unwrap_or_default())?;
        let mut mesh = Self { program: program.into(), state, origin: 0 };
        let own = std::env::current_exe()?;
        let mut origin = mesh.run("origin", &["--port", &format!("{ORIGIN_PORT}/http")]);
        origin.arg(own).args(["origin", "--listen", &format!("127.0.0.1:{ORIGIN_PORT}")]);
        let log = fs::File::create(folder.join("origin.log"))?;
        mesh.origin = children.spawn(origin.stdout(log.try_clone()?).stderr(log))?;
        Ok(mesh)
    }

    /// `weft run … --`, to which the program is added.
    pub(crate) fn run(&self, name: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--state-dir").arg(&self.state).args(["run", "--name", name]).args(more).arg("--");
        command.stdin(Stdio::null());
        command
    }

    /// What the client connects to.
    pub(crate) fn target() -> String {
        format!("origin:{ORIGIN_PORT}")
    }
}

fn wait(file: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if file.exists() {
            return Ok(());
        }
        let _interrupted = nix::poll::poll(&mut [], 50_u8);
    }
    bail!("`weft up` did not get ready within 20 s")
}
