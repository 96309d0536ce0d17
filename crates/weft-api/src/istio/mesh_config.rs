//! `MeshConfig`: settings of the whole mesh, as the text under `mesh` of the ConfigMap `istio` in the root namespace.

use crate::read::Spanned;
use std::time::Duration;

object! {
    /// `istio.mesh.v1alpha1.MeshConfig`, as far as it is read.
    pub struct MeshConfig {
        /// How paths are brought into one form.
        path_normalization: Option<PathNormalization> = "pathNormalization",
        /// Further names of the mesh's trust domain.
        trust_domain_aliases: Vec<String> = "trustDomainAliases",
        /// Providers that policies and telemetry name.
        extension_providers: Vec<Spanned<MeshExtensionProvider>> = "extensionProviders",
        /// Settings of every proxy.
        default_config: Option<MeshProxyConfig> = "defaultConfig",
        /// Retries of routes that say nothing of them.
        default_http_retry_policy: Option<Spanned<super::HttpRetry>> = "defaultHttpRetryPolicy",
        /// Who sees VirtualServices that do not say it.
        default_virtual_service_export_to: Vec<String> = "defaultVirtualServiceExportTo",
        /// Where proxies write an access log: `/dev/stdout` or a path; empty: nowhere.
        access_log_file: Option<String> = "accessLogFile",
        /// Its format: a text with command operators, or a JSON object for `JSON`.
        access_log_format: Option<Spanned<String>> = "accessLogFormat",
        /// Its encoding.
        access_log_encoding: Option<super::AccessLogEncoding> = "accessLogEncoding",
        /// Are traces reported?
        enable_tracing: Option<bool> = "enableTracing",
        /// Providers that are used where a Telemetry names none.
        default_providers: Option<super::DefaultProviders> = "defaultProviders",
    }
    later [
        "connectTimeout", "tcpKeepalive", "outboundTrafficPolicy", "inboundTrafficPolicy", "enableAutoMtls", "trustDomain", "caCertificates",
        "defaultServiceExportTo", "defaultDestinationRuleExportTo", "localityLbSetting", "zoneAwareLbSetting",
        "dnsRefreshRate", "h2UpgradePolicy", "serviceSettings", "discoverySelectors", "meshMTLS",
        "tlsDefaults", "protocolDetectionTimeout", "rootNamespace",
        "serviceEntryVisibility", "defaultTrafficPolicy", "hboneIdleTimeout",
    ]
    inert [
        "proxyListenPort", "proxyInboundListenPort", "proxyHttpPort", "ingressClass", "ingressService", "ingressSelector", "ingressControllerMode",
        "enableEnvoyAccessLogService", "disableEnvoyListenerLog", "disableMixerHttpReports", "outboundClusterStatName", "inboundClusterStatName",
        "certificates", "enablePrometheusMerge", "ca", "verifyCertificateAtClient", "configSources", "serviceScopeConfigs",
    ]
}

object! {
    /// How paths are brought into one form.
    pub struct PathNormalization {
        /// The mode.
        normalization: Option<PathNormalizationMode> = "normalization",
    }
}

choice! {
    /// How much is normalised.
    pub enum PathNormalizationMode {
        /// As `BASE`.
        Default = "DEFAULT",
        /// Nothing.
        None = "NONE",
        /// RFC 3986 without touching slashes.
        Base = "BASE",
        /// Also `//` becomes `/`.
        MergeSlashes = "MERGE_SLASHES",
        /// Also `%2F` and `%5C` become `/`.
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
        /// Weft's own: what could be read in two ways is refused.
        Strict = "STRICT",
    }
}

object! {
    /// Something outside that policies or telemetry ask.
    pub struct MeshExtensionProvider {
        /// Its name in policies.
        name: String = "name",
        /// Envoy's ext_authz over HTTP.
        envoy_ext_authz_http: Option<ExtAuthzHttp> = "envoyExtAuthzHttp",
        /// Envoy's ext_authz over gRPC.
        envoy_ext_authz_grpc: Option<ExtAuthzGrpc> = "envoyExtAuthzGrpc",
        /// Prometheus scrapes.
        prometheus: Option<super::PrometheusProvider> = "prometheus",
        /// A log file.
        envoy_file_access_log: Option<super::FileAccessLogProvider> = "envoyFileAccessLog",
        /// Logs to an OpenTelemetry collector.
        envoy_otel_als: Option<super::OtelAccessLogProvider> = "envoyOtelAls",
        /// Traces to an OpenTelemetry collector.
        opentelemetry: Option<super::OpenTelemetryProvider> = "opentelemetry",
        /// Traces to Zipkin.
        zipkin: Option<super::ZipkinProvider> = "zipkin",
    }
    later [
        "lightstep", "datadog", "stackdriver", "opencensus", "skywalking", "envoyHttpAls", "envoyTcpAls", "sds",
    ]
}

