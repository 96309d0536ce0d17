//! Prometheus' text exposition format, version 0.0.4.

use crate::{HISTOGRAM_BOUNDS_MILLI, HistogramCounts, LABEL_NAMES, Labels, MetricsSnapshot, SeriesCounts};
use std::fmt::Write;

/// Content type to answer a scrape with.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the sum of `workers`.
pub fn render_prometheus(workers: &[MetricsSnapshot]) -> String {
    let mut all = MetricsSnapshot::default();
    workers.iter().for_each(|w| all.merge(w));
    let mut out = String::with_capacity(all.series.len() * 8_192 + 512);
    counter(&mut out, &all, "istio_requests_total", "Requests.", false, |c| c.requests);
    histogram(&mut out, &all, "istio_request_duration_milliseconds", "Duration of requests in milliseconds.", |c| &c.duration);
    histogram(&mut out, &all, "istio_request_bytes", "Size of request bodies in bytes.", |c| &c.request_bytes);
    histogram(&mut out, &all, "istio_response_bytes", "Size of response bodies in bytes.", |c| &c.response_bytes);
    counter(&mut out, &all, "istio_tcp_connections_opened_total", "Connections opened, counted when they end.", true, |c| c.requests);
    counter(&mut out, &all, "istio_tcp_connections_closed_total", "Connections closed.", true, |c| c.requests);
    counter(&mut out, &all, "istio_tcp_received_bytes_total", "Bytes received from the caller.", true, |c| {
        c.request_bytes.sum_milli / 1_000
    });
    counter(&mut out, &all, "istio_tcp_sent_bytes_total", "Bytes sent to the caller.", true, |c| c.response_bytes.sum_milli / 1_000);
    head(&mut out, "weft_metrics_series_overflow_total", "Records not counted by label because there were too many label sets.", "counter");
    line(&mut out, "weft_metrics_series_overflow_total", "", None, None, all.overflow);
    out
}

/// The two comment lines before a metric.
pub(crate) fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes all");
}

/// Backslash, quote and line feed are escaped in a label value.
pub(crate) fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

fn line(out: &mut String, name: &str, suffix: &str, labels: Option<&Labels>, le: Option<&str>, value: impl std::fmt::Display) {
    out.push_str(name);
    out.push_str(suffix);
    if let Some(labels) = labels {
        out.push('{');
        let without_code = usize::from(labels.tcp);
        let pairs = LABEL_NAMES.iter().zip(&labels.values).take(LABEL_NAMES.len() - without_code);
        let grpc = (!labels.grpc.is_empty()).then_some((&"grpc_response_status", &labels.grpc));
        for (i, (name, value)) in pairs.chain(grpc).enumerate() {
            out.push_str(if i == 0 { "" } else { "," });
            out.push_str(name);
            out.push_str("=\"");
            escape(out, value);
            out.push('"');
        }
        if let Some(le) = le {
            write!(out, ",le=\"{le}\"").expect("a String takes all");
        }
        out.push('}');
    }
    writeln!(out, " {value}").expect("a String takes all");
}

fn counter(out: &mut String, all: &MetricsSnapshot, name: &str, help: &str, tcp: bool, value: impl Fn(&SeriesCounts) -> u64) {
    head(out, name, help, "counter");
    for (labels, counts) in all.series.iter().filter(|(l, _)| l.tcp == tcp) {
        line(out, name, "", Some(labels), None, value(counts));
    }
}

fn histogram(out: &mut String, all: &MetricsSnapshot, name: &str, help: &str, value: impl Fn(&SeriesCounts) -> &HistogramCounts) {
    head(out, name, help, "histogram");
    for (labels, counts) in all.series.iter().filter(|(l, _)| !l.tcp) {
        let h = value(counts);
        let mut cumulative = 0;
        for (i, count) in h.buckets.iter().enumerate() {
            cumulative += count;
            match HISTOGRAM_BOUNDS_MILLI.get(i) {
                Some(bound) => line(out, name, "_bucket", Some(labels), Some(&thousandths(*bound)), cumulative),
                None => line(out, name, "_bucket", Some(labels), Some("+Inf"), cumulative),
            }
        }
        line(out, name, "_sum", Some(labels), None, thousandths(h.sum_milli));
        line(out, name, "_count", Some(labels), None, cumulative);
    }
}

