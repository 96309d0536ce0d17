//! Sending a request upstream: attempts, retries, time-outs. Consumes the proof that it may be sent.
//!
//! The rules, in order: an answer that has begun is final. A request that is provably unsent (its bytes came back from the
//! connection, or no connection was made) may go elsewhere if the policy covers it. One that may have been processed goes again
//! only if it is idempotent and the policy covers it, or if the policy names the very status. A body can go again as long as
//! all of it is kept.

use super::{
    Exchange, Pool, Reject,
    body::{Incoming, Replay, RequestBody},
    grpc_messages::Received,
    hedge::Race,
    pool::{HttpVersion, Lease, NoConnection, SendError, SendErrorKind},
};
use crate::{
    limits::{HEALTH_CHECK_BYTES_MAX, STALE_CONNECTIONS_MAX},
    net::DialError,
    policy::{Affinity, Deadline, Permit, SecondBackend, fallback},
    upstream::{Admitted, Chosen, Upstream, millis},
    worker::Worker,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header, uri::PathAndQuery};
use http_body::Body as _;
use std::{
    cell::{Cell, RefCell},
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};
use weft_balance::{EndpointId, Outcome};
use weft_model::{AttemptFailure, BackendFailure, Hedging, HttpRoute, Retry};
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
    pub(super) fn request(self, version: HttpVersion, body: RequestBody) -> Result<Box<Request<RequestBody>>, Reject> {
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
                if let Some(upgrade) = self.upgrade {
                    super::websocket::ask_by_http2(&mut request, upgrade)?;
                }
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
pub(super) enum Bodies {
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
    /// All of it as one piece, when that is at hand.
    pub(super) fn at_hand(&self) -> Option<RequestBody> {
        match self {
            Self::Empty => Some(RequestBody::Empty),
            Self::Once(_) => None,
            Self::Again(replay) => replay.all().map(|bytes| RequestBody::Whole(Some(bytes))),
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
pub(super) type Outgoing = Result<(Response<Incoming>, Lease), Failed>;

/// How an attempt failed, with the request when it is provably unsent.
pub(super) struct Failed {
    why: Why,
    request: Option<Box<Request<RequestBody>>>,
}

pub(super) enum Why {
    NoConnection(NoConnection),
    /// The connection went away before a byte was written.
    Unsent(String),
    Refused,
    Reset(String),
    Protocol(String),
    /// The caller's body broke: no fault of the upstream's.
    Body,
    PerTry(u64),
    /// Nothing moved for the route's idle time-out.
    Idle(u64),
    /// It did not come to an attempt: no endpoint, or a limit.
    Nowhere(Box<Reject>),
}

impl Why {
    fn failure(&self) -> AttemptFailure {
        match self {
            Self::NoConnection(_) | Self::Nowhere(_) => AttemptFailure::Connect,
            Self::Unsent(_) => AttemptFailure::ResetBeforeRequest,
            Self::Refused => AttemptFailure::Refused,
            Self::Reset(_) | Self::Protocol(_) | Self::Body => AttemptFailure::Reset,
            Self::PerTry(_) | Self::Idle(_) => AttemptFailure::Timeout,
        }
    }
    /// The same for the decision whether a fallback takes over.
    fn backend_failure(&self) -> Option<BackendFailure> {
        Some(match self {
            Self::NoConnection(NoConnection::Overflow(_)) => BackendFailure::Overflow,
            Self::NoConnection(NoConnection::Dial(_)) => BackendFailure::Connect,
            Self::Unsent(_) | Self::Refused | Self::Reset(_) | Self::Protocol(_) => BackendFailure::Reset,
            Self::PerTry(_) | Self::Idle(_) => BackendFailure::Timeout,
            Self::Nowhere(reject) => fallback::failure(reject).unwrap_or(BackendFailure::NoEndpoint),
            // The caller's own fault.
            Self::Body => return None,
        })
    }
    /// Does it say something about the upstream?
    fn is_upstreams(&self) -> bool {
        !matches!(self, Self::NoConnection(NoConnection::Overflow(_)) | Self::Nowhere(_) | Self::Body)
    }
    fn words(&self) -> String {
        match self {
            Self::NoConnection(NoConnection::Dial(DialError::Connect(why))) => format!("connect: {why}"),
            Self::NoConnection(NoConnection::Dial(DialError::Dns(why))) => format!("DNS: {why}"),
            Self::NoConnection(NoConnection::Dial(DialError::Timeout(ms))) => format!("connect time-out of {ms} ms"),
            Self::NoConnection(NoConnection::Dial(DialError::Tls(why))) => format!("TLS: {why}"),
            Self::NoConnection(NoConnection::Overflow(what)) => format!("overflow: {}", what.field()),
            Self::Unsent(why) => format!("closed before the request: {why}"),
            Self::Refused => "stream refused".into(),
            Self::Reset(why) => format!("reset before headers: {why}"),
            Self::Protocol(why) => format!("protocol error: {why}"),
            Self::Body => "the caller's body broke".into(),
            Self::PerTry(ms) => format!("per-try time-out of {ms} ms"),
            Self::Idle(ms) => format!("idle time-out of {ms} ms"),
            Self::Nowhere(reject) => reject.words(),
        }
    }
    fn reject(self, upstream: Option<&Upstream>, route: Option<&HttpRoute>) -> Reject {
        match self {
            Self::NoConnection(NoConnection::Dial(DialError::Connect(why))) => Reject::Connect(why),
            Self::NoConnection(NoConnection::Dial(DialError::Dns(why))) => Reject::Dns(why),
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
            Self::Idle(limit_ms) => {
                let origin = route.map(|r| r.origin.clone()).unwrap_or_default();
                Reject::Idle(Box::new(Timer { name: "idle timeout".into(), limit_ms, origin }))
            }
            Self::Nowhere(reject) => *reject,
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
    pub deadline: Option<Deadline>,
    /// Another backend, for when this one fails.
    pub second: Option<Box<SecondBackend<'a>>>,
    /// How often the request may be sent in all.
    pub sends_max: u32,
    /// Keep the body for copies, as far as it is short enough.
    pub keep_body: bool,
    /// What holds the request at an endpoint.
    pub affinity: Affinity,
    pub kept: RefCell<Option<Rc<Replay>>>,
}

/// Where the request is on its way through attempts and backends.
pub(crate) struct Course {
    pub upstream: Rc<Upstream>,
    pub version: HttpVersion,
    pub method: Method,
    pub tried: Vec<EndpointId>,
    /// Failed attempts at this backend.
    pub failures: u32,
    /// How often it was sent, at all backends.
    pub sends: u32,
    /// The fallback took over.
    pub fell: bool,
}

impl Sending<'_> {
    /// The answer's head is here when it returns; the time-out then bounds its body.
    pub(crate) async fn send(
        &self,
        permit: Permit,
        head: Box<Head>,
        body: Incoming,
        exchange: &mut Exchange,
    ) -> Result<Response<Incoming>, Reject> {
        let mut run = pin!(self.run(permit, head, body, exchange));
        let Some(deadline) = self.deadline else { return run.await };
        match tokio::time::timeout_at(deadline.at, run.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Reject::Timeout { timer: Box::new(deadline.timer(self.route)), per_try: false }),
        }
    }

    /// The policies that may send the request more than once; none of them for one that leaves HTTP.
    fn repeats(&self, head: &Head) -> (Option<&Retry>, Option<&Hedging>, Option<&SecondBackend<'_>>) {
        if head.upgrade.is_some() {
            return (None, None, None);
        }
        let hedging = self.route.hedging.as_ref().filter(|_| weft_model::is_idempotent(&head.method));
        (self.route.retry.as_ref().filter(|r| r.attempts > 0), hedging, self.second.as_deref())
    }

    async fn run(&self, _permit: Permit, head: Box<Head>, body: Incoming, exchange: &mut Exchange) -> Result<Response<Incoming>, Reject> {
        let (retry, hedging, second) = self.repeats(&head);
        let resend = hedging.is_some() || second.is_some() || retry.is_some_and(|r| r.resends(self.version == HttpVersion::Two));
        let mut bodies = Bodies::new(body, resend || self.keep_body, exchange);
        if let (true, Bodies::Again(replay)) = (self.keep_body, &bodies) {
            *self.kept.borrow_mut() = Some(replay.clone());
        }
        let sent = Rc::new(Cell::new(true));
        let mut course = self.course(&head);
        let mut spare = resend.then(|| head.clone());
        let mut request = head.request(self.version, bodies.next(exchange, &sent))?;
        loop {
            let started = clock::now();
            let (chosen, outcome) = match self.place(&course, exchange) {
                Err(reject) => (None, Err(Failed { why: Why::Nowhere(Box::new(reject)), request: Some(request) })),
                Ok(chosen) => {
                    course.sends += 1;
                    self.stamp(&mut request, &course);
                    let (chosen, outcome) = match (hedging, &spare) {
                        // Boxed: rare.
                        (Some(hedging), Some(spare)) => {
                            let race = Race { sending: self, hedging, retry, spare, bodies: &bodies };
                            Box::pin(race.run(&mut course, (chosen, request, &sent), exchange)).await?
                        }
                        _ => (chosen.clone(), self.one(&chosen, course.version, request, &sent, exchange.received.clone()).await),
                    };
                    (Some(chosen), outcome)
                }
            };
            let (failure, outcome) = self.note(&course, chosen.as_deref(), outcome, started, exchange);
            course.tried.extend(chosen.map(|c| c.id));
            course.failures += 1;
            let at_hand = matches!(&outcome, Err(failed) if failed.request.is_some()) || (spare.is_some() && bodies.is_whole());
            let again = retry
                .filter(|r| at_hand && r.is_safe(failure, &course.method))
                .and_then(|r| self.again(r, &course, failure, &outcome, exchange));
            let from =
                outcome.as_ref().map_or_else(|f| f.why.backend_failure(), |(r, _)| Some(BackendFailure::Status(r.status().as_u16())));
            let unsent = matches!(&outcome, Err(failed) if failed.request.is_some());
            if again.is_none() && !second.is_some_and(|s| at_hand && s.takes_over(from, unsent, &course) && course.sends < self.sends_max) {
                return self.last(&course, outcome, exchange);
            }
            exchange.facts.write_first(&mut exchange.record);
            let unsent = outcome.err().and_then(|failed| failed.request);
            request = match (again, second) {
                (None, Some(second)) => {
                    let body = unsent.map_or_else(|| bodies.next(exchange, &sent), |request| request.into_body());
                    self.fall(second, &mut course, &mut spare, body, exchange)?
                }
                (wait, _) => {
                    let next = match (unsent, &spare) {
                        (Some(request), _) => request,
                        (None, Some(spare)) => spare.clone().request(course.version, bodies.next(exchange, &sent))?,
                        (None, None) => return Err(Reject::Reset("the request cannot be sent again".into())),
                    };
                    // Boxed: rare.
                    Box::pin(tokio::time::sleep(wait.unwrap_or_default())).await;
                    next
                }
            };
        }
    }

    fn course(&self, head: &Head) -> Course {
        let (upstream, version, method) = (self.upstream.clone(), self.version, head.method.clone());
        Course { upstream, version, method, tried: Vec::new(), failures: 0, sends: 0, fell: false }
    }

    /// A place among the cluster's requests, and an endpoint.
    fn place(&self, course: &Course, exchange: &mut Exchange) -> Result<Rc<Chosen>, Reject> {
        if exchange.lasting.admitted.is_none() {
            exchange.lasting.admitted = Some(course.upstream.admit()?);
        }
        let tried: &[EndpointId] = if self.route.retry.as_ref().is_some_and(|r| r.repeat_hosts) { &[] } else { &course.tried };
        let left: &[EndpointId] = if self.route.retry.as_ref().is_some_and(|r| r.remote_localities) { &course.tried } else { &[] };
        let rolls = (self.worker.roll(), self.worker.roll());
        let chosen = course.upstream.pick_by(clock::now(), rolls, tried, left, self.affinity.hash)?;
        let (from, to) = exchange.addresses();
        let chosen = course.upstream.for_client(chosen, from, to);
        exchange.facts.chosen = Some(chosen.clone());
        exchange.lasting.in_flight = Some(course.upstream.in_flight(&chosen));
        Ok(chosen)
    }

    /// What the upstream is told of the attempt: its number, and how much time is left.
    pub(super) fn stamp(&self, request: &mut Request<RequestBody>, course: &Course) {
        if self.route.retry.as_ref().is_some_and(|r| r.count_header) || self.worker.config().plan.headers().attempt_count {
            request.headers_mut().insert(super::headers::ATTEMPT_COUNT, HeaderValue::from(course.sends));
        }
        if let Some(deadline) = &self.deadline {
            deadline.tell(request.headers_mut(), course.upstream.is_mesh());
        }
    }

    /// How long to wait before another attempt; `None` when there is none: the policy does not ask for it, the budget is used up, or
    /// the wait would be longer than allowed or than the time that is left.
    fn again(
        &self,
        retry: &Retry,
        course: &Course,
        failure: AttemptFailure,
        outcome: &Outgoing,
        exchange: &mut Exchange,
    ) -> Option<Duration> {
        if matches!(outcome, Err(failed) if !failed.why.is_upstreams()) || course.failures > retry.attempts || !retry.on.covers(failure) {
            return None;
        }
        if course.sends >= self.sends_max {
            self.worker.settings.registry.limit("SENDS_MAX").inc();
            return None;
        }
        let mut wait = Duration::from_micros(retry.backoff_us(course.failures, self.worker.roll()));
        if let (Some(asked), Ok((response, _))) = (&retry.rate_limited_backoff, outcome)
            && let Some(ms) = asked.wait_ms(response.headers(), clock::unix_ms() / 1000)
        {
            if ms > asked.max_ms {
                return None;
            }
            wait = wait.max(Duration::from_millis(ms));
        }
        if self.deadline.is_some_and(|deadline| clock::now() + wait >= deadline.at) {
            return None;
        }
        exchange.lasting.admitted.as_mut().is_some_and(Admitted::try_retry).then_some(wait)
    }

    /// Turns to the second backend.
    fn fall(
        &self,
        second: &SecondBackend<'_>,
        course: &mut Course,
        spare: &mut Option<Box<Head>>,
        body: RequestBody,
        exchange: &mut Exchange,
    ) -> Result<Box<Request<RequestBody>>, Reject> {
        let mut head = spare.take().ok_or_else(|| Reject::Reset("the request cannot be sent again".into()))?;
        second.prepare(&mut head)?;
        (exchange.lasting.admitted, exchange.lasting.in_flight) = (None, None);
        exchange.sent_to(&second.upstream);
        exchange.record.flags.push(ResponseFlag::Fallback);
        exchange.record.cause = Some(second.fallback.origin.clone());
        let next = (second.upstream.clone(), second.version);
        (course.upstream, course.version) = next;
        (course.tried, course.failures, course.fell) = (Vec::new(), 0, true);
        *spare = Some(head.clone());
        head.request(course.version, body)
    }

    /// Notes how an attempt went, in the record and at the balancer.
    pub(super) fn note(
        &self,
        course: &Course,
        chosen: Option<&Chosen>,
        outcome: Outgoing,
        started: Instant,
        exchange: &mut Exchange,
    ) -> (AttemptFailure, Outgoing) {
        let Some(chosen) = chosen else { return (AttemptFailure::Connect, outcome) };
        let failure = match &outcome {
            Ok((response, lease)) => {
                let status = response.status().as_u16();
                course.upstream.answered(chosen.id, status, response.headers(), started);
                exchange.upstream_tls(lease.tls());
                let grpc_status = super::headers::grpc_status(response.headers());
                let marked = self.route.retry.as_ref().is_some_and(|r| r.on.marks(response.headers()));
                AttemptFailure::Response { status, grpc_status, marked }
            }
            Err(Failed { why, .. }) => {
                if why.is_upstreams() {
                    course.upstream.observed(chosen.id, Outcome::Failed, clock::now());
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
    fn last(&self, course: &Course, outcome: Outgoing, exchange: &mut Exchange) -> Result<Response<Incoming>, Reject> {
        match outcome {
            Ok((response, lease)) => {
                exchange.lasting.lease = Some(lease);
                Ok(response)
            }
            Err(failed) => {
                if course.failures > 1 && failed.why.is_upstreams() {
                    exchange.record.flags.push(ResponseFlag::RetryLimitExceeded);
                }
                Err(failed.why.reject(Some(&course.upstream), Some(self.route)))
            }
        }
    }

    /// One attempt, within the time that it may take.
    pub(super) async fn one(
        &self,
        chosen: &Chosen,
        version: HttpVersion,
        request: Box<Request<RequestBody>>,
        sent: &Rc<Cell<bool>>,
        received: Rc<Received>,
    ) -> Outgoing {
        let mut attempt = pin!(attempt(self.worker, &chosen.pool, version, request, sent));
        let per_try = self.route.retry.as_ref().and_then(|r| r.per_try_timeout_ms);
        match (millis(self.route.idle_timeout_ms), millis(per_try)) {
            (None, None) => attempt.await,
            // Boxed: timers are large, and most routes have none.
            (None, Some(limit)) => match Box::pin(tokio::time::timeout(limit, attempt.as_mut())).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failed { why: Why::PerTry(per_try.unwrap_or_default()), request: None }),
            },
            (Some(idle), limit) => Box::pin(while_it_moves(attempt, idle, limit, received)).await,
        }
    }
}

/// An attempt for which something must come or go within each `idle`, and all within `limit`.
async fn while_it_moves(
    mut attempt: Pin<&mut impl Future<Output = Outgoing>>,
    idle: Duration,
    limit: Option<Duration>,
    received: Rc<Received>,
) -> Outgoing {
    let in_ms = |limit: Duration| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let end = limit.map(|limit| (clock::now() + limit, in_ms(limit)));
    loop {
        let before = received.bytes();
        let quiet = clock::now() + idle;
        match tokio::time::timeout_at(end.map_or(quiet, |(end, _)| end.min(quiet)), attempt.as_mut()).await {
            Ok(outcome) => return outcome,
            Err(_) => match end.filter(|(end, _)| *end <= clock::now()) {
                Some((_, limit_ms)) => return Err(Failed { why: Why::PerTry(limit_ms), request: None }),
                // The request's body still moves.
                None if received.bytes() != before => {}
                None => return Err(Failed { why: Why::Idle(in_ms(idle)), request: None }),
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

pub(super) fn note_attempt(exchange: &mut Exchange, endpoint: &str, workload: &str, outcome: String, started: Instant) {
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

/// A question of the proxy itself: the status and the body of the answer, or what went wrong.
pub(crate) async fn ask(
    worker: &Rc<Worker>,
    pool: &Rc<Pool>,
    version: HttpVersion,
    head: Box<Head>,
    body: Option<Bytes>,
) -> Result<(u16, Bytes), String> {
    let body = body.map_or(RequestBody::Empty, |bytes| RequestBody::Whole(Some(bytes)));
    let request = head.request(version, body).map_err(|reject| reject.words())?;
    let sent = Rc::new(Cell::new(true));
    let (response, lease) = attempt(worker, pool, version, request, &sent).await.map_err(|failed| failed.why.words())?;
    let status = response.status().as_u16();
    let limited = http_body_util::Limited::new(response.into_body(), HEALTH_CHECK_BYTES_MAX);
    let body = http_body_util::BodyExt::collect(limited).await.map_err(|e| e.to_string())?.to_bytes();
    lease.give_back(true);
    Ok((status, body))
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

/// One attempt of a call that the proxy itself makes, with what lasts as long as it.
pub(super) async fn attempt_once(
    worker: &Rc<Worker>,
    upstream: &Rc<Upstream>,
    head: Box<Head>,
    version: HttpVersion,
    body: RequestBody,
) -> Result<(Response<Incoming>, Lease, impl Sized), Reject> {
    let admitted = upstream.admit()?;
    let chosen = upstream.pick(clock::now(), (worker.roll(), worker.roll()), &[])?;
    let in_flight = upstream.in_flight(&chosen);
    let request = head.request(version, body)?;
    let sent = Rc::new(Cell::new(true));
    match attempt(worker, &chosen.pool, version, request, &sent).await {
        Ok((response, lease)) => Ok((response, lease, (admitted, in_flight))),
        Err(failed) => Err(failed.why.reject(Some(upstream), None)),
    }
}
