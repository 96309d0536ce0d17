//! `Telemetry`: what workloads tell of their traffic.

use super::{PolicyTargetReference, WorkloadSelector};
use crate::read::Spanned;
use std::{collections::BTreeMap, time::Duration};

object! {
    /// `telemetry.istio.io Telemetry`: metrics, access logs and traces of some workloads.
    pub struct Telemetry {
        /// Workloads; absent: all of the namespace (all of the mesh in the root namespace).
        selector: Option<WorkloadSelector> = "selector",
        /// Resources it is attached to, in place of a selector.
        target_refs: Vec<Spanned<PolicyTargetReference>> = "targetRefs",
        /// The older, single form of `target_refs`.
        target_ref: Option<Spanned<PolicyTargetReference>> = "targetRef",
        /// Traces.
        tracing: Vec<Spanned<TelemetryTracing>> = "tracing",
        /// Metrics.
        metrics: Vec<Spanned<TelemetryMetrics>> = "metrics",
        /// Access logs.
        access_logging: Vec<Spanned<TelemetryLogging>> = "accessLogging",
    }
}

object! {
    /// A provider by name.
    pub struct ProviderRef {
        /// Name of one of MeshConfig's `extensionProviders`.
        name: String = "name",
    }
}

choice! {
    /// Which side.
    pub enum TelemetrySide {
        /// Both.
        ClientAndServer = "CLIENT_AND_SERVER",
        /// Calls that the workload makes.
        Client = "CLIENT",
        /// Calls that it gets.
        Server = "SERVER",
    }
}

object! {
    /// Which side.
    pub struct SideMatch {
        /// Absent: both.
        mode: Option<TelemetrySide> = "mode",
    }
}

object! {
    /// Traces of a side.
    pub struct TelemetryTracing {
        /// Side.
        side: Option<SideMatch> = "match",
        /// Where spans go; the first counts.
        providers: Vec<Spanned<ProviderRef>> = "providers",
        /// Share of new traces that are recorded, 0–100.
        random_sampling_percentage: Option<f64> = "randomSamplingPercentage",
        /// No spans; the context is passed on.
        disable_span_reporting: Option<bool> = "disableSpanReporting",
        /// Tags of each span; replace those of wider scopes.
        custom_tags: BTreeMap<String, Spanned<CustomTag>> = "customTags",
        /// Decide by `x-request-id`.
        use_request_id: Option<bool> = "useRequestIdForTraceSampling",
        /// Istio's own tags.
        enable_istio_tags: Option<bool> = "enableIstioTags",
        /// Leave trace headers as they came.
        disable_context_propagation: Option<bool> = "disableContextPropagation",
    }
}

object! {
    /// Where a tag's value comes from: one of the fields.
    pub struct CustomTag {
        /// As written.
        literal: Option<LiteralTag> = "literal",
        /// A variable of the proxy's environment.
        environment: Option<NamedTag> = "environment",
        /// A header of the request.
        header: Option<NamedTag> = "header",
        /// A text with command operators.
        formatter: Option<LiteralTag> = "formatter",
    }
}

object! {
    /// A text.
    pub struct LiteralTag {
        /// The text.
        value: String = "value",
    }
}

object! {
    /// A name, and what to take when it has no value.
    pub struct NamedTag {
        /// Name.
        name: String = "name",
        /// Value when there is none.
        default_value: Option<String> = "defaultValue",
    }
}

object! {
    /// Changes to metrics.
    pub struct TelemetryMetrics {
        /// Providers.
        providers: Vec<Spanned<ProviderRef>> = "providers",
        /// Changes, in order.
        overrides: Vec<Spanned<MetricsOverride>> = "overrides",
    }
    later ["reportingInterval"]
}

object! {
    /// One change.
    pub struct MetricsOverride {
        /// Which metrics; absent: all, on both sides.
        metric: Option<MetricMatch> = "match",
        /// Leave them out?
        disabled: Option<bool> = "disabled",
        /// Changes to labels.
        tag_overrides: BTreeMap<String, Spanned<TagOverride>> = "tagOverrides",
    }
}

