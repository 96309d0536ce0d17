//! Telemetry: what a workload tells of its traffic. MeshConfig, then the root namespace, its own namespace, and what selects it: each
//! scope changes what the wider ones say, field by field; the oldest object at each.

use crate::{
    authorization::{PolicyTarget, Protected, policy_target},
    diag,
    link::Linker,
    mesh::Mesh,
    telemetry_provider::{Provider, TAG_BYTES_MAX, TelemetryDefaults, defaults, share, tags},
};
use std::{collections::BTreeMap, sync::Arc};
use weft_api::{Document, Resource, Spanned, istio};
use weft_model::{
    AccessLog, Expression, Labels, Metric, MetricPolicy, MetricsPolicy, Origin, Ppm, SpanTag, TagEdit, Telemetry, TelemetryMode, Tracing,
    selects,
};

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetries {
    defaults: TelemetryDefaults,
    scoped: Vec<Arc<Scoped>>,
}

/// One object.
#[derive(Debug)]
struct Scoped {
    namespace: String,
    selector: Labels,
    targets: Vec<PolicyTarget>,
    tracing: Vec<(TelemetryMode, TracingPart)>,
    overrides: Vec<Override>,
    logs: Vec<LogPart>,
    origin: Origin,
}

/// What one object says of traces; `None` inherits.
#[derive(Debug, Clone, Default)]
struct TracingPart {
    providers: Option<Vec<String>>,
    sampling: Option<Ppm>,
    disabled: Option<bool>,
    tags: Option<BTreeMap<String, SpanTag>>,
    use_request_id: Option<bool>,
    istio_tags: Option<bool>,
    disable_propagation: Option<bool>,
    origin: Origin,
}

/// One change of metrics.
#[derive(Debug)]
struct Override {
    metrics: Vec<Metric>,
    mode: TelemetryMode,
    disabled: Option<bool>,
    tags: Vec<(String, TagEdit)>,
}

/// What one entry says of access logs.
#[derive(Debug)]
struct LogPart {
    mode: TelemetryMode,
    providers: Vec<String>,
    disabled: bool,
    filter: Option<Expression>,
    share: Option<Ppm>,
    origin: Origin,
}

/// A log that is written on one side.
type Logs = BTreeMap<String, (Option<Expression>, Option<Ppm>, Origin)>;

/// Annotation of a Telemetry: the share of requests, in percent, that its access logs have.
const SHARE_ANNOTATION: &str = "telemetry.weft.dev/access-log-sampling";

/// Links all of it. Comes after services and gateways.
pub(crate) fn link(linker: &mut Linker<'_>) {
    linker.mesh.telemetries.defaults = defaults(linker);
    for (_, document, spec) in linker.documents(|r| if let Resource::Telemetry(t) = r { Some(t) } else { None }) {
        let scoped = scoped(linker, document, spec);
        let same = |s: &&Arc<Scoped>| s.namespace == scoped.namespace && s.selector == scoped.selector && s.targets == scoped.targets;
        match linker.mesh.telemetries.scoped.iter().find(same) {
            Some(first) => {
                let found = diag::telemetry_twice(scoped.origin.clone(), &first.origin);
                linker.report(found);
            }
            None => linker.mesh.telemetries.scoped.push(Arc::new(scoped)),
        }
    }
}

fn scoped(linker: &mut Linker<'_>, document: &Document, spec: &istio::Telemetry) -> Scoped {
    let targets = spec.target_refs.iter().chain(&spec.target_ref).map(|t| policy_target(linker, document, t)).collect();
    let tracing = spec.tracing.iter().map(|t| tracing_part(linker, document, t)).collect();
    let mut overrides = Vec::new();
    for metrics in &spec.metrics {
        known_providers(linker, document, &metrics.providers, |p| matches!(p, Provider::Prometheus), "metrics");
        overrides.extend(metrics.overrides.iter().map(|o| override_part(linker, document, o)));
    }
    let logs = spec.access_logging.iter().map(|l| log_part(linker, document, l)).collect();
    Scoped {
        namespace: document.meta.namespace.clone(),
        selector: spec.selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default(),
        targets,
        tracing,
        overrides,
        logs,
        origin: document.origin.clone(),
    }
}

