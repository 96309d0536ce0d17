//! What a proxy tells of its traffic: metrics and their labels, access logs, traces, and the headers that go with them.
//!
//! Inheritance (workload > namespace > mesh) is resolved before these values exist: a proxy gets one [`Telemetry`].

use crate::{ClusterName, Expression, LogFormat, Origin, Ppm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All of it, for one proxy. The default is what a proxy does that nobody has told anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Telemetry {
    /// Which metrics, with which labels.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub metrics: MetricsPolicy,
    /// Access logs; `None`: as the proxy was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<Vec<AccessLog>>,
    /// Traces of calls that the workload makes; `None`: as the proxy was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_tracing: Option<Tracing>,
    /// Traces of calls that the workload gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_tracing: Option<Tracing>,
    /// Headers.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub headers: ProxyHeaders,
}

/// One of Istio's standard metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Metric {
    /// `istio_requests_total`.
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    RequestDuration,
    /// `istio_request_bytes`.
    RequestSize,
    /// `istio_response_bytes`.
    ResponseSize,
    /// `istio_tcp_connections_opened_total`.
    TcpOpenedConnections,
    /// `istio_tcp_connections_closed_total`.
    TcpClosedConnections,
    /// `istio_tcp_sent_bytes_total`.
    TcpSentBytes,
    /// `istio_tcp_received_bytes_total`.
    TcpReceivedBytes,
    /// `istio_request_messages_total`.
    GrpcRequestMessages,
    /// `istio_response_messages_total`.
    GrpcResponseMessages,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::TcpOpenedConnections,
        Self::TcpClosedConnections,
        Self::TcpSentBytes,
        Self::TcpReceivedBytes,
        Self::GrpcRequestMessages,
        Self::GrpcResponseMessages,
    ];
}

/// Changes to metrics, by metric; what is not named is as by default.
pub type SideMetrics = BTreeMap<Metric, MetricPolicy>;

/// Changes to metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricsPolicy {
    /// Of calls that the workload makes (reporter `source`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub client: SideMetrics,
    /// Of calls that it gets (reporter `destination`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub server: SideMetrics,
}

/// Changes to one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricPolicy {
    /// It is not shown at all.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub disabled: bool,
    /// Changes to its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, TagEdit>,
}

/// What becomes of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TagEdit {
    /// It is left out: series that differ in it only are added up.
    Remove,
    /// It has the value of this expression.
    Set(Expression),
}

impl MetricsPolicy {
    /// The expressions whose values a request must bring, for one side; each once.
    pub fn expressions(side: &SideMetrics) -> Vec<Expression> {
        let mut all: Vec<Expression> = Vec::new();
        for tag in side.values().filter(|p| !p.disabled).flat_map(|p| p.tags.values()) {
            if let TagEdit::Set(expression) = tag
                && !all.contains(expression)
            {
                all.push(expression.clone());
            }
        }
        all
    }
}

/// Which side of a hop something is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TelemetryMode {
    /// Both.
    #[default]
    ClientAndServer,
    /// Calls that the workload makes.
    Client,
    /// Calls that it gets.
    Server,
}

impl TelemetryMode {
    /// Does it hold for the caller's side?
    pub fn client(self) -> bool {
        self != Self::Server
    }
    /// Does it hold for the callee's side?
    pub fn server(self) -> bool {
        self != Self::Client
    }
}

/// One access log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Name of the provider.
    pub provider: String,
    /// Where its lines go.
    pub sink: LogSink,
    /// Their form.
    pub format: LogFormat,
    /// Of which side.
    #[serde(default)]
    pub mode: TelemetryMode,
    /// Only what this is true of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Expression>,
    /// Only this share of it; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Ppm>,
    /// Who asked for it.
    pub origin: Origin,
}

/// Where an access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogSink {
    /// A file; `/dev/stdout` and `/dev/stderr` are the process' own.
    File(String),
    /// An OpenTelemetry collector.
    Otlp(Collector),
}

/// A collector, as a service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Collector {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Path for HTTP; `None`: gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Headers to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Longest time of one export, in milliseconds.
    pub timeout_ms: u64,
}

