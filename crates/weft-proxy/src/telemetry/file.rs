//! Files of access logs, written by a thread of their own: a disk that is slow or full costs lines, never traffic.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};
use weft_telemetry::{Counter, Registry};

/// Batches of lines that wait for the disk; further ones are dropped and counted.
const BATCHES_QUEUED_MAX: usize = 64;

/// Hands batches of lines to the thread. Cloned to each worker.
#[derive(Debug, Clone)]
pub(crate) struct FileWriter {
    queue: SyncSender<(String, String)>,
    dropped: Counter,
}

impl FileWriter {
    /// Starts the thread; it ends with the last clone.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub(crate) fn start(registry: &Registry) -> std::io::Result<Self> {
        let (queue, batches) = sync_channel(BATCHES_QUEUED_MAX);
        std::thread::Builder::new().name("weft-access-log".into()).spawn(move || write(&batches))?;
        let dropped = registry.counter(
            "weft_telemetry_dropped_total",
            "Log lines and spans that were dropped because their sink was too slow.",
            &[("signal", "file")],
        );
        Ok(Self { queue, dropped })
    }

    /// Queues whole lines for `path`.
    pub(crate) fn write(&self, path: &str, lines: String) {
        if let Err(TrySendError::Full((_, lines)) | TrySendError::Disconnected((_, lines))) = self.queue.try_send((path.to_owned(), lines))
        {
            self.dropped.add(lines.matches('\n').count() as u64);
        }
    }
}

/// Each batch is appended in one write. A file is opened anew for each, so that it can be moved away (logrotate).
fn write(batches: &Receiver<(String, String)>) {
    let mut failing: BTreeMap<String, String> = BTreeMap::new();
    while let Ok((path, lines)) = batches.recv() {
        match append(&path, &lines) {
            Ok(()) => drop(failing.remove(&path)),
            Err(error) => {
                let said = failing.insert(path.clone(), error.to_string());
                if said.as_deref() != Some(&error.to_string()) {
                    tracing::warn!(%path, %error, "the access log cannot be written; its lines are lost");
                }
            }
        }
    }
}

fn append(path: &str, lines: &str) -> std::io::Result<()> {
    match path {
        "/dev/stdout" => std::io::stdout().lock().write_all(lines.as_bytes()),
        "/dev/stderr" => std::io::stderr().lock().write_all(lines.as_bytes()),
        path => std::fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(lines.as_bytes()),
    }
}
