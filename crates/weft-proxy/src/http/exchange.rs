//! One exchange: the record of a request from its start to the last byte of its answer, closed exactly once.

use super::{Connection, Scope, body::Lasting, headers, normalize::Target};
use crate::worker::Worker;
use http::{HeaderMap, Method, Version};
use hyper::upgrade::OnUpgrade;
use std::rc::Rc;
use weft_std::clock::{self, Instant};
use weft_telemetry::{Party, Reporter, RequestRecord, ResponseFlag, TraceContext, details};

/// The record under way. Dropping it unfinished means that the caller left.
pub(crate) struct Exchange {
    /// What will be logged, counted and reported.
    pub record: RequestRecord,
    worker: Rc<Worker>,
    started: Instant,
    done: bool,
    /// Bytes of the request's body so far.
    pub received: Rc<std::cell::Cell<u64>>,
    /// Places, connections and counts that last as long as the exchange.
    pub lasting: Lasting,
    /// Both sides of an accepted upgrade, until the tunnel between them starts.
    pub tunnel: Option<(OnUpgrade, OnUpgrade)>,
}

impl Exchange {
    /// Begins a record and gives the request its id and its trace context, in place.
    pub(crate) fn start(conn: &Connection, method: &Method, version: Version, path: &str, headers: &mut HeaderMap) -> Box<Self> {
        let worker = conn.worker.clone();
        let trusted = conn.peer.is_some() || matches!(conn.scope, Scope::Outbound { .. });
        let id = headers::request_id(headers, trusted, &worker);
        let parent = headers.get("traceparent").and_then(|v| v.to_str().ok()).and_then(TraceContext::parse);
        let span = worker.random();
        let context = match &parent {
            Some(parent) => parent.child(span),
            None => TraceContext::root(u128::from(worker.random()) << 64 | u128::from(worker.random()), span, true),
        };
        if let Ok(value) = context.to_string().parse() {
            headers.insert("traceparent", value);
        }
        let text = |name: http::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let record = RequestRecord {
            id,
            trace_id: context.trace_hex(),
            span_id: context.span_hex(),
            parent_span_id: parent.map(|p| p.span_hex()).unwrap_or_default(),
            proxy: worker.proxy_id(),
            reporter: if matches!(conn.scope, Scope::Inbound { .. }) { Reporter::Destination } else { Reporter::Source },
            start_unix_ms: clock::unix_ms(),
            protocol: if version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }.into(),
            grpc: headers.get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/grpc")),
            method: method.as_str().to_owned(),
            path: path.to_owned(),
            user_agent: text(http::header::USER_AGENT),
            forwarded_for: text(http::HeaderName::from_static("x-forwarded-for")),
            downstream: conn.peer_address.to_string(),
            sni: conn.sni.clone().unwrap_or_default(),
            source: conn.source_party(headers),
            destination: conn.destination_party(),
            tls: conn.tls.clone(),
            ..RequestRecord::default()
        };
        Box::new(Self {
            record,
            worker,
            started: clock::now(),
            done: false,
            received: Rc::default(),
            lasting: Lasting::default(),
            tunnel: None,
        })
    }

    /// Notes the normalised target.
    pub(crate) fn target(&mut self, target: &Target) {
        self.record.authority.clone_from(&target.authority);
    }

    /// The callee as its endpoint describes it.
    pub(crate) fn callee(&mut self, endpoint: &weft_model::Endpoint, service: &str) {
        self.record.destination = Party {
            workload: endpoint.workload_name.clone(),
            namespace: endpoint.namespace.clone(),
            service: service.to_owned(),
            version: endpoint.version.clone(),
            principal: endpoint.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
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
            Ended::TimedOut => {
                record.flags.push(ResponseFlag::UpstreamTimeout);
                record.details = details::RESPONSE_TIMEOUT.into();
            }
        }
        record.bytes_sent = sent.max(record.bytes_sent);
        record.bytes_received = self.received.get();
        record.duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.lasting.release(ended == Ended::Complete);
        self.worker.observe(std::mem::take(record));
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
}
