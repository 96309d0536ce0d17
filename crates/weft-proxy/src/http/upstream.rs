//! Sending a request upstream: attempts, retries, time-outs. Consumes the proof that it may be sent.
//!
//! The rules, in order: an answer that has begun is final. A request that is provably unsent (its bytes came back from the
//! connection, or no connection was made) may go elsewhere if the policy covers it. One that may have been processed goes again
//! only if it is idempotent and the policy covers it, or if the policy names the very status. A body can go again as long as
//! all of it is kept.

use super::{
    Exchange, Pool, Reject,
    body::{Incoming, Replay, RequestBody},
    pool::{HttpVersion, Lease, NoConnection, SendError, SendErrorKind},
};
use crate::{
    limits::STALE_CONNECTIONS_MAX,
    net::DialError,
    policy::Permit,
    upstream::{Admitted, Chosen, Upstream, millis},
    worker::Worker,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, uri::PathAndQuery};
use http_body::Body as _;
use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    time::Duration,
};
use weft_balance::{EndpointId, Outcome};
use weft_model::{AttemptFailure, HttpRoute, Retry};
use weft_std::clock::{self, Instant};
use weft_telemetry::{Attempt, ResponseFlag, Timer, TlsRecord};

/// A request as it will be sent, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub method: Method,
    pub path: PathAndQuery,
    pub authority: HeaderValue,
    pub scheme: http::uri::Scheme,
    pub headers: HeaderMap,
    /// The caller asks to leave HTTP.
    pub upgrade: Option<HeaderValue>,
}

impl Head {
    fn request(self, version: HttpVersion, body: RequestBody) -> Result<Box<Request<RequestBody>>, Reject> {
        // Boxed: it goes through several futures, each of which would hold it.
        let mut request = Box::new(Request::new(body));
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        let headers = request.headers_mut();
        match version {
            HttpVersion::One => {
                headers.insert(header::HOST, self.authority);
                if let Some(upgrade) = self.upgrade {
                    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                    headers.insert(header::UPGRADE, upgrade);
                }
                join_cookies(headers);
                *request.uri_mut() = Uri::from(self.path);
                *request.version_mut() = Version::HTTP_11;
            }
            HttpVersion::Two => {
                headers.remove(header::HOST);
                let mut uri = http::uri::Parts::default();
                uri.scheme = Some(self.scheme);
                let authority = http::uri::Authority::try_from(self.authority.as_bytes());
                uri.authority = Some(authority.map_err(|_| Reject::BadRequest("the authority is not legal in HTTP/2"))?);
                uri.path_and_query = Some(self.path);
                *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Reject::BadRequest("the target is not legal in HTTP/2"))?;
                *request.version_mut() = Version::HTTP_2;
            }
        }
        Ok(request)
    }
}

/// HTTP/2 may split cookies (RFC 9113 §8.2.3); HTTP/1 wants one.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Where attempts take the body from.
enum Bodies {
    Empty,
    Once(Option<Incoming>),
    Again(Rc<Replay>),
}

impl Bodies {
    fn new(body: Incoming, again: bool, exchange: &Exchange) -> Self {
        match (body.is_end_stream(), again) {
            (true, _) => Self::Empty,
            (false, true) => Self::Again(Replay::new(body, exchange.received.clone())),
            (false, false) => Self::Once(Some(body)),
        }
    }
    fn is_whole(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body) => body.is_some(),
            Self::Again(replay) => replay.is_whole(),
        }
    }
    fn next(&mut self, exchange: &Exchange, sent: &Rc<Cell<bool>>) -> RequestBody {
        match self {
            Self::Empty => RequestBody::Empty,
            Self::Once(body) => match body.take() {
                None => RequestBody::Empty,
                Some(body) => {
                    sent.set(false);
                    RequestBody::Once { body, received: exchange.received.clone(), sent: sent.clone() }
                }
            },
            Self::Again(replay) => {
                sent.set(false);
                replay.next_attempt(sent.clone())
            }
        }
    }
}

/// What became of an attempt.
type Outgoing = Result<(Response<Incoming>, Lease), Failed>;

/// How an attempt failed, with the request when it is provably unsent.
struct Failed {
    why: Why,
    request: Option<Box<Request<RequestBody>>>,
}

