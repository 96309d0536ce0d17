//! RateLimit: its limits in the model's form, and which proxy gets which.

use crate::{
    authorization::Protected,
    diag,
    link::Linker,
    mesh::Mesh,
    policy_attachment::{Attachment, key, matches, of_kind, part_name},
};
use weft_api::{Document, Resource, Spanned, weft};
use weft_model::{ClusterName, Counted, HostPattern, LimitHeaders, LimitRate, LimitRule, LimitService, Origin, RateLimit, View};

/// Longest wait for a rate limit service where none is written (Envoy's default).
const SERVICE_TIMEOUT_MS: u64 = 20;

/// A policy and where it holds.
#[derive(Debug, Clone)]
pub(crate) struct LinkedRateLimit {
    attachment: Attachment,
    /// Without a scope, which is each proxy's own.
    policy: RateLimit,
}

/// Links all.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (document, spec) in of_kind(linker, |r| if let Resource::RateLimit(l) = r { Some(l) } else { None }) {
        let attachment = Attachment::link(linker, document, spec.selector.as_ref(), &spec.target_refs);
        let mut limits: Vec<LimitRule> = Vec::new();
        for (index, written) in spec.limits.iter().enumerate() {
            let Some(rule) = rule(linker, document, index, written) else { continue };
            if limits.iter().any(|known| known.name == rule.name) {
                linker.report(diag::limit_unusable(rule.origin, "another limit of the policy has the same name"));
            } else {
                limits.push(rule);
            }
        }
        if limits.is_empty() {
            linker.report(diag::limits_nothing(document.origin.clone()));
            continue;
        }
        let policy = RateLimit {
            name: format!("{}/{}", document.meta.namespace, document.meta.name),
            scope: Default::default(),
            shadow: spec.shadow,
            headers: match spec.headers {
                None | Some(weft::LimitHeaders::Refused) => LimitHeaders::Refused,
                Some(weft::LimitHeaders::Always) => LimitHeaders::Always,
                Some(weft::LimitHeaders::Never) => LimitHeaders::Never,
            },
            limits,
            origin: document.origin.clone(),
        };
        linker.mesh.rate_limits.push(LinkedRateLimit { attachment, policy });
    }
}

fn rule(linker: &mut Linker<'_>, document: &Document, index: usize, written: &Spanned<weft::LimitRule>) -> Option<LimitRule> {
    let origin = written.origin(&document.origin);
    let counted = counted(linker, document, written, &origin)?;
    Some(LimitRule {
        name: part_name(written.name.as_deref(), index),
        matches: matches(linker, document, &written.matches)?,
        key: key(linker, document, &written.key)?,
        counted,
        origin,
    })
}

fn counted(linker: &mut Linker<'_>, document: &Document, written: &weft::LimitRule, at: &Origin) -> Option<Counted> {
    match (&written.local, &written.global, &written.service) {
        (Some(rate), None, None) => Some(Counted::Local(limit_rate(linker, document, rate)?)),
        (None, Some(rate), None) => {
            if rate.burst.is_some() {
                linker.report(diag::burst_of_global(rate.origin(&document.origin)));
            }
            Some(Counted::Global(limit_rate(linker, document, rate)?))
        }
        (None, None, Some(to)) => service(linker, document, to).map(Counted::Service),
        _ => {
            linker.report(diag::limit_unusable(at.clone(), "it needs exactly one of `local`, `global` and `service`"));
            None
        }
    }
}

fn limit_rate(linker: &mut Linker<'_>, document: &Document, rate: &Spanned<weft::LimitRate>) -> Option<LimitRate> {
    let per_ms = u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX);
    let burst = rate.burst.unwrap_or(rate.requests);
    let why = match (rate.requests, per_ms, burst) {
        (0, ..) => "`requests` must be at least 1; to refuse everything use an AuthorizationPolicy",
        (_, 0, _) => "`per` must be at least 1ms",
        (_, _, 0) => "`burst` must be at least 1",
        _ => return Some(LimitRate { requests: rate.requests, per_ms, burst }),
    };
    linker.report(diag::limit_unusable(rate.origin(&document.origin), why));
    None
}

fn service(linker: &mut Linker<'_>, document: &Document, to: &Spanned<weft::LimitService>) -> Option<LimitService> {
    let at = to.origin(&document.origin);
    let HostPattern::Exact(host) = linker.full_host(&to.host, &document.meta.namespace, &at)? else {
        linker.report(diag::limit_unusable(at, "`host` must be one host"));
        return None;
    };
    let known = linker.mesh.service(host.as_str(), &document.meta.namespace).is_some_and(|s| s.port(to.port).is_some());
    if !known {
        linker.report(diag::limit_unusable(at, &format!("no service {host} with port {} is there to ask", to.port)));
        return None;
    }
    Some(LimitService {
        cluster: ClusterName { host: host.to_string(), port: to.port, subset: String::new() },
        domain: to.domain.clone(),
        timeout_ms: to.timeout.map_or(SERVICE_TIMEOUT_MS, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        fail_closed: to.on_failure == Some(weft::OnFailure::Deny),
    })
}

impl Mesh {
    /// The rate limits that hold at a proxy, with what each covers there.
    pub(crate) fn rate_limits_for<'a>(
        &'a self,
        workload: &'a str,
        me: &'a Protected<'a>,
        view: &'a View,
    ) -> impl Iterator<Item = RateLimit> + 'a {
        self.rate_limits.iter().filter_map(move |linked| {
            let scope = linked.attachment.scope(self, workload, me, view);
            (!scope.is_empty()).then(|| RateLimit { scope, ..linked.policy.clone() })
        })
    }

    /// The rate of a global limit by its name in the mesh, `<namespace>/<policy>/<limit>`.
    pub fn global_limit(&self, name: &str) -> Option<LimitRate> {
        let (policy, limit) = name.rsplit_once('/')?;
        let linked = self.rate_limits.iter().find(|l| l.policy.name == policy)?;
        linked.policy.limits.iter().find(|rule| rule.name == limit).and_then(|rule| match rule.counted {
            Counted::Global(rate) => Some(rate),
            Counted::Local(_) | Counted::Service(_) => None,
        })
    }
}
