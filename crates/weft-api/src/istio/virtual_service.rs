//! `VirtualService`: how requests to some hosts are routed.

use super::{PortSelector, StringMatch};
use crate::read::Spanned;
use std::{collections::BTreeMap, time::Duration};

object! {
    /// `networking.istio.io VirtualService`: how requests to some hosts are routed.
    pub struct VirtualService {
        /// DNS names, `*.suffix` or `*`; short names are completed with the namespace of this resource. Empty only for a delegate.
        hosts: Vec<Spanned<String>> = "hosts",
        /// `namespace/name` or `name` of gateways; `mesh` stands for all sidecars. Empty: `mesh` only.
        gateways: Vec<Spanned<String>> = "gateways",
        /// Rules for HTTP, in order; the first match wins.
        http: Vec<Spanned<HttpRoute>> = "http",
        /// Rules for TLS that is passed through, by SNI.
        tls: Vec<Spanned<TlsRoute>> = "tls",
        /// Rules for other connections.
        tcp: Vec<Spanned<TcpRoute>> = "tcp",
        /// Namespaces that see it: `.`, `*` or names. Empty: all.
        export_to: Vec<String> = "exportTo",
    }
}

object! {
    /// One HTTP rule.
    pub struct HttpRoute {
        /// Name for logs.
        name: Option<String> = "name",
        /// Alternatives; empty matches every request.
        matches: Vec<Spanned<HttpMatchRequest>> = "match",
        /// Weighted targets.
        route: Vec<Spanned<HttpRouteDestination>> = "route",
        /// Answer with a redirect.
        redirect: Option<Spanned<HttpRedirect>> = "redirect",
        /// Answer at once.
        direct_response: Option<Spanned<HttpDirectResponse>> = "directResponse",
        /// Go on in another VirtualService.
        delegate: Option<Spanned<Delegate>> = "delegate",
        /// Change path and authority.
        rewrite: Option<Spanned<HttpRewrite>> = "rewrite",
        /// Longest time for the whole exchange; absent or zero: no limit.
        timeout: Option<Duration> = "timeout",
        /// Retries; absent: the mesh's default policy.
        retries: Option<Spanned<HttpRetry>> = "retries",
        /// Faults to inject.
        fault: Option<Spanned<HttpFaultInjection>> = "fault",
        /// Send a copy there.
        mirror: Option<Spanned<Destination>> = "mirror",
        /// Share of requests that `mirror` copies; absent: all.
        mirror_percentage: Option<Percentage> = "mirrorPercentage",
        /// Deprecated form of `mirror_percentage`.
        mirror_percent: Option<u32> = "mirrorPercent",
        /// The same under its name in protobuf, as the CRD has it.
        mirror_percent_older: Option<u32> = "mirror_percent",
        /// Send copies there.
        mirrors: Vec<Spanned<HttpMirrorPolicy>> = "mirrors",
        /// Edit headers.
        headers: Option<Headers> = "headers",
        /// Cross-origin rules.
        cors_policy: Option<Spanned<CorsPolicy>> = "corsPolicy",
    }
}

object! {
    /// Which pages of other origins may read answers.
    pub struct CorsPolicy {
        /// Origins; the one that matches is echoed.
        allow_origins: Vec<StringMatch> = "allowOrigins",
        /// Deprecated form: whole origins, or `*`.
        allow_origin: Vec<String> = "allowOrigin",
        /// Methods.
        allow_methods: Vec<String> = "allowMethods",
        /// Request headers.
        allow_headers: Vec<String> = "allowHeaders",
        /// Response headers that a page may read.
        expose_headers: Vec<String> = "exposeHeaders",
        /// How long the answer to a preflight may be kept.
        max_age: Option<Duration> = "maxAge",
        /// May cookies be sent along?
        allow_credentials: Option<bool> = "allowCredentials",
        /// What becomes of a preflight of another origin; absent: `FORWARD`.
        unmatched_preflights: Option<UnmatchedPreflights> = "unmatchedPreflights",
    }
}

choice! {
    /// What becomes of a preflight of an origin that is not allowed.
    pub enum UnmatchedPreflights {
        /// The default: forward.
        Unspecified = "UNSPECIFIED",
        /// It goes on to the upstream.
        Forward = "FORWARD",
        /// It is answered without permission.
        Ignore = "IGNORE",
    }
}

/// A share of requests.
pub type Percentage = super::Percent;

