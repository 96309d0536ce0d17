//! One exchange: the record of a request from its start to the last byte of its answer, closed exactly once.

use super::{
    Connection, Scope,
    body::Lasting,
    grpc_messages::Received,
    grpc_web::Web,
    headers,
    normalize::Target,
    trace::{self, Begun},
};
use crate::{
    edges::Asked,
    telemetry::Plan,
    upstream::{Chosen, Upstream},
    worker::{Config, Worker},
};
use http::{
    HeaderValue, Method, Version,
    header::{CONTENT_TYPE, USER_AGENT},
    request::Parts,
    uri::PathAndQuery,
};
use std::{rc::Rc, sync::Arc};
use weft_model::{HttpRoute, Service};
use weft_std::clock::{self, Instant};
use weft_telemetry::{Attempt, Edge, Extras, ProtocolKind, Reporter, RequestRecord, ResponseFlag, TlsRecord, TraceContext, details};
use weft_wire::http1::OnUpgrade;

mod tap;

/// The record under way. Dropping it unfinished means that the caller left.
pub(crate) struct Exchange {
    /// What is counted. The rest of the record is in `facts` and goes in only if somebody will read it.
    pub record: RequestRecord,
    pub facts: Facts,
    worker: Rc<Worker>,
    started: Instant,
    done: bool,
    /// Bytes of the request's body so far.
    pub received: Rc<Received>,
    /// Messages of the response's body so far.
    pub response_messages: Received,
    /// Places, connections and counts that last as long as the exchange.
    pub lasting: Lasting,
    /// Places that admission gave it.
    pub places: Option<crate::policy::Admitted>,
    /// How a rate limit stands, for the answer.
    pub standing: Option<crate::policy::Standing>,
    /// Time until the answer began.
    pub answered: Option<std::time::Duration>,
    /// Headers that the answer gets from an external authorization service.
    pub answer_headers: Vec<(http::HeaderName, HeaderValue)>,
    /// Headers that routes are matched by, where a service changed others since.
    pub routed_by: Option<Box<http::HeaderMap>>,
    /// Both sides of an accepted upgrade, until the tunnel between them starts.
    pub tunnel: Option<(OnUpgrade, OnUpgrade)>,
    /// Both heads, while somebody taps.
    tap: Option<Box<tap::Heads>>,
}

/// What is known of an exchange in the form in which it is at hand, so that most exchanges never write it out.
pub(crate) struct Facts {
    pub id: HeaderValue,
    context: TraceContext,
    parent: Option<TraceContext>,
    connection: Rc<Connection>,
    version: Version,
    method: Method,
    path: Option<PathAndQuery>,
    authority: String,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    captured: Option<Box<Captured>>,
    pub route: Option<Arc<HttpRoute>>,
    /// The service that the route is of, where one is known already.
    service: Option<Arc<Service>>,
    /// The cluster that the request is sent to.
    upstream: Option<Rc<Upstream>>,
    /// `x-weft-peer` of the other end, where it can be believed.
    peer_said: Option<HeaderValue>,
    config: Rc<Config>,
    pub tls: Option<Rc<TlsRecord>>,
    /// The endpoint of the last attempt.
    pub chosen: Option<Rc<Chosen>>,
    /// The caller speaks gRPC-Web, the upstream gRPC.
    pub grpc_web: Option<Box<Web>>,
    /// What the answer says of origins, whoever makes it.
    pub cors: Option<Vec<(http::HeaderName, HeaderValue)>>,
    /// A first attempt that succeeded, as status and length.
    pub first: Option<(u16, u64)>,
}

impl Facts {
    /// Writes out a first attempt that was only noted.
    pub(crate) fn write_first(&mut self, record: &mut RequestRecord) {
        if let (Some((status, duration_us)), Some(chosen)) = (self.first.take(), &self.chosen) {
            let (endpoint, workload) = (chosen.endpoint.address.to_string(), chosen.endpoint.workload.clone());
            record.attempts.push(Attempt { endpoint, workload, outcome: status.to_string(), duration_us });
        }
    }

