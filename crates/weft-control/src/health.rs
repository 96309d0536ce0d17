//! The mesh in one sentence, and what is worst in it. Pure.

use crate::{
    CompiledMesh, Graph, GraphEdge, HealthLevel, JournalEntry, NodeKind, Presence, ProxyStatus, RegistryEntry, Traffic, edges::add_sums,
};
use serde::Serialize;
use weft_api::{Diagnostic, Severity};

/// Worst edges shown.
const WORST_MAX: usize = 5;
/// For so long after the start, a quiet mesh is called starting.
const STARTING_MS: u64 = 5_000;

/// State of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MeshStatus {
    /// Just begun.
    Starting,
    /// Well.
    Healthy,
    /// Something is off.
    Degraded,
    /// Something fails.
    Failing,
}

/// The mesh in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Instances that run.
    pub workloads: usize,
    /// Proxies known.
    pub proxies: usize,
    /// With a session.
    pub proxies_connected: usize,
    /// Edges with requests.
    pub edges: usize,
    /// Diagnostics of severity error.
    pub errors: usize,
    /// Of severity warning.
    pub warnings: usize,
    /// All requests, each counted once.
    pub traffic: Traffic,
}

/// The landing page's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// State.
    pub status: MeshStatus,
    /// In words.
    pub sentence: String,
    /// Generation.
    pub generation: u64,
    /// When.
    pub at_unix_ms: u64,
    /// Window.
    pub window_s: u64,
    /// Numbers.
    pub counts: Counts,
    /// Worst edges, worst first.
    pub worst_edges: Vec<GraphEdge>,
    /// What changed.
    pub changes: Vec<JournalEntry>,
    /// Trust domain.
    pub trust_domain: String,
    /// Start of this control plane.
    pub started_unix_ms: u64,
}

pub(crate) struct HealthInputs<'a> {
    pub(crate) mesh: &'a CompiledMesh,
    pub(crate) graph: &'a Graph,
    pub(crate) sums: &'a [crate::EdgeSum],
    pub(crate) rate_s: u64,
    pub(crate) registry: &'a [RegistryEntry],
    pub(crate) proxies: &'a [ProxyStatus],
    pub(crate) diagnostics: &'a [Diagnostic],
    pub(crate) changes: Vec<JournalEntry>,
    pub(crate) trust_domain: &'a str,
    pub(crate) started_ms: u64,
}

/// Judges.
pub(crate) fn judge(inputs: HealthInputs<'_>) -> Health {
    let graph = inputs.graph;
    let of = |severity| inputs.diagnostics.iter().filter(|d| d.severity == severity).count();
    let counts = Counts {
        services: graph.nodes.iter().filter(|node| node.kind == NodeKind::Service).count(),
        workloads: inputs.registry.iter().filter(|e| e.presence != Presence::Absent).count(),
        proxies: inputs.proxies.len(),
        proxies_connected: inputs.proxies.iter().filter(|proxy| proxy.connected).count(),
        edges: graph.edges.len(),
        errors: of(Severity::Error),
        warnings: of(Severity::Warning),
        traffic: Traffic::of(&add_sums(inputs.sums), inputs.rate_s),
    };
    let worst = worst_edges(&graph.edges);
    let young = graph.at_unix_ms.saturating_sub(inputs.started_ms) < STARTING_MS;
    let worst_level = worst.first().map(|edge| edge.health).unwrap_or_default();
    let status = match worst_level {
        HealthLevel::Failing => MeshStatus::Failing,
        HealthLevel::Degraded => MeshStatus::Degraded,
        _ if counts.errors > 0 || counts.proxies_connected < counts.proxies => MeshStatus::Degraded,
        _ if young && counts.traffic.requests == 0 => MeshStatus::Starting,
        _ => MeshStatus::Healthy,
    };
    Health {
        status,
        sentence: sentence(&counts, &graph.edges, &worst, young),
        generation: inputs.mesh.generation,
        at_unix_ms: graph.at_unix_ms,
        window_s: graph.window_s,
        counts,
        worst_edges: worst,
        changes: inputs.changes,
        trust_domain: inputs.trust_domain.into(),
        started_unix_ms: inputs.started_ms,
    }
}

/// The worst edges: by health, then error ratio, then p99.
fn worst_edges(edges: &[GraphEdge]) -> Vec<GraphEdge> {
    let mut sorted: Vec<&GraphEdge> = edges.iter().collect();
    sorted.sort_by(|a, b| {
        b.health.cmp(&a.health).then(b.traffic.error_ratio.total_cmp(&a.traffic.error_ratio)).then(b.traffic.p99_us.cmp(&a.traffic.p99_us))
    });
    sorted.into_iter().take(WORST_MAX).cloned().collect()
}