object! {
    /// Which metrics.
    pub struct MetricMatch {
        /// One of Istio's; absent: all.
        metric: Option<MetricName> = "metric",
        /// One of another name.
        custom_metric: Option<String> = "customMetric",
        /// Side.
        mode: Option<TelemetrySide> = "mode",
    }
    later ["customMetric"]
}

choice! {
    /// Istio's metrics.
    pub enum MetricName {
        /// All.
        All = "ALL_METRICS",
        /// `istio_requests_total`.
        RequestCount = "REQUEST_COUNT",
        /// `istio_request_duration_milliseconds`.
        RequestDuration = "REQUEST_DURATION",
        /// `istio_request_bytes`.
        RequestSize = "REQUEST_SIZE",
        /// `istio_response_bytes`.
        ResponseSize = "RESPONSE_SIZE",
        /// `istio_tcp_connections_opened_total`.
        TcpOpened = "TCP_OPENED_CONNECTIONS",
        /// `istio_tcp_connections_closed_total`.
        TcpClosed = "TCP_CLOSED_CONNECTIONS",
        /// `istio_tcp_sent_bytes_total`.
        TcpSent = "TCP_SENT_BYTES",
        /// `istio_tcp_received_bytes_total`.
        TcpReceived = "TCP_RECEIVED_BYTES",
        /// `istio_request_messages_total`.
        GrpcRequestMessages = "GRPC_REQUEST_MESSAGES",
        /// `istio_response_messages_total`.
        GrpcResponseMessages = "GRPC_RESPONSE_MESSAGES",
    }
}

object! {
    /// A change to a label.
    pub struct TagOverride {
        /// What; absent: `UPSERT`.
        operation: Option<TagOperation> = "operation",
        /// CEL, for `UPSERT`.
        value: Option<String> = "value",
    }
}

choice! {
    /// What becomes of a label.
    pub enum TagOperation {
        /// It is set.
        Upsert = "UPSERT",
        /// It is left out.
        Remove = "REMOVE",
    }
}

object! {
    /// Access logs.
    pub struct TelemetryLogging {
        /// Side.
        side: Option<SideMatch> = "match",
        /// Providers; absent: those of wider scopes.
        providers: Vec<Spanned<ProviderRef>> = "providers",
        /// Write none?
        disabled: Option<bool> = "disabled",
        /// Which requests.
        filter: Option<Spanned<LoggingFilter>> = "filter",
    }
}

object! {
    /// Which requests.
    pub struct LoggingFilter {
        /// CEL.
        expression: String = "expression",
    }
}

choice! {
    /// How access log lines are written.
    pub enum AccessLogEncoding {
        /// Text.
        Text = "TEXT",
        /// One JSON object per line.
        Json = "JSON",
    }
}

object! {
    /// Tracing, in its older place.
    pub struct TracingSettings {
        /// Zipkin collector.
        zipkin: Option<ZipkinSettings> = "zipkin",
        /// Share of new traces that are recorded, 0–100; absent: 1.
        sampling: Option<f64> = "sampling",
        /// Tags of each span.
        custom_tags: BTreeMap<String, Spanned<CustomTag>> = "customTags",
        /// Istio's own tags; absent: yes.
        enable_istio_tags: Option<bool> = "enableIstioTags",
    }
    later ["datadog", "lightstep", "maxPathTagLength", "openCensusAgent", "stackdriver", "tlsSettings"]
}

object! {
    /// Where a Zipkin collector listens.
    pub struct ZipkinSettings {
        /// `host:port`.
        address: String = "address",
    }
}

object! {
    /// Headers that proxies add and remove.
    pub struct ProxyHeaders {
        /// `x-request-id`.
        request_id: Option<HeaderSwitch> = "requestId",
        /// `server`.
        server: Option<ServerHeader> = "server",
        /// `x-envoy-attempt-count`.
        attempt_count: Option<HeaderSwitch> = "attemptCount",
        /// `x-envoy-*` headers that help to debug.
        envoy_debug_headers: Option<HeaderSwitch> = "envoyDebugHeaders",
        /// `x-forwarded-host`.
        x_forwarded_host: Option<EnabledSwitch> = "xForwardedHost",
        /// `x-forwarded-port`.
        x_forwarded_port: Option<EnabledSwitch> = "xForwardedPort",
    }
    later ["forwardedClientCert", "setCurrentClientCertDetails", "metadataExchangeHeaders", "preserveHttp1HeaderCase"]
}

