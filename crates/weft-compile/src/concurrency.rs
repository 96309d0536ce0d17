//! ConcurrencyPolicy: its parts in the model's form, and which proxy gets which.

use crate::{
    authorization::Protected,
    diag,
    link::Linker,
    mesh::Mesh,
    policy_attachment::{Attachment, key, matches, of_kind, part_name},
};
use weft_api::{Document, Resource, Spanned, weft};
use weft_model::{Adaptive, AdaptiveBy, Admission, Bulkhead, ConcurrencyPolicy, Ppm, View};

/// A policy and where it holds.
#[derive(Debug, Clone)]
pub(crate) struct LinkedConcurrency {
    attachment: Attachment,
    /// Without a scope, which is each proxy's own.
    policy: ConcurrencyPolicy,
}

/// Links all.
pub(crate) fn link(linker: &mut Linker<'_>) {
    for (document, spec) in of_kind(linker, |r| if let Resource::ConcurrencyPolicy(c) = r { Some(c) } else { None }) {
        let attachment = Attachment::link(linker, document, spec.selector.as_ref(), &spec.target_refs);
        let mut bulkheads: Vec<Bulkhead> = Vec::new();
        for (index, written) in spec.bulkheads.iter().enumerate() {
            let Some(bulkhead) = bulkhead(linker, document, index, written) else { continue };
            if bulkheads.iter().any(|known| known.name == bulkhead.name) {
                linker.report(diag::limit_unusable(bulkhead.origin, "another bulkhead of the policy has the same name"));
            } else {
                bulkheads.push(bulkhead);
            }
        }
        let adaptive = spec.adaptive.as_ref().and_then(|a| adaptive(linker, document, a));
        let admission = spec.admission.as_ref().and_then(|a| admission(linker, document, a));
        if bulkheads.is_empty() && adaptive.is_none() && admission.is_none() {
            linker.report(diag::limits_nothing(document.origin.clone()));
            continue;
        }
        let policy = ConcurrencyPolicy {
            name: format!("{}/{}", document.meta.namespace, document.meta.name),
            scope: Default::default(),
            shadow: spec.shadow,
            bulkheads,
            adaptive,
            admission,
            origin: document.origin.clone(),
        };
        linker.mesh.concurrency.push(LinkedConcurrency { attachment, policy });
    }
}

fn bulkhead(linker: &mut Linker<'_>, document: &Document, index: usize, written: &Spanned<weft::Bulkhead>) -> Option<Bulkhead> {
    let origin = written.origin(&document.origin);
    if written.requests == 0 {
        linker.report(diag::limit_unusable(origin, "`requests` must be at least 1"));
        return None;
    }
    Some(Bulkhead {
        name: part_name(written.name.as_deref(), index),
        matches: matches(linker, document, &written.matches)?,
        key: key(linker, document, &written.key)?,
        requests: written.requests,
        origin,
    })
}

fn adaptive(linker: &mut Linker<'_>, document: &Document, written: &Spanned<weft::Adaptive>) -> Option<Adaptive> {
    let origin = written.origin(&document.origin);
    let (requests_min, requests_max) = (written.min_requests.unwrap_or(3), written.max_requests.unwrap_or(1000));
    let by = match (written.algorithm, written.latency, written.tolerance_percent) {
        (None | Some(weft::AdaptiveAlgorithm::Gradient), None, tolerance) => {
            Ok(AdaptiveBy::Gradient { tolerance_percent: tolerance.unwrap_or(50) })
        }
        (Some(weft::AdaptiveAlgorithm::Aimd), Some(latency), None) if !latency.is_zero() => {
            Ok(AdaptiveBy::Aimd { latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX).max(1) })
        }
        (Some(weft::AdaptiveAlgorithm::Aimd), ..) => Err("Aimd needs `latency`, and has no `tolerancePercent`"),
        (_, Some(_), _) => Err("`latency` is for the algorithm Aimd"),
    };
    let by = by.and_then(|by| match requests_min >= 1 && requests_min <= requests_max {
        true => Ok(by),
        false => Err("`minRequests` must be at least 1 and at most `maxRequests`"),
    });
    match by {
        Ok(by) => Some(Adaptive { requests_min, requests_max, by, origin }),
        Err(why) => {
            linker.report(diag::limit_unusable(origin, why));
            None
        }
    }
}

fn admission(linker: &mut Linker<'_>, document: &Document, written: &Spanned<weft::Admission>) -> Option<Admission> {
    let origin = written.origin(&document.origin);
    let percent = |value: Option<f64>, otherwise: f64| value.unwrap_or(otherwise);
    let (success, rejection) = (percent(written.success_rate, 95.0), percent(written.max_rejection, 80.0));
    let aggression = written.aggression.unwrap_or(1.0);
    let window_ms = written.window.map_or(30_000, |w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX));
    let why = match () {
        () if !(1.0..=100.0).contains(&success) => "`successRate` is a percentage from 1 to 100",
        () if !(0.0..=100.0).contains(&rejection) => "`maxRejection` is a percentage from 0 to 100",
        () if !(1.0..=100.0).contains(&aggression) => "`aggression` is from 1 to 100",
        () if !(1_000..=3_600_000).contains(&window_ms) => "`window` is from 1s to 1h",
        () => {
            return Some(Admission {
                success_ppm: Ppm::from_percent(success).0,
                aggression_milli: (aggression * 1000.0).round() as u32,
                window_ms,
                rejection_max_ppm: Ppm::from_percent(rejection).0,
                requests_per_second_min: written.requests_per_second.unwrap_or(5),
                origin,
            });
        }
    };
    linker.report(diag::limit_unusable(origin, why));
    None
}

impl Mesh {
    /// The concurrency policies that hold at a proxy, with what each covers there. Admission control is the callers' part.
    pub(crate) fn concurrency_for<'a>(
        &'a self,
        workload: &'a str,
        me: &'a Protected<'a>,
        view: &'a View,
    ) -> impl Iterator<Item = ConcurrencyPolicy> + 'a {
        self.concurrency.iter().filter_map(move |linked| {
            let mut scope = linked.attachment.scope(self, workload, me, view);
            if linked.policy.admission.is_some() {
                scope.services.extend(linked.attachment.called(view));
            }
            (!scope.is_empty()).then(|| ConcurrencyPolicy { scope, ..linked.policy.clone() })
        })
    }
}
