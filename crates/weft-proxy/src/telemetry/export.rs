//! Spans and log lines on their way to collectors: queued per worker, sent about once a second as requests of the mesh.
//!
//! A collector is a service like any other: it is balanced, and reached over mutual TLS where it is in the mesh. One export is under
//! way at a time; what comes meanwhile waits in a bounded queue, and beyond that is dropped and counted. Traffic never waits.

use crate::{
    http::{Head, HttpVersion, SideCall, side_call},
    upstream::Upstream,
    worker::Worker,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::{collections::BTreeMap, rc::Rc, time::Duration};
use weft_model::{Collector, SpanExporter};
use weft_telemetry::{LogEntry, OTLP_CONTENT_TYPE, OtlpResource, Span, ZIPKIN_CONTENT_TYPE, otlp_export, otlp_logs_export, zipkin_export};

/// Spans or lines that wait at one worker for one collector.
pub(crate) const QUEUED_MAX: usize = 4_096;
/// Spans or lines in one export.
const BATCH_MAX: usize = 1_024;

/// What is told to whom, in which form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Export {
    /// OTLP traces.
    Spans(Collector),
    /// Zipkin.
    Zipkin(Collector),
    /// OTLP logs, with the log's name.
    Logs(Collector, String),
}

impl Export {
    pub(crate) fn of(exporter: &SpanExporter) -> Self {
        match exporter {
            SpanExporter::Otlp(collector) => Self::Spans(collector.clone()),
            SpanExporter::Zipkin(collector) => Self::Zipkin(collector.clone()),
        }
    }
    fn collector(&self) -> &Collector {
        match self {
            Self::Spans(collector) | Self::Zipkin(collector) | Self::Logs(collector, _) => collector,
        }
    }
    fn signal(&self) -> &'static str {
        match self {
            Self::Spans(_) | Self::Zipkin(_) => "spans",
            Self::Logs(..) => "logs",
        }
    }
}

/// The queue of one collector.
#[derive(Debug, Default)]
struct Queue {
    spans: Vec<Span>,
    logs: Vec<LogEntry>,
    under_way: Rc<std::cell::Cell<bool>>,
    dropped: u64,
}

/// All queues of a worker.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    queues: BTreeMap<Export, Queue>,
}

impl Exports {
    /// Queues a span.
    pub(crate) fn span(&mut self, exporter: &SpanExporter, span: Span) {
        let queue = self.queues.entry(Export::of(exporter)).or_default();
        match queue.spans.len() < QUEUED_MAX {
            true => queue.spans.push(span),
            false => queue.dropped += 1,
        }
    }
    /// Queues a line.
    pub(crate) fn log(&mut self, collector: &Collector, name: &str, entry: LogEntry) {
        let queue = self.queues.entry(Export::Logs(collector.clone(), name.to_owned())).or_default();
        match queue.logs.len() < QUEUED_MAX {
            true => queue.logs.push(entry),
            false => queue.dropped += 1,
        }
    }

    /// What can be sent now: of each collector that is not being sent to. Also counts what was dropped.
    pub(crate) fn take(&mut self, registry: &weft_telemetry::Registry) -> Vec<Batch> {
        let mut batches = Vec::new();
        for (export, queue) in &mut self.queues {
            if queue.dropped > 0 {
                let help = "Log lines and spans that were dropped because their sink was too slow.";
                registry
                    .counter("weft_telemetry_dropped_total", help, &[("signal", export.signal())])
                    .add(std::mem::take(&mut queue.dropped));
            }
            if !queue.under_way.get() && (!queue.spans.is_empty() || !queue.logs.is_empty()) {
                queue.under_way.set(true);
                let (spans, logs) = (std::mem::take(&mut queue.spans), std::mem::take(&mut queue.logs));
                batches.push(Batch { export: export.clone(), spans, logs, under_way: UnderWay(queue.under_way.clone()) });
            }
        }
        self.queues.retain(|_, queue| queue.under_way.get() || queue.dropped > 0);
        batches
    }
}

