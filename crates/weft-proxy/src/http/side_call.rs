//! A call of the proxy itself, beside the request that it decides about: one question and one short answer, over the pools that
//! requests use too. No retries, no record; the deadline is the caller's.

use super::{
    Reject,
    body::RequestBody,
    pool::HttpVersion,
    upstream::{Head, attempt_once},
};
use crate::{upstream::Upstream, worker::Worker};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use std::rc::Rc;

/// The question.
pub(crate) struct SideCall {
    pub head: Box<Head>,
    pub version: HttpVersion,
    pub body: Bytes,
}

/// The answer, whole.
pub(crate) struct SideAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl SideCall {
    /// A unary gRPC call with a message that is framed already.
    pub(crate) fn grpc(path: &'static str, authority: &str, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let head = Head {
            method: Method::POST,
            path: http::uri::PathAndQuery::from_static(path),
            authority: HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static("unknown")),
            scheme: http::uri::Scheme::HTTP,
            headers,
            upgrade: None,
        };
        Self { head: Box::new(head), version: HttpVersion::Two, body }
    }
}

impl SideCall {
    /// An HTTP/1.1 request.
    pub(crate) fn http(method: Method, path: http::uri::PathAndQuery, authority: HeaderValue, headers: HeaderMap, body: Bytes) -> Self {
        let head = Head { method, path, authority, scheme: http::uri::Scheme::HTTP, headers, upgrade: None };
        Self { head: Box::new(head), version: HttpVersion::One, body }
    }
}

impl SideAnswer {
    /// `grpc-status`, of the headers or (put among them) the trailers.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        super::headers::grpc_status(&self.headers).filter(|_| self.status == StatusCode::OK)
    }
}

/// Asks, and reads the answer up to `bytes_max`.
///
/// # Errors
/// When there is no endpoint or connection, the upstream breaks off, or the answer is too long.
pub(crate) async fn side_call(
    worker: &Rc<Worker>,
    upstream: &Rc<Upstream>,
    call: SideCall,
    bytes_max: usize,
) -> Result<SideAnswer, Reject> {
    let SideCall { head, version, body } = call;
    let (response, lease, _counted) = attempt_once(worker, upstream, head, version, RequestBody::Whole(Some(body))).await?;
    let (mut parts, mut incoming) = response.into_parts();
    let mut whole = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Reject::Reset(error.to_string()))?;
        match frame.into_data() {
            Ok(data) if whole.len() + data.len() > bytes_max => return Err(Reject::Protocol("the answer is too long".into())),
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => parts.headers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    lease.give_back(incoming.is_end_stream());
    Ok(SideAnswer { status: parts.status, headers: parts.headers, body: whole.freeze() })
}
