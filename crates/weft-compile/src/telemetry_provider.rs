//! Providers of logs and traces, and what MeshConfig says of telemetry for all.

use crate::{diag, link::Linker, mesh_config::cluster};
use std::collections::BTreeMap;
use weft_api::{Resource, Spanned, istio};
use weft_model::{Collector, LogFormat, LogSink, Origin, Ppm, ProxyHeaders, SpanExporter, SpanTag};

/// Longest time of one export where nothing is written, in milliseconds.
const EXPORT_TIMEOUT_MS: u64 = 10_000;
/// Name of the log that `accessLogFile` asks for, and of Istio's built-in provider.
const BUILT_IN_LOG: &str = "envoy";
/// Longest value of a tag where nothing is written, in bytes.
pub(crate) const TAG_BYTES_MAX: u32 = 256;

/// Something that a Telemetry may name.
#[derive(Debug, Clone)]
pub(crate) enum Provider {
    /// Metrics are scraped anyway.
    Prometheus,
    /// Access logs.
    Log(LogSink, LogFormat),
    /// Traces: where to, whether B3 is written, the longest tag.
    Traces(SpanExporter, bool, u32),
    /// It exists and cannot be used; a diagnostic has said why.
    Broken,
}

/// What holds for all where no Telemetry says otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct TelemetryDefaults {
    pub(crate) providers: BTreeMap<String, Provider>,
    /// Logs that are written.
    pub(crate) logs: Vec<(String, Origin)>,
    /// Providers where a Telemetry names none.
    pub(crate) log_providers: Vec<String>,
    pub(crate) trace_providers: Vec<String>,
    /// Are traces asked for by MeshConfig itself?
    pub(crate) tracing: Option<Origin>,
    pub(crate) sampling: Option<f64>,
    pub(crate) tags: BTreeMap<String, SpanTag>,
    pub(crate) istio_tags: Option<bool>,
    pub(crate) headers: ProxyHeaders,
}

/// Reads MeshConfig's part.
pub(crate) fn defaults(linker: &mut Linker<'_>) -> TelemetryDefaults {
    let mut defaults = TelemetryDefaults::default();
    let mut built_in = LogFormat::istio_text();
    let root = linker.mesh.settings.root_namespace.clone();
    let documents: Vec<_> = linker.inputs.documents.iter().filter(|d| d.meta.namespace == root).cloned().collect();
    for document in documents {
        let Resource::ConfigMap(map) = &document.resource else { continue };
        let Some(config) = &map.data.mesh else { continue };
        built_in = mesh_format(linker, config, &document.origin);
        for provider in &config.extension_providers {
            if let Some(made) = provider_of(linker, provider, &document.origin, &built_in) {
                defaults.providers.insert(provider.name.clone(), made);
            }
        }
        if let Some(path) = config.access_log_file.as_ref().filter(|p| !p.is_empty()) {
            let name = "accessLogFile".to_owned();
            defaults.providers.insert(name.clone(), Provider::Log(LogSink::File(path.clone()), built_in.clone()));
            defaults.logs.push((name, document.origin.clone()));
        }
        if let Some(names) = &config.default_providers {
            defaults.logs.extend(names.access_logging.iter().map(|n| (n.clone(), document.origin.clone())));
            defaults.log_providers.clone_from(&names.access_logging);
            defaults.trace_providers.clone_from(&names.tracing);
        }
        if config.enable_tracing == Some(true) {
            defaults.tracing = Some(document.origin.clone());
        }
        if let Some(settings) = &config.default_config {
            proxy_config(linker, settings, &document.origin, &mut defaults);
        }
    }
    let stdout = || Provider::Log(LogSink::File("/dev/stdout".into()), built_in.clone());
    defaults.providers.entry(BUILT_IN_LOG.into()).or_insert_with(stdout);
    defaults.providers.entry("prometheus".into()).or_insert(Provider::Prometheus);
    defaults
}

