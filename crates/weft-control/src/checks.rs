//! `weft check`: is everything as it should be? Sections of checks, each with a code, and a fix where it is not.

use crate::{Control, ProxyStatus};
use serde::Serialize;
use std::collections::BTreeMap;
use weft_api::{Diagnostic, Severity};
use weft_std::clock;

/// A root that ends sooner than this is worth a warning.
const ROOT_WARN_S: u64 = 30 * 24 * 3600;
/// A proxy may be this many milliseconds without a sign of life.
const SILENT_MS: u64 = 30_000;
/// Diagnostics named in one check.
const NAMED_MAX: usize = 3;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// It holds.
    Ok,
    /// It holds, but look.
    Warning,
    /// It does not hold.
    Failed,
    /// It could not be told.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable code.
    pub code: &'static str,
    /// What holds when it is well.
    pub name: String,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckSection {
    /// Title.
    pub title: &'static str,
    /// Checks.
    pub checks: Vec<Check>,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// None failed?
    pub ok: bool,
    /// Sections.
    pub sections: Vec<CheckSection>,
}

fn ok(code: &'static str, name: impl Into<String>, detail: impl Into<String>) -> Check {
    Check { code, name: name.into(), status: CheckStatus::Ok, detail: Some(detail.into()), fix: None }
}
fn bad(code: &'static str, name: impl Into<String>, status: CheckStatus, detail: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { code, name: name.into(), status, detail: Some(detail.into()), fix: Some(fix.into()) }
}

impl Control {
    /// Checks everything that can be seen from here.
    pub async fn checks(&self) -> Checks {
        let now_ms = clock::unix_ms();
        let sections = vec![
            CheckSection { title: "control-plane", checks: self.check_control_plane(now_ms) },
            CheckSection { title: "certificates", checks: self.check_certificates(now_ms / 1000) },
            CheckSection { title: "store", checks: self.check_store().await },
            CheckSection { title: "configuration", checks: configuration(&self.diagnostics()) },
            CheckSection { title: "data-plane", checks: data_plane(&self.proxies(), self.generation(), now_ms) },
        ];
        let failed = sections.iter().flat_map(|section| &section.checks).any(|check| check.status == CheckStatus::Failed);
        Checks { ok: !failed, sections }
    }

    fn check_control_plane(&self, now_ms: u64) -> Vec<Check> {
        let up_s = now_ms.saturating_sub(self.inner.started_ms) / 1000;
        let (_, _, dropped) = self.inner.parts.telemetry.totals();
        let edges = match dropped {
            0 => ok("edges-complete", "all edges are counted", "none left out"),
            n => bad(
                "edges-complete",
                "all edges are counted",
                CheckStatus::Warning,
                format!("{n} requests found no room in the table of edges"),
                "the graph is incomplete; use Prometheus for a mesh of this size",
            ),
        };
        vec![
            ok("control-plane-runs", "the control plane runs", format!("for {up_s} s, proxies connect to {}", self.inner.address)),
            ok("mesh-compiled", "the configuration is compiled", format!("generation {}", self.generation())),
            edges,
        ]
    }

