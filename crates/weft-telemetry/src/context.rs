//! A finished request as log formats, expressions and tags see it: its record, and the headers that they read.

use crate::{Reporter, RequestRecord};
use weft_model::{Attributes, ExpressionValue, HeaderSource, Labels};

/// What only formats, expressions and tags ask for.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Address on this side of the caller's connection.
    pub local_address: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Own identity, `spiffe://…`.
    pub own_principal: String,
    /// Labels of the own workload.
    pub own_labels: Labels,
    /// Headers of the request that are read, by lower-case name.
    pub request_headers: Vec<(String, String)>,
    /// Of the response.
    pub response_headers: Vec<(String, String)>,
    /// Of its trailers.
    pub trailers: Vec<(String, String)>,
}

/// A record with its extras.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The record, filled.
    pub record: &'a RequestRecord,
    /// The rest.
    pub extras: &'a Extras,
}

impl<'a> RequestContext<'a> {
    /// A header; `None` when it is not there or was not kept.
    pub fn header(&self, source: HeaderSource, name: &str) -> Option<&'a str> {
        let (record, extras) = (self.record, self.extras);
        let own = match (source, name) {
            (HeaderSource::Request, ":method") => Some(record.method.as_str()),
            (HeaderSource::Request, ":path") => Some(record.path.as_str()),
            (HeaderSource::Request, ":authority" | "host") => Some(record.authority.as_str()),
            (HeaderSource::Request, ":scheme") => Some(extras.scheme),
            (HeaderSource::Request, "x-request-id") => Some(record.id.as_str()),
            (HeaderSource::Request, "user-agent") => Some(record.user_agent.as_str()),
            (HeaderSource::Request, "x-forwarded-for") => Some(record.forwarded_for.as_str()),
            _ => None,
        };
        let kept = match source {
            HeaderSource::Request => &extras.request_headers,
            HeaderSource::Response => &extras.response_headers,
            HeaderSource::Trailers => &extras.trailers,
        };
        let found = own.filter(|v| !v.is_empty()).or_else(|| kept.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()));
        found.filter(|v| !v.is_empty())
    }
    /// Address of the endpoint that was tried last.
    pub fn upstream(&self) -> &'a str {
        self.record.attempts.last().map(|a| a.endpoint.as_str()).filter(|e| *e != "program").unwrap_or_default()
    }
    /// Why there was no connection.
    pub fn transport_failure(&self) -> &'a str {
        let outcome = self.record.attempts.last().map(|a| a.outcome.as_str());
        outcome.filter(|o| o.starts_with("TLS") || o.starts_with("connect")).unwrap_or_default()
    }
}

/// Host and port of an address; an IPv6 address stands in brackets.
pub(crate) fn host_and_port(address: &str) -> (&str, &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host.trim_matches(['[', ']']), port),
        _ => (address, ""),
    }
}

fn text(text: &str) -> ExpressionValue<'_> {
    if text.is_empty() { ExpressionValue::Missing } else { ExpressionValue::Text(text.into()) }
}

fn number(n: u64) -> ExpressionValue<'static> {
    ExpressionValue::Number(i64::try_from(n).unwrap_or(i64::MAX))
}

fn port(address: &str) -> ExpressionValue<'static> {
    host_and_port(address).1.parse().map_or(ExpressionValue::Missing, ExpressionValue::Number)
}

