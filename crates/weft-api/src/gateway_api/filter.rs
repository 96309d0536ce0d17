//! Filters of HTTPRoute and GRPCRoute: what is done to a request on its way.

use super::{BackendObjectReference, LocalReference};
use crate::diag;
use crate::node::Node;
use crate::read::{Path, Read, Reader};

/// What is done to a request on its way. The body always fits the type: a filter without its body does not parse.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Edit the request's headers.
    RequestHeaderModifier(HeaderModifier),
    /// Edit the response's headers.
    ResponseHeaderModifier(HeaderModifier),
    /// Send a copy elsewhere.
    RequestMirror(RequestMirror),
    /// Answer with a redirect.
    RequestRedirect(RequestRedirect),
    /// Change path and host.
    UrlRewrite(UrlRewrite),
    /// Cross-origin rules.
    Cors(HttpCorsFilter),
    /// Ask another service.
    ExternalAuth(HttpExternalAuthFilter),
    /// A filter of the implementation's own: Weft has none yet.
    ExtensionRef(LocalReference),
}

impl Read for Filter {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let raw = FilterFields::read(node, at, reader)?;
        let missing = |reader: &mut Reader, name: &str| {
            let place = reader.place(node.line, &Path::Name(at, name));
            reader.report(diag::missing_field(place));
        };
        macro_rules! body {
            ($field:ident, $name:literal, $variant:ident) => {
                match raw.$field {
                    Some(body) => Some(Self::$variant(body)),
                    None => {
                        missing(reader, $name);
                        None
                    }
                }
            };
        }
        match raw.kind {
            FilterType::RequestHeaderModifier => body!(request_header_modifier, "requestHeaderModifier", RequestHeaderModifier),
            FilterType::ResponseHeaderModifier => body!(response_header_modifier, "responseHeaderModifier", ResponseHeaderModifier),
            FilterType::RequestMirror => body!(request_mirror, "requestMirror", RequestMirror),
            FilterType::RequestRedirect => body!(request_redirect, "requestRedirect", RequestRedirect),
            FilterType::UrlRewrite => body!(url_rewrite, "urlRewrite", UrlRewrite),
            FilterType::Cors => body!(cors, "cors", Cors),
            FilterType::ExternalAuth => body!(external_auth, "externalAuth", ExternalAuth),
            FilterType::ExtensionRef => body!(extension_ref, "extensionRef", ExtensionRef),
        }
    }
}

choice! {
    /// The type of a filter.
    pub enum FilterType {
        /// Edit the request's headers.
        RequestHeaderModifier = "RequestHeaderModifier",
        /// Edit the response's headers.
        ResponseHeaderModifier = "ResponseHeaderModifier",
        /// Send a copy elsewhere.
        RequestMirror = "RequestMirror",
        /// Answer with a redirect.
        RequestRedirect = "RequestRedirect",
        /// Change path and host.
        UrlRewrite = "URLRewrite",
        /// Cross-origin rules.
        Cors = "CORS",
        /// Ask another service.
        ExternalAuth = "ExternalAuth",
        /// A filter of the implementation's own.
        ExtensionRef = "ExtensionRef",
    }
    later ["ExtensionRef"]
}

object! {
    /// The fields of [`Filter`].
    pub struct FilterFields {
        /// Type.
        kind: FilterType = "type",
        /// Body of that type.
        request_header_modifier: Option<HeaderModifier> = "requestHeaderModifier",
        /// Body of that type.
        response_header_modifier: Option<HeaderModifier> = "responseHeaderModifier",
        /// Body of that type.
        request_mirror: Option<RequestMirror> = "requestMirror",
        /// Body of that type.
        request_redirect: Option<RequestRedirect> = "requestRedirect",
        /// Body of that type.
        url_rewrite: Option<UrlRewrite> = "urlRewrite",
        /// Body of that type.
        cors: Option<HttpCorsFilter> = "cors",
        /// Body of that type.
        external_auth: Option<HttpExternalAuthFilter> = "externalAuth",
        /// Body of that type.
        extension_ref: Option<LocalReference> = "extensionRef",
    }
}

choice! {
    /// How a service that decides is asked.
    pub enum ExternalAuthProtocol {
        /// Over HTTP.
        Http = "HTTP",
        /// Over gRPC (`envoy.service.auth.v3.Authorization`).
        Grpc = "GRPC",
    }
}

object! {
    /// A service that decides whether a request may go on.
    pub struct HttpExternalAuthFilter {
        /// How it is asked.
        protocol: ExternalAuthProtocol = "protocol",
        /// The service.
        backend_ref: BackendObjectReference = "backendRef",
        /// Settings of the protocol.
        grpc: Option<GrpcAuthConfig> = "grpc",
        /// Settings of the protocol.
        http: Option<HttpAuthConfig> = "http",
        /// How much of the body it sees; absent: nothing.
        forward_body: Option<ForwardBodyConfig> = "forwardBody",
    }
}