/// `1500` as `1.5`, `1000` as `1`.
fn thousandths(milli: u64) -> String {
    match (milli / 1_000, milli % 1_000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metrics, Party, RequestRecord, ResponseFlag};

    fn record(status: u16, us: u64) -> RequestRecord {
        let source = Party { workload: "page \"v1\"".into(), namespace: "default".into(), ..Party::default() };
        RequestRecord {
            status,
            duration_us: us,
            protocol: "HTTP/1.1".into(),
            source,
            destination_service: "reviews.shop.svc.cluster.local".into(),
            bytes_sent: 1_024,
            ..RequestRecord::default()
        }
    }

    /// What `promtool check metrics` asks of the text: each sample after the TYPE of its family, families not interleaved, labels well formed.
    fn check(text: &str) {
        let mut family = String::new();
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("name and kind");
                assert!(seen.insert(name.to_owned()), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                family = name.to_owned();
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().expect("has a name");
                assert!(name.starts_with(&family), "{name} outside of {family}");
                let value = line.rsplit(' ').next().expect("has a value");
                value.parse::<f64>().expect("a number");
            }
        }
    }

    #[test]
    fn workers_are_added_up() {
        let (mut a, mut b) = (Metrics::default(), Metrics::default());
        a.observe(&record(200, 700));
        b.observe(&record(200, 700));
        b.observe(&RequestRecord { flags: vec![ResponseFlag::NoRoute], ..record(404, 80_000) });
        let text = render_prometheus(&[a.snapshot(), b.snapshot()]);
        check(&text);
        let line = |start: &str, with: &[&str]| {
            let found = text.lines().find(|l| l.starts_with(start) && with.iter().all(|w| l.contains(w)));
            found.unwrap_or_else(|| unreachable!("no {start} {with:?} in {text}")).rsplit(' ').next().map(str::to_owned).expect("value")
        };
        assert_eq!(line("istio_requests_total", &["response_code=\"200\"", "response_flags=\"-\""]), "2");
        assert_eq!(line("istio_requests_total", &["response_code=\"404\"", "response_flags=\"NR\""]), "1");
        assert_eq!(line("istio_request_duration_milliseconds_bucket", &["code=\"200\"", "le=\"0.5\""]), "0");
        assert_eq!(line("istio_request_duration_milliseconds_bucket", &["code=\"200\"", "le=\"1\""]), "2");
        assert_eq!(line("istio_request_duration_milliseconds_sum", &["code=\"200\""]), "1.4");
        assert_eq!(line("istio_response_bytes_sum", &["code=\"404\""]), "1024");
        assert!(text.contains("source_workload=\"page \\\"v1\\\"\"") && text.contains("destination_version=\"unknown\""));
        assert!(text.contains("destination_service_name=\"reviews\",destination_service_namespace=\"shop\""));
    }

    #[test]
    fn tcp_has_its_own_metrics_and_no_code() {
        let mut metrics = Metrics::default();
        metrics.observe(&RequestRecord { protocol: "tcp".into(), bytes_received: 7, bytes_sent: 9, ..RequestRecord::default() });
        let text = render_prometheus(&[metrics.snapshot()]);
        check(&text);
        assert!(!text.contains("response_code=") && !text.contains("istio_requests_total{"));
        let sent = text.lines().find(|l| l.starts_with("istio_tcp_sent_bytes_total{")).expect("sent");
        assert!(sent.ends_with(" 9") && sent.contains("request_protocol=\"tcp\""), "{sent}");
    }

    #[test]
    fn label_sets_are_bounded() {
        let mut metrics = Metrics::default();
        for i in 0..crate::SERIES_MAX + 5 {
            metrics.observe(&RequestRecord { destination_service: format!("host-{i}"), ..record(200, 1) });
        }
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.series.len(), snapshot.overflow), (crate::SERIES_MAX, 5));
    }
}
