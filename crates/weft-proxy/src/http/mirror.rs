//! Copies of requests: sent and forgotten. A copy never delays, fails or counts in the request that it is of.

use super::{
    body::RequestBody,
    pool::HttpVersion,
    upstream::{Head, send_copy},
};
use crate::{upstream::Upstream, worker::Worker};
use bytes::Bytes;
use http::HeaderValue;
use std::{rc::Rc, time::Duration};

/// Longest time that a copy may take.
const COPY_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends a copy. The authority gets `-shadow`, as Envoy does.
pub(crate) fn send(worker: &Rc<Worker>, upstream: &Rc<Upstream>, mut head: Box<Head>, body: Option<Bytes>) {
    let (worker, upstream) = (worker.clone(), upstream.clone());
    let shadow = head.authority.to_str().ok().map(|authority| match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => format!("{host}-shadow:{port}"),
        _ => format!("{authority}-shadow"),
    });
    if let Some(Ok(authority)) = shadow.map(HeaderValue::try_from) {
        head.authority = authority;
    }
    head.upgrade = None;
    let version = match upstream.entry().cluster.protocol {
        weft_model::Protocol::Http2 | weft_model::Protocol::Grpc => HttpVersion::Two,
        _ => HttpVersion::One,
    };
    let spawner = worker.tasks.clone();
    spawner.spawn_local("mirror", async move {
        tokio::time::timeout(COPY_TIMEOUT, send_copy(&worker, &upstream, head, version, RequestBody::Whole(body))).await.ok();
    });
}