object! {
    /// How a gRPC service is asked.
    pub struct GrpcAuthConfig {
        /// Headers of the request that it sees; none: all.
        allowed_headers: Vec<String> = "allowedHeaders",
    }
}

object! {
    /// How an HTTP service is asked.
    pub struct HttpAuthConfig {
        /// Put before the path.
        path: Option<String> = "path",
        /// Headers of the request that it sees, besides Host, Content-Length and Authorization.
        allowed_headers: Vec<String> = "allowedHeaders",
        /// Headers of its answer that an allowed request gets; none: all.
        allowed_response_headers: Vec<String> = "allowedResponseHeaders",
    }
}

object! {
    /// How much of a body goes into a check.
    pub struct ForwardBodyConfig {
        /// Longest, in bytes; a longer body is cut. 0: nothing.
        max_size: u16 = "maxSize",
    }
}

object! {
    /// Cross-origin rules.
    pub struct HttpCorsFilter {
        /// Origins; `*` and wildcards in the host are allowed.
        allow_origins: Vec<String> = "allowOrigins",
        /// May cookies be sent along?
        allow_credentials: Option<bool> = "allowCredentials",
        /// Methods; `*` for all.
        allow_methods: Vec<String> = "allowMethods",
        /// Request headers; `*` for all.
        allow_headers: Vec<String> = "allowHeaders",
        /// Response headers that a page may read; `*` for all.
        expose_headers: Vec<String> = "exposeHeaders",
        /// How long the answer to a preflight may be kept, in seconds; absent: 5.
        max_age: Option<i32> = "maxAge",
    }
}

object! {
    /// Edits of headers.
    pub struct HeaderModifier {
        /// Replace or create.
        set: Vec<HttpHeader> = "set",
        /// Append.
        add: Vec<HttpHeader> = "add",
        /// Delete.
        remove: Vec<String> = "remove",
    }
}

object! {
    /// A header.
    pub struct HttpHeader {
        /// Name.
        name: String = "name",
        /// Value.
        value: String = "value",
    }
}

object! {
    /// A copy of requests.
    pub struct RequestMirror {
        /// Where to.
        backend_ref: BackendObjectReference = "backendRef",
        /// Share of requests in percent; absent: all.
        percent: Option<u32> = "percent",
        /// Share of requests as a fraction, in place of `percent`.
        fraction: Option<Fraction> = "fraction",
    }
}

object! {
    /// A share.
    pub struct Fraction {
        /// So many …
        numerator: u32 = "numerator",
        /// … of so many; absent: 100.
        denominator: Option<u32> = "denominator",
    }
}

object! {
    /// Answer with a redirect.
    pub struct RequestRedirect {
        /// New scheme.
        scheme: Option<String> = "scheme",
        /// New host.
        hostname: Option<String> = "hostname",
        /// New path.
        path: Option<PathModifier> = "path",
        /// New port.
        port: Option<u16> = "port",
        /// Status; absent: 302.
        status_code: Option<u16> = "statusCode",
    }
}

object! {
    /// Change path and host.
    pub struct UrlRewrite {
        /// New host.
        hostname: Option<String> = "hostname",
        /// New path.
        path: Option<PathModifier> = "path",
    }
}

/// A new path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathModifier {
    /// In place of the whole path.
    ReplaceFullPath(String),
    /// In place of the matched prefix.
    ReplacePrefixMatch(String),
}

impl Read for PathModifier {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        let raw = PathModifierFields::read(node, at, reader)?;
        let (name, value, make): (_, _, fn(String) -> Self) = match raw.kind {
            PathModifierType::ReplaceFullPath => ("replaceFullPath", raw.replace_full_path, Self::ReplaceFullPath),
            PathModifierType::ReplacePrefixMatch => ("replacePrefixMatch", raw.replace_prefix_match, Self::ReplacePrefixMatch),
        };
        if value.is_none() {
            let place = reader.place(node.line, &Path::Name(at, name));
            reader.report(diag::missing_field(place));
        }
        value.map(make)
    }
}

choice! {
    /// What of the path is replaced.
    pub enum PathModifierType {
        /// The whole.
        ReplaceFullPath = "ReplaceFullPath",
        /// The matched prefix.
        ReplacePrefixMatch = "ReplacePrefixMatch",
    }
}

object! {
    /// The fields of [`PathModifier`].
    pub struct PathModifierFields {
        /// What is replaced.
        kind: PathModifierType = "type",
        /// New path.
        replace_full_path: Option<String> = "replaceFullPath",
        /// New prefix.
        replace_prefix_match: Option<String> = "replacePrefixMatch",
    }
}