object! {
    /// Authorization by an HTTP service.
    pub struct ExtAuthzHttp {
        /// `[namespace/]host` of the service.
        service: String = "service",
        /// Its port.
        port: u16 = "port",
        /// Longest wait; absent: 600 s.
        timeout: Option<Duration> = "timeout",
        /// Put before the path of the check.
        path_prefix: Option<String> = "pathPrefix",
        /// Let through when there is no answer?
        fail_open: bool = "failOpen",
        /// The cleared route cache: routing sees the headers that the service adds.
        clear_route_cache: bool = "clearRouteCache",
        /// Status when there is no answer; absent: 403.
        status_on_error: Option<String> = "statusOnError",
        /// Headers of the request that go into the check; `prefix*` and `*suffix` too.
        include_request_headers_in_check: Vec<String> = "includeRequestHeadersInCheck",
        /// The older name of the same.
        include_headers_in_check: Vec<String> = "includeHeadersInCheck",
        /// Headers that are added to the check.
        include_additional_headers_in_check: std::collections::BTreeMap<String, String> = "includeAdditionalHeadersInCheck",
        /// Does the check hold the body?
        include_request_body_in_check: Option<ExtAuthzBody> = "includeRequestBodyInCheck",
        /// Headers of the answer that the request gets.
        headers_to_upstream_on_allow: Vec<String> = "headersToUpstreamOnAllow",
        /// Headers of the answer that a refused caller gets.
        headers_to_downstream_on_deny: Vec<String> = "headersToDownstreamOnDeny",
        /// Headers of the answer that an allowed caller gets.
        headers_to_downstream_on_allow: Vec<String> = "headersToDownstreamOnAllow",
    }
}

object! {
    /// Authorization by a gRPC service (`envoy.service.auth.v3.Authorization`).
    pub struct ExtAuthzGrpc {
        /// `[namespace/]host` of the service.
        service: String = "service",
        /// Its port.
        port: u16 = "port",
        /// Longest wait; absent: 600 s.
        timeout: Option<Duration> = "timeout",
        /// Let through when there is no answer?
        fail_open: bool = "failOpen",
        /// The cleared route cache: routing sees the headers that the service adds.
        clear_route_cache: bool = "clearRouteCache",
        /// Status when there is no answer; absent: 403.
        status_on_error: Option<String> = "statusOnError",
        /// Does the check hold the body?
        include_request_body_in_check: Option<ExtAuthzBody> = "includeRequestBodyInCheck",
    }
}

object! {
    /// How much of a body goes into a check.
    pub struct ExtAuthzBody {
        /// Longest body.
        max_request_bytes: u32 = "maxRequestBytes",
        /// Send the beginning of a longer one (else 413)?
        allow_partial_message: bool = "allowPartialMessage",
        /// As bytes, not as text (gRPC)?
        pack_as_bytes: bool = "packAsBytes",
    }
}

object! {
    /// Settings of every proxy (`ProxyConfig`), as far as they are read.
    pub struct MeshProxyConfig {
        /// What stands before gateways.
        gateway_topology: Option<GatewayTopology> = "gatewayTopology",
        /// Tracing, in its older place.
        tracing: Option<Spanned<super::TracingSettings>> = "tracing",
        /// Headers that proxies add and remove.
        proxy_headers: Option<Spanned<super::ProxyHeaders>> = "proxyHeaders",
    }
    open true
}

object! {
    /// What stands before gateways.
    pub struct GatewayTopology {
        /// Proxies in front whose `x-forwarded-for` is believed.
        num_trusted_proxies: Option<u32> = "numTrustedProxies",
        /// What becomes of `x-forwarded-client-cert`.
        forward_client_cert_details: Option<ForwardClientCertDetails> = "forwardClientCertDetails",
    }
    later ["proxyProtocol"]
}

choice! {
    /// What becomes of `x-forwarded-client-cert`.
    pub enum ForwardClientCertDetails {
        /// As `SANITIZE_SET` at gateways and `APPEND_FORWARD` beside programs.
        Undefined = "UNDEFINED",
        /// Removed.
        Sanitize = "SANITIZE",
        /// Passed on over mutual TLS.
        ForwardOnly = "FORWARD_ONLY",
        /// Passed on over mutual TLS, with the caller's own added.
        AppendForward = "APPEND_FORWARD",
        /// Replaced by the caller's own.
        SanitizeSet = "SANITIZE_SET",
        /// Passed on, whoever sent it.
        AlwaysForwardOnly = "ALWAYS_FORWARD_ONLY",
    }
}
