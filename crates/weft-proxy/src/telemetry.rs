//! Where a worker's finished records go: metrics, edges, access log.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use weft_telemetry::{EdgeAggregator, Metrics, MetricsReader, Report, ReportLimits, RequestRecord, write_access_log};

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

/// One worker's telemetry.
pub(crate) struct Telemetry {
    metrics: Metrics,
    edges: EdgeAggregator,
    log: AccessLog,
    lines: String,
}

impl Telemetry {
    pub(crate) fn new(log: AccessLog) -> Self {
        Self { metrics: Metrics::default(), edges: EdgeAggregator::new(ReportLimits::default()), log, lines: String::new() }
    }

    /// For the scraper, on another thread.
    pub(crate) fn reader(&self) -> MetricsReader {
        self.metrics.reader()
    }

    /// `fill` adds what is not counted; it is called only for a record that somebody will read.
    pub(crate) fn observe(&mut self, mut record: RequestRecord, fill: impl FnOnce(&mut RequestRecord)) {
        self.metrics.observe(&record);
        let wanted = self.edges.count_first(&record);
        if !wanted && matches!(self.log, AccessLog::Off) {
            return;
        }
        fill(&mut record);
        if !matches!(self.log, AccessLog::Off) {
            write_access_log(&record, &mut self.lines);
            if !self.lines.ends_with('\n') {
                self.lines.push('\n');
            }
            if self.lines.len() >= LOG_BUFFER_BYTES {
                self.flush_log();
            }
        }
        if wanted {
            self.edges.keep(record);
        }
    }

    fn flush_log(&mut self) {
        if !self.lines.is_empty() {
            self.log.write(&self.lines);
            self.lines.clear();
        }
    }

    /// Hands everything over. A report that finds the queue full stays for the next time.
    pub(crate) fn flush(&mut self, reports: &mpsc::Sender<Report>) {
        self.flush_log();
        if !self.edges.is_empty()
            && let Ok(permit) = reports.try_reserve()
        {
            permit.send(self.edges.take());
        }
    }
}