    fn check_certificates(&self, now_s: u64) -> Vec<Check> {
        let root_s = self.inner.parts.authority.root_not_after_s();
        let days = root_s.saturating_sub(now_s) / 86_400;
        let name = "the root certificate is valid";
        let fix = "make a new root: stop Weft, move the folder `ca` of the state folder away, start again, and let all workloads join anew";
        let root = match root_s {
            end if end <= now_s => bad("root-valid", name, CheckStatus::Failed, "the root certificate has expired", fix),
            end if end - now_s < ROOT_WARN_S => bad("root-valid", name, CheckStatus::Warning, format!("it ends in {days} days"), fix),
            _ => ok("root-valid", name, format!("for {days} days, trust domain {}", self.trust_domain())),
        };
        // A leaf is renewed at half of its life: one that is past three quarters has failed to renew.
        let ttl_s = self.inner.parts.leaf_ttl.as_secs();
        let late = |proxy: &&ProxyStatus| {
            let end_s = u64::try_from(proxy.certificate_not_after_unix_s).unwrap_or(0);
            proxy.connected && end_s > 0 && end_s.saturating_sub(now_s) < ttl_s / 4
        };
        let proxies = self.proxies();
        let late: Vec<&str> = proxies.iter().filter(late).map(|proxy| proxy.id.as_str()).collect();
        let name = "workload certificates are renewed in time";
        let leaves = match late.as_slice() {
            [] => ok("leaves-renewed", name, format!("lifetime {ttl_s} s, renewed at half of it")),
            ids => bad(
                "leaves-renewed",
                name,
                CheckStatus::Warning,
                format!("about to expire: {}", list(ids)),
                "look at the log of these proxies: they cannot reach the control plane to renew",
            ),
        };
        vec![root, leaves]
    }

    async fn check_store(&self) -> Vec<Check> {
        let name = "the state database is sound";
        let file = self.inner.store.file().display().to_string();
        let sound = match self.inner.store.check().await {
            Ok(()) => ok("store-sound", name, file),
            Err(error) => bad(
                "store-sound",
                name,
                CheckStatus::Failed,
                error.to_string(),
                "stop Weft and start it again: a corrupt file is moved aside",
            ),
        };
        let name = "the state was kept over the last start";
        let kept = match self.moved_aside() {
            None => ok("store-kept", name, "yes"),
            Some(aside) => bad(
                "store-kept",
                name,
                CheckStatus::Warning,
                format!("the database was corrupt and was moved to {}", aside.display()),
                "apply resources that were not in files again; workloads join anew by themselves",
            ),
        };
        vec![sound, kept]
    }
}

fn configuration(diagnostics: &[Diagnostic]) -> Vec<Check> {
    let of = |severity: Severity| -> Vec<&Diagnostic> { diagnostics.iter().filter(|d| d.severity == severity).collect() };
    let check = |code, name: &str, found: Vec<&Diagnostic>, status| match found.as_slice() {
        [] => ok(code, name, "none"),
        [first, ..] => {
            let named: Vec<String> = found.iter().take(NAMED_MAX).map(|d| format!("[{}] {}: {}", d.code, d.origin, d.message)).collect();
            let more = if found.len() > NAMED_MAX { format!("; and {} more", found.len() - NAMED_MAX) } else { String::new() };
            let fix = first.fix.clone().unwrap_or_else(|| "see `weft get diagnostics`".into());
            bad(code, name, status, format!("{}: {}{more}", found.len(), named.join("; ")), fix)
        }
    };
    vec![
        check("no-errors", "no resource has an error", of(Severity::Error), CheckStatus::Failed),
        check("no-warnings", "no resource has a warning", of(Severity::Warning), CheckStatus::Warning),
    ]
}

fn data_plane(proxies: &[ProxyStatus], generation: u64, now_ms: u64) -> Vec<Check> {
    if proxies.is_empty() {
        let name = "proxies are connected".to_owned();
        let fix = Some("start one with `weft run --name NAME --port PORT -- PROGRAM`".to_owned());
        return vec![Check {
            code: "proxies-connected",
            name,
            status: CheckStatus::Skipped,
            detail: Some("no proxy is known".into()),
            fix,
        }];
    }
    let ids =
        |wanted: &dyn Fn(&ProxyStatus) -> bool| -> Vec<&str> { proxies.iter().filter(|p| wanted(p)).map(|p| p.id.as_str()).collect() };
    let check = |code, name: &str, found: Vec<&str>, status, what: &str, fix: &str| match found.as_slice() {
        [] => ok(code, name, format!("{} proxies", proxies.len())),
        some => bad(code, name, status, format!("{what}: {}", list(some)), fix),
    };
    let lost = ids(&|p| !p.connected || now_ms.saturating_sub(p.last_seen_unix_ms) > SILENT_MS);
    let behind = ids(&|p| p.connected && p.generation < generation && p.nacks().next().is_none());
    let refusing = ids(&|p| p.connected && p.nacks().next().is_some());
    let fix_lost = "they serve with their last configuration; look at their log, or start their workload again";
    vec![
        check("proxies-connected", "proxies are connected", lost, CheckStatus::Failed, "not connected", fix_lost),
        check(
            "proxies-current",
            "proxies run the newest generation",
            behind,
            CheckStatus::Warning,
            "behind",
            "wait a moment; if it stays, look at the log of these proxies",
        ),
        check(
            "proxies-accept",
            "proxies take their configuration",
            refusing,
            CheckStatus::Failed,
            "refused a part",
            "see `weft proxy status` for the resource and the field",
        ),
        problems(proxies),
        versions(proxies),
    ]
}

