//! Traces to an OpenTelemetry collector: OTLP over HTTP/1.1, in plain text, to an endpoint of the operator's choice.
//!
//! It stands between the workers and the control client and looks at the reports as they pass: what is worth keeping for the
//! page (every failure, a sample of the rest) is worth a span. A collector that is slow or away costs spans, never traffic.

use crate::limits;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use weft_telemetry::{OTLP_CONTENT_TYPE, OtlpResource, Report, Span, otlp_export};

/// Longest time that one export may take.
const EXPORT_MS_MAX: u64 = 3_000;
/// Reports that wait while one export is on its way; more are passed on without being exported.
const EXPORTS_QUEUED_MAX: usize = 16;

/// Starts the thread between the workers and the control client; answers the queue for the latter. It ends with the workers.
///
/// # Errors
/// When `endpoint` is not one, or the thread cannot be made.
pub(crate) fn start(endpoint: &str, name: &str, reports: mpsc::Receiver<Report>) -> io::Result<mpsc::Receiver<Report>> {
    let resource = OtlpResource { service: name.into(), instance: name.into(), ..OtlpResource::default() };
    let exporter = Exporter::new(endpoint, resource).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let (onward, passed) = mpsc::channel(limits::REPORTS_QUEUED_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("weft-otlp".into()).spawn(move || runtime.block_on(exporter.relay(reports, onward)))?;
    Ok(passed)
}

/// Where spans go, and as whom.
#[derive(Debug, Clone)]
struct Exporter {
    authority: String,
    path: String,
    resource: OtlpResource,
}

impl Exporter {
    /// From the endpoint as `OTEL_EXPORTER_OTLP_ENDPOINT` has it: `http://host:4318`, to which `/v1/traces` is added.
    ///
    /// # Errors
    /// When it is not such an address: `https` needs a collector or agent on the same machine.
    fn new(endpoint: &str, resource: OtlpResource) -> Result<Self, String> {
        let wrong = || format!("{endpoint:?} is not an OTLP endpoint: give http://host:port, e.g. http://127.0.0.1:4318");
        let rest = endpoint.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, base) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(char::is_whitespace) || base.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:4318") };
        let path = format!("/{}/v1/traces", base.trim_end_matches('/')).replace("//", "/");
        Ok(Self { authority, path, resource })
    }

    /// Passes reports on, and exports their records, until the workers are gone.
    async fn relay(self, mut reports: mpsc::Receiver<Report>, onward: mpsc::Sender<Report>) {
        let (queue, mut waiting) = mpsc::channel::<Report>(EXPORTS_QUEUED_MAX);
        let export = async move {
            while let Some(report) = waiting.recv().await {
                self.export(&report).await;
            }
        };
        let pass = async move {
            while let Some(report) = reports.recv().await {
                if !report.records.is_empty() {
                    // Full: the collector is too slow for these spans.
                    queue.try_send(report.clone()).ok();
                }
                if onward.send(report).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(export, pass);
    }

    async fn export(&self, report: &Report) {
        let spans: Vec<Span> = report.records.iter().cloned().map(Span::from).collect();
        let body = otlp_export(&self.resource, &spans);
        let sent = tokio::time::timeout(Duration::from_millis(EXPORT_MS_MAX), self.post(&body)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, collector = %self.authority, "spans were not taken"),
            Err(_) => tracing::debug!(collector = %self.authority, "the collector did not answer in time"),
        }
    }

    async fn post(&self, body: &[u8]) -> io::Result<()> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: {OTLP_CONTENT_TYPE}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.path,
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = [0; 16];
        let length = stream.read(&mut answer).await?;
        match answer.get(..length).unwrap_or_default().get(9..10) {
            Some(b"2") => Ok(()),
            _ => Err(io::Error::other(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;
    use weft_telemetry::RequestRecord;

    fn record() -> RequestRecord {
        let (trace_id, span_id) = ("4bf92f3577b34da6a3ce929d0e0e4736".into(), "00f067aa0ba902b7".into());
        RequestRecord { trace_id, span_id, ..RequestRecord::default() }
    }

    #[test]
    fn endpoints() {
        let parse = |e: &str| Exporter::new(e, OtlpResource::default()).map(|x| (x.authority, x.path));
        assert_eq!(parse("http://127.0.0.1:4318"), Ok(("127.0.0.1:4318".into(), "/v1/traces".into())));
        assert_eq!(parse("http://otel/base/"), Ok(("otel:4318".into(), "/base/v1/traces".into())));
        assert!(parse("https://x").is_err() && parse("127.0.0.1:4318").is_err() && parse("http://").is_err());
    }

    #[tokio::test]
    async fn reports_pass_and_spans_arrive() {
        let collector = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let endpoint = format!("http://{}", collector.local_addr().expect("bound"));
        let exporter = Exporter::new(&endpoint, OtlpResource { service: "page".into(), ..OtlpResource::default() }).expect("valid");
        let ((inward, reports), (onward, mut passed)) = (mpsc::channel(4), mpsc::channel(4));
        inward.send(Report { records: vec![record()], ..Report::default() }).await.expect("open");
        drop(inward);
        let collect = async {
            let (mut stream, _) = collector.accept().await.expect("connects");
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"page") {
                assert!(stream.read_buf(&mut request).await.expect("readable") > 0);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("writable");
            request
        };
        let (request, ()) = tokio::join!(collect, exporter.relay(reports, onward));
        assert!(request.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
        assert_eq!(passed.recv().await.map(|r| r.records.len()), Some(1));
    }
}
