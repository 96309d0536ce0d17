//! What the proxy tells of its traffic: counted gRPC messages, logs in files, spans at collectors, trace headers, proxy headers.

use crate::fixture::{Body, Pair, echo_program, endpoints, get, inbound_with, merge, origin, program, publish, send, text};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest};
use prost::Message as _;
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::sync::mpsc;

const COLLECTOR: &str = "outbound|4318||collector.default.svc.cluster.local";

fn telemetry(value: Value) -> Value {
    json!({ "type": "Telemetry", "value": value })
}

/// The client's values with a collector at `address` and what is asked of telemetry.
fn client_values(pair: &Pair, collector: SocketAddr, extra: Value) -> Vec<Value> {
    vec![
        inbound_with("productpage", 9080, "PERMISSIVE", "AUTO"),
        crate::fixture::service("AUTO"),
        crate::fixture::table(vec![crate::fixture::route(&[("", 1)], json!({}))]),
        crate::fixture::cluster("", json!({})),
        endpoints("", &[(pair.server.address, Some("reviews"))]),
        json!({ "type": "Cluster", "value": { "name": COLLECTOR, "origin": origin("Service", 1) } }),
        json!({ "type": "Endpoints", "value": { "cluster": COLLECTOR, "endpoints": [{ "address": collector.to_string() }] } }),
        telemetry(extra),
    ]
}

fn tracing(exporter: Value, extra: Value) -> Value {
    let mut tracing = json!({
        "exporter": exporter, "sampling": 1_000_000, "useRequestId": true, "istioTags": true, "tagBytesMax": 256,
        "tags": { "tenant": { "header": { "name": "x-tenant", "default": "none" } }, "fixed": { "literal": "yes" } },
        "origin": origin("Telemetry", 4)
    });
    merge(&mut tracing, extra);
    tracing
}

fn collector_json(path: Option<&str>) -> Value {
    json!({ "cluster": COLLECTOR, "path": path, "timeoutMs": 3000, "headers": [["x-key", "k1"]] })
}

/// A collector that gives what it got: path, headers, body.
async fn collector(http2: bool) -> (SocketAddr, mpsc::Receiver<(http::request::Parts, Bytes)>) {
    let (sender, receiver) = mpsc::channel(64);
    let address = program(http2, move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            sender.send((parts, body)).await.ok();
            text(200, "")
        }
    })
    .await;
    (address, receiver)
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time")
}

#[tokio::test]
async fn spans_go_to_an_otlp_collector_with_their_tags() {
    let pair = Pair::new(echo_program(false).await);
    let (address, mut got) = collector(false).await;
    let exporter = json!({ "otlp": collector_json(Some("/v1/traces")) });
    publish(&pair.client.shared, client_values(&pair, address, json!({ "clientTracing": tracing(exporter, json!({})) })));
    let mut request = get("/items");
    request.headers_mut().insert("x-tenant", "blue".parse().expect("legal"));
    request.headers_mut().insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("legal"));
    let answer = send(pair.client.address, request).await;
    let (parts, body) = soon(got.recv()).await.expect("exported");
    assert_eq!((parts.uri.path(), &parts.headers["x-key"]), ("/v1/traces", &http::HeaderValue::from_static("k1")));
    let spans = ExportTraceServiceRequest::decode(body).expect("protobuf").resource_spans;
    let span = &spans[0].scope_spans[0].spans[0];
    assert_eq!(span.parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    // The callee's span is below this one: it got this span's id.
    let next = answer.header("x-saw-traceparent");
    assert!(next.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && next.ends_with("-01"), "{next}");
    let tag = |name: &str| {
        let found = span.attributes.iter().find(|a| a.key == name).and_then(|a| a.value.clone()).and_then(|v| v.value);
        format!("{found:?}")
    };
    assert!(tag("tenant").contains("blue") && tag("fixed").contains("yes") && tag("istio.canonical_service").contains("productpage"));
}

#[tokio::test]
async fn spans_go_to_zipkin_and_b3_goes_on() {
    let pair = Pair::new(echo_program(false).await);
    let (address, mut got) = collector(false).await;
    let exporter = json!({ "zipkin": collector_json(None) });
    publish(&pair.client.shared, client_values(&pair, address, json!({ "clientTracing": tracing(exporter, json!({ "b3": true })) })));
    let mut request = get("/items");
    request.headers_mut().insert("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1".parse().expect("legal"));
    let answer = send(pair.client.address, request).await;
    let (parts, body) = soon(got.recv()).await.expect("exported");
    assert_eq!(parts.uri.path(), "/api/v2/spans");
    let spans: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&spans[0]["traceId"], &spans[0]["parentId"]), (&json!("80f198ee56343ba864fe8b2a57d3eff7"), &json!("e457b5a2e4d86bd1")));
    assert_eq!((&spans[0]["kind"], &spans[0]["tags"]["tenant"]), (&json!("CLIENT"), &json!("none")));
    assert_eq!(answer.header("x-saw-x-b3-traceid"), "80f198ee56343ba864fe8b2a57d3eff7");
    assert!(answer.header("x-saw-traceparent").contains("80f198ee56343ba864fe8b2a57d3eff7") && answer.header("x-saw-b3").ends_with("-1"));
}