fn problems(proxies: &[ProxyStatus]) -> Check {
    let name = "proxies carry out their configuration";
    let found: Vec<_> = proxies.iter().filter(|p| p.connected).flat_map(|p| &p.problems).collect();
    let Some(first) = found.first() else { return ok("proxies-able", name, format!("{} proxies", proxies.len())) };
    let said: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
    bad("proxies-able", name, CheckStatus::Failed, list(&said), first.fix.clone())
}

fn versions(proxies: &[ProxyStatus]) -> Check {
    let mut by_version: BTreeMap<&str, usize> = BTreeMap::new();
    proxies.iter().filter(|p| p.connected).for_each(|p| *by_version.entry(p.version.as_str()).or_default() += 1);
    let name = "proxies run one version";
    let said = by_version.iter().map(|(version, n)| format!("{n} × {version}")).collect::<Vec<_>>().join(", ");
    match by_version.len() {
        0 | 1 => ok("proxies-one-version", name, said),
        _ => bad("proxies-one-version", name, CheckStatus::Warning, said, "start the workloads with the older version again"),
    }
}

fn list(ids: &[&str]) -> String {
    let more = if ids.len() > NAMED_MAX { format!(" and {} more", ids.len() - NAMED_MAX) } else { String::new() };
    format!("{}{more}", ids.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(id: &str, connected: bool, generation: u64) -> ProxyStatus {
        ProxyStatus { id: id.into(), connected, generation, last_seen_unix_ms: 1_000, ..ProxyStatus::default() }
    }
    fn status(checks: &[Check], code: &str) -> CheckStatus {
        checks.iter().find(|check| check.code == code).expect(code).status
    }

    #[test]
    fn lost_late_and_refusing_proxies_are_told_apart() {
        let mut refusing = proxy("c", true, 4);
        let nack = crate::Nack { version: "1".into(), field: "routes[0]".into(), message: "no".into() };
        refusing.resources.insert("routes/x".into(), crate::ResourceStatus { nack: Some(nack), ..crate::ResourceStatus::default() });
        let checks = data_plane(&[proxy("a", true, 5), proxy("b", false, 5), refusing], 5, 1_000);
        assert_eq!(status(&checks, "proxies-connected"), CheckStatus::Failed);
        assert_eq!(status(&checks, "proxies-current"), CheckStatus::Ok);
        assert_eq!(status(&checks, "proxies-accept"), CheckStatus::Failed);
        assert_eq!(status(&data_plane(&[proxy("a", true, 4)], 5, 1_000), "proxies-current"), CheckStatus::Warning);
        let problem = crate::ProxyProblem { message: "port 81 cannot be opened".into(), ..crate::ProxyProblem::default() };
        let unable = ProxyStatus { problems: vec![problem], ..proxy("a", true, 5) };
        assert_eq!(status(&checks, "proxies-able"), CheckStatus::Ok);
        assert_eq!(status(&data_plane(&[unable], 5, 1_000), "proxies-able"), CheckStatus::Failed);
        assert_eq!(status(&data_plane(&[], 5, 1_000), "proxies-connected"), CheckStatus::Skipped);
    }
}