fn proxy_config(linker: &mut Linker<'_>, settings: &istio::MeshProxyConfig, origin: &Origin, defaults: &mut TelemetryDefaults) {
    if let Some(tracing) = &settings.tracing {
        let at = tracing.origin(origin);
        defaults.sampling = tracing.sampling;
        defaults.istio_tags = tracing.enable_istio_tags;
        defaults.tags = tags(linker, &tracing.custom_tags, origin);
        if let Some(zipkin) = &tracing.zipkin {
            let (host, port) = zipkin.address.rsplit_once(':').unwrap_or((&zipkin.address, "9411"));
            let name = "defaultConfig.tracing.zipkin".to_owned();
            let made = match cluster(linker, host, port.parse().unwrap_or(9411), &at) {
                Some(cluster) => {
                    let collector = Collector { cluster, path: None, headers: Vec::new(), timeout_ms: EXPORT_TIMEOUT_MS };
                    Provider::Traces(SpanExporter::Zipkin(collector), true, TAG_BYTES_MAX)
                }
                None => Provider::Broken,
            };
            defaults.providers.insert(name.clone(), made);
            if defaults.trace_providers.is_empty() {
                defaults.trace_providers.push(name);
            }
        }
    }
    if let Some(headers) = &settings.proxy_headers {
        let off = |switch: &Option<istio::HeaderSwitch>| switch.as_ref().and_then(|s| s.disabled);
        let on = |switch: &Option<istio::EnabledSwitch>| switch.as_ref().and_then(|s| s.enabled).unwrap_or_default();
        defaults.headers = ProxyHeaders {
            server: match &headers.server {
                Some(server) if server.disabled == Some(true) => Some(String::new()),
                Some(server) => server.value.clone(),
                None => None,
            },
            request_id: !off(&headers.request_id).unwrap_or_default(),
            // Written as not disabled: asked for. Istio's own default is on; Weft adds nothing that nobody asked for.
            attempt_count: off(&headers.attempt_count) == Some(false),
            debug: off(&headers.envoy_debug_headers) == Some(false),
            forwarded_host: on(&headers.x_forwarded_host),
            forwarded_port: on(&headers.x_forwarded_port),
        };
    }
}

/// `accessLogFormat` and `accessLogEncoding`.
fn mesh_format(linker: &mut Linker<'_>, config: &istio::MeshConfig, origin: &Origin) -> LogFormat {
    let json = config.access_log_encoding == Some(istio::AccessLogEncoding::Json);
    let default = || if json { LogFormat::istio_json() } else { LogFormat::istio_text() };
    let Some(written) = config.access_log_format.as_ref().filter(|f| !f.is_empty()) else { return default() };
    let made = match json {
        true => {
            serde_json::from_str(written).map_err(|e| e.to_string()).and_then(|labels| LogFormat::json(&labels).map_err(|e| e.to_string()))
        }
        false => LogFormat::text(written).map_err(|e| e.to_string()),
    };
    made.unwrap_or_else(|why| {
        linker.report(diag::bad_log_format(written.origin(origin), &why));
        default()
    })
}

