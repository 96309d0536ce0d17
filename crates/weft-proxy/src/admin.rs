//! The admin endpoint: metrics, configuration and health of one proxy, on loopback.

use crate::{config::SetLogLevel, gateway::PortStates, limits, proxy::Command, shared::Shared};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use std::{rc::Rc, sync::Arc};
use tokio::sync::{mpsc, oneshot, watch};
use weft_std::Spawner;
use weft_telemetry::{MetricsReader, MetricsSnapshot, Registry};
use weft_wire::listen::Acceptor;

/// Longest body of a request to this endpoint, in bytes.
const BODY_BYTES_MAX: usize = 4096;

/// What it tells of.
pub(crate) struct Admin {
    pub shared: Arc<Shared>,
    pub registry: Registry,
    pub readers: Vec<MetricsReader>,
    pub workers: Vec<mpsc::Sender<Command>>,
    pub gateway_status: watch::Sender<PortStates>,
    pub set_log_level: Option<SetLogLevel>,
    pub overload: Arc<crate::overload::Overload>,
}

/// Serves until it is cancelled.
pub(crate) async fn serve(listener: std::net::TcpListener, admin: Admin, spawner: Spawner) {
    let mut acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "the admin endpoint cannot be used"),
    };
    let admin = Rc::new(admin);
    loop {
        let (stream, _) = acceptor.accept().await;
        let admin = admin.clone();
        spawner.spawn_local("admin connection", async move {
            let service = service_fn(move |request| {
                let admin = admin.clone();
                async move { Ok::<_, std::convert::Infallible>(admin.answer(request).await) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(limits::HEADER_TIMEOUT).max_buf_size(limits::HEADER_BYTES_MAX);
            builder.serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // A page of another site must not reach this endpoint through a name of its own (DNS rebinding).
        let host = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).map(weft_model::host_of);
        if !host.is_some_and(|h| h == "localhost" || h.parse::<std::net::IpAddr>().is_ok()) {
            return text(StatusCode::FORBIDDEN, "call this endpoint by its address\n");
        }
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/stats/prometheus" | "/metrics") => self.metrics(),
            (&Method::GET, "/config") => json_answer(&self.config().await),
            (&Method::GET, "/healthz/ready") => self.ready(),
            (&Method::GET, "/healthz/live") => text(StatusCode::OK, "live\n"),
            (&Method::PUT, "/log-level") => self.log_level(request).await,
            (_, "/stats/prometheus" | "/metrics" | "/config" | "/healthz/ready" | "/healthz/live" | "/log-level") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "GET, and PUT for /log-level\n")
            }
            _ => text(StatusCode::NOT_FOUND, "there is /stats/prometheus, /config, /healthz/ready and PUT /log-level\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let workers: Vec<MetricsSnapshot> = self.readers.iter().map(MetricsReader::snapshot).collect();
        let mut body = weft_telemetry::render_prometheus(&workers, &self.shared.snapshot().telemetry.metrics);
        self.registry.render_into(&mut body);
        let mut response = text(StatusCode::OK, body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(weft_telemetry::PROMETHEUS_CONTENT_TYPE));
        response
    }

    /// The snapshot with the origin of every value, and the state that belongs to it. Private keys are left out.
    async fn config(&self) -> Value {
        let snapshot = self.shared.snapshot();
        let resources: Vec<Value> = snapshot
            .values
            .iter()
            .map(|(name, versioned)| {
                let mut value = serde_json::to_value(&*versioned.value).unwrap_or_default();
                redact(&mut value);
                json!({ "name": name.to_string(), "version": versioned.version, "resource": value })
            })
            .collect();
        let mut workers = Vec::new();
        for worker in &self.workers {
            let (answer, receiver) = oneshot::channel();
            if worker.send(Command::Describe(answer)).await.is_ok() {
                workers.extend(receiver.await);
            }
        }
        let svid = self.shared.svid.svid();
        let ports: serde_json::Map<String, Value> = self
            .gateway_status
            .borrow()
            .iter()
            .map(|(port, state)| {
                let state = match state {
                    Ok(address) => json!({ "address": address.to_string() }),
                    Err(closed) => json!({ "error": closed.reason, "address": closed.address.to_string(), "fix": closed.fix }),
                };
                (port.to_string(), state)
            })
            .collect();
        json!({
            "generation": *self.shared.generation().borrow(),
            "identity": svid.as_ref().map(|s| s.id().to_string()),
            "certificateNotAfterS": svid.as_ref().map(|s| s.not_after_s()),
            "gatewayPorts": ports, "resources": resources, "workers": workers,
        })
    }

    /// Ready: it has a configuration and, for mutual TLS, an identity.
    fn ready(&self) -> Response<Full<Bytes>> {
        let snapshot = self.shared.snapshot();
        match (snapshot.values.is_empty(), self.shared.svid.svid()) {
            _ if self.overload.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            (true, _) => text(StatusCode::SERVICE_UNAVAILABLE, "no configuration yet\n"),
            (false, None) => text(StatusCode::SERVICE_UNAVAILABLE, "no certificate yet\n"),
            (false, Some(_)) => text(StatusCode::OK, "ready\n"),
        }
    }

    async fn log_level(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "a level such as `info` or `weft_proxy=debug` is enough\n");
        };
        let body = body.to_bytes();
        let level = String::from_utf8_lossy(&body);
        match &self.set_log_level {
            None => text(StatusCode::NOT_IMPLEMENTED, "this process cannot change its log level\n"),
            Some(set) => match (set.0)(level.trim()) {
                Ok(()) => text(StatusCode::OK, "changed\n"),
                Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
            },
        }
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match key.as_str() {
                    "private_key" => *value = Value::from("(not shown)"),
                    _ => redact(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json_answer(value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, serde_json::to_vec_pretty(value).unwrap_or_default());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