#[tokio::test]
async fn the_callers_decision_holds_and_new_traces_are_sampled() {
    let pair = Pair::new(echo_program(false).await);
    let (address, mut got) = collector(false).await;
    let exporter = json!({ "zipkin": collector_json(None) });
    let none = tracing(exporter.clone(), json!({ "sampling": 0 }));
    publish(&pair.client.shared, client_values(&pair, address, json!({ "clientTracing": none })));
    assert!(send(pair.client.address, get("/new")).await.header("x-saw-traceparent").ends_with("-00"));
    let mut request = get("/asked");
    request.headers_mut().insert("x-b3-traceid", "a3ce929d0e0e4736".parse().expect("legal"));
    request.headers_mut().insert("x-b3-spanid", "00f067aa0ba902b7".parse().expect("legal"));
    request.headers_mut().insert("x-b3-sampled", "1".parse().expect("legal"));
    assert!(send(pair.client.address, request).await.header("x-saw-traceparent").ends_with("-01"));
    let spans: Value = serde_json::from_slice(&soon(got.recv()).await.expect("exported").1).expect("JSON");
    assert_eq!(spans.as_array().map(Vec::len), Some(1), "{spans}");
    assert_eq!(spans[0]["traceId"], "0000000000000000a3ce929d0e0e4736");
    // Left alone: what came goes on.
    let off = tracing(exporter, json!({ "disablePropagation": true }));
    publish(&pair.client.shared, client_values(&pair, address, json!({ "clientTracing": off })));
    let mut request = get("/left");
    let came = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.headers_mut().insert("traceparent", came.parse().expect("legal"));
    let went = send(pair.client.address, request).await.header("x-saw-traceparent").to_owned();
    // The callee's proxy made a span of its own below the caller's.
    assert!(went.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{went}");
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_no_request() {
    let mut pair = Pair::new(echo_program(false).await);
    let deaf = tokio::net::TcpListener::bind(crate::fixture::loopback()).await.expect("bound");
    let exporter = json!({ "otlp": { "cluster": COLLECTOR, "path": "/v1/traces", "timeoutMs": 20 } });
    let values = client_values(&pair, deaf.local_addr().expect("address"), json!({ "clientTracing": tracing(exporter, json!({})) }));
    publish(&pair.client.shared, values);
    let connections = async {
        // It takes the connection and says nothing.
        soon(deaf.accept()).await.expect("asked")
    };
    let requests = async {
        for n in 0..20 {
            let answer = soon(send(pair.client.address, get(&format!("/{n}")))).await;
            assert_eq!(answer.status, 200);
        }
    };
    let (_held, ()) = tokio::join!(connections, requests);
    assert_eq!(pair.client.record(|r| r.path == "/19").await.status, 200);
}

#[tokio::test]
async fn logs_go_over_grpc_to_a_collector() {
    let pair = Pair::new(echo_program(false).await);
    let (address, mut got) = collector(true).await;
    let logs = json!([{
        "provider": "otel", "sink": { "otlp": { "cluster": COLLECTOR, "timeoutMs": 3000 } }, "format": { "text": "%REQ(:METHOD)% %REQ(:PATH)%" },
        "origin": origin("Telemetry", 4)
    }]);
    publish(&pair.client.shared, client_values(&pair, address, json!({ "accessLogs": logs })));
    send(pair.client.address, get("/logged")).await;
    let (parts, body) = soon(got.recv()).await.expect("exported");
    assert_eq!(parts.uri.path(), "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    let logs = ExportLogsServiceRequest::decode(body.slice(5..)).expect("protobuf").resource_logs;
    let record = &logs[0].scope_logs[0].log_records[0];
    assert!(format!("{:?}", record.body).contains("GET /logged"), "{record:?}");
}

#[tokio::test]
async fn a_log_file_has_what_the_filter_lets_through_on_its_side_only() {
    let pair = Pair::new(echo_program(false).await);
    let folder = tempfile::tempdir().expect("made");
    let path = folder.path().join("access.log");
    let log = |mode: &str, format: Value| {
        json!({
            "provider": "file", "sink": { "file": path.to_str() }, "format": format, "mode": mode,
            "filter": "request.url_path.startsWith('/kept') && response.code < 400", "origin": origin("Telemetry", 4)
        })
    };
    let logs = json!([
        log("CLIENT", json!({ "text": "%REQ(:METHOD)% %REQ(:PATH)% \"%REQ(X-EVIL)%\" %RESP(X-SAW-HOST)% %RESPONSE_CODE%\n" })),
        log("SERVER", json!({ "text": "never\n" })),
    ]);
    publish(&pair.client.shared, client_values(&pair, crate::fixture::loopback(), json!({ "accessLogs": logs })));
    send(pair.client.address, get("/left-out")).await;
    let mut request = get("/kept");
    request.headers_mut().insert("x-evil", "a\"b\tc".parse().expect("legal"));
    send(pair.client.address, request).await;
    let text = soon(async {
        loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_eq!(text, "GET /kept \"a\\\"b\\tc\" reviews 200\n");
}

fn label(labels: &weft_telemetry::SeriesLabels, name: &str) -> String {
    let at = weft_telemetry::LABEL_NAMES.iter().position(|n| *n == name).expect("a label");
    labels.values[at].to_string()
}

#[tokio::test]
async fn grpc_messages_are_counted_in_both_directions() {
    let frames = |count: usize| -> BoxBody<Bytes, std::convert::Infallible> {
        let frame = || Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(&[0, 0, 0, 0, 1, 9])));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("legal"));
        let all = (0..count).map(move |_| frame()).chain(std::iter::once(Ok(http_body::Frame::trailers(trailers))));
        StreamBody::new(futures_util::stream::iter(all.collect::<Vec<_>>())).boxed()
    };
    let program = program(true, move |request: Request<Incoming>| {
        let frames = frames(3);
        async move {
            request.into_body().collect().await.ok();
            let mut response: Response<Body> = Response::new(frames);
            response.headers_mut().insert("content-type", "application/grpc".parse().expect("legal"));
            response
        }
    })
    .await;
    let mut pair = Pair::with(program, "STRICT", "GRPC", json!({}), json!({}));
    let two = [0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0];
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(&two)));
    *request.uri_mut() = "http://reviews/pkg.Service/Call".parse().expect("legal");
    *request.method_mut() = http::Method::POST;
    request.headers_mut().insert("content-type", "application/grpc".parse().expect("legal"));
    crate::fixture::send2(pair.client.address, request).await;
    let record = pair.server.record(|r| r.grpc).await;
    assert_eq!((record.request_messages, record.response_messages), (2, 3));
    let metrics = pair.client.handle.as_ref().expect("runs").metrics();
    let (labels, counts) = metrics.series.iter().next().expect("one series");
    assert_eq!((label(labels, "request_protocol"), counts.request_messages, counts.response_messages), ("grpc".into(), 2, 3));
}