fn provider_of(
    linker: &mut Linker<'_>,
    spec: &Spanned<istio::MeshExtensionProvider>,
    document: &Origin,
    built_in: &LogFormat,
) -> Option<Provider> {
    let at = spec.origin(document);
    if spec.prometheus.is_some() {
        return Some(Provider::Prometheus);
    }
    if let Some(file) = &spec.envoy_file_access_log {
        let path = file.path.clone().unwrap_or_else(|| "/dev/stdout".into());
        let format = format(linker, file.log_format.as_ref(), document).unwrap_or_else(|| built_in.clone());
        return Some(Provider::Log(LogSink::File(path), format));
    }
    if let Some(otel) = &spec.envoy_otel_als {
        let format = format(linker, otel.log_format.as_ref(), document).unwrap_or_else(|| built_in.clone());
        let collector = collector(linker, &otel.service, otel.port, otel.http.as_ref(), &at);
        return Some(collector.map_or(Provider::Broken, |c| Provider::Log(LogSink::Otlp(c), format)));
    }
    if let Some(otel) = &spec.opentelemetry {
        let collector = collector(linker, &otel.service, otel.port, otel.http.as_ref(), &at);
        let length = otel.max_tag_length.unwrap_or(TAG_BYTES_MAX);
        return Some(collector.map_or(Provider::Broken, |c| Provider::Traces(SpanExporter::Otlp(c), false, length)));
    }
    let zipkin = spec.zipkin.as_ref()?;
    let made = cluster(linker, &zipkin.service, zipkin.port, &at).map_or(Provider::Broken, |cluster| {
        let collector = Collector { cluster, path: zipkin.path.clone(), headers: Vec::new(), timeout_ms: EXPORT_TIMEOUT_MS };
        Provider::Traces(SpanExporter::Zipkin(collector), true, zipkin.max_tag_length.unwrap_or(TAG_BYTES_MAX))
    });
    Some(made)
}

fn collector(linker: &mut Linker<'_>, service: &str, port: u16, http: Option<&istio::OtelHttp>, at: &Origin) -> Option<Collector> {
    let cluster = cluster(linker, service, port, at)?;
    let timeout = http.and_then(|h| h.timeout).map_or(EXPORT_TIMEOUT_MS, |t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    let headers = http.into_iter().flat_map(|h| &h.headers).map(|h| (h.name.to_ascii_lowercase(), h.value.clone().unwrap_or_default()));
    Some(Collector { cluster, path: http.map(|h| h.path.clone()), headers: headers.collect(), timeout_ms: timeout })
}

/// A written format; `None` where there is none or it cannot be used, which a diagnostic says.
fn format(linker: &mut Linker<'_>, spec: Option<&Spanned<istio::LogFormat>>, document: &Origin) -> Option<LogFormat> {
    let spec = spec?;
    let made = match (&spec.labels, &spec.text) {
        (Some(labels), _) => LogFormat::json(labels),
        (None, Some(text)) => LogFormat::text(text),
        (None, None) => return None,
    };
    match made {
        Ok(format) => Some(format),
        Err(why) => {
            linker.report(diag::bad_log_format(spec.origin(document), &why.to_string()));
            None
        }
    }
}

/// Tags of spans.
pub(crate) fn tags(
    linker: &mut Linker<'_>,
    spec: &BTreeMap<String, Spanned<istio::CustomTag>>,
    document: &Origin,
) -> BTreeMap<String, SpanTag> {
    let mut tags = BTreeMap::new();
    for (name, tag) in spec {
        let named = |t: &istio::NamedTag| (t.name.clone(), t.default_value.clone().unwrap_or_default());
        let made = if let Some(literal) = &tag.literal {
            Some(SpanTag::Literal(literal.value.clone()))
        } else if let Some(variable) = &tag.environment {
            let (name, default) = named(variable);
            Some(SpanTag::Environment { name, default })
        } else if let Some(header) = &tag.header {
            let (name, default) = named(header);
            Some(SpanTag::Header { name: name.to_ascii_lowercase(), default })
        } else if let Some(formatter) = &tag.formatter {
            match LogFormat::text(&formatter.value) {
                Ok(format) => Some(SpanTag::Formatter(format)),
                Err(why) => {
                    linker.report(diag::bad_log_format(tag.origin(document), &why.to_string()));
                    None
                }
            }
        } else {
            linker.report(diag::telemetry_unusable(tag.origin(document), "the tag has no source"));
            None
        };
        tags.extend(made.map(|made| (name.clone(), made)));
    }
    tags
}

/// A share from percent.
pub(crate) fn share(percent: f64) -> Ppm {
    Ppm::from_percent(percent)
}