/// Where the failures of `edge` come from: a callee that fails because what it calls fails is not the one to look at.
fn root_cause<'a>(edges: &'a [GraphEdge], edge: &'a GraphEdge) -> &'a GraphEdge {
    let mut seen = vec![edge.source.as_str()];
    let mut cause = edge;
    loop {
        let beyond = edges.iter().filter(|next| next.source == cause.destination && next.health >= HealthLevel::Degraded);
        let beyond = beyond.filter(|next| !seen.contains(&next.destination.as_str()) && next.destination != next.source);
        match beyond.max_by(|a, b| a.traffic.failures.cmp(&b.traffic.failures)) {
            Some(next) if next.traffic.failures * 2 >= cause.traffic.failures => {
                seen.push(cause.destination.as_str());
                cause = next;
            }
            _ => return cause,
        }
    }
}

fn sentence(counts: &Counts, edges: &[GraphEdge], worst: &[GraphEdge], young: bool) -> String {
    let bad: Vec<&GraphEdge> = edges.iter().filter(|edge| edge.health >= HealthLevel::Degraded).collect();
    let also = |text: String| match (counts.errors, counts.proxies.saturating_sub(counts.proxies_connected)) {
        (0, 0) => text,
        (errors, 0) => format!("{text} {} in the configuration.", plural(errors, "error")),
        (0, lost) => format!("{text} {} not connected.", plural_is(lost, "proxy", "proxies")),
        (errors, lost) => {
            format!("{text} {} in the configuration, {} not connected.", plural(errors, "error"), plural_is(lost, "proxy", "proxies"))
        }
    };
    if let Some(edge) = worst.first().filter(|edge| edge.health >= HealthLevel::Degraded).map(|edge| root_cause(edges, edge)) {
        let more = if bad.len() > 1 { format!(" {} more edges have errors.", bad.len() - 1) } else { String::new() };
        let text = format!(
            "{} of the calls from {} to {} fail.{more}",
            percent(edge.traffic.error_ratio),
            short(&edge.source),
            short(&edge.destination)
        );
        return also(text.replace(" 1 more edges have", " 1 more edge has"));
    }
    match counts.traffic.requests {
        0 if counts.workloads == 0 => also("No workload is in the mesh yet.".into()),
        0 if young => also("The mesh is starting.".into()),
        0 => also(format!("{} ready, no request in the window.", plural_is(counts.workloads, "workload", "workloads"))),
        _ => {
            let traffic = &counts.traffic;
            let mtls = format!("{} over mutual TLS", percent(traffic.mtls_share));
            let services = plural(counts.services, "service");
            also(format!("{services} healthy: {:.1} requests/s, {} errors, {mtls}.", traffic.rate_per_s, percent(traffic.error_ratio)))
        }
    }
}

/// The name without the namespace.
fn short(id: &str) -> &str {
    id.split_once('/').map_or(id, |(_, name)| name)
}

fn percent(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0 %".into(),
        share if share < 0.1 => "under 0.1 %".into(),
        share if share < 10.0 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

fn plural(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

fn plural_is(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one} is") } else { format!("{n} {many} are") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_telemetry::EdgeCounts;

    fn edge(source: &str, destination: &str, requests: u64, failures: u64) -> GraphEdge {
        let traffic = Traffic::of(&EdgeCounts { requests, failures, ..EdgeCounts::default() }, 60);
        GraphEdge {
            id: format!("{source}>{destination}>http"),
            source: format!("shop/{source}"),
            destination: format!("shop/{destination}"),
            protocol: "http".into(),
            health: traffic.health(),
            traffic,
            versions: Vec::new(),
            host: None,
            source_principals: Default::default(),
            destination_principals: Default::default(),
            last_failure_id: None,
        }
    }
    fn counts(requests: u64) -> Counts {
        let traffic = Traffic::of(&EdgeCounts { requests, mtls: requests, ..EdgeCounts::default() }, 60);
        Counts { services: 3, workloads: 3, proxies: 3, proxies_connected: 3, edges: 0, errors: 0, warnings: 0, traffic }
    }
    fn check(edges: &[GraphEdge], expected: &str) {
        assert_eq!(sentence(&counts(100), edges, &worst_edges(edges), false), expected);
    }

    #[test]
    fn the_sentence_names_where_failures_come_from() {
        check(
            &[edge("web", "checkout", 100, 10), edge("checkout", "payments", 100, 10)],
            "10 % of the calls from checkout to payments fail. 1 more edge has errors.",
        );
        check(
            &[edge("web", "checkout", 100, 30), edge("checkout", "payments", 100, 5)],
            "30 % of the calls from web to checkout fail. 1 more edge has errors.",
        );
        check(&[edge("a", "b", 100, 10), edge("b", "a", 100, 10)], "10 % of the calls from a to b fail. 1 more edge has errors.");
        check(&[edge("web", "checkout", 100, 0)], "3 services healthy: 1.7 requests/s, 0 % errors, 100 % over mutual TLS.");
    }

    #[test]
    fn what_is_off_beside_traffic_is_said_too() {
        let off = Counts { errors: 1, proxies_connected: 1, ..counts(0) };
        assert_eq!(
            sentence(&off, &[], &[], false),
            "3 workloads are ready, no request in the window. 1 error in the configuration, 2 proxies are not connected."
        );
        let empty = Counts { workloads: 0, ..counts(0) };
        assert_eq!(sentence(&empty, &[], &[], true), "No workload is in the mesh yet.");
    }
}