fn mode(side: Option<istio::TelemetrySide>) -> TelemetryMode {
    match side {
        None | Some(istio::TelemetrySide::ClientAndServer) => TelemetryMode::ClientAndServer,
        Some(istio::TelemetrySide::Client) => TelemetryMode::Client,
        Some(istio::TelemetrySide::Server) => TelemetryMode::Server,
    }
}

/// The names of providers that are of the wanted kind; what is wrong with the others is said.
fn known_providers(
    linker: &mut Linker<'_>,
    document: &Document,
    names: &[Spanned<istio::ProviderRef>],
    fits: fn(&Provider) -> bool,
    what: &str,
) -> Vec<String> {
    let mut known = Vec::new();
    for name in names {
        let at = name.origin(&document.origin);
        match linker.mesh.telemetries.defaults.providers.get(&name.name) {
            Some(provider) if fits(provider) => known.push(name.name.clone()),
            Some(Provider::Broken) => {}
            Some(_) => linker.report(diag::provider_unfit(at, &name.name, what)),
            None => linker.report(diag::provider_unknown(at, &name.name)),
        }
    }
    known
}

fn tracing_part(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::TelemetryTracing>) -> (TelemetryMode, TracingPart) {
    let origin = spec.origin(&document.origin);
    if spec.random_sampling_percentage.is_some_and(|p| !(0.0..=100.0).contains(&p)) {
        linker.report(diag::telemetry_unusable(origin.clone(), "randomSamplingPercentage is not between 0 and 100; the nearest is taken"));
    }
    let named = known_providers(linker, document, &spec.providers, |p| matches!(p, Provider::Traces(..)), "traces");
    let part = TracingPart {
        providers: (!spec.providers.is_empty()).then_some(named),
        sampling: spec.random_sampling_percentage.map(share),
        disabled: spec.disable_span_reporting,
        tags: (!spec.custom_tags.is_empty()).then(|| tags(linker, &spec.custom_tags, &document.origin)),
        use_request_id: spec.use_request_id,
        istio_tags: spec.enable_istio_tags,
        disable_propagation: spec.disable_context_propagation,
        origin,
    };
    (mode(spec.side.as_ref().and_then(|s| s.mode)), part)
}

/// An expression, or a diagnostic. Names that have no value are said.
fn expression(linker: &mut Linker<'_>, text: &str, at: Origin) -> Option<Expression> {
    match text.parse::<Expression>() {
        Ok(expression) => {
            for name in expression.unknown_names() {
                linker.report(diag::attribute_unknown(at.clone(), &name));
            }
            Some(expression)
        }
        Err(why) => {
            linker.report(diag::bad_expression(at, &why.to_string()));
            None
        }
    }
}

fn override_part(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::MetricsOverride>) -> Override {
    use istio::MetricName as Name;
    let metrics = match spec.metric.as_ref().and_then(|m| m.metric) {
        // A metric of another name is not one of these.
        None if spec.metric.as_ref().is_some_and(|m| m.custom_metric.is_some()) => Vec::new(),
        None | Some(Name::All) => Metric::ALL.to_vec(),
        Some(Name::RequestCount) => vec![Metric::RequestCount],
        Some(Name::RequestDuration) => vec![Metric::RequestDuration],
        Some(Name::RequestSize) => vec![Metric::RequestSize],
        Some(Name::ResponseSize) => vec![Metric::ResponseSize],
        Some(Name::TcpOpened) => vec![Metric::TcpOpenedConnections],
        Some(Name::TcpClosed) => vec![Metric::TcpClosedConnections],
        Some(Name::TcpSent) => vec![Metric::TcpSentBytes],
        Some(Name::TcpReceived) => vec![Metric::TcpReceivedBytes],
        Some(Name::GrpcRequestMessages) => vec![Metric::GrpcRequestMessages],
        Some(Name::GrpcResponseMessages) => vec![Metric::GrpcResponseMessages],
    };
    let mut edits = Vec::new();
    for (name, tag) in &spec.tag_overrides {
        let at = tag.origin(&document.origin);
        let legal =
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match (tag.operation, &tag.value.value) {
            _ if !legal => linker.report(diag::telemetry_unusable(at, &format!("{name:?} is not a legal label"))),
            (Some(istio::TagOperation::Remove), value) => {
                if value.is_some() {
                    linker.report(diag::telemetry_unusable(at, "REMOVE takes no value; it is ignored"));
                }
                edits.push((name.clone(), TagEdit::Remove));
            }
            (None | Some(istio::TagOperation::Upsert), Some(value)) => {
                edits.extend(expression(linker, value, at).map(|e| (name.clone(), TagEdit::Set(e))));
            }
            (None | Some(istio::TagOperation::Upsert), None) => linker.report(diag::telemetry_unusable(at, "UPSERT needs a value")),
        }
    }
    Override { metrics, mode: mode(spec.metric.as_ref().and_then(|m| m.mode)), disabled: spec.disabled, tags: edits }
}