impl Attributes for RequestContext<'_> {
    fn attribute(&self, name: &str) -> ExpressionValue<'_> {
        let r = self.record;
        let (area, field) = name.split_once('.').unwrap_or((name, ""));
        match area {
            "request" => self.of_request(field),
            "response" => self.of_response(field),
            "source" => party(&r.source, field).unwrap_or_else(|| match field {
                "address" => text(&r.downstream),
                "port" => port(&r.downstream),
                _ => ExpressionValue::Missing,
            }),
            "destination" => party(&r.destination, field).unwrap_or_else(|| match field {
                "address" => text(&self.extras.local_address),
                "port" => port(&self.extras.local_address),
                _ => ExpressionValue::Missing,
            }),
            "connection" => match field {
                "mtls" => ExpressionValue::Truth(r.tls.is_some()),
                "requested_server_name" => text(&r.sni),
                "tls_version" => text(r.tls.as_ref().map(|t| t.version.as_str()).unwrap_or_default()),
                "uri_san_peer_certificate" if r.reporter == Reporter::Destination => text(&r.source.principal),
                "termination_details" if r.protocol == "tcp" => text(&r.details),
                _ => ExpressionValue::Missing,
            },
            "upstream" => match field {
                "address" => text(self.upstream()),
                "port" => port(self.upstream()),
                "request_attempt_count" => number(r.attempts.len() as u64),
                "transport_failure_reason" => text(self.transport_failure()),
                _ => ExpressionValue::Missing,
            },
            "xds" => match field {
                "cluster_name" => text(&r.cluster),
                "route_name" => text(&r.route),
                _ => ExpressionValue::Missing,
            },
            "node" if field == "id" => text(&r.proxy),
            _ => ExpressionValue::Missing,
        }
    }

    fn entry(&self, map: &str, key: &str) -> ExpressionValue<'_> {
        let header = |source| self.header(source, key).map_or(ExpressionValue::Missing, text);
        let label = |name: &str| self.extras.own_labels.get(name).map_or(ExpressionValue::Missing, |v| text(v));
        let own = self.record.reporter;
        match map {
            "request.headers" => header(HeaderSource::Request),
            "response.headers" => header(HeaderSource::Response),
            "response.trailers" => header(HeaderSource::Trailers),
            "source.labels" if own == Reporter::Source => label(key),
            "destination.labels" if own == Reporter::Destination => label(key),
            "node.metadata" => match key {
                "NAME" => text(&self.record.proxy),
                _ => label(key),
            },
            "request.query" => self.query(key),
            _ => ExpressionValue::Missing,
        }
    }
}

impl RequestContext<'_> {
    fn of_request(&self, field: &str) -> ExpressionValue<'_> {
        let r = self.record;
        let header = |name| self.header(HeaderSource::Request, name).map_or(ExpressionValue::Missing, text);
        match field {
            "path" => text(&r.path),
            "url_path" => text(r.path.split('?').next().unwrap_or_default()),
            "query" => r.path.split_once('?').map_or(ExpressionValue::Missing, |(_, query)| text(query)),
            "host" => text(&r.authority),
            "scheme" => text(self.extras.scheme),
            "method" => text(&r.method),
            "referer" => header("referer"),
            "useragent" => text(&r.user_agent),
            "id" => text(&r.id),
            "protocol" => text(&r.protocol),
            "duration" => ExpressionValue::Micros(i64::try_from(r.duration_us).unwrap_or(i64::MAX)),
            "size" | "total_size" => number(r.bytes_received),
            "time" => {
                let mut time = String::new();
                crate::access_log::write_time(&mut time, r.start_unix_ms);
                ExpressionValue::Text(time.into())
            }
            _ => ExpressionValue::Missing,
        }
    }

    fn of_response(&self, field: &str) -> ExpressionValue<'_> {
        let r = self.record;
        match field {
            "code" if r.protocol != "tcp" => number(r.status.into()),
            "code_details" => text(&r.details),
            // Envoy's is a bit set; the short texts say more.
            "flags" => ExpressionValue::Text(crate::flags_text(&r.flags).into()),
            "grpc_status" => r.grpc_status.map_or(ExpressionValue::Missing, |code| number(code.into())),
            "size" | "total_size" => number(r.bytes_sent),
            "backend_latency" => r
                .attempts
                .last()
                .map_or(ExpressionValue::Missing, |a| ExpressionValue::Micros(i64::try_from(a.duration_us).unwrap_or(i64::MAX))),
            _ => ExpressionValue::Missing,
        }
    }

    fn query(&self, key: &str) -> ExpressionValue<'_> {
        let query = self.record.path.split_once('?').map(|(_, query)| query).unwrap_or_default();
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(name, _)| *name == key).map_or(ExpressionValue::Missing, |(_, value)| ExpressionValue::Text(value.into()))
    }
}

fn party<'a>(party: &'a crate::Party, field: &str) -> Option<ExpressionValue<'a>> {
    Some(match field {
        "principal" => text(&party.principal),
        "namespace" => text(&party.namespace),
        "workload" => text(&party.workload),
        "service" => text(&party.service),
        "version" => text(&party.version),
        _ => return None,
    })
}
