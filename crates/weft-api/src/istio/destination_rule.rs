//! `DestinationRule`: what happens to traffic for a host after routing.

use super::{LoadBalancerSettings, PortSelector, WorkloadSelector};
use crate::read::Spanned;
use std::{collections::BTreeMap, time::Duration};

object! {
    /// `networking.istio.io DestinationRule`: subsets of a host, and how each is called.
    pub struct DestinationRule {
        /// Host; a short name is completed with the namespace of the resource; may be a wildcard.
        host: Spanned<String> = "host",
        /// Policy for the whole host.
        traffic_policy: Option<Spanned<TrafficPolicy>> = "trafficPolicy",
        /// Named parts of the host.
        subsets: Vec<Spanned<Subset>> = "subsets",
        /// Namespaces that see it: `.`, `*` or names. Empty: all.
        export_to: Vec<String> = "exportTo",
        /// Client workloads for which it holds; absent: all.
        workload_selector: Option<WorkloadSelector> = "workloadSelector",
    }
    later ["workloadSelector"]
}

object! {
    /// A named part of a host: its endpoints with some labels.
    pub struct Subset {
        /// Name, for routes.
        name: String = "name",
        /// Labels that an endpoint must have; may be empty.
        labels: BTreeMap<String, String> = "labels",
        /// Policy, set field by set field over that of the host.
        traffic_policy: Option<Spanned<TrafficPolicy>> = "trafficPolicy",
    }
}

object! {
    /// How traffic is sent.
    pub struct TrafficPolicy {
        /// Balancing.
        load_balancer: Option<Spanned<LoadBalancerSettings>> = "loadBalancer",
        /// Limits.
        connection_pool: Option<Spanned<ConnectionPoolSettings>> = "connectionPool",
        /// Ejection.
        outlier_detection: Option<Spanned<OutlierDetection>> = "outlierDetection",
        /// TLS towards the host.
        tls: Option<Spanned<ClientTlsSettings>> = "tls",
        /// Policies of single ports: each replaces the whole policy for its port.
        port_level_settings: Vec<Spanned<PortTrafficPolicy>> = "portLevelSettings",
        /// Bounds on retries.
        retry_budget: Option<Spanned<RetryBudget>> = "retryBudget",
        /// Opaque connections go through a proxy outside.
        tunnel: Option<Spanned<TunnelSettings>> = "tunnel",
        /// Connections begin with a PROXY protocol header.
        proxy_protocol: Option<ProxyProtocolSettings> = "proxyProtocol",
    }
}

object! {
    /// A proxy outside that connections go through.
    pub struct TunnelSettings {
        /// How it is asked; absent: `CONNECT`.
        protocol: Option<TunnelProtocol> = "protocol",
        /// Host that it is asked for.
        target_host: Spanned<String> = "targetHost",
        /// Port that it is asked for.
        target_port: u16 = "targetPort",
    }
}

choice! {
    /// How a proxy outside is asked.
    pub enum TunnelProtocol {
        /// By CONNECT.
        Connect = "CONNECT",
        /// By POST.
        Post = "POST",
    }
}

object! {
    /// The PROXY protocol towards a host.
    pub struct ProxyProtocolSettings {
        /// Absent: `V1`.
        version: Option<ProxyProtocolVersion> = "version",
    }
}

choice! {
    /// A form of the PROXY protocol.
    pub enum ProxyProtocolVersion {
        /// A line of text.
        V1 = "V1",
        /// Binary.
        V2 = "V2",
    }
}

object! {
    /// The policy of one port.
    pub struct PortTrafficPolicy {
        /// The port.
        port: PortSelector = "port",
        /// Balancing.
        load_balancer: Option<Spanned<LoadBalancerSettings>> = "loadBalancer",
        /// Limits.
        connection_pool: Option<Spanned<ConnectionPoolSettings>> = "connectionPool",
        /// Ejection.
        outlier_detection: Option<Spanned<OutlierDetection>> = "outlierDetection",
        /// TLS towards the port.
        tls: Option<Spanned<ClientTlsSettings>> = "tls",
    }
}

object! {
    /// Limits towards a host.
    pub struct ConnectionPoolSettings {
        /// On connections.
        tcp: Option<TcpSettings> = "tcp",
        /// On requests.
        http: Option<HttpSettings> = "http",
    }
}

object! {
    /// Limits on connections.
    pub struct TcpSettings {
        /// Connections.
        max_connections: Option<u32> = "maxConnections",
        /// Time to connect; absent: 10 s.
        connect_timeout: Option<Duration> = "connectTimeout",
        /// Time without bytes after which a connection is closed; absent: 1 h, zero: never.
        idle_timeout: Option<Duration> = "idleTimeout",
        /// Probes of idle connections.
        tcp_keepalive: Option<TcpKeepalive> = "tcpKeepalive",
        /// Age at which a connection is closed; absent: none.
        max_connection_duration: Option<Duration> = "maxConnectionDuration",
    }
}

