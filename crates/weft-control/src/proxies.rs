//! The status of each proxy: connected or not, which generation it runs, what it took and what it refused.

use crate::registry::ProxyRole;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use weft_model::{Origin, Root};

/// Commands waiting for one session.
const COMMANDS_MAX: usize = 16;
/// Proxies remembered.
const PROXIES_MAX: usize = 20_000;

/// What one proxy made of one resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// Version that was sent last.
    pub sent: String,
    /// Version that was acknowledged last; empty before.
    #[serde(default)]
    pub acked: String,
    /// Why the last one was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nack: Option<Nack>,
}

/// A refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nack {
    /// Version that was refused.
    pub version: String,
    /// Field inside the value; empty when the whole.
    pub field: String,
    /// Why.
    pub message: String,
}

/// What a proxy took over and cannot carry out, as a port that another program has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyProblem {
    /// Name of the resource.
    pub resource: String,
    /// Field inside the value.
    pub field: String,
    /// What does not work.
    pub message: String,
    /// What to do; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// Where the user wrote it.
    pub origin: Origin,
}

/// One proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// Id of its workload.
    pub id: String,
    /// Namespace.
    pub namespace: String,
    /// Workload name.
    pub workload: String,
    /// Identity, `spiffe://…`.
    pub identity: String,
    /// Role.
    pub role: ProxyRole,
    /// Program version.
    pub version: String,
    /// Holds a session?
    pub connected: bool,
    /// Since when `connected` is as it is, milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Last sign of life.
    pub last_seen_unix_ms: u64,
    /// Generation that it runs: the last one that it acknowledged in full.
    pub generation: u64,
    /// What it subscribes to.
    pub roots: BTreeSet<Root>,
    /// Resources by name.
    pub resources: BTreeMap<String, ResourceStatus>,
    /// What it cannot carry out now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProxyProblem>,
    /// Log level, as set from here last.
    #[serde(default)]
    pub log_level: String,
    /// Address of its admin endpoint, when it told one.
    #[serde(default)]
    pub admin: String,
    /// End of its certificate, seconds since 1970, as issued last; 0 when unknown.
    #[serde(default)]
    pub certificate_not_after_unix_s: i64,
}

impl ProxyStatus {
    /// Resources whose last version was refused.
    pub fn nacks(&self) -> impl Iterator<Item = (&String, &Nack)> {
        self.resources.iter().filter_map(|(name, status)| status.nack.as_ref().map(|nack| (name, nack)))
    }
}

/// What is sent to a proxy beside configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyCommand {
    /// Log at this level from now on (`error` … `trace`, or a filter).
    LogLevel(String),
    /// Show exchanges, or stop.
    Tap(weft_proto::v1::Tap),
}

/// All proxies. A cloneable handle; the sessions write, the API reads.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    proxies: BTreeMap<String, ProxyStatus>,
    sessions: BTreeMap<String, (u64, mpsc::Sender<ProxyCommand>)>,
    last_session: u64,
}

/// The writing end of one session. Dropping it marks the proxy as disconnected only if no newer session took over.
#[derive(Debug)]
pub struct ProxySession {
    /// Commands for the proxy.
    pub commands: mpsc::Receiver<ProxyCommand>,
    id: String,
    number: u64,
    proxies: Proxies,
}

