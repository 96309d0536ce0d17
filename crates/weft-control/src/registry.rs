//! The registry: who may be which workload, who is there, and through which listeners it is reached.
//!
//! A workload is *enrolled* when its proxy joins, *present* while its proxy holds a session, *away* for a grace after the session
//! broke (its endpoints stay: losing the control plane must not take a healthy workload out of service), then *absent*.

use crate::tokens::{JoinError, JoinGrant, hex, signed};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use weft_compile::{RegisteredPort, RegisteredWorkload};
use weft_model::{Origin, SpiffeId, Workload};
use weft_store::{Store, StoreError};

/// How long the endpoints of a workload stay after its session broke.
pub const AWAY_GRACE_MS: u64 = 10_000;
/// The same after a restart of the control plane, when all sessions are broken at once.
pub const RESTART_GRACE_MS: u64 = 30_000;
/// After this time an absent workload is forgotten; its proxy must join anew.
pub(crate) const ABSENT_KEPT_MS: u64 = 24 * 3600 * 1000;
/// Most workloads enrolled at a time.
pub(crate) const WORKLOADS_MAX: usize = 20_000;

/// What a proxy is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyRole {
    /// Beside a workload.
    #[default]
    Sidecar,
    /// At the edge.
    Gateway,
}

/// Is it there?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Enrolled, and not (or no longer) there: no endpoints.
    #[default]
    Absent,
    /// Its proxy holds a session.
    Present,
    /// The session broke; endpoints stay until the grace is over.
    Away,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryEntry {
    /// Who.
    pub workload: Workload,
    /// Its listeners.
    #[serde(default)]
    pub ports: Vec<RegisteredPort>,
    /// Healthy, as its proxy says.
    #[serde(default)]
    pub healthy: bool,
    /// Role of its proxy.
    #[serde(default)]
    pub role: ProxyRole,
    /// There?
    #[serde(default)]
    pub presence: Presence,
    /// Since when `presence` holds, milliseconds since 1970.
    #[serde(default)]
    pub since_ms: u64,
}