object! {
    /// Keep-alive of TCP; what is absent is the system's.
    pub struct TcpKeepalive {
        /// Probes without an answer before a connection is given up.
        probes: Option<u32> = "probes",
        /// Idle time before the first.
        time: Option<Duration> = "time",
        /// Time between two.
        interval: Option<Duration> = "interval",
    }
}

object! {
    /// Limits on requests.
    pub struct HttpSettings {
        /// Requests that wait for a connection.
        http1_max_pending_requests: Option<u32> = "http1MaxPendingRequests",
        /// Requests in flight (HTTP/1.1 too).
        http2_max_requests: Option<u32> = "http2MaxRequests",
        /// Requests on one connection; 0: no limit.
        max_requests_per_connection: Option<u32> = "maxRequestsPerConnection",
        /// Retries in flight.
        max_retries: Option<u32> = "maxRetries",
        /// Time after which an idle connection is closed; zero: never.
        idle_timeout: Option<Duration> = "idleTimeout",
        /// Is HTTP/1.1 sent on as HTTP/2?
        h2_upgrade_policy: Option<H2UpgradePolicy> = "h2UpgradePolicy",
        /// Speak what the caller speaks.
        use_client_protocol: bool = "useClientProtocol",
        /// Streams on one HTTP/2 connection.
        max_concurrent_streams: Option<u32> = "maxConcurrentStreams",
        /// Pings of HTTP/2.
        http2_keep_alive: Option<Http2KeepAlive> = "http2KeepAlive",
    }
}

choice! {
    /// Is HTTP/1.1 sent on as HTTP/2?
    pub enum H2UpgradePolicy {
        /// As the port declares.
        Default = "DEFAULT",
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }
}

object! {
    /// Pings of HTTP/2.
    pub struct Http2KeepAlive {
        /// Time between two.
        interval: Duration = "interval",
        /// Longest wait for the answer.
        timeout: Duration = "timeout",
    }
}

object! {
    /// Ejection of endpoints that fail.
    pub struct OutlierDetection {
        /// 5xx answers in a row; absent: 5, 0: off.
        consecutive_5xx_errors: Option<u32> = "consecutive5xxErrors",
        /// 502, 503 and 504 in a row; absent or 0: off.
        consecutive_gateway_errors: Option<u32> = "consecutiveGatewayErrors",
        /// Deprecated form of `consecutive_gateway_errors`.
        consecutive_errors: Option<u32> = "consecutiveErrors",
        /// Time between looks; absent: 10 s.
        interval: Option<Duration> = "interval",
        /// First ejection; absent: 30 s.
        base_ejection_time: Option<Duration> = "baseEjectionTime",
        /// Share of endpoints that may be out, in percent; absent: 10.
        max_ejection_percent: Option<u32> = "maxEjectionPercent",
        /// Ejection is off below this share of healthy endpoints, in percent; absent: 0.
        min_health_percent: Option<u32> = "minHealthPercent",
        /// Are failures of the connection counted by themselves?
        split_external_local_origin_errors: bool = "splitExternalLocalOriginErrors",
        /// Failures of the connection in a row, when they are; absent: 5.
        consecutive_local_origin_failures: Option<u32> = "consecutiveLocalOriginFailures",
        /// Statuses that count as errors instead of 5xx.
        outlier_detection_http_error_codes: Vec<u32> = "outlierDetectionHttpErrorCodes",
    }
}

object! {
    /// TLS towards a host.
    pub struct ClientTlsSettings {
        /// Mode; absent (with the block present): `DISABLE`.
        mode: Option<ClientTlsMode> = "mode",
        /// Server name.
        sni: Option<String> = "sni",
        /// Names that the server must prove one of.
        subject_alt_names: Vec<String> = "subjectAltNames",
        /// Secret with keys.
        credential_name: Option<String> = "credentialName",
        /// Path of the client's chain.
        client_certificate: Option<String> = "clientCertificate",
        /// Path of the client's key.
        private_key: Option<String> = "privateKey",
        /// Path of the roots.
        ca_certificates: Option<String> = "caCertificates",
        /// Path of the list of revoked certificates.
        ca_crl: Option<String> = "caCrl",
        /// Skip all checks.
        insecure_skip_verify: Option<bool> = "insecureSkipVerify",
    }
}

choice! {
    /// What TLS is spoken towards a host.
    pub enum ClientTlsMode {
        /// None.
        Disable = "DISABLE",
        /// TLS without a client certificate.
        Simple = "SIMPLE",
        /// TLS with a client certificate of the user's.
        Mutual = "MUTUAL",
        /// The mesh's mutual TLS.
        IstioMutual = "ISTIO_MUTUAL",
    }
}

object! {
    /// Retries as a share of requests.
    pub struct RetryBudget {
        /// In percent; absent: 20.
        percent: Option<f64> = "percent",
        /// Always allowed; absent: 3.
        min_retry_concurrency: Option<u32> = "minRetryConcurrency",
        /// Requests of the last so long count too; absent: only those in flight.
        budget_interval: Option<Duration> = "budgetInterval",
    }
}