#[tokio::test]
async fn dimensions_are_added_and_removed() {
    let pair = Pair::new(echo_program(false).await);
    let tags = json!({ "tenant": { "set": "request.headers['x-tenant']" }, "source_principal": "remove" });
    let metrics = json!({ "client": { "REQUEST_COUNT": { "tags": tags }, "REQUEST_DURATION": { "disabled": true } } });
    publish(&pair.client.shared, client_values(&pair, crate::fixture::loopback(), json!({ "metrics": metrics })));
    for tenant in ["blue", "green", "blue"] {
        let mut request = get("/");
        request.headers_mut().insert("x-tenant", tenant.parse().expect("legal"));
        send(pair.client.address, request).await;
    }
    send(pair.client.address, get("/")).await;
    let handle = pair.client.handle.as_ref().expect("runs");
    let policy = pair.client.shared.snapshot().telemetry.metrics.clone();
    let text = weft_telemetry::render_prometheus(&[handle.metrics()], &policy);
    let count = |tenant: &str| {
        let line = text.lines().find(|l| l.starts_with("istio_requests_total{") && l.contains(&format!("tenant=\"{tenant}\"")));
        line.and_then(|l| l.rsplit(' ').next().map(str::to_owned)).unwrap_or_default()
    };
    assert_eq!((count("blue").as_str(), count("green").as_str(), count("unknown").as_str()), ("2", "1", "1"), "{text}");
    let counted = text.lines().filter(|l| l.starts_with("istio_requests_total{"));
    assert!(counted.clone().all(|l| !l.contains("source_principal=")), "{text}");
    assert!(!text.contains("istio_request_duration_milliseconds_bucket{") && text.contains("istio_request_bytes_bucket{"));
}

#[tokio::test]
async fn proxy_headers_are_added_where_asked() {
    let pair = Pair::new(echo_program(false).await);
    let plain = send(pair.client.address, get("/")).await;
    assert!(plain.headers.keys().all(|n| !n.as_str().starts_with("x-envoy")), "{:?}", plain.headers);
    assert!(plain.header("x-saw-x-envoy-attempt-count").is_empty() && !plain.header("x-saw-x-request-id").is_empty());
    let headers =
        json!({ "server": "shop", "attemptCount": true, "debug": true, "forwardedHost": true, "forwardedPort": true, "requestId": true });
    publish(&pair.client.shared, client_values(&pair, crate::fixture::loopback(), json!({ "headers": headers })));
    let answer = send(pair.client.address, get("/")).await;
    assert_eq!((answer.header("server"), answer.header("x-saw-x-envoy-attempt-count")), ("shop", "1"));
    assert_eq!((answer.header("x-saw-x-forwarded-host"), answer.header("x-saw-x-forwarded-port")), ("reviews", "80"));
    assert!(!answer.header("x-envoy-upstream-service-time").is_empty());
}