object! {
    /// One alternative of a rule: all conditions that are given must hold.
    pub struct HttpMatchRequest {
        /// Name for logs.
        name: Option<String> = "name",
        /// Path.
        uri: Option<StringMatch> = "uri",
        /// Is the case of `uri` (exact and prefix) ignored?
        ignore_uri_case: bool = "ignoreUriCase",
        /// `http` or `https`.
        scheme: Option<StringMatch> = "scheme",
        /// Method.
        method: Option<StringMatch> = "method",
        /// Authority.
        authority: Option<StringMatch> = "authority",
        /// Headers that must match; [`StringMatch::Present`] for presence.
        headers: BTreeMap<String, StringMatch> = "headers",
        /// Headers of which none may match.
        without_headers: BTreeMap<String, StringMatch> = "withoutHeaders",
        /// Query parameters that must match.
        query_params: BTreeMap<String, StringMatch> = "queryParams",
        /// The port that the client addressed.
        port: Option<u16> = "port",
        /// Labels of the calling workload; chooses which sidecars get the rule.
        source_labels: BTreeMap<String, String> = "sourceLabels",
        /// Namespace of the calling workload; chooses which sidecars get the rule.
        source_namespace: Option<String> = "sourceNamespace",
        /// Gateways for this alternative, in place of those of the resource.
        gateways: Vec<Spanned<String>> = "gateways",
    }
    later ["statPrefix"]
}

object! {
    /// A target and its share.
    pub struct HttpRouteDestination {
        /// The target.
        destination: Destination = "destination",
        /// Its share of the sum of weights; absent is 0, unless it is the only target.
        weight: Option<u32> = "weight",
        /// Edit headers for this target.
        headers: Option<Headers> = "headers",
    }
}

object! {
    /// A host of the registry, and perhaps a subset and a port of it.
    pub struct Destination {
        /// Host; a short name is completed with the namespace of the resource.
        host: String = "host",
        /// Subset of a DestinationRule.
        subset: Option<String> = "subset",
        /// Port; may be absent when the host has one only.
        port: Option<PortSelector> = "port",
    }
}

object! {
    /// Answer with a redirect.
    pub struct HttpRedirect {
        /// New path, in place of the whole.
        uri: Option<String> = "uri",
        /// New prefix, in place of the matched prefix.
        prefix_rewrite: Option<String> = "prefixRewrite",
        /// New authority.
        authority: Option<String> = "authority",
        /// New port.
        port: Option<u16> = "port",
        /// Where the new port comes from.
        derive_port: Option<RedirectPort> = "derivePort",
        /// New scheme.
        scheme: Option<String> = "scheme",
        /// Status; absent: 301.
        redirect_code: Option<u16> = "redirectCode",
    }
}

choice! {
    /// Where the port of a redirect comes from.
    pub enum RedirectPort {
        /// 80 for http, 443 for https.
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// The port of the request.
        FromRequestPort = "FROM_REQUEST_PORT",
    }
}

object! {
    /// Answer at once.
    pub struct HttpDirectResponse {
        /// Status.
        status: u16 = "status",
        /// Body.
        body: Option<HttpBody> = "body",
    }
}

object! {
    /// Body of a direct response; one of the two.
    pub struct HttpBody {
        /// As text.
        string: Option<String> = "string",
        /// As base64.
        bytes: Option<String> = "bytes",
    }
}

object! {
    /// Go on in another VirtualService.
    pub struct Delegate {
        /// Its name.
        name: Option<String> = "name",
        /// Its namespace; absent: that of this resource.
        namespace: Option<String> = "namespace",
    }
}

object! {
    /// Change path and authority before sending.
    pub struct HttpRewrite {
        /// With a prefix match the new prefix, else the new path.
        uri: Option<String> = "uri",
        /// New authority.
        authority: Option<String> = "authority",
        /// Change the path by a regular expression.
        uri_regex_rewrite: Option<RegexRewrite> = "uriRegexRewrite",
    }
}

object! {
    /// Replace what matches.
    pub struct RegexRewrite {
        /// RE2.
        pattern: String = "match",
        /// Replacement; `\1` is the first group.
        rewrite: String = "rewrite",
    }
}

