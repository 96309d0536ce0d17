//! The journal: what changed lately, one line each, for the page. In memory; the store has the history of resources.

use crate::{Presence, ProxyStatus, RegistryEntry, engine::EngineEvent};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use weft_model::Origin;

/// Entries kept.
const ENTRIES_MAX: usize = 500;

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum JournalKind {
    /// A resource is new.
    Created,
    /// A resource differs.
    Configured,
    /// A resource is gone.
    Deleted,
    /// A workload is there.
    WorkloadJoined,
    /// A workload is gone.
    WorkloadLeft,
    /// A proxy holds a session.
    ProxyConnected,
    /// A proxy lost its session.
    ProxyDisconnected,
    /// A proxy refused something.
    Rejected,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// When.
    pub at_unix_ms: u64,
    /// Kind.
    pub kind: JournalKind,
    /// In words.
    pub text: String,
    /// Generation that it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// `Kind namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<JournalEntry>,
    there: BTreeMap<String, bool>,
    connected: BTreeMap<String, bool>,
    refused: BTreeMap<String, usize>,
}

impl Journal {
    /// Whoever is in the registry at the start is not news.
    pub(crate) fn new(entries: &[RegistryEntry]) -> Self {
        let there = entries.iter().map(|entry| (entry.workload.id.clone(), entry.presence != Presence::Absent)).collect();
        Self { there, ..Self::default() }
    }

    /// The newest entries at or after `since_ms`, newest first.
    pub(crate) fn since(&self, since_ms: u64, entries_max: usize) -> Vec<JournalEntry> {
        self.entries.iter().rev().take_while(|entry| entry.at_unix_ms >= since_ms).take(entries_max).cloned().collect()
    }

    /// Resources changed.
    pub(crate) fn configuration(&mut self, events: Vec<EngineEvent>, now_ms: u64) {
        for event in events {
            let kind = match event.action {
                weft_store::Action::Created => JournalKind::Created,
                weft_store::Action::Deleted => JournalKind::Deleted,
                weft_store::Action::Configured | weft_store::Action::Unchanged | weft_store::Action::Missing => JournalKind::Configured,
            };
            let object = event.document.origin.object();
            let text = format!("{object} {}", event.action.as_str());
            let origin = Some(event.document.origin.clone());
            let generation = (event.generation > 0).then_some(event.generation);
            self.push(JournalEntry { at_unix_ms: now_ms, kind, text, generation, object: Some(object), origin, actor: Some(event.actor) });
        }
    }

    /// Compares with what was seen last.
    pub(crate) fn follow(&mut self, workloads: &[RegistryEntry], proxies: &[ProxyStatus], now_ms: u64) {
        let there: BTreeMap<String, bool> = workloads.iter().map(|e| (e.workload.id.clone(), e.presence != Presence::Absent)).collect();
        let connected: BTreeMap<String, bool> = proxies.iter().map(|p| (p.id.clone(), p.connected)).collect();
        let refused: BTreeMap<String, usize> = proxies.iter().map(|p| (p.id.clone(), p.nacks().count())).collect();
        let joined = changes(&self.there, &there);
        let sessions = changes(&self.connected, &connected);
        for (id, now) in joined {
            let (kind, word) = if now { (JournalKind::WorkloadJoined, "joined") } else { (JournalKind::WorkloadLeft, "left") };
            self.say(kind, &id, format!("{id} {word} the mesh"), now_ms);
        }
        for (id, now) in sessions {
            let (kind, word) =
                if now { (JournalKind::ProxyConnected, "connected") } else { (JournalKind::ProxyDisconnected, "lost its session") };
            self.say(kind, &id, format!("the proxy of {id} {word}"), now_ms);
        }
        for (id, count) in &refused {
            if *count > self.refused.get(id).copied().unwrap_or(0) {
                self.say(JournalKind::Rejected, id, format!("the proxy of {id} refused a part of its configuration"), now_ms);
            }
        }
        (self.there, self.connected, self.refused) = (there, connected, refused);
    }

    fn say(&mut self, kind: JournalKind, id: &str, text: String, at_unix_ms: u64) {
        self.push(JournalEntry { at_unix_ms, kind, text, generation: None, object: None, origin: None, actor: Some(id.into()) });
    }

    fn push(&mut self, entry: JournalEntry) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

/// Ids whose state differs; who is gone from the list is taken as `false`.
fn changes(before: &BTreeMap<String, bool>, now: &BTreeMap<String, bool>) -> Vec<(String, bool)> {
    let changed = now.iter().filter(|(id, state)| before.get(*id).copied().unwrap_or(false) != **state);
    let gone = before.iter().filter(|(id, state)| **state && !now.contains_key(*id));
    changed.map(|(id, state)| (id.clone(), *state)).chain(gone.map(|(id, _)| (id.clone(), false))).collect()
}
