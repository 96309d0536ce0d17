//! Where a worker's finished records go: metrics, edges, access log.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;
use weft_telemetry::{
    Edge, EdgeAggregator, Metrics, MetricsReader, Outcome, Report, ReportLimits, RequestRecord, SeriesBudget, write_access_log,
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
    pub reader: MetricsReader,
    pub budget: SeriesBudget,
}

/// One worker's telemetry.
pub(crate) struct Telemetry {
    metrics: Metrics,
    edges: EdgeAggregator,
    log: AccessLog,
    lines: String,
}

impl Telemetry {
    pub(crate) fn new(start: TelemetryStart) -> Self {
        let metrics = Metrics::new(&start.reader, start.budget);
        Self { metrics, edges: EdgeAggregator::new(ReportLimits::default()), log: start.log, lines: String::new() }
    }

    /// To resolve names and edges.
    pub(crate) fn metrics(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// `fill` adds what is not counted; it is called only for a record that somebody will read.
    pub(crate) fn finish(&mut self, edge: &Rc<Edge>, record: &mut RequestRecord, fill: impl FnOnce(&mut RequestRecord)) {
        self.metrics.count(edge, &Outcome::of(record), &[]);
        let wanted = self.edges.wants(record);
        if !wanted && matches!(self.log, AccessLog::Off) {
            return;
        }
        fill(record);
        if !matches!(self.log, AccessLog::Off) {
            write_access_log(record, &mut self.lines);
            if self.lines.len() >= LOG_BUFFER_BYTES {
                self.flush_log();
            }
        }
        if wanted {
            self.edges.keep(std::mem::take(record));
        }
    }

    fn flush_log(&mut self) {
        if !self.lines.is_empty() {
            self.log.write(&self.lines);
            self.lines.clear();
        }
    }

    /// Hands everything over; `now_s` is the worker's clock. A report that finds the queue full stays for the next time.
    pub(crate) fn flush(&mut self, reports: &mpsc::Sender<Report>, now_s: u32) {
        self.flush_log();
        self.metrics.tick(now_s);
        if let Ok(permit) = reports.try_reserve() {
            let report = Report { edges: self.metrics.take_edges(), ..self.edges.take() };
            if !report.edges.is_empty() || !report.records.is_empty() {
                permit.send(report);
            }
        }
    }
}
