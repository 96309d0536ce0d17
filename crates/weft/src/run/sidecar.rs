//! What all proxies of this program have in common.

use crate::state::StateDir;
use anyhow::{Context, Result};
use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};
use weft_proxy::{AccessLog, ProxyConfig, SetLogLevel};

/// A sidecar with one worker and nothing to listen on yet.
pub(crate) fn proxy_config(state: &StateDir, name: &str) -> ProxyConfig {
    ProxyConfig {
        name: name.to_owned(),
        workers: 1,
        state_dir: state.join("proxies").join(name),
        set_log_level: Some(SetLogLevel(Arc::new(set_log_level))),
        ..ProxyConfig::default()
    }
}

/// Where an access log goes: nowhere, a file, or standard error for `-`.
pub(crate) fn access_log(path: Option<&Path>) -> Result<AccessLog> {
    Ok(match path {
        None => AccessLog::Off,
        Some(path) if path.as_os_str() == "-" => AccessLog::Writer(Arc::new(Mutex::new(io::stderr()))),
        Some(path) => {
            let file = fs::OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("cannot write the access log {}", path.display()))?;
            AccessLog::Writer(Arc::new(Mutex::new(file)))
        }
    })
}

/// The filter of this process's log, once it logs.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Logs to standard error, once per process.
pub(crate) fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("warn"));
    let (filter, handle) = reload::Layer::new(filter);
    if FILTER.set(handle).is_ok() {
        let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    }
}

/// Changes the filter of this process's log.
fn set_log_level(level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| format!("{level:?} is not a log level: {error}"))?;
    let handle = FILTER.get().ok_or("this process does not log")?;
    handle.reload(filter).map_err(|error| error.to_string())
}