impl Proxies {
    /// A session begins. What an older session of the same proxy knew about acknowledgements is dropped with it.
    pub fn connect(&self, mut status: ProxyStatus, now_ms: u64) -> ProxySession {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let mut inner = self.lock();
        inner.last_session += 1;
        let (id, number) = (status.id.clone(), inner.last_session);
        status.connected = true;
        status.since_unix_ms = now_ms;
        status.last_seen_unix_ms = now_ms;
        if inner.proxies.len() >= PROXIES_MAX {
            inner.proxies.retain(|_, proxy| proxy.connected);
        }
        inner.sessions.insert(id.clone(), (number, sender));
        inner.proxies.insert(id.clone(), status);
        drop(inner);
        ProxySession { commands, id, number, proxies: self.clone() }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// When no such proxy is connected, or it does not take commands now.
    pub fn command(&self, id: &str, command: ProxyCommand) -> Result<(), CommandError> {
        let mut inner = self.lock();
        let (_, sender) = inner.sessions.get(id).ok_or_else(|| CommandError::NotConnected(id.into()))?;
        sender.try_send(command.clone()).map_err(|_| CommandError::Busy(id.into()))?;
        if let (ProxyCommand::LogLevel(level), Some(proxy)) = (command, inner.proxies.get_mut(id)) {
            proxy.log_level = level;
        }
        Ok(())
    }

    /// All, by id.
    pub fn list(&self) -> Vec<ProxyStatus> {
        self.lock().proxies.values().cloned().collect()
    }
    /// One.
    pub fn find(&self, id: &str) -> Option<ProxyStatus> {
        self.lock().proxies.get(id).cloned()
    }
    /// The workload left: so does its proxy.
    pub fn forget(&self, id: &str) {
        let mut inner = self.lock();
        inner.proxies.remove(id);
        inner.sessions.remove(id);
    }
    /// Forgets proxies that have been gone since before `before_ms`.
    pub fn sweep(&self, before_ms: u64) {
        self.lock().proxies.retain(|_, proxy| proxy.connected || proxy.since_unix_ms >= before_ms);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the maps whole, so a poisoned lock is still good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProxySession {
    /// Changes the status, if this session is still the proxy's newest.
    pub fn update(&self, now_ms: u64, change: impl FnOnce(&mut ProxyStatus)) {
        let mut inner = self.proxies.lock();
        if inner.sessions.get(&self.id).is_some_and(|(number, _)| *number == self.number)
            && let Some(proxy) = inner.proxies.get_mut(&self.id)
        {
            proxy.last_seen_unix_ms = now_ms;
            change(proxy);
        }
    }
    /// Is this session still the proxy's newest? A superseded one must not report its workload as lost.
    pub fn is_current(&self) -> bool {
        self.proxies.lock().sessions.get(&self.id).is_some_and(|(number, _)| *number == self.number)
    }
    /// The session ended at `now_ms`.
    pub fn end(self, now_ms: u64) {
        self.update(now_ms, |proxy| {
            proxy.connected = false;
            proxy.since_unix_ms = now_ms;
        });
    }
}

impl Drop for ProxySession {
    fn drop(&mut self) {
        let mut inner = self.proxies.lock();
        if inner.sessions.get(&self.id).is_some_and(|(number, _)| *number == self.number) {
            inner.sessions.remove(&self.id);
            if let Some(proxy) = inner.proxies.get_mut(&self.id) {
                proxy.connected = false;
            }
        }
    }
}

/// Why a command could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not there.
    #[error("no proxy {0} is connected")]
    NotConnected(String),
    /// Too many commands wait.
    #[error("proxy {0} does not take commands now: try again")]
    Busy(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_is_not_ended_by_the_older_one() {
        let proxies = Proxies::default();
        let status = || ProxyStatus { id: "default/a-1".into(), ..ProxyStatus::default() };
        let old = proxies.connect(status(), 1);
        let new = proxies.connect(status(), 2);
        assert!(!old.is_current());
        old.end(3);
        assert!(proxies.find("default/a-1").expect("known").connected);
        new.end(4);
        assert!(!proxies.find("default/a-1").expect("known").connected);
        let lost = proxies.command("default/a-1", ProxyCommand::LogLevel("debug".into()));
        assert_eq!(lost, Err(CommandError::NotConnected("default/a-1".into())));
    }

    #[test]
    fn commands_reach_the_session() {
        let proxies = Proxies::default();
        let mut session = proxies.connect(ProxyStatus { id: "a".into(), ..ProxyStatus::default() }, 1);
        proxies.command("a", ProxyCommand::LogLevel("debug".into())).expect("connected");
        assert_eq!(session.commands.try_recv(), Ok(ProxyCommand::LogLevel("debug".into())));
        assert_eq!(proxies.find("a").expect("known").log_level, "debug");
    }
}
