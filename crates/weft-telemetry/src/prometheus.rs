//! Prometheus' text exposition format, version 0.0.4.

use crate::{HISTOGRAM_BOUNDS_MILLI, HistogramCounts, LABEL_NAMES, MetricsSnapshot, SeriesCounts, SeriesLabels};
use std::{collections::BTreeMap, fmt::Write};
use weft_model::{Metric, MetricPolicy, MetricsPolicy, TagEdit};

/// Content type to answer a scrape with.
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the sum of `workers` as `policy` says.
pub fn render_prometheus(workers: &[MetricsSnapshot], policy: &MetricsPolicy) -> String {
    let mut all = MetricsSnapshot::default();
    workers.iter().for_each(|w| all.merge(w));
    let mut out = String::with_capacity(all.series.len() * 8_192 + 512);
    for family in &FAMILIES {
        let series = family_series(family, &all, policy);
        head(&mut out, family.name, family.help, if matches!(family.value, FamilyValue::Count(_)) { "counter" } else { "histogram" });
        for (labels, counts) in &series {
            match family.value {
                FamilyValue::Count(value) => line(&mut out, family.name, "", labels, None, value(counts)),
                FamilyValue::Histogram(value) => histogram(&mut out, family.name, labels, value(counts)),
            }
        }
    }
    let help = "Requests counted as `other` because there were too many label sets.";
    head(&mut out, "weft_metrics_series_overflow_total", help, "counter");
    line(&mut out, "weft_metrics_series_overflow_total", "", "", None, all.overflow);
    head(&mut out, "weft_metrics_series_expired_total", "Label sets dropped because nothing used them.", "counter");
    line(&mut out, "weft_metrics_series_expired_total", "", "", None, all.expired);
    out
}

struct Family {
    metric: Metric,
    name: &'static str,
    help: &'static str,
    value: FamilyValue,
}

#[derive(Clone, Copy)]
enum FamilyValue {
    Count(fn(&SeriesCounts) -> u64),
    Histogram(fn(&SeriesCounts) -> &HistogramCounts),
}

const fn counter(metric: Metric, name: &'static str, help: &'static str, value: fn(&SeriesCounts) -> u64) -> Family {
    Family { metric, name, help, value: FamilyValue::Count(value) }
}

const fn distribution(metric: Metric, name: &'static str, help: &'static str, value: fn(&SeriesCounts) -> &HistogramCounts) -> Family {
    Family { metric, name, help, value: FamilyValue::Histogram(value) }
}

const FAMILIES: [Family; 10] = [
    counter(Metric::RequestCount, "istio_requests_total", "Requests.", |c| c.requests),
    distribution(Metric::RequestDuration, "istio_request_duration_milliseconds", "Duration of requests in milliseconds.", |c| &c.duration),
    distribution(Metric::RequestSize, "istio_request_bytes", "Size of request bodies in bytes.", |c| &c.request_bytes),
    distribution(Metric::ResponseSize, "istio_response_bytes", "Size of response bodies in bytes.", |c| &c.response_bytes),
    counter(Metric::GrpcRequestMessages, "istio_request_messages_total", "gRPC messages of requests.", |c| c.request_messages),
    counter(Metric::GrpcResponseMessages, "istio_response_messages_total", "gRPC messages of responses.", |c| c.response_messages),
    counter(Metric::TcpOpenedConnections, "istio_tcp_connections_opened_total", "Connections opened.", |c| c.opened),
    counter(Metric::TcpClosedConnections, "istio_tcp_connections_closed_total", "Connections closed.", |c| c.requests),
    counter(Metric::TcpReceivedBytes, "istio_tcp_received_bytes_total", "Bytes received from the caller.", |c| {
        c.request_bytes.sum_milli / 1_000
    }),
    counter(Metric::TcpSentBytes, "istio_tcp_sent_bytes_total", "Bytes sent to the caller.", |c| c.response_bytes.sum_milli / 1_000),
];

/// Is the metric one of the kind of connection that the series is of?
fn is_of(metric: Metric, labels: &SeriesLabels) -> bool {
    let grpc = labels.values[PROTOCOL_LABEL].as_ref() == "grpc";
    match metric {
        Metric::RequestCount | Metric::RequestDuration | Metric::RequestSize | Metric::ResponseSize => !labels.tcp,
        Metric::GrpcRequestMessages | Metric::GrpcResponseMessages => grpc,
        Metric::TcpOpenedConnections | Metric::TcpClosedConnections | Metric::TcpSentBytes | Metric::TcpReceivedBytes => labels.tcp,
    }
}

/// Place of `request_protocol` among the labels.
const PROTOCOL_LABEL: usize = 20;