    fn fill(&mut self, record: &mut RequestRecord) {
        let text = |value: &Option<HeaderValue>| value.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        record.id = self.id.to_str().unwrap_or_default().to_owned();
        record.trace_id = self.context.trace_hex();
        record.span_id = self.context.span_hex();
        record.parent_span_id = self.parent.as_ref().map(|p| p.span_hex()).unwrap_or_default();
        record.proxy = self.connection.worker.proxy_id();
        record.protocol = if self.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }.into();
        record.method = self.method.as_str().to_owned();
        record.path = self.path.as_ref().map_or_else(|| "/".to_owned(), ToString::to_string);
        record.authority = std::mem::take(&mut self.authority);
        (record.user_agent, record.forwarded_for) = (text(&self.user_agent), text(&self.forwarded_for));
        record.downstream = self.connection.peer_address.to_string();
        record.sni = self.connection.sni.clone().unwrap_or_default();
        record.tls = self.tls.as_deref().cloned();
        if let Some(route) = &self.route {
            record.route.clone_from(&route.name);
            record.route_origin = Some(route.origin.clone());
        }
        record.cluster = match (&self.connection.scope, &self.upstream) {
            (Scope::Inbound { port, .. }, _) => format!("inbound|{port}||"),
            (_, Some(upstream)) => upstream.entry().cluster.name.to_string(),
            (_, None) => String::new(),
        };
        self.write_first(record);
        if record.details.is_empty() {
            record.details = details::VIA_UPSTREAM.into();
        }
    }
}

/// Headers that the configuration asks to keep.
#[derive(Debug, Default)]
struct Captured {
    request: Vec<(String, String)>,
    response: Vec<(String, String)>,
    trailers: Vec<(String, String)>,
}

/// Longest header value that is kept, in bytes.
const CAPTURED_BYTES_MAX: usize = 1024;

fn capture(names: &[http::HeaderName], map: &http::HeaderMap) -> Vec<(String, String)> {
    let text = |name: &http::HeaderName| {
        let bytes = map.get(name)?.as_bytes();
        let bytes = bytes.get(..bytes.len().min(CAPTURED_BYTES_MAX))?;
        Some((name.as_str().to_owned(), String::from_utf8_lossy(bytes).into_owned()))
    };
    names.iter().filter_map(text).collect()
}

impl Captured {
    fn of(headers: &http::HeaderMap, plan: &Plan) -> Self {
        Self { request: capture(&plan.request_headers, headers), ..Self::default() }
    }
}

impl Facts {
    /// What formats and expressions of the configuration read beside the record.
    fn extras(&mut self, reporter: Reporter) -> Option<Box<Extras>> {
        if !self.config.plan.reads(reporter) {
            return None;
        }
        let captured = self.captured.take().unwrap_or_default();
        Some(Box::new(Extras {
            local_address: self.connection.local_address.to_string(),
            scheme: self.connection.scheme(),
            own_principal: self.config.own.principal.clone(),
            own_labels: self.config.plan.own_labels.clone(),
            request_headers: captured.request,
            response_headers: captured.response,
            trailers: captured.trailers,
        }))
    }
}

impl Exchange {
    /// Adds to an answer what the mesh asks for (`proxyHeaders`).
    pub(crate) fn proxy_headers(&self, map: &mut http::HeaderMap) {
        let wanted = self.facts.config.plan.headers();
        match wanted.server.as_deref() {
            None => {}
            Some("") => drop((self.facts.first.is_none() && self.record.attempts.is_empty()).then(|| map.remove(http::header::SERVER))),
            Some(server) => {
                HeaderValue::from_str(server).into_iter().for_each(|value| drop(map.insert(http::header::SERVER, value)));
            }
        }
        if wanted.debug
            && let Some((_, micros)) = self.facts.first
        {
            map.insert(headers::UPSTREAM_SERVICE_TIME, HeaderValue::from(micros / 1_000));
        }
    }

