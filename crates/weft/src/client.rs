//! The client of the REST API that every command uses.

use crate::state::StateDir;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::{fmt, net::SocketAddr, time::Duration};

/// How long one call may take.
const CALL_S_MAX: u64 = 30;

/// Where the API is and how to prove oneself.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    token: String,
}

/// An error as the API writes it: a code, what, where, and what to do.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ApiError {
    pub(crate) code: String,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) object: Option<String>,
    #[serde(default)]
    pub(crate) line: Option<u32>,
    #[serde(default)]
    pub(crate) fix: Option<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)?;
        match (&self.object, self.line) {
            (Some(object), Some(line)) => write!(f, "\n  at: {object}, line {line}")?,
            (Some(object), None) => write!(f, "\n  at: {object}")?,
            (None, _) => {}
        }
        self.fix.as_ref().map_or(Ok(()), |fix| write!(f, "\n  fix: {fix}"))
    }
}
impl std::error::Error for ApiError {}

impl Client {
    /// From explicit address and token, else from the state folder of a running mesh.
    pub(crate) fn connect(state: &StateDir, api: Option<SocketAddr>, token: Option<String>) -> Result<Self> {
        let address = match api {
            Some(address) => address,
            None => state.running()?.api,
        };
        let token = match token {
            Some(token) => token,
            None => state.existing_token()?,
        };
        Ok(Self { address, token })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, Bytes::new()).await
    }
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: impl Into<Bytes>) -> Result<T> {
        self.call(Method::POST, path, body.into()).await
    }
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: impl Into<Bytes>) -> Result<T> {
        self.call(Method::PUT, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let whole = tokio::time::timeout(Duration::from_secs(CALL_S_MAX), self.exchange(method, path, body));
        let (status, body) = whole.await.map_err(|_| anyhow!("http://{}: no answer within {CALL_S_MAX} s", self.address))??;
        // Refused documents come with the same body as stored ones.
        let judged = status == http::StatusCode::UNPROCESSABLE_ENTITY && path.starts_with("apply");
        if !status.is_success() && !judged {
            return match serde_json::from_slice::<ApiError>(&body) {
                Ok(error) => Err(error.into()),
                Err(_) => bail!("http://{}/api/v1/{path} answered {status}", self.address),
            };
        }
        let body = if body.is_empty() { Bytes::from_static(b"null") } else { body };
        serde_json::from_slice(&body).with_context(|| format!("/api/v1/{path} answered in a form that this version does not know"))
    }

    /// Follows server-sent events to their end: `each` gets the kind and the data of every one.
    pub(crate) async fn events(&self, path: &str, mut each: impl FnMut(&str, serde_json::Value) -> Result<()>) -> Result<()> {
        let (mut response, _driver) = self.send(Method::GET, path, Bytes::new()).await?;
        if !response.status().is_success() {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            return match serde_json::from_slice::<ApiError>(&body) {
                Ok(error) => Err(error.into()),
                Err(_) => bail!("http://{}/api/v1/{path} answered {status}", self.address),
            };
        }
        let (mut held, mut kind) = (Vec::new(), String::new());
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(data) = frame.context("the stream of events broke")?.into_data() else { continue };
            held.extend_from_slice(&data);
            while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().split_once(':') {
                    Some(("event", of)) => of.trim().clone_into(&mut kind),
                    Some(("data", text)) => each(&kind, serde_json::from_str(text).context("an event is not JSON")?)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(http::StatusCode, Bytes)> {
        let (response, driver) = self.send(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        Ok((status, body))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(http::Response<hyper::body::Incoming>, Driver)> {
        let stream = tokio::net::TcpStream::connect(self.address)
            .await
            .with_context(|| format!("no mesh answers at http://{}\n  fix: start one with `weft up`", self.address))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::task::spawn_local(connection);
        let is_json = body.first() == Some(&b'{');
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}"))
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", if is_json { "application/json" } else { "application/yaml" })
            .body(Full::new(body))?;
        Ok((sender.send_request(request).await?, driver))
    }
}

/// What moves the bytes of a connection.
type Driver = tokio::task::JoinHandle<hyper::Result<()>>;

/// Runs a command's future on a small runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