/// The series of one metric, by label text: those whose labels the policy makes equal are added up.
fn family_series(family: &Family, all: &MetricsSnapshot, policy: &MetricsPolicy) -> BTreeMap<String, SeriesCounts> {
    let mut series: BTreeMap<String, SeriesCounts> = BTreeMap::new();
    for (labels, counts) in all.series.iter().filter(|(labels, _)| is_of(family.metric, labels)) {
        let side = if labels.values[0].as_ref() == "source" { &policy.client } else { &policy.server };
        let policy = side.get(&family.metric);
        if !policy.is_some_and(|p| p.disabled) {
            series.entry(label_text(labels, policy)).or_default().merge(counts);
        }
    }
    series
}

/// `a="1",b="2"`, as the policy wants them for one metric.
fn label_text(labels: &SeriesLabels, policy: Option<&MetricPolicy>) -> String {
    let mut out = String::with_capacity(1_024);
    let mut push = |name: &str, value: &str| {
        out.push_str(if out.is_empty() { "" } else { "," });
        out.push_str(name);
        out.push_str("=\"");
        escape(&mut out, value);
        out.push('"');
    };
    let edit = |name: &str| policy.and_then(|p| p.tags.get(name));
    let without_code = usize::from(labels.tcp);
    let standard = LABEL_NAMES.iter().zip(&labels.values).take(LABEL_NAMES.len() - without_code);
    let grpc = (!labels.grpc.is_empty()).then_some((&"grpc_response_status", &labels.grpc));
    for (name, value) in standard.chain(grpc).filter(|(name, _)| edit(name).is_none()) {
        push(name, value);
    }
    for (name, tag) in policy.into_iter().flat_map(|p| &p.tags) {
        if let TagEdit::Set(expression) = tag {
            let known = labels.custom.iter().find(|(key, _)| **key == *expression.text()).map_or("unknown", |(_, value)| value);
            push(name, known);
        }
    }
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

fn line(out: &mut String, name: &str, suffix: &str, labels: &str, le: Option<&str>, value: impl std::fmt::Display) {
    out.push_str(name);
    out.push_str(suffix);
    match (labels, le) {
        ("", None) => {}
        (labels, None) => write!(out, "{{{labels}}}").expect("a String takes all"),
        ("", Some(le)) => write!(out, "{{le=\"{le}\"}}").expect("a String takes all"),
        (labels, Some(le)) => write!(out, "{{{labels},le=\"{le}\"}}").expect("a String takes all"),
    }
    writeln!(out, " {value}").expect("a String takes all");
}

fn histogram(out: &mut String, name: &str, labels: &str, h: &HistogramCounts) {
    let mut cumulative = 0;
    for (i, count) in h.buckets.iter().enumerate() {
        cumulative += count;
        match HISTOGRAM_BOUNDS_MILLI.get(i) {
            Some(bound) => line(out, name, "_bucket", labels, Some(&thousandths(*bound)), cumulative),
            None => line(out, name, "_bucket", labels, Some("+Inf"), cumulative),
        }
    }
    line(out, name, "_sum", labels, None, thousandths(h.sum_milli));
    line(out, name, "_count", labels, None, cumulative);
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
        let text = render_prometheus(&[a.snapshot(), b.snapshot()], &MetricsPolicy::default());
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
        let text = render_prometheus(&[metrics.snapshot()], &MetricsPolicy::default());
        check(&text);
        assert!(!text.contains("response_code=") && !text.contains("istio_requests_total{"));
        let sent = text.lines().find(|l| l.starts_with("istio_tcp_sent_bytes_total{")).expect("sent");
        assert!(sent.ends_with(" 9") && sent.contains("request_protocol=\"tcp\""), "{sent}");
    }

    /// Where `promtool` is installed (package prometheus), it reads what we write and has nothing to say.
    #[test]
    fn promtool_accepts_the_text() {
        let mut metrics = Metrics::default();
        metrics.observe(&record(200, 700));
        metrics.observe(&RequestRecord { grpc: true, grpc_status: Some(0), request_messages: 2, ..record(200, 700) });
        metrics.observe(&RequestRecord { protocol: "tcp".into(), bytes_received: 7, ..RequestRecord::default() });
        let text = render_prometheus(&[metrics.snapshot()], &MetricsPolicy::default());
        let spawned = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn();
        let Ok(mut promtool) = spawned else { return };
        std::io::Write::write_all(&mut promtool.stdin.take().expect("piped"), text.as_bytes()).expect("read");
        let output = promtool.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Istio's names are given: milliseconds are not a base unit.
        let unexpected: Vec<&str> = said.lines().filter(|l| !l.contains("istio_request_duration_milliseconds")).collect();
        assert!(unexpected.is_empty() && output.status.code() != Some(1), "{said}\n{text}");
    }
}
