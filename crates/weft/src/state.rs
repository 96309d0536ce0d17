//! The state folder: where `weft up` keeps its store, keys and token, and how other commands find a running mesh.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The folder and the files in it.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    root: PathBuf,
}

/// What a running `weft up` tells about itself in `up.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Running {
    /// Process id.
    pub(crate) pid: u32,
    /// REST API and UI.
    pub(crate) api: SocketAddr,
    /// Discovery and identity for proxies.
    pub(crate) xds: SocketAddr,
    /// Gateway: port as written in the resources → where it listens.
    pub(crate) gateway: BTreeMap<u16, SocketAddr>,
    /// Version of the program.
    pub(crate) version: String,
    /// How long its open requests may take to end, in milliseconds.
    #[serde(default)]
    pub(crate) drain_ms: u64,
}

impl StateDir {
    /// `--state-dir`, else `$XDG_STATE_HOME/weft`, else `~/.local/state/weft`.
    pub(crate) fn locate(flag: Option<&Path>) -> Result<Self> {
        let from_env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = flag
            .map(Path::to_path_buf)
            .or_else(|| from_env("XDG_STATE_HOME").map(|p| p.join("weft")))
            .or_else(|| from_env("HOME").map(|p| p.join(".local/state/weft")))
            .context("no state folder: neither --state-dir, XDG_STATE_HOME nor HOME is set")?;
        Ok(Self { root })
    }

    /// Makes the folder (mode 0700) and proves that it can be written.
    pub(crate) fn create(&self) -> Result<()> {
        let fix = "choose another with --state-dir or mend its permissions";
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .with_context(|| format!("cannot make the state folder {} ({fix})", self.root.display()))?;
        // An existing folder keeps its owner but must not be readable by others: keys live in it.
        let _ = fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700));
        let probe = self.root.join(".writable");
        fs::write(&probe, b"").with_context(|| format!("the state folder {} cannot be written ({fix})", self.root.display()))?;
        fs::remove_file(&probe).context("cannot remove a file just written to the state folder")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The lock that makes one `weft up` per state folder; held for as long as the returned file lives.
    pub(crate) fn lock(&self) -> Result<fs::File> {
        let path = self.join("lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(_) => {
                let who = self.running().map(|r| format!(" (pid {}, http://{})", r.pid, r.api)).unwrap_or_default();
                bail!(
                    "weft up is already running on {}{who}\n  fix: end it with `weft down`, or give another --state-dir",
                    self.root.display()
                )
            }
        }
    }

    /// Writes `up.json`, whole or not at all.
    pub(crate) fn announce(&self, running: &Running) -> Result<()> {
        self.write_private("up.json", &serde_json::to_vec_pretty(running)?)
    }
    /// Removes `up.json`.
    pub(crate) fn retract(&self) {
        let _ = fs::remove_file(self.join("up.json"));
    }

    /// The mesh that runs on this state folder.
    ///
    /// # Errors
    /// When there is none: says how to start one.
    pub(crate) fn running(&self) -> Result<Running> {
        let text = fs::read(self.join("up.json")).with_context(|| {
            format!("no mesh runs on {}\n  fix: start one with `weft up`, or point to its --state-dir", self.root.display())
        })?;
        serde_json::from_slice(&text).context("up.json in the state folder is damaged: run `weft up` again")
    }

    /// The API token, made on first use: 32 random bytes in hex, mode 0600.
    pub(crate) fn token(&self) -> Result<String> {
        match fs::read_to_string(self.join("api-token")) {
            Ok(token) if token.trim().len() >= 32 => Ok(token.trim().to_owned()),
            _ => {
                let token: String = rand::random::<[u8; 32]>().iter().map(|b| format!("{b:02x}")).collect();
                self.write_private("api-token", token.as_bytes())?;
                Ok(token)
            }
        }
    }

    /// The token of a mesh that runs already.
    pub(crate) fn existing_token(&self) -> Result<String> {
        let path = self.join("api-token");
        let token = fs::read_to_string(&path).with_context(|| format!("cannot read the API token {}", path.display()))?;
        Ok(token.trim().to_owned())
    }

    fn write_private(&self, name: &str, content: &[u8]) -> Result<()> {
        let (path, temporary) = (self.join(name), self.join(&format!(".{name}.new")));
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_up_per_folder_and_a_stable_private_token() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::locate(Some(folder.path())).expect("given");
        state.create().expect("writable");
        let token = state.token().expect("made");
        assert_eq!(state.token().expect("kept"), token);
        let mode = fs::metadata(state.join("api-token")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let held = state.lock().expect("free");
        let second = state.lock().expect_err("taken").to_string();
        assert!(second.contains("already running"), "{second}");
        drop(held);
        assert!(state.lock().is_ok());
        assert!(state.running().expect_err("nothing runs").to_string().contains("weft up"));
    }
}
