//! A real mesh for the page's tests: `weft up --demo` on a state folder of its own, ended with its owner.

use crate::root;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The running mesh.
pub(crate) struct Demo {
    child: Child,
    state: PathBuf,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Demo {
    /// Builds the program in its development form, as the Rust tests do, and starts it on free ports.
    pub(crate) fn start(target: &str) -> Result<Self> {
        let built = Command::new("cargo").current_dir(root()).args(["build", "--locked", "-p", "weft-mesh", "--bin", "weft"]).status();
        if !built.context("cannot start cargo")?.success() {
            bail!("the program does not build");
        }
        let state = PathBuf::from(target).join(format!("xtask-demo-{}", std::process::id()));
        let mut child = Command::new(PathBuf::from(target).join("debug/weft"))
            .arg("--state-dir")
            .arg(&state)
            .args(["up", "--demo", "--api-port", "0", "--xds-port", "0", "--gateway", "80=0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start weft")?;
        let announced = state.join("up.json");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !announced.exists() {
            let over = Instant::now() > deadline || child.try_wait()?.is_some();
            if over {
                // Ended or stuck: in both cases there is nothing to wait for.
                let _gone = child.kill();
                let _reaped = child.wait();
                bail!("`weft up --demo` did not get ready");
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let running: serde_json::Value = serde_json::from_slice(&fs::read(&announced)?)?;
        let token = fs::read_to_string(state.join("api-token")).context("the API token")?.trim().to_owned();
        Ok(Self { child, state, url: format!("http://{}", running["api"].as_str().unwrap_or_default()), token })
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Politely first: it drains its proxies.
        let _asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline && self.child.try_wait().is_ok_and(|s| s.is_none()) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = fs::remove_dir_all(&self.state);
    }
}
