//! Envoy's rate limit protocol (`envoy.service.ratelimit.v3`), for those who run such a service: one question for each request and
//! limit, over the proxy's own pools. The message types are written by hand: of the protocol only this is needed.

use super::admission::Standing;
use crate::{
    http::{SideCall, side_call},
    limits::SIDE_ANSWER_BYTES_MAX,
    worker::{Config, Worker},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use std::{rc::Rc, time::Duration};
use weft_model::LimitService;

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
/// `RateLimitResponse.Code.OVER_LIMIT`.
const OVER_LIMIT: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct RateLimitRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RateLimitResponse {
    #[prost(int32, tag = "1")]
    overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, optional, tag = "2")]
    current_limit: Option<CurrentLimit>,
    #[prost(uint32, tag = "3")]
    limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    duration_until_reset: Option<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CurrentLimit {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    unit: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// What the service says: allowed or not, and how its limit stands, if it tells.
///
/// # Errors
/// Why it could not be asked, in words.
pub(super) async fn ask(
    worker: &Rc<Worker>,
    config: &Config,
    service: &LimitService,
    descriptor: Vec<(String, String)>,
) -> Result<(bool, Option<Standing>), String> {
    let upstream = config.upstreams.get(&service.cluster).ok_or("the rate limit service is not known here")?;
    let entries = descriptor.into_iter().map(|(key, value)| Entry { key, value }).collect();
    let request = RateLimitRequest { domain: service.domain.clone(), descriptors: vec![Descriptor { entries }], hits_addend: 1 };
    let call = SideCall::grpc(PATH, &service.cluster.host, framed(&request));
    let answer = side_call(worker, upstream, call, SIDE_ANSWER_BYTES_MAX);
    let answer = tokio::time::timeout(Duration::from_millis(service.timeout_ms), answer).await;
    let answer = answer.map_err(|_| format!("the rate limit service did not answer within {} ms", service.timeout_ms))?;
    let answer = answer.map_err(|reject| reject.words())?;
    let message = answer.body.get(5..).filter(|_| answer.grpc_status() == Some(0) && answer.body.first() == Some(&0));
    let message = message.ok_or_else(|| format!("the rate limit service failed (gRPC status {:?})", answer.grpc_status()))?;
    let said = RateLimitResponse::decode(message).map_err(|_| "the rate limit service's answer cannot be read")?;
    let standing = said.statuses.first().and_then(standing);
    Ok((said.overall_code != OVER_LIMIT, standing))
}

fn framed(request: &RateLimitRequest) -> Bytes {
    let length = request.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer of the right size takes all.
    request.encode(&mut bytes).ok();
    bytes.freeze()
}

fn standing(status: &Status) -> Option<Standing> {
    let limit = status.current_limit.as_ref()?;
    let window_s = match limit.unit {
        1 => 1,
        2 => 60,
        3 => 3600,
        4 => 86_400,
        5 => 30 * 86_400,
        6 => 365 * 86_400,
        7 => 7 * 86_400,
        _ => 0,
    };
    let reset = status.duration_until_reset.as_ref().and_then(|d| u64::try_from(d.seconds).ok()).unwrap_or(window_s);
    Some(Standing { limit: limit.requests_per_unit, window_s, remaining: status.limit_remaining, reset: Duration::from_secs(reset) })
}