    /// Keeps the headers of the answer that the configuration asks for.
    pub(crate) fn capture_response(&mut self, headers: &http::HeaderMap) {
        let plan = &self.facts.config.plan;
        if !plan.response_headers.is_empty() {
            self.facts.captured.get_or_insert_default().response = capture(&plan.response_headers, headers);
        }
        self.tap_response(headers);
    }

    /// The same of its trailers; also reads the gRPC status.
    pub(crate) fn trailers(&mut self, trailers: &http::HeaderMap) {
        self.record.grpc_status = headers::grpc_status(trailers).or(self.record.grpc_status);
        let plan = &self.facts.config.plan;
        if !plan.trailers.is_empty() {
            self.facts.captured.get_or_insert_default().trailers = capture(&plan.trailers, trailers);
        }
    }

    /// Begins a record and gives the request its id and its trace context, in place.
    pub(crate) fn start(conn: &Rc<Connection>, config: &Rc<Config>, parts: &mut Parts) -> Box<Self> {
        let worker = conn.worker.clone();
        let headers = &mut parts.headers;
        let trusted = conn.peer.is_some() || matches!(conn.scope, Scope::Outbound { .. });
        let id = headers::request_id(headers, trusted, config.plan.headers().request_id, &worker);
        let inbound = matches!(conn.scope, Scope::Inbound { .. });
        let reporter = if inbound { Reporter::Destination } else { Reporter::Source };
        let Begun { context, parent } = trace::begin(headers, &config.plan, reporter, &id, &worker);
        let captured = (!config.plan.request_headers.is_empty()).then(|| Box::new(Captured::of(headers, &config.plan)));
        let tap = tap::begin(&worker, headers);
        let record = RequestRecord {
            reporter,
            start_unix_ms: clock::unix_ms(),
            grpc: headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc")),
            ..RequestRecord::default()
        };
        let facts = Facts {
            id,
            context,
            parent,
            connection: conn.clone(),
            version: parts.version,
            method: parts.method.clone(),
            path: parts.uri.path_and_query().cloned(),
            authority: String::new(),
            user_agent: headers.get(USER_AGENT).cloned(),
            forwarded_for: headers.get(headers::FORWARDED_FOR).cloned(),
            route: None,
            captured,
            service: None,
            upstream: None,
            peer_said: inbound.then(|| conn.peer.as_ref().and_then(|_| headers.get(headers::PEER).cloned())).flatten(),
            config: config.clone(),
            tls: conn.tls.clone(),
            chosen: None,
            grpc_web: None,
            cors: None,
            first: None,
        };
        let (received, response_messages) = (Rc::new(Received::new(record.grpc)), Received::new(record.grpc));
        let lasting = Lasting::default();
        Box::new(Self {
            record,
            facts,
            worker,
            started: clock::now(),
            done: false,
            received,
            response_messages,
            lasting,
            places: None,
            standing: None,
            answered: None,
            answer_headers: Vec::new(),
            routed_by: None,
            tunnel: None,
            tap,
        })
    }

    /// Notes the normalised target.
    pub(crate) fn target(&mut self, target: &Target) {
        self.facts.authority.clone_from(&target.authority);
    }

    /// Notes the service that the route is of.
    pub(crate) fn called(&mut self, service: Option<Arc<Service>>) {
        self.facts.service = service;
    }

    /// Notes the cluster that the request is sent to.
    pub(crate) fn sent_to(&mut self, upstream: &Rc<Upstream>) {
        self.facts.upstream = Some(upstream.clone());
    }

    /// Notes who answers, as the proxy of the callee says over mutual TLS.
    pub(crate) fn answered_by(&mut self, headers: &http::HeaderMap) {
        self.facts.peer_said = self.facts.tls.as_ref().and_then(|_| headers.get(headers::PEER).cloned());
    }

