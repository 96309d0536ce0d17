//! What the configuration asks of telemetry, prepared for the request path.

use http::HeaderName;
use std::sync::Arc;
use weft_model::{AccessLog, Expression, HeaderSource, Labels, MetricsPolicy, SpanTag, Telemetry, TelemetryMode, Tracing};
use weft_telemetry::{Reporter, RequestContext, format_text};

/// Telemetry of one configuration. The default asks for nothing beyond metrics and edges.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    telemetry: Arc<Telemetry>,
    client: Side,
    server: Side,
    /// Headers to keep of each request.
    pub request_headers: Vec<HeaderName>,
    /// Headers to keep of each response.
    pub response_headers: Vec<HeaderName>,
    /// Trailers to keep.
    pub trailers: Vec<HeaderName>,
    /// Labels of the own workload.
    pub own_labels: Labels,
}

/// The part of one side.
#[derive(Debug, Default)]
struct Side {
    /// Custom dimensions of metrics, by their text.
    expressions: Vec<(Box<str>, Expression)>,
    /// Access logs, as places in the list of all; `None`: as the proxy was started.
    logs: Option<Vec<usize>>,
}

impl Plan {
    pub(crate) fn new(telemetry: &Arc<Telemetry>, own_labels: Labels) -> Self {
        let side = |metrics, of: fn(TelemetryMode) -> bool| Side {
            expressions: MetricsPolicy::expressions(metrics).into_iter().map(|e| (e.text().into(), e)).collect(),
            logs: telemetry
                .access_logs
                .as_ref()
                .map(|list| list.iter().enumerate().filter(|(_, log)| of(log.mode)).map(|(index, _)| index).collect()),
        };
        let names = |source| telemetry.headers_read(source).iter().filter_map(|n| n.parse().ok()).collect();
        Self {
            client: side(&telemetry.metrics.client, TelemetryMode::client),
            server: side(&telemetry.metrics.server, TelemetryMode::server),
            request_headers: names(HeaderSource::Request),
            response_headers: names(HeaderSource::Response),
            trailers: names(HeaderSource::Trailers),
            telemetry: telemetry.clone(),
            own_labels,
        }
    }

    fn side(&self, reporter: Reporter) -> &Side {
        match reporter {
            Reporter::Source => &self.client,
            Reporter::Destination => &self.server,
        }
    }

    /// Headers that proxies add.
    pub(crate) fn headers(&self) -> &weft_model::ProxyHeaders {
        &self.telemetry.headers
    }

    /// The access logs of a side; `None`: as the proxy was started.
    pub(crate) fn logs(&self, reporter: Reporter) -> Option<impl Iterator<Item = &AccessLog>> {
        let places = self.side(reporter).logs.as_ref()?;
        let all = self.telemetry.access_logs.as_deref().unwrap_or_default();
        Some(places.iter().filter_map(|at| all.get(*at)))
    }

    /// Expressions whose values are dimensions of a side's metrics.
    pub(crate) fn expressions(&self, reporter: Reporter) -> &[(Box<str>, Expression)] {
        &self.side(reporter).expressions
    }

    /// Traces of a side.
    pub(crate) fn tracing(&self, reporter: Reporter) -> Option<&Tracing> {
        match reporter {
            Reporter::Source => self.telemetry.client_tracing.as_ref(),
            Reporter::Destination => self.telemetry.server_tracing.as_ref(),
        }
    }

    /// Is anything asked beyond metrics, edges and the log that the proxy was started with?
    pub(crate) fn reads(&self, reporter: Reporter) -> bool {
        let side = self.side(reporter);
        !side.expressions.is_empty() || side.logs.as_ref().is_some_and(|l| !l.is_empty()) || self.tracing(reporter).is_some()
    }
}

/// The tags of a span.
pub(crate) fn tags(tracing: &Tracing, of: &RequestContext<'_>) -> Vec<(String, String)> {
    let mut tags = Vec::new();
    let r = of.record;
    if tracing.istio_tags {
        let (source, destination) = (&r.source, &r.destination);
        for (name, value) in [
            ("istio.canonical_service", if r.reporter == Reporter::Source { &source.service } else { &destination.service }),
            ("istio.canonical_revision", if r.reporter == Reporter::Source { &source.version } else { &destination.version }),
            ("istio.namespace", if r.reporter == Reporter::Source { &source.namespace } else { &destination.namespace }),
            ("istio.mesh_id", &String::from("weft")),
        ] {
            tags.push((name.to_owned(), value.clone()));
        }
    }
    for (name, tag) in &tracing.tags {
        let value = match tag {
            SpanTag::Literal(text) => text.clone(),
            SpanTag::Environment { name, default } => std::env::var(name).unwrap_or_else(|_| default.clone()),
            SpanTag::Header { name, default } => of.header(HeaderSource::Request, name).unwrap_or(default).to_owned(),
            SpanTag::Formatter(format) => format_text(format, of),
        };
        tags.push((name.clone(), value));
    }
    let max = usize::try_from(tracing.tag_bytes_max).unwrap_or(usize::MAX);
    for (_, value) in &mut tags {
        let end = (0..=max.min(value.len())).rev().find(|at| value.is_char_boundary(*at)).unwrap_or_default();
        value.truncate(end);
    }
    tags.retain(|(_, value)| !value.is_empty());
    tags
}
