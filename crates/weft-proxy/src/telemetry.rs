//! Where a worker's finished records go: metrics, edges, access log.

mod export;
mod file;
mod plan;

pub(crate) use file::FileWriter;
pub(crate) use plan::Plan;

use crate::worker::Worker;
use export::Exports;
use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use weft_model::LogSink;
use weft_telemetry::{
    Edge, EdgeAggregator, Extras, LogEntry, Metrics, MetricsReader, Outcome, Registry, Report, ReportLimits, RequestContext, RequestRecord,
    SeriesBudget, Span, write_access_log, write_log_line,
};

/// Where access log lines go, several at a time.
#[derive(Clone, Default)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output.
    Stdout,
    /// To any writer, shared by the workers.
    Writer(Arc<Mutex<dyn std::io::Write + Send>>),
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Stdout => "Stdout",
            Self::Writer(_) => "Writer",
        })
    }
}

impl AccessLog {
    fn write(&self, lines: &str) {
        // A log that cannot be written must not stop traffic (disk full): the lines are lost.
        match self {
            Self::Off => {}
            Self::Stdout => {
                std::io::Write::write_all(&mut std::io::stdout().lock(), lines.as_bytes()).ok();
            }
            Self::Writer(writer) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                std::io::Write::write_all(&mut *writer, lines.as_bytes()).ok();
            }
        }
    }
}

/// Bytes of log that are gathered before they are written.
const LOG_BUFFER_BYTES: usize = 32 * 1024;

/// What a worker's telemetry is made of, on the worker's thread.
pub(crate) struct TelemetryStart {
    pub log: AccessLog,
    pub files: FileWriter,
    pub reader: MetricsReader,
    pub budget: SeriesBudget,
}

/// One worker's telemetry.
pub(crate) struct Telemetry {
    metrics: Metrics,
    edges: EdgeAggregator,
    /// As the proxy was started.
    log: AccessLog,
    lines: String,
    /// Lines for files, as the configuration asks.
    files: FileWriter,
    file_lines: BTreeMap<String, String>,
    exports: Exports,
}

impl Telemetry {
    pub(crate) fn new(start: TelemetryStart) -> Self {
        let metrics = Metrics::new(&start.reader, start.budget);
        Self {
            metrics,
            edges: EdgeAggregator::new(ReportLimits::default()),
            log: start.log,
            lines: String::new(),
            files: start.files,
            file_lines: BTreeMap::new(),
            exports: Exports::default(),
        }
    }

    /// To resolve names and edges.
    pub(crate) fn metrics(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Counts, logs and keeps a finished request. `fill` adds what is not counted; it is called only if somebody will read it.
    /// `roll` is for shares of logs; `sampled` says whether the request's trace is recorded.
    pub(crate) fn finish(
        &mut self,
        plan: &Plan,
        edge: &Rc<Edge>,
        record: &mut RequestRecord,
        (roll, sampled): (u32, bool),
        fill: impl FnOnce(&mut RequestRecord) -> Option<Box<Extras>>,
    ) {
        let started_log = !matches!(self.log, AccessLog::Off) && plan.logs(record.reporter).is_none();
        let wanted = self.edges.wants(record);
        let read = plan.reads(record.reporter);
        if !(wanted || started_log || read) {
            return self.metrics.count(edge, &Outcome::of(record), &[]);
        }
        let extras = fill(record);
        if read {
            let nothing = Extras::default();
            let context = RequestContext { record, extras: extras.as_deref().unwrap_or(&nothing) };
            self.tell(plan, edge, &context, roll, sampled);
        } else {
            self.metrics.count(edge, &Outcome::of(record), &[]);
        }
        if started_log {
            write_access_log(record, &mut self.lines);
            if self.lines.len() >= LOG_BUFFER_BYTES {
                self.flush_log();
            }
        }
        if wanted {
            self.edges.keep(std::mem::take(record));
        }
    }

    /// What the configuration asks: dimensions of metrics, logs, a span.
    fn tell(&mut self, plan: &Plan, edge: &Rc<Edge>, context: &RequestContext<'_>, roll: u32, sampled: bool) {
        let record = context.record;
        let expressions = plan.expressions(record.reporter);
        let value = |(name, expression): &(Box<str>, weft_model::Expression)| {
            let value = expression.as_text(context).unwrap_or_else(|| "unknown".into());
            (name.clone(), value.chars().filter(|c| !c.is_control()).take(weft_telemetry::LABEL_BYTES_MAX).collect())
        };
        let custom: Vec<(Box<str>, String)> = expressions.iter().map(value).collect();
        self.metrics.count(edge, &Outcome::of(record), &custom);
        for log in plan.logs(record.reporter).into_iter().flatten() {
            if log.share.is_none_or(|share| share.includes(roll)) && log.filter.as_ref().is_none_or(|f| f.is_true(context)) {
                self.log(log, context);
            }
        }
        if let Some(tracing) = plan.tracing(record.reporter)
            && let (Some(exporter), true) = (&tracing.exporter, sampled)
        {
            self.exports.span(exporter, Span { record: record.clone(), tags: plan::tags(tracing, context) });
        }
    }

    fn log(&mut self, log: &weft_model::AccessLog, context: &RequestContext<'_>) {
        match &log.sink {
            LogSink::File(path) => {
                let lines = match self.file_lines.get_mut(path) {
                    Some(lines) => lines,
                    None => self.file_lines.entry(path.clone()).or_default(),
                };
                write_log_line(&log.format, context, lines);
                if lines.len() >= LOG_BUFFER_BYTES {
                    self.files.write(path, std::mem::take(lines));
                }
            }
            LogSink::Otlp(collector) => {
                let record = context.record;
                let mut body = String::new();
                write_log_line(&log.format, context, &mut body);
                let (trace_id, span_id) = (record.trace_id.clone(), record.span_id.clone());
                self.exports.log(collector, &log.provider, LogEntry { unix_ms: record.start_unix_ms, body, trace_id, span_id });
            }
        }
    }

    fn flush_log(&mut self) {
        if !self.lines.is_empty() {
            self.log.write(&self.lines);
            self.lines.clear();
        }
        for (path, lines) in std::mem::take(&mut self.file_lines) {
            if !lines.is_empty() {
                self.files.write(&path, lines);
            }
        }
    }

    /// Hands everything over; `now_s` is the worker's clock. A report that finds the queue full stays for the next time. What is to
    /// be exported is the caller's to send.
    pub(crate) fn flush(&mut self, reports: &mpsc::Sender<Report>, now_s: u32, registry: &Registry) -> Vec<export::Batch> {
        self.flush_log();
        self.metrics.tick(now_s);
        if let Ok(permit) = reports.try_reserve() {
            let report = Report { edges: self.metrics.take_edges(), ..self.edges.take() };
            if !report.edges.is_empty() || !report.records.is_empty() {
                permit.send(report);
            }
        }
        self.exports.take(registry)
    }
}

/// Sends what [`Telemetry::flush`] gave.
pub(crate) fn export(worker: &Rc<Worker>, batches: Vec<export::Batch>) {
    batches.into_iter().for_each(|batch| export::send(worker, batch));
}
