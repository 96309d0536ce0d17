//! What the page and the command line ask: graph, health, and what is around them. Gathers inputs for pure functions.

use crate::{Control, EdgeSum, Graph, Health, graph, health};
use std::{collections::BTreeMap, sync::Arc};
use weft_model::{ModelValue, View};
use weft_std::clock;
use weft_telemetry::RequestRecord;

/// Failed records looked through for the newest of each edge.
const BAD_MAX: usize = 1_000;
/// How far back the changes of the health page go.
const CHANGES_MS: u64 = 3_600_000;
/// Changes on the health page.
const CHANGES_MAX: usize = 50;
/// Window when none is asked for, in seconds.
pub const WINDOW_S_DEFAULT: u64 = 60;
/// Longest window.
pub const WINDOW_S_MAX: u64 = crate::edges::KEPT_S;

impl Control {
    /// The window as it is used, and what rates are divided by: no more than the age of this control plane.
    pub(crate) fn window(&self, window_s: u64, now_ms: u64) -> (u64, u64) {
        let window_s = window_s.clamp(1, WINDOW_S_MAX);
        let age_s = now_ms.saturating_sub(self.inner.started_ms) / 1000;
        (window_s, window_s.min(age_s.max(1)))
    }

    pub(crate) fn sums(&self, window_s: u64, now_ms: u64) -> Vec<EdgeSum> {
        self.inner.parts.telemetry.edges(now_ms, window_s)
    }

    /// Who calls whom.
    pub fn graph(&self, window_s: u64) -> Graph {
        let now_ms = clock::unix_ms();
        let (window_s, _) = self.window(window_s, now_ms);
        self.graph_of(&self.sums(window_s, now_ms), window_s, now_ms)
    }

    pub(crate) fn graph_of(&self, sums: &[EdgeSum], window_s: u64, now_ms: u64) -> Graph {
        let (window_s, rate_s) = self.window(window_s, now_ms);
        let parts = &self.inner.parts;
        graph::build(&graph::GraphInputs {
            mesh: &self.mesh(),
            registry: &parts.registry.entries(),
            sums,
            bad: &parts.telemetry.bad_records(BAD_MAX),
            dropped: parts.telemetry.totals().2,
            now_ms,
            window_s,
            rate_s,
        })
    }

    /// The mesh in one sentence, with the graph it was judged by.
    pub fn health(&self, window_s: u64) -> (Health, Graph) {
        let now_ms = clock::unix_ms();
        let (window_s, rate_s) = self.window(window_s, now_ms);
        let sums = self.sums(window_s, now_ms);
        let graph = self.graph_of(&sums, window_s, now_ms);
        let health = health::judge(health::HealthInputs {
            mesh: &self.mesh(),
            graph: &graph,
            sums: &sums,
            rate_s,
            registry: &self.workloads(),
            proxies: &self.proxies(),
            diagnostics: &self.diagnostics(),
            changes: self.journal(now_ms.saturating_sub(CHANGES_MS), CHANGES_MAX),
            trust_domain: self.trust_domain(),
            started_ms: self.inner.started_ms,
        });
        (health, graph)
    }

    /// Why a request ended as it did, with its records. `None`: nothing is known of it.
    pub fn why(&self, id: &str) -> Option<(weft_telemetry::Why, Vec<Arc<RequestRecord>>)> {
        let records = self.record(id);
        if records.is_empty() {
            return None;
        }
        let owned: Vec<RequestRecord> = records.iter().map(|record| RequestRecord::clone(record)).collect();
        Some((weft_telemetry::explain(&owned), records))
    }

    /// What a proxy should have, as JSON by resource name, without private keys.
    pub fn proxy_config_json(&self, id: &str) -> Option<(u64, BTreeMap<String, serde_json::Value>)> {
        let (generation, view) = self.proxy_config(id)?;
        Some((generation, view_json(&view)))
    }
}

/// A view for people: private keys are left out.
fn view_json(view: &View) -> BTreeMap<String, serde_json::Value> {
    let shown = |value: &ModelValue| {
        let mut json = serde_json::to_value(value).ok()?;
        hide_keys(&mut json);
        Some(json)
    };
    view.values.iter().filter_map(|(name, versioned)| Some((name.to_string(), shown(&versioned.value)?))).collect()
}

/// Private keys stand in listeners and clusters.
fn hide_keys(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match key.as_str() {
                    "private_key" => *value = "(not shown)".into(),
                    _ => hide_keys(value),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(hide_keys),
        _ => {}
    }
}