/// Frees its queue when it is dropped.
#[derive(Debug)]
struct UnderWay(Rc<std::cell::Cell<bool>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Spans or lines for one collector.
#[derive(Debug)]
pub(crate) struct Batch {
    export: Export,
    spans: Vec<Span>,
    logs: Vec<LogEntry>,
    under_way: UnderWay,
}

/// Sends a batch, in a task of its own.
pub(crate) fn send(worker: &Rc<Worker>, batch: Batch) {
    let own = worker.config().own.clone();
    let resource = OtlpResource {
        service: if own.service.is_empty() { own.workload.clone() } else { own.service.clone() },
        namespace: own.namespace.clone(),
        version: own.version.clone(),
        instance: worker.proxy_id(),
    };
    let worker = worker.clone();
    let spawner = worker.tasks.clone();
    spawner.spawn_local("telemetry export", async move {
        let mut bodies = Vec::new();
        match &batch.export {
            Export::Spans(_) => bodies.extend(batch.spans.chunks(BATCH_MAX).map(|s| (s.len(), otlp_export(&resource, s)))),
            Export::Zipkin(_) => bodies.extend(batch.spans.chunks(BATCH_MAX).map(|s| (s.len(), zipkin_export(&resource.service, s)))),
            Export::Logs(_, name) => bodies.extend(batch.logs.chunks(BATCH_MAX).map(|l| (l.len(), otlp_logs_export(&resource, name, l)))),
        }
        for (count, body) in bodies {
            post(&worker, &batch.export, count, body).await;
        }
        drop(batch.under_way);
    });
}

async fn post(worker: &Rc<Worker>, export: &Export, count: usize, body: Vec<u8>) {
    let collector = export.collector();
    let limit = Duration::from_millis(collector.timeout_ms.max(1));
    let outcome = match worker.config().upstreams.get(&collector.cluster) {
        None => Err("its cluster is not known".to_owned()),
        Some(upstream) => match tokio::time::timeout(limit, deliver(worker, upstream, export, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} ms", collector.timeout_ms)),
        },
    };
    if let Err(why) = outcome {
        tracing::debug!(collector = %collector.cluster, why, "telemetry was not taken");
        let help = "Log lines and spans that were dropped because their sink was too slow.";
        worker.settings.registry.counter("weft_telemetry_dropped_total", help, &[("signal", export.signal())]).add(count as u64);
    }
}

/// Sends one export and looks at the answer.
async fn deliver(worker: &Rc<Worker>, upstream: &Rc<Upstream>, export: &Export, body: Vec<u8>) -> Result<(), String> {
    let call = call(upstream, export, body)?;
    let answer = side_call(worker, upstream, call, ANSWER_BYTES_MAX).await.map_err(|why| why.words())?;
    match (answer.status.as_u16(), answer.grpc_status()) {
        (200..300, None | Some(0)) => Ok(()),
        (status, None) => Err(format!("it answered {status}")),
        (_, Some(code)) => Err(format!("it answered with gRPC status {code}")),
    }
}

/// Longest answer of a collector, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

fn call(upstream: &Upstream, export: &Export, body: Vec<u8>) -> Result<SideCall, String> {
    let host = upstream.entry().cluster.name.host.clone();
    let collector = export.collector();
    let mut call = match (export, &collector.path) {
        (Export::Spans(_), None) => SideCall::grpc("/opentelemetry.proto.collector.trace.v1.TraceService/Export", &host, framed(&body)),
        (Export::Logs(..), None) => SideCall::grpc("/opentelemetry.proto.collector.logs.v1.LogsService/Export", &host, framed(&body)),
        (Export::Zipkin(_), path) => post_call(upstream, path.as_deref().unwrap_or("/api/v2/spans"), ZIPKIN_CONTENT_TYPE, body)?,
        (Export::Spans(_) | Export::Logs(..), Some(path)) => post_call(upstream, path, OTLP_CONTENT_TYPE, body)?,
    };
    for (name, value) in &collector.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            call.head.headers.insert(name, value);
        }
    }
    Ok(call)
}

fn post_call(upstream: &Upstream, path: &str, content_type: &'static str, body: Vec<u8>) -> Result<SideCall, String> {
    let version = match upstream.protocol() {
        weft_model::Protocol::Http2 | weft_model::Protocol::Grpc => HttpVersion::Two,
        _ => HttpVersion::One,
    };
    let head = Head {
        method: Method::POST,
        path: path.parse().map_err(|_| "its path is not legal".to_owned())?,
        authority: HeaderValue::from_str(&upstream.entry().cluster.name.host).map_err(|_| "its host is not legal".to_owned())?,
        scheme: http::uri::Scheme::HTTP,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]),
        upgrade: None,
    };
    Ok(SideCall { head: Box::new(head), version, body: body.into() })
}

/// A gRPC message: not compressed, its length, itself.
fn framed(body: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(body.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    framed.put_slice(body);
    framed.freeze()
}