object! {
    /// Retries.
    pub struct HttpRetry {
        /// How many retries; 0 turns them off. Absent: 2.
        attempts: Option<u32> = "attempts",
        /// Longest time for one attempt.
        per_try_timeout: Option<Duration> = "perTryTimeout",
        /// Conditions and status codes, comma separated.
        retry_on: Option<String> = "retryOn",
        /// Try other localities?
        retry_remote_localities: Option<bool> = "retryRemoteLocalities",
        /// Avoid hosts that were tried? Absent: true.
        retry_ignore_previous_hosts: Option<bool> = "retryIgnorePreviousHosts",
        /// Base of the exponential wait; absent: 25 ms.
        backoff: Option<Duration> = "backoff",
    }
}

object! {
    /// Faults to inject.
    pub struct HttpFaultInjection {
        /// Wait before sending.
        delay: Option<Spanned<FaultDelay>> = "delay",
        /// Answer with an error.
        abort: Option<Spanned<FaultAbort>> = "abort",
    }
}

object! {
    /// Wait before sending.
    pub struct FaultDelay {
        /// How long.
        fixed_delay: Option<Duration> = "fixedDelay",
        /// Share of requests; absent: none.
        percentage: Option<Percentage> = "percentage",
        /// Deprecated whole-number form of `percentage`.
        percent: Option<u32> = "percent",
    }
    later ["exponentialDelay"]
}

object! {
    /// Answer with an error.
    pub struct FaultAbort {
        /// HTTP status.
        http_status: Option<u16> = "httpStatus",
        /// gRPC status by name, e.g. `UNAVAILABLE`.
        grpc_status: Option<String> = "grpcStatus",
        /// Share of requests; absent: none.
        percentage: Option<Percentage> = "percentage",
    }
    later ["http2Error"]
}

object! {
    /// A copy of requests.
    pub struct HttpMirrorPolicy {
        /// Where to.
        destination: Destination = "destination",
        /// Share of requests; absent: all.
        percentage: Option<Percentage> = "percentage",
    }
}

object! {
    /// Edits of request and response headers.
    pub struct Headers {
        /// Of the request.
        request: Option<HeaderOperations> = "request",
        /// Of the response.
        response: Option<HeaderOperations> = "response",
    }
}

object! {
    /// Edits of headers.
    pub struct HeaderOperations {
        /// Replace or create.
        set: BTreeMap<String, String> = "set",
        /// Append.
        add: BTreeMap<String, String> = "add",
        /// Delete.
        remove: Vec<String> = "remove",
    }
}

object! {
    /// A rule for TLS connections that are passed through.
    pub struct TlsRoute {
        /// Alternatives.
        matches: Vec<Spanned<TlsMatchAttributes>> = "match",
        /// Weighted targets.
        route: Vec<Spanned<RouteDestination>> = "route",
    }
}

object! {
    /// Conditions on a TLS connection.
    pub struct TlsMatchAttributes {
        /// Server names; wildcards allowed; must lie within the hosts of the resource.
        sni_hosts: Vec<String> = "sniHosts",
        /// Destination addresses.
        destination_subnets: Vec<ipnet::IpNet> = "destinationSubnets",
        /// Destination port.
        port: Option<u16> = "port",
        /// Labels of the calling workload.
        source_labels: BTreeMap<String, String> = "sourceLabels",
        /// Namespace of the calling workload.
        source_namespace: Option<String> = "sourceNamespace",
        /// Gateways for this alternative.
        gateways: Vec<Spanned<String>> = "gateways",
    }
}

object! {
    /// A rule for connections whose bytes are not read.
    pub struct TcpRoute {
        /// Alternatives; empty matches every connection.
        matches: Vec<Spanned<L4MatchAttributes>> = "match",
        /// Weighted targets.
        route: Vec<Spanned<RouteDestination>> = "route",
    }
}

object! {
    /// Conditions on a connection.
    pub struct L4MatchAttributes {
        /// Destination addresses.
        destination_subnets: Vec<ipnet::IpNet> = "destinationSubnets",
        /// Destination port.
        port: Option<u16> = "port",
        /// Labels of the calling workload.
        source_labels: BTreeMap<String, String> = "sourceLabels",
        /// Namespace of the calling workload.
        source_namespace: Option<String> = "sourceNamespace",
        /// Gateways for this alternative.
        gateways: Vec<Spanned<String>> = "gateways",
        /// Source addresses (hidden in Istio's reference).
        source_subnet: Option<ipnet::IpNet> = "sourceSubnet",
    }
}

object! {
    /// A target of connections and its share.
    pub struct RouteDestination {
        /// The target.
        destination: Destination = "destination",
        /// Its share of the sum of weights.
        weight: Option<u32> = "weight",
    }
}