/// Traces of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Where spans go; `None`: nowhere, and the context is passed on only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exporter: Option<SpanExporter>,
    /// Ppm of new traces that are recorded.
    pub sampling: Ppm,
    /// Decide by `x-request-id`, so that proxies without trace headers between them agree.
    pub use_request_id: bool,
    /// Istio's own tags.
    pub istio_tags: bool,
    /// Leave trace headers as they came.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub disable_propagation: bool,
    /// Write B3 headers too.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub b3: bool,
    /// Tags of each span, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, SpanTag>,
    /// Longest value of a tag, in bytes.
    pub tag_bytes_max: u32,
    /// Who asked for it.
    pub origin: Origin,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpanExporter {
    /// OpenTelemetry.
    Otlp(Collector),
    /// Zipkin's JSON, version 2.
    Zipkin(Collector),
}

impl SpanExporter {
    /// The collector.
    pub fn collector(&self) -> &Collector {
        match self {
            Self::Otlp(collector) | Self::Zipkin(collector) => collector,
        }
    }
}

/// Where the value of a span's tag comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SpanTag {
    /// As written.
    Literal(String),
    /// A variable of the proxy's environment.
    Environment {
        /// Name.
        name: String,
        /// If it is not set; empty: no tag.
        default: String,
    },
    /// A header of the request.
    Header {
        /// Name, in lower case.
        name: String,
        /// If it is not there; empty: no tag.
        default: String,
    },
    /// A text with command operators.
    Formatter(LogFormat),
}

/// Headers that a proxy adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyHeaders {
    /// `server` of responses: `None` leaves the upstream's.
    pub server: Option<String>,
    /// Make an `x-request-id` where there is none?
    pub request_id: bool,
    /// Tell the upstream the number of the attempt (`x-envoy-attempt-count`)?
    pub attempt_count: bool,
    /// `x-envoy-upstream-service-time` and the like in responses?
    pub debug: bool,
    /// `x-forwarded-host` with the authority as it came in?
    pub forwarded_host: bool,
    /// `x-forwarded-port` with the port that was called?
    pub forwarded_port: bool,
}

impl Default for ProxyHeaders {
    fn default() -> Self {
        Self { server: None, request_id: true, attempt_count: false, debug: false, forwarded_host: false, forwarded_port: false }
    }
}

impl Telemetry {
    /// Clusters that it sends to, each once: the proxy needs them in its view.
    pub fn clusters(&self) -> Vec<&ClusterName> {
        let logs = self.access_logs.iter().flatten().filter_map(|log| match &log.sink {
            LogSink::Otlp(collector) => Some(&collector.cluster),
            LogSink::File(_) => None,
        });
        let tracing = [&self.client_tracing, &self.server_tracing].into_iter().flatten();
        let spans = tracing.filter_map(|t| t.exporter.as_ref()).map(|e| &e.collector().cluster);
        let mut all: Vec<&ClusterName> = logs.chain(spans).collect();
        all.sort();
        all.dedup();
        all
    }
    /// Headers of the request that log formats, expressions and tags read, in lower case, each once.
    pub fn headers_read(&self, source: crate::HeaderSource) -> Vec<String> {
        let mut names = Vec::new();
        for log in self.access_logs.iter().flatten() {
            log.format.headers(source, &mut names);
            log.filter.iter().for_each(|f| f.headers(source, &mut names));
        }
        for tracing in [&self.client_tracing, &self.server_tracing].into_iter().flatten() {
            for tag in tracing.tags.values() {
                match tag {
                    SpanTag::Header { name, .. } if source == crate::HeaderSource::Request => names.push(name.clone()),
                    SpanTag::Formatter(format) => format.headers(source, &mut names),
                    SpanTag::Header { .. } | SpanTag::Literal(_) | SpanTag::Environment { .. } => {}
                }
            }
        }
        for side in [&self.metrics.client, &self.metrics.server] {
            MetricsPolicy::expressions(side).iter().for_each(|e| e.headers(source, &mut names));
        }
        names.sort();
        names.dedup();
        names
    }
}