enum Why {
    NoConnection(NoConnection),
    /// The connection went away before a byte was written.
    Unsent(String),
    Refused,
    Reset(String),
    Protocol(String),
    /// The caller's body broke: no fault of the upstream's.
    Body,
    PerTry(u64),
}

impl Why {
    fn failure(&self) -> AttemptFailure {
        match self {
            Self::NoConnection(_) => AttemptFailure::Connect,
            Self::Unsent(_) => AttemptFailure::ResetBeforeRequest,
            Self::Refused => AttemptFailure::Refused,
            Self::Reset(_) | Self::Protocol(_) | Self::Body => AttemptFailure::Reset,
            Self::PerTry(_) => AttemptFailure::Timeout,
        }
    }
    /// Does it say something about the upstream?
    fn is_upstreams(&self) -> bool {
        !matches!(self, Self::NoConnection(NoConnection::Overflow(_)) | Self::Body)
    }
    fn words(&self) -> String {
        match self {
            Self::NoConnection(NoConnection::Dial(DialError::Connect(why))) => format!("connect: {why}"),
            Self::NoConnection(NoConnection::Dial(DialError::Timeout(ms))) => format!("connect time-out of {ms} ms"),
            Self::NoConnection(NoConnection::Dial(DialError::Tls(why))) => format!("TLS: {why}"),
            Self::NoConnection(NoConnection::Overflow(what)) => format!("overflow: {}", what.field()),
            Self::Unsent(why) => format!("closed before the request: {why}"),
            Self::Refused => "stream refused".into(),
            Self::Reset(why) => format!("reset before headers: {why}"),
            Self::Protocol(why) => format!("protocol error: {why}"),
            Self::Body => "the caller's body broke".into(),
            Self::PerTry(ms) => format!("per-try time-out of {ms} ms"),
        }
    }
    fn reject(self, upstream: Option<&Upstream>, route: Option<&HttpRoute>) -> Reject {
        match self {
            Self::NoConnection(NoConnection::Dial(DialError::Connect(why))) => Reject::Connect(why),
            Self::NoConnection(NoConnection::Dial(DialError::Timeout(ms))) => Reject::Connect(format!("no connection within {ms} ms")),
            Self::NoConnection(NoConnection::Dial(DialError::Tls(why))) => Reject::Tls(why),
            Self::NoConnection(NoConnection::Overflow(what)) => {
                let cause = upstream.map(|u| u.entry().cluster.origin.clone()).unwrap_or_default();
                Reject::Overflow { what, cause: Box::new(cause) }
            }
            Self::Unsent(why) | Self::Reset(why) => Reject::Reset(why),
            Self::Refused => Reject::Reset("the stream was refused".into()),
            Self::Protocol(why) => Reject::Protocol(why),
            Self::Body => Reject::BadRequest("the request's body is malformed or did not come whole"),
            Self::PerTry(limit_ms) => {
                let origin = route.map(|r| r.origin.clone()).unwrap_or_default();
                Reject::Timeout { timer: Box::new(Timer { name: "per-try timeout".into(), limit_ms, origin }), per_try: true }
            }
        }
    }
}

/// One attempt. A pooled connection that turns out closed before a byte was written is replaced quietly.
async fn attempt(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    version: HttpVersion,
    mut request: Box<Request<RequestBody>>,
    sent: &Rc<Cell<bool>>,
) -> Outgoing {
    let mut stale = 0;
    loop {
        let mut lease = match pool.lease(worker, version).await {
            Ok(lease) => lease,
            Err(why) => return Err(Failed { why: Why::NoConnection(why), request: Some(request) }),
        };
        lease.body_sent = sent.clone();
        match lease.send(request).await {
            Ok(response) => return Ok((response, lease)),
            Err(SendError { unsent: Some(unsent), .. }) if lease.reused && stale < STALE_CONNECTIONS_MAX => {
                (request, stale) = (unsent, stale + 1);
            }
            Err(mut error) => {
                let request = error.unsent.take();
                let unsent = request.is_some();
                let why = if unsent && error.kind == SendErrorKind::Reset { Why::Unsent(error.words) } else { why(error) };
                return Err(Failed { why, request });
            }
        }
    }
}

fn why(error: SendError) -> Why {
    match error.kind {
        SendErrorKind::Refused => Why::Refused,
        SendErrorKind::Body => Why::Body,
        SendErrorKind::Protocol => Why::Protocol(error.words),
        SendErrorKind::Reset => Why::Reset(error.words),
    }
}

