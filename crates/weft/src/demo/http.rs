//! The little HTTP that the demo needs: a server for closures and a client for one request.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

/// How long the client waits for an answer.
const ANSWER_S_MAX: u64 = 10;

/// The program chose not to answer.
#[derive(Debug)]
struct NoAnswer;
impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the program closes the connection")
    }
}
impl std::error::Error for NoAnswer {}

/// Serves HTTP/1.1 on `listener`: `handle` gets method, path and headers; `None` closes the connection without an answer.
pub(crate) async fn serve<H, F>(listener: TcpListener, handle: H) -> io::Result<()>
where
    H: Fn(Method, String, HeaderMap) -> F + Clone + 'static,
    F: Future<Output = Option<(StatusCode, Value)>> + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let handle = handle.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let handle = handle.clone();
            async move {
                let (parts, body) = request.into_parts();
                let _ = body.collect().await;
                let (status, value) = handle(parts.method, parts.uri.path().to_owned(), parts.headers).await.ok_or(NoAnswer)?;
                let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
                *response.status_mut() = status;
                response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
                Ok::<_, NoAnswer>(response)
            }
        });
        tokio::task::spawn_local(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// One request to be sent.
pub(crate) struct Outgoing {
    address: SocketAddr,
    request: Request<Full<Bytes>>,
}

impl Outgoing {
    pub(crate) fn new(method: Method, address: SocketAddr, host: &str, path: &str) -> Self {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(host) {
            request.headers_mut().insert("host", host);
        }
        Self { address, request }
    }
    pub(crate) fn header(&mut self, name: &'static str, value: HeaderValue) {
        self.request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    /// Connects, sends, and reads the whole answer.
    pub(crate) async fn send(self) -> io::Result<(StatusCode, Bytes)> {
        let whole = async {
            let stream = tokio::net::TcpStream::connect(self.address).await?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            let driver = tokio::task::spawn_local(connection);
            let response = sender.send_request(self.request).await.map_err(io::Error::other)?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
            driver.abort();
            Ok((status, body))
        };
        tokio::time::timeout(Duration::from_secs(ANSWER_S_MAX), whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