object! {
    /// Is a header written?
    pub struct HeaderSwitch {
        /// `true`: it is not.
        disabled: Option<bool> = "disabled",
    }
}

object! {
    /// Is a header written that is not by default?
    pub struct EnabledSwitch {
        /// `true`: it is.
        enabled: Option<bool> = "enabled",
    }
}

object! {
    /// The `server` header.
    pub struct ServerHeader {
        /// `true`: the upstream's stays, and none is added.
        disabled: Option<bool> = "disabled",
        /// What to write; absent: `istio-envoy` in Istio, `weft` here.
        value: Option<String> = "value",
    }
}

object! {
    /// Names of providers.
    pub struct DefaultProviders {
        /// For traces.
        tracing: Vec<String> = "tracing",
        /// For metrics.
        metrics: Vec<String> = "metrics",
        /// For access logs.
        access_logging: Vec<String> = "accessLogging",
    }
}

object! {
    /// Prometheus: metrics are at `/metrics` anyway.
    pub struct PrometheusProvider {}
}

object! {
    /// A log file.
    pub struct FileAccessLogProvider {
        /// `/dev/stdout`, `/dev/stderr` or a path; absent: `/dev/stdout`.
        path: Option<String> = "path",
        /// Its format; absent: Istio's text.
        log_format: Option<Spanned<LogFormat>> = "logFormat",
    }
    later ["omitEmptyValues"]
}

object! {
    /// Text or JSON, with command operators.
    pub struct LogFormat {
        /// A line.
        text: Option<String> = "text",
        /// Values by key.
        labels: Option<BTreeMap<String, serde_json::Value>> = "labels",
    }
}

object! {
    /// Logs to an OpenTelemetry collector.
    pub struct OtelAccessLogProvider {
        /// Host of the service, `[namespace/]host`.
        service: String = "service",
        /// Its port.
        port: u16 = "port",
        /// Name of the log.
        log_name: Option<String> = "logName",
        /// Body and attributes.
        log_format: Option<Spanned<LogFormat>> = "logFormat",
        /// OTLP over HTTP in place of gRPC.
        http: Option<OtelHttp> = "http",
    }
}

object! {
    /// OTLP over HTTP.
    pub struct OtelHttp {
        /// Path, e.g. `/v1/traces`.
        path: String = "path",
        /// Longest time of one export; absent: 10 s.
        timeout: Option<Duration> = "timeout",
        /// Headers to add.
        headers: Vec<OtelHeader> = "headers",
    }
}

object! {
    /// A header for the collector.
    pub struct OtelHeader {
        /// Name.
        name: String = "name",
        /// Value.
        value: Option<String> = "value",
    }
    later ["envName"]
}

object! {
    /// Traces to an OpenTelemetry collector.
    pub struct OpenTelemetryProvider {
        /// Host of the service, `[namespace/]host`.
        service: String = "service",
        /// Its port.
        port: u16 = "port",
        /// Longest value of a tag.
        max_tag_length: Option<u32> = "maxTagLength",
        /// OTLP over HTTP in place of gRPC.
        http: Option<OtelHttp> = "http",
    }
    later ["grpc", "dynatraceSampler", "resourceDetectors"]
}

object! {
    /// Traces to Zipkin.
    pub struct ZipkinProvider {
        /// Host of the service, `[namespace/]host`.
        service: String = "service",
        /// Its port.
        port: u16 = "port",
        /// Longest value of a tag.
        max_tag_length: Option<u32> = "maxTagLength",
        /// Path; absent: `/api/v2/spans`.
        path: Option<String> = "path",
        /// Which headers carry the context; absent: B3.
        trace_context_option: Option<TraceContextOption> = "traceContextOption",
    }
    later ["timeout", "headers", "enable64bitTraceId"]
}

choice! {
    /// Which headers carry the context.
    pub enum TraceContextOption {
        /// B3.
        UseB3 = "USE_B3",
        /// B3 is written; W3C is read too, and written beside it.
        UseB3WithW3cPropagation = "USE_B3_WITH_W3C_PROPAGATION",
    }
}