fn log_part(linker: &mut Linker<'_>, document: &Document, spec: &Spanned<istio::TelemetryLogging>) -> LogPart {
    let filter = spec.filter.as_ref().and_then(|f| expression(linker, &f.expression, f.origin(&document.origin)));
    let percent = document.meta.annotations.get(SHARE_ANNOTATION);
    let share = percent.and_then(|text| text.trim_end_matches('%').parse::<f64>().ok()).map(share);
    if percent.is_some() && share.is_none() {
        linker.report(diag::telemetry_unusable(document.origin.clone(), &format!("{SHARE_ANNOTATION} is not a number of percent")));
    }
    LogPart {
        mode: mode(spec.side.as_ref().and_then(|s| s.mode)),
        providers: known_providers(linker, document, &spec.providers, |p| matches!(p, Provider::Log(..)), "access logs"),
        disabled: spec.disabled == Some(true),
        filter,
        share,
        origin: spec.origin(&document.origin),
    }
}

impl Mesh {
    /// What a workload tells of its traffic; `None`: nobody has said anything.
    pub(crate) fn telemetry_for(&self, workload: &Protected<'_>) -> Option<Telemetry> {
        let root = self.settings.root_namespace.as_str();
        let all = &self.telemetries;
        let wide = |namespace: &str| all.scoped.iter().find(|s| s.namespace == namespace && s.selector.is_empty() && s.targets.is_empty());
        let near = all.scoped.iter().find(|s| s.selects(workload));
        let own = (workload.namespace != root).then(|| wide(workload.namespace)).flatten();
        let scopes: Vec<&Scoped> = [wide(root), own, near].into_iter().flatten().map(Arc::as_ref).collect();
        let telemetry = Telemetry {
            metrics: metrics(&scopes),
            access_logs: all.access_logs(&scopes),
            client_tracing: all.tracing(&scopes, TelemetryMode::client),
            server_tracing: all.tracing(&scopes, TelemetryMode::server),
            headers: all.defaults.headers.clone(),
        };
        (telemetry != Telemetry::default()).then_some(telemetry)
    }
}

impl Scoped {
    /// Does it choose this workload, by labels or by what it is attached to?
    fn selects(&self, workload: &Protected<'_>) -> bool {
        if !self.targets.is_empty() {
            return self.targets.iter().any(|target| target.is_of(workload));
        }
        !self.selector.is_empty() && self.namespace == workload.namespace && selects(&self.selector, workload.labels)
    }
}

fn metrics(scopes: &[&Scoped]) -> MetricsPolicy {
    let mut policy = MetricsPolicy::default();
    for change in scopes.iter().flat_map(|s| &s.overrides) {
        let sides = [(change.mode.client(), &mut policy.client), (change.mode.server(), &mut policy.server)];
        for (_, side) in sides.into_iter().filter(|(applies, _)| *applies) {
            for metric in &change.metrics {
                let entry: &mut MetricPolicy = side.entry(*metric).or_default();
                entry.disabled = change.disabled.unwrap_or(entry.disabled);
                entry.tags.extend(change.tags.iter().cloned());
            }
        }
    }
    for side in [&mut policy.client, &mut policy.server] {
        side.retain(|_, p| *p != MetricPolicy::default());
    }
    policy
}