/// To the program behind this proxy: one place, no policy of retries.
pub(crate) async fn send_to_program(
    _permit: Permit,
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    version: HttpVersion,
    head: Box<Head>,
    body: Incoming,
    exchange: &mut Exchange,
) -> Result<Response<Incoming>, Reject> {
    let sent = Rc::new(Cell::new(true));
    let body = Bodies::new(body, false, exchange).next(exchange, &sent);
    let request = head.request(version, body)?;
    let started = clock::now();
    let outcome = attempt(worker, pool, version, request, &sent).await;
    match outcome {
        Ok((response, lease)) => {
            exchange.lasting.lease = Some(lease);
            Ok(response)
        }
        Err(failed) => {
            note_attempt(exchange, "program", "", failed.why.words(), started);
            Err(failed.why.reject(None, None))
        }
    }
}

/// Sending to a cluster, as the route says.
pub(crate) struct Sending<'a> {
    pub worker: &'a Rc<Worker>,
    pub upstream: &'a Rc<Upstream>,
    pub route: &'a HttpRoute,
    pub version: HttpVersion,
    /// End of the whole exchange.
    pub deadline: Option<Instant>,
    /// Keep the body for copies, as far as it is short enough.
    pub keep_body: bool,
    pub kept: RefCell<Option<Rc<Replay>>>,
}

impl Sending<'_> {
    /// The answer's head is here when it returns; the route's time-out then bounds its body.
    pub(crate) async fn send(
        &self,
        permit: Permit,
        head: Box<Head>,
        body: Incoming,
        exchange: &mut Exchange,
    ) -> Result<Response<Incoming>, Reject> {
        let mut run = pin!(self.run(permit, head, body, exchange));
        let Some(deadline) = self.deadline else { return run.await };
        match tokio::time::timeout_at(deadline, run.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let limit_ms = self.route.timeout_ms.unwrap_or_default();
                let timer = Timer { name: "route timeout".into(), limit_ms, origin: self.route.origin.clone() };
                Err(Reject::Timeout { timer: Box::new(timer), per_try: false })
            }
        }
    }

    async fn run(&self, _permit: Permit, head: Box<Head>, body: Incoming, exchange: &mut Exchange) -> Result<Response<Incoming>, Reject> {
        exchange.lasting.admitted = Some(self.upstream.admit()?);
        let retry = self.route.retry.as_ref().filter(|r| r.attempts > 0 && head.upgrade.is_none());
        let resend = retry.is_some_and(|r| r.resends(self.version == HttpVersion::Two));
        let mut bodies = Bodies::new(body, resend || self.keep_body, exchange);
        if let (true, Bodies::Again(replay)) = (self.keep_body, &bodies) {
            *self.kept.borrow_mut() = Some(replay.clone());
        }
        let sent = Rc::new(Cell::new(true));
        let method = head.method.clone();
        let spare = resend.then(|| head.clone());
        let mut request = head.request(self.version, bodies.next(exchange, &sent))?;
        let mut tried: Vec<EndpointId> = Vec::new();
        loop {
            let chosen = self.upstream.pick(clock::now(), (self.worker.roll(), self.worker.roll()), &tried)?;
            exchange.facts.chosen = Some(chosen.clone());
            exchange.lasting.in_flight = Some(self.upstream.in_flight(&chosen));
            let started = clock::now();
            let outcome = self.one(&chosen, request, &sent, retry).await;
            let (failure, outcome) = self.note(&chosen, outcome, started, exchange);
            tried.push(chosen.id);
            let failures = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            let again = retry.filter(|r| {
                let at_hand = matches!(&outcome, Err(failed) if failed.request.is_some()) || (spare.is_some() && bodies.is_whole());
                let ours = matches!(&outcome, Err(failed) if !failed.why.is_upstreams());
                failures <= r.attempts && at_hand && !ours && r.on.covers(failure) && r.is_safe(failure, &method)
            });
            let granted = again.filter(|_| exchange.lasting.admitted.as_mut().is_some_and(Admitted::try_retry));
            let Some(retry) = granted else { return self.last(outcome, failures, exchange) };
            exchange.facts.write_first(&mut exchange.record);
            let unsent = outcome.err().and_then(|failed| failed.request);
            request = match (unsent, &spare) {
                (Some(request), _) => request,
                (None, Some(spare)) => spare.clone().request(self.version, bodies.next(exchange, &sent))?,
                (None, None) => return Err(Reject::Reset("the request cannot be sent again".into())),
            };
            tokio::time::sleep(Duration::from_micros(retry.backoff_us(failures, self.worker.roll()))).await;
        }
    }

    /// Notes how an attempt went, in the record and at the balancer.
    fn note(&self, chosen: &Chosen, outcome: Outgoing, started: Instant, exchange: &mut Exchange) -> (AttemptFailure, Outgoing) {
        let failure = match &outcome {
            Ok((response, lease)) => {
                let status = response.status().as_u16();
                self.upstream.observed(chosen.id, Outcome::Status(status), clock::now());
                exchange.upstream_tls(lease.tls());
                let grpc_status = super::headers::grpc_status(response.headers());
                AttemptFailure::Response {
                    status,
                    grpc_status,
                    marked: self.route.retry.as_ref().is_some_and(|r| r.on.marks(response.headers())),
                }
            }
            Err(Failed { why, .. }) => {
                if why.is_upstreams() {
                    self.upstream.observed(chosen.id, Outcome::Failed, clock::now());
                }
                why.failure()
            }
        };
        match (&outcome, exchange.record.attempts.is_empty()) {
            // The usual case is written out only if somebody will read it.
            (Ok((response, _)), true) if response.status().as_u16() < 500 => {
                let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                exchange.facts.first = Some((response.status().as_u16(), duration_us));
            }
            _ => {
                let address = chosen.endpoint.address.to_string();
                note_attempt(exchange, &address, &chosen.endpoint.workload, words(&outcome), started);
            }
        }
        (failure, outcome)
    }

    /// No further attempt: the outcome is the answer.
    fn last(&self, outcome: Outgoing, failures: u32, exchange: &mut Exchange) -> Result<Response<Incoming>, Reject> {
        match outcome {
            Ok((response, lease)) => {
                exchange.lasting.lease = Some(lease);
                Ok(response)
            }
            Err(failed) => {
                if failures > 1 {
                    exchange.record.flags.push(ResponseFlag::RetryLimitExceeded);
                }
                Err(failed.why.reject(Some(self.upstream), Some(self.route)))
            }
        }
    }

    async fn one(&self, chosen: &Chosen, request: Box<Request<RequestBody>>, sent: &Rc<Cell<bool>>, retry: Option<&Retry>) -> Outgoing {
        let mut attempt = pin!(attempt(self.worker, &chosen.pool, self.version, request, sent));
        match millis(retry.and_then(|r| r.per_try_timeout_ms)) {
            None => attempt.await,
            Some(limit) => match tokio::time::timeout(limit, attempt.as_mut()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failed { why: Why::PerTry(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)), request: None }),
            },
        }
    }
}

