//! The process' own counters and gauges (`weft_*`): limits that were hit, connections open, configuration generation.
//!
//! A handle is resolved once, at start or on first use; counting is one atomic addition.

use crate::prometheus::{escape, head};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

/// Counts up.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicI64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(i64::try_from(n).unwrap_or(i64::MAX), Relaxed);
    }
    /// The value now.
    pub fn value(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }
}

/// Goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }
    /// The value now.
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct Family {
    help: &'static str,
    kind: &'static str,
    /// By label text `limit="header_bytes"`.
    values: BTreeMap<String, Arc<AtomicI64>>,
}

/// All counters and gauges of a process. Cloned freely.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
}

impl Registry {
    /// The counter `name` (ends in `_total`) with these labels, made on first use.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        Counter(self.cell(name, help, "counter", labels))
    }
    /// The gauge `name` with these labels, made on first use.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        Gauge(self.cell(name, help, "gauge", labels))
    }
    /// The counter of a limit of `limits.rs` being hit.
    pub fn limit(&self, limit: &'static str) -> Counter {
        self.counter("weft_limit_hits_total", "Times a limit was hit, by the limit's name.", &[("limit", limit)])
    }

    fn cell(&self, name: &'static str, help: &'static str, kind: &'static str, labels: &[(&str, &str)]) -> Arc<AtomicI64> {
        let mut text = String::new();
        for (i, (name, value)) in labels.iter().enumerate() {
            text.push_str(if i == 0 { "" } else { "," });
            text.push_str(name);
            text.push_str("=\"");
            escape(&mut text, value);
            text.push('"');
        }
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { help, kind, values: BTreeMap::new() });
        family.values.entry(text).or_default().clone()
    }

    /// Appends all values in the text format.
    pub fn render_into(&self, out: &mut String) {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, family) in families.iter() {
            head(out, name, family.help, family.kind);
            for (labels, value) in &family.values {
                let value = value.load(Relaxed);
                let written = if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") };
                written.expect("a String takes all");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_labels_are_the_same_counter() {
        let registry = Registry::default();
        registry.limit("header_bytes").inc();
        registry.limit("header_bytes").add(2);
        registry.gauge("weft_connections_open", "Open connections.", &[]).set(4);
        let mut out = String::new();
        registry.render_into(&mut out);
        assert!(out.contains("weft_limit_hits_total{limit=\"header_bytes\"} 3\n"), "{out}");
        assert!(out.contains("# TYPE weft_connections_open gauge\nweft_connections_open 4\n"), "{out}");
    }
}