impl Telemetries {
    /// Logs of both sides; one that is the same on both is written once in the list.
    fn access_logs(&self, scopes: &[&Scoped]) -> Option<Vec<AccessLog>> {
        if self.defaults.logs.is_empty() && scopes.iter().all(|s| s.logs.is_empty()) {
            return None;
        }
        let (client, server) = (self.side_logs(scopes, TelemetryMode::client), self.side_logs(scopes, TelemetryMode::server));
        let mut list = Vec::new();
        for (name, entry) in &client {
            let both = server.get(name) == Some(entry);
            let mode = if both { TelemetryMode::ClientAndServer } else { TelemetryMode::Client };
            list.extend(self.access_log(name, entry, mode));
        }
        for (name, entry) in server.iter().filter(|(name, entry)| client.get(*name) != Some(entry)) {
            list.extend(self.access_log(name, entry, TelemetryMode::Server));
        }
        Some(list)
    }

    fn side_logs(&self, scopes: &[&Scoped], side: fn(TelemetryMode) -> bool) -> Logs {
        let mut logs: Logs = self.defaults.logs.iter().map(|(name, origin)| (name.clone(), (None, None, origin.clone()))).collect();
        for part in scopes.iter().flat_map(|s| &s.logs).filter(|part| side(part.mode)) {
            // Without names: those that are written already, else the mesh's default, else Istio's built-in one.
            let names = match (&part.providers[..], logs.is_empty()) {
                ([], false) => logs.keys().cloned().collect(),
                ([], true) if self.defaults.log_providers.is_empty() => vec!["envoy".to_owned()],
                ([], true) => self.defaults.log_providers.clone(),
                (names, _) => names.to_vec(),
            };
            for name in names {
                match part.disabled {
                    true => drop(logs.remove(&name)),
                    // What is not said stays as the wider scope has it.
                    false => {
                        let (filter, share) = logs.get(&name).map(|(f, s, _)| (f.clone(), *s)).unwrap_or_default();
                        logs.insert(name, (part.filter.clone().or(filter), part.share.or(share), part.origin.clone()));
                    }
                }
            }
        }
        logs
    }

    fn access_log(&self, name: &str, entry: &(Option<Expression>, Option<Ppm>, Origin), mode: TelemetryMode) -> Option<AccessLog> {
        let Some(Provider::Log(sink, format)) = self.defaults.providers.get(name) else { return None };
        let (filter, share, origin) = entry.clone();
        Some(AccessLog { provider: name.into(), sink: sink.clone(), format: format.clone(), mode, filter, share, origin })
    }

    fn tracing(&self, scopes: &[&Scoped], side: fn(TelemetryMode) -> bool) -> Option<Tracing> {
        let parts: Vec<&TracingPart> = scopes.iter().flat_map(|s| s.tracing.iter().filter(|(m, _)| side(*m)).map(|(_, p)| p)).collect();
        let origin = parts.last().map(|p| p.origin.clone()).or_else(|| self.defaults.tracing.clone())?;
        // The nearest that says something.
        let near = |pick: &dyn Fn(&TracingPart) -> Option<bool>| parts.iter().rev().find_map(|p| pick(p));
        let named = parts.iter().rev().find_map(|p| p.providers.clone()).unwrap_or_else(|| self.defaults.trace_providers.clone());
        let provider = named.iter().find_map(|name| match self.defaults.providers.get(name) {
            Some(Provider::Traces(exporter, b3, length)) => Some((exporter.clone(), *b3, *length)),
            _ => None,
        });
        let reported = near(&|p| p.disabled) != Some(true);
        let (exporter, b3, tag_bytes_max) = provider.map_or((None, false, TAG_BYTES_MAX), |(e, b3, length)| (Some(e), b3, length));
        let sampling = parts.iter().rev().find_map(|p| p.sampling);
        Some(Tracing {
            exporter: exporter.filter(|_| reported),
            // Istio's default: one in a hundred.
            sampling: sampling.unwrap_or_else(|| share(self.defaults.sampling.unwrap_or(1.0))),
            use_request_id: near(&|p| p.use_request_id).unwrap_or(true),
            istio_tags: near(&|p| p.istio_tags).or(self.defaults.istio_tags).unwrap_or(true),
            disable_propagation: near(&|p| p.disable_propagation).unwrap_or_default(),
            b3,
            tags: parts.iter().rev().find_map(|p| p.tags.clone()).unwrap_or_else(|| self.defaults.tags.clone()),
            tag_bytes_max,
            origin,
        })
    }
}