    /// The client and the address that it called.
    pub(crate) fn addresses(&self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        (self.facts.connection.peer_address, self.facts.connection.local_address)
    }

    /// Notes the TLS of the upstream connection.
    pub(crate) fn upstream_tls(&mut self, tls: Option<&Rc<TlsRecord>>) {
        self.facts.tls = tls.cloned();
    }

    /// The answer's head is there.
    pub(crate) fn note_answer(&mut self) {
        if self.places.is_some() {
            self.answered = Some(self.started.elapsed());
        }
    }

    /// Nothing is recorded of it: others tell the whole.
    pub(crate) fn forget(&mut self) {
        self.done = true;
    }

    /// The end: the answer was sent whole, or why not.
    pub(crate) fn close(&mut self, sent: u64, ended: Ended) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let record = &mut self.record;
        match ended {
            Ended::Complete => {}
            Ended::DownstreamLeft => {
                record.flags.push(ResponseFlag::DownstreamClosed);
                if record.details.is_empty() || record.details == details::VIA_UPSTREAM {
                    record.details = details::DOWNSTREAM_CLOSED.into();
                }
            }
            Ended::UpstreamBroke => {
                record.flags.push(ResponseFlag::UpstreamClosed);
                record.details = details::UPSTREAM_CLOSED_MIDWAY.into();
            }
            Ended::Idle => {
                record.flags.push(ResponseFlag::StreamIdle);
                record.details = details::STREAM_IDLE.into();
            }
            Ended::TimedOut => {
                record.flags.push(ResponseFlag::UpstreamTimeout);
                record.details = details::RESPONSE_TIMEOUT.into();
            }
        }
        record.bytes_sent = sent.max(record.bytes_sent);
        record.bytes_received = self.received.bytes();
        record.request_messages = self.received.messages();
        record.response_messages = self.response_messages.messages();
        record.duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.lasting.release(ended == Ended::Complete);
        let edge = self.edge();
        if let Some(places) = self.places.take() {
            places.end(&self.record, self.answered.unwrap_or_else(|| self.started.elapsed()));
        }
        self.show(&edge);
        let facts = &mut self.facts;
        let (config, sampled) = (facts.config.clone(), facts.context.sampled);
        self.worker.finish(&config.plan, &edge, &mut self.record, sampled, |record| {
            facts.fill(record);
            edge.name().write(record);
            facts.extras(record.reporter)
        });
    }

    /// Who called whom: kept at the endpoint or, for what comes in, at the connection.
    fn edge(&self) -> Rc<Edge> {
        let facts = &self.facts;
        let kind = if self.record.grpc { ProtocolKind::Grpc } else { ProtocolKind::Http };
        let asked = Asked { config: &facts.config, peer_said: facts.peer_said.as_ref(), kind, mtls: facts.tls.is_some() };
        match (&facts.connection.scope, &facts.chosen, &facts.upstream) {
            (Scope::Inbound { port, .. }, ..) => facts.connection.edges.inbound(&self.worker, &facts.connection, *port, &asked),
            (_, Some(chosen), Some(upstream)) => {
                let peer = facts.tls.as_ref().map(|tls| tls.peer.as_str()).unwrap_or_default();
                chosen.edges.outbound(&self.worker, &chosen.endpoint, upstream, peer, &asked)
            }
            (_, _, upstream) => {
                let entry = upstream.as_ref().map(|u| u.entry());
                let of_route = || facts.service.as_ref().map(|s| s.host.as_str());
                let host = entry.as_ref().map(|e| e.cluster.name.host.as_str()).or_else(of_route).unwrap_or_default();
                crate::edges::unreached(&self.worker, host, &asked)
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.close(0, Ended::DownstreamLeft);
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The answer was handed over whole.
    Complete,
    /// The caller left before.
    DownstreamLeft,
    /// The upstream's answer stopped midway.
    UpstreamBroke,
    /// The route's time-out passed during the answer.
    TimedOut,
    /// Nothing of the answer came for the route's idle time-out.
    Idle,
}