/// A cloneable handle.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Store,
    trust_domain: Arc<str>,
    entries: Arc<Mutex<BTreeMap<String, RegistryEntry>>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Registry {
    /// Loads what the store remembers. Whoever was there is taken as away since `now_ms`, with the longer grace.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(store: Store, trust_domain: &str, now_ms: u64) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        for row in store.workloads().await? {
            let Ok(mut entry) = serde_json::from_str::<RegistryEntry>(&row.body) else {
                tracing::warn!(workload = row.id, "a workload in the store cannot be read: it must join again");
                continue;
            };
            if entry.presence != Presence::Absent {
                entry.presence = Presence::Away;
                entry.since_ms = now_ms + (RESTART_GRACE_MS - AWAY_GRACE_MS);
            }
            entries.insert(row.id, entry);
        }
        Ok(Self { store, trust_domain: trust_domain.into(), entries: Arc::new(Mutex::new(entries)), changed: Arc::default() })
    }

    /// Makes the workload that `grant` allows, with an id of its own. Its proxy has yet to call [`Self::register`].
    ///
    /// # Errors
    /// When the grant is not a legal identity, the registry is full, or the store fails.
    pub async fn enrol(&self, grant: &JoinGrant, now_ms: u64) -> Result<Workload, JoinError> {
        let identity =
            SpiffeId::new(&self.trust_domain, &grant.namespace, &grant.service_account).map_err(|e| JoinError::Grant(e.to_string()))?;
        let mut tail = [0_u8; 3];
        getrandom::fill(&mut tail).map_err(|error| JoinError::Grant(format!("no randomness: {error}")))?;
        let id = format!("{}/{}-{}", grant.namespace, grant.workload, hex(&tail));
        let origin =
            Origin { kind: "Workload".into(), namespace: grant.namespace.clone(), name: grant.workload.clone(), ..Origin::default() };
        let workload = Workload {
            id: id.clone(),
            name: grant.workload.clone(),
            namespace: grant.namespace.clone(),
            identity,
            labels: grant.labels.clone(),
            locality: String::new(),
            origin,
        };
        let entry = RegistryEntry {
            workload: workload.clone(),
            ports: Vec::new(),
            healthy: false,
            role: grant.role,
            presence: Presence::Absent,
            since_ms: now_ms,
        };
        if self.lock().len() >= WORKLOADS_MAX {
            return Err(JoinError::Grant(format!("the registry is full: {WORKLOADS_MAX} workloads")));
        }
        self.save(&entry, now_ms).await?;
        self.lock().insert(id, entry);
        Ok(workload)
    }

    /// The workload that was enrolled under `id`. A session must prove `identity` of it before it may register.
    pub fn enrolled(&self, id: &str) -> Option<Workload> {
        self.lock().get(id).map(|entry| entry.workload.clone())
    }

    /// The role that the join token of `id` granted. A session has no other: a gateway is sent private keys.
    pub fn granted_role(&self, id: &str) -> Option<ProxyRole> {
        self.lock().get(id).map(|entry| entry.role)
    }

    /// A session began, or told its ports or health anew: the workload is present. An id that was never enrolled here (the
    /// store was lost) is taken over as `workload` says; the caller has checked its identity.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn register(
        &self,
        workload: Workload,
        ports: Vec<RegisteredPort>,
        healthy: bool,
        role: ProxyRole,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let entry = {
            let mut entries = self.lock();
            let before = entries.get(&workload.id);
            let since_ms = before.filter(|e| e.presence == Presence::Present).map_or(now_ms, |e| e.since_ms);
            let entry = RegistryEntry { workload, ports, healthy, role, presence: Presence::Present, since_ms };
            if before == Some(&entry) {
                return Ok(());
            }
            entries.insert(entry.workload.id.clone(), entry.clone());
            entry
        };
        self.notify();
        self.save(&entry, now_ms).await
    }

    /// Its proxy says that the program's health changed. It is kept, so that a restart of the control plane takes nobody out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_health(&self, id: &str, healthy: bool, now_ms: u64) -> Result<(), StoreError> {
        let changed = {
            let mut entries = self.lock();
            let entry = entries.get_mut(id).filter(|entry| entry.healthy != healthy);
            entry.map(|entry| {
                entry.healthy = healthy;
                entry.clone()
            })
        };
        match changed {
            None => Ok(()),
            Some(entry) => {
                self.notify();
                self.save(&entry, now_ms).await
            }
        }
    }

    /// The session broke. Endpoints stay for the grace.
    pub fn session_lost(&self, id: &str, now_ms: u64) {
        if let Some(entry) = self.lock().get_mut(id).filter(|entry| entry.presence == Presence::Present) {
            entry.presence = Presence::Away;
            entry.since_ms = now_ms;
        }
        self.notify();
    }

    /// The workload said good-bye: it leaves the catalogue at once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn leave(&self, id: &str) -> Result<(), StoreError> {
        self.lock().remove(id);
        self.notify();
        self.store.remove_workload(id).await
    }

    /// Those who are away, with an address at which their proxy listened.
    pub(crate) fn away(&self) -> Vec<(String, SocketAddr)> {
        let entries = self.lock();
        let away = entries.iter().filter(|(_, entry)| entry.presence == Presence::Away);
        away.filter_map(|(id, entry)| Some((id.clone(), entry.ports.first()?.address))).collect()
    }

    /// Nobody listens any more where the workload was reached: if it is still away, its grace is over.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn gone(&self, id: &str, now_ms: u64) -> Result<(), StoreError> {
        let entry = {
            let mut entries = self.lock();
            let Some(entry) = entries.get_mut(id).filter(|entry| entry.presence == Presence::Away) else { return Ok(()) };
            entry.presence = Presence::Absent;
            entry.since_ms = now_ms;
            entry.clone()
        };
        self.notify();
        self.save(&entry, now_ms).await
    }

    /// Ends graces that are over, and forgets who has been absent for long. Call it about once a second.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sweep(&self, now_ms: u64) -> Result<(), StoreError> {
        let (mut gone, mut forgotten) = (Vec::new(), Vec::new());
        for (id, entry) in self.lock().iter_mut() {
            let age_ms = now_ms.saturating_sub(entry.since_ms);
            match entry.presence {
                Presence::Away if age_ms >= AWAY_GRACE_MS => {
                    entry.presence = Presence::Absent;
                    entry.since_ms = now_ms;
                    gone.push(entry.clone());
                }
                Presence::Absent if age_ms >= ABSENT_KEPT_MS => forgotten.push(id.clone()),
                Presence::Away | Presence::Absent | Presence::Present => {}
            }
        }
        if !gone.is_empty() {
            self.notify();
        }
        for entry in &gone {
            self.save(entry, now_ms).await?;
        }
        for id in forgotten {
            self.lock().remove(&id);
            self.store.remove_workload(&id).await?;
        }
        Ok(())
    }

    /// All entries, by id.
    pub fn entries(&self) -> Vec<RegistryEntry> {
        self.lock().values().cloned().collect()
    }

    /// What the compiler links: workloads that are present or away.
    pub fn catalogue(&self) -> Vec<RegisteredWorkload> {
        let entries = self.lock();
        let there = entries.values().filter(|e| e.presence != Presence::Absent && e.role == ProxyRole::Sidecar);
        there.map(|e| RegisteredWorkload { workload: e.workload.clone(), ports: e.ports.clone(), healthy: e.healthy }).collect()
    }

    /// A channel whose number grows with each change of the catalogue.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn notify(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    async fn save(&self, entry: &RegistryEntry, now_ms: u64) -> Result<(), StoreError> {
        // Our own types: no map with other keys than text, so this cannot fail.
        let body = serde_json::to_string(entry).unwrap_or_default();
        self.store.put_workload(&entry.workload.id, &body, signed(now_ms)).await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, RegistryEntry>> {
        // Every critical section leaves the map whole, so a poisoned lock is still good.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> JoinGrant {
        let labels = [("app".to_owned(), "reviews".to_owned())].into();
        JoinGrant {
            namespace: "default".into(),
            service_account: "reviews".into(),
            workload: "reviews-v2".into(),
            labels,
            ..JoinGrant::default()
        }
    }
    fn port() -> RegisteredPort {
        RegisteredPort {
            port: 9080,
            address: "127.0.0.1:15006".parse().expect("address"),
            protocol: weft_model::Protocol::Http,
            name: "http".into(),
        }
    }
    async fn registry(folder: &std::path::Path, now_ms: u64) -> Registry {
        let store = Store::open(folder).await.expect("opens").store;
        Registry::load(store, "cluster.local", now_ms).await.expect("loads")
    }

    #[tokio::test]
    async fn a_workload_comes_goes_away_and_is_gone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let registry = registry(folder.path(), 0).await;
        let workload = registry.enrol(&grant(), 0).await.expect("enrols");
        assert_eq!(workload.identity.to_string(), "spiffe://cluster.local/ns/default/sa/reviews");
        assert!(registry.catalogue().is_empty(), "not there yet");
        registry.register(workload.clone(), vec![port()], true, ProxyRole::Sidecar, 10).await.expect("registers");
        assert_eq!(registry.catalogue().len(), 1);
        registry.session_lost(&workload.id, 1_000);
        registry.sweep(1_000 + AWAY_GRACE_MS - 1).await.expect("sweeps");
        assert_eq!(registry.catalogue().len(), 1, "the grace is not over");
        registry.sweep(1_000 + AWAY_GRACE_MS).await.expect("sweeps");
        assert!(registry.catalogue().is_empty(), "the grace is over");
        assert!(registry.enrolled(&workload.id).is_some(), "it may come back");
        registry.leave(&workload.id).await.expect("leaves");
        assert!(registry.enrolled(&workload.id).is_none());
    }

    #[tokio::test]
    async fn a_restart_keeps_workloads_for_the_longer_grace() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let before = registry(folder.path(), 0).await;
        let workload = before.enrol(&grant(), 0).await.expect("enrols");
        before.register(workload, vec![port()], true, ProxyRole::Sidecar, 10).await.expect("registers");
        drop(before);
        let after = registry(folder.path(), 100_000).await;
        after.sweep(100_000 + RESTART_GRACE_MS - 1).await.expect("sweeps");
        assert_eq!(after.catalogue().len(), 1);
        after.sweep(100_000 + RESTART_GRACE_MS).await.expect("sweeps");
        assert!(after.catalogue().is_empty());
    }
}