fn words(outcome: &Outgoing) -> String {
    match outcome {
        Ok((response, _)) => response.status().as_u16().to_string(),
        Err(failed) => failed.why.words(),
    }
}

fn note_attempt(exchange: &mut Exchange, endpoint: &str, workload: &str, outcome: String, started: Instant) {
    let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    exchange.record.attempts.push(Attempt { endpoint: endpoint.into(), workload: workload.into(), outcome, duration_us });
}

/// What the record says of a peer's certificate.
pub(crate) fn tls_record(peer: &weft_pki::Peer) -> TlsRecord {
    TlsRecord {
        version: peer.tls.version.into(),
        group: peer.tls.group.into(),
        peer: peer.id.to_string(),
        peer_not_after_unix_s: i64::try_from(peer.not_after_s).unwrap_or(i64::MAX),
    }
}

/// Sends a copy and reads its answer to the end, so that the connection can be used again.
pub(crate) async fn send_copy(worker: &Rc<Worker>, upstream: &Rc<Upstream>, head: Box<Head>, version: HttpVersion, body: RequestBody) {
    let Ok(_admitted) = upstream.admit() else { return };
    let Ok(chosen) = upstream.pick(clock::now(), (worker.roll(), worker.roll()), &[]) else { return };
    let _in_flight = upstream.in_flight(&chosen);
    let Ok(request) = head.request(version, body) else { return };
    let sent = Rc::new(Cell::new(true));
    if let Ok((response, lease)) = attempt(worker, &chosen.pool, version, request, &sent).await {
        let mut body = response.into_body();
        while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut body).await {}
        lease.give_back(body.is_end_stream());
    }
}
