//! The way of a request. Read it top to bottom; the order is the specification.

use super::{
    Connection, Exchange, Reject, Scope,
    body::{Incoming, ResponseBody},
    grpc_web, headers,
    normalize::{Target, normalize},
    pool::HttpVersion,
    rewrite, trust,
    upstream::{self, Head, Sending},
};
use crate::{
    destination,
    limits::{COPIES_MAX, SENDS_MAX},
    policy::{
        Affinity, Authenticated, Caller, Covered, Deadline, Judgement, PLAIN_TEXT, Permit, SecondBackend, admit, ask_for_route,
        ask_providers, authenticate, authorize, authorize_at_gateway, cors, fallback, fault,
    },
    worker::Config,
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use std::{cell::RefCell, rc::Rc};
use weft_model::{Backend, BackendFailure, HttpRoute, Protocol, Redirect, RequestHead, RouteAction, pick_target};
use weft_std::clock::{self, Instant};
use weft_telemetry::{Reporter, ResponseFlag, details};
use weft_wire::http1::OnUpgrade;

/// An answer on its way to `finish`.
enum Reply {
    /// From upstream.
    Upstream { response: Response<Incoming>, deadline: Option<Instant> },
    /// Made here because the configuration says so.
    Local(Response<Bytes>),
    /// Both sides leave HTTP.
    Upgraded(Response<()>),
}

/// Serves one request: never fails, always answers, always records.
pub(crate) async fn serve(conn: Rc<Connection>, request: Request<Incoming>) -> Response<ResponseBody> {
    let config = conn.worker.config();
    let (mut parts, body) = request.into_parts();
    let mut exchange = Exchange::start(&conn, &config, &mut parts);
    let version = parts.version;
    // Boxed: the pipeline's state is large, and the connection's own future would carry it while idle.
    let outcome = Box::pin(request_pipeline(&conn, config, parts, body, &mut exchange)).await;
    let mut response = finish(&conn, outcome, exchange, version);
    let leaves = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if version != Version::HTTP_2 && !conn.worker.settings.overload.keeps_alive() && !leaves {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn request_pipeline(
    conn: &Rc<Connection>,
    config: Rc<Config>,
    mut parts: Parts,
    body: Incoming,
    exchange: &mut Box<Exchange>,
) -> Result<Reply, Reject> {
    // Before anything is spent on it.
    if let Some(shed) = conn.worker.settings.overload.sheds() {
        return Err(Reject::Limited(shed));
    }
    // Before any decision looks at path or authority.
    let settings = &config.snapshot.settings;
    let mut target = normalize(&parts.method, &parts.uri, &parts.headers, parts.version == Version::HTTP_2, settings.path_normalization)?;
    exchange.target(&target);
    let upgrade = headers::upgrade(&parts.headers);
    target.remote_ip = Some(trust::sanitize(conn, settings, &mut parts.headers));
    headers::forwarded(config.plan.headers(), &target, conn.port(), &mut parts.headers);
    if parts.method == Method::CONNECT {
        // Boxed: rare.
        return Box::pin(connect(conn, config, body, &target, exchange)).await;
    }
    match &conn.scope {
        Scope::Inbound { .. } => inbound(conn, &config, parts, target, upgrade, body, exchange).await,
        Scope::Outbound { .. } | Scope::Gateway { .. } => outbound(conn, config, parts, target, upgrade, body, exchange).await,
    }
}

/// Towards the program of this proxy's workload.
async fn inbound(
    conn: &Rc<Connection>,
    config: &Config,
    mut parts: Parts,
    mut target: Target,
    upgrade: Option<HeaderValue>,
    mut body: Incoming,
    exchange: &mut Exchange,
) -> Result<Reply, Reject> {
    let Scope::Inbound { port, pool } = &conn.scope else { return Err(Reject::Overload("not an inbound connection")) };
    let authenticated = authenticated(conn, config, &mut parts, &mut target, exchange)?;
    let asked = consult(conn, config, &authenticated, *port, &mut parts, &target, &mut body, exchange).await?;
    let judgement = {
        let head = request_head(conn, &parts, &target, &target.host);
        let caller = Caller::new(conn, &authenticated, target.remote_ip(conn)).asked(asked);
        authorize(&config.snapshot, &caller, *port, Some(&head))
    };
    let permit = decided(conn, judgement, exchange)?;
    admission(conn, config, Covered { own: Some(*port), route: None, service: None }, &parts, &target, exchange).await?;
    let inbound_port = config.snapshot.inbound.as_ref().and_then(|i| i.ports.iter().find(|p| p.port == *port));
    let (protocol, grpc) = (inbound_port.map_or(Protocol::Auto, |p| p.protocol), exchange.record.grpc);
    exchange.facts.grpc_web = grpc_web::to_grpc(protocol, &mut parts.headers, &mut body);
    let version = inner_version(protocol, parts.version, grpc, upgrade.is_some(), false);
    conn.certify_client(&mut parts.headers);
    let on_upgrade = upgrade.is_some().then(|| body.on_upgrade());
    let head = make_head(conn, parts, target, upgrade)?;
    let response = upstream::send_to_program(permit, &conn.worker, pool, version, head, body, exchange).await?;
    Ok(answer(response, None, on_upgrade, exchange))
}

/// Towards a service: routed, perhaps delayed or aborted on purpose, rewritten, balanced, retried.
async fn outbound(
    conn: &Rc<Connection>,
    config: Rc<Config>,
    mut parts: Parts,
    mut target: Target,
    upgrade: Option<HeaderValue>,
    mut body: Incoming,
    exchange: &mut Box<Exchange>,
) -> Result<Reply, Reject> {
    // A browser's question before its request: it comes without credentials, so it is answered before anybody asks for them.
    // Boxed: rare.
    if weft_model::is_preflight(&parts.method, &parts.headers)
        && let Some((response, route)) = Box::pin(cors::preflight(conn, &config, &parts, &target)).await
    {
        exchange.facts.route = Some(route);
        exchange.record.details = details::CORS_RESPONSE.into();
        return Ok(Reply::Local(response));
    }
    // Before a route is looked for: who may not enter learns nothing of what is inside.
    let permit = permit_to_leave(conn, &config, &mut parts, &mut target, &mut body, exchange).await?;
    // The route is that of the request as it came, unless the service that changed its headers asks for another look.
    let changed = exchange.routed_by.take().map(|came| std::mem::replace(&mut parts.headers, *came));
    let found = destination::route(conn, config, &parts, &target).await?;
    if let Some(changed) = changed {
        parts.headers = changed;
    }
    let (config, route) = (found.config, found.route);
    exchange.facts.route = Some(route.clone());
    exchange.facts.cors = route.cors.as_ref().and_then(|c| c.response_headers(&parts.headers));
    let own = matches!(conn.scope, Scope::Gateway { .. }).then(|| conn.port());
    let service = config.snapshot.admission.is_some().then(|| found.service.clone()).flatten();
    exchange.called(found.service);
    if route.external_auth.is_some() {
        // Boxed: rare.
        Box::pin(ask_for_route(conn, &config, &route, &mut parts, &target, &mut body, exchange)).await?;
    }
    admission(conn, &config, Covered { own, route: Some(&route), service: service.as_deref() }, &parts, &target, exchange).await?;
    fault(conn, &route, exchange).await?;
    // A planned delay is not the upstream's: the time-out starts after it (Envoy's order of filters).
    let started = clock::now();
    let redirected = |to: &Redirect| rewrite::redirect(to, &request_head(conn, &parts, &target, &target.host), conn.port());
    let targets = match &route.action {
        RouteAction::Forward(targets) => targets,
        RouteAction::Redirect(to) => return redirected(to).map(Reply::Local),
        RouteAction::Respond { status, body } => return Ok(Reply::Local(rewrite::respond(&route, *status, body))),
    };
    let chosen = pick_target(targets, conn.worker.roll()).and_then(|i| targets.get(i));
    let chosen = chosen.ok_or_else(|| Reject::InvalidBackend { status: 503, reason: "all weights of the route are 0".into() })?;
    if let Some(to) = &chosen.redirect {
        return redirected(to).map(Reply::Local);
    }
    let way = Way { conn, config: &config, route: &route, chosen };
    let outcome = match way.prepare(parts, target, upgrade, &mut body, started, exchange) {
        Ok(mut ready) => {
            let outcome = ready.sending.send(permit, ready.head, body, exchange).await;
            send_copies(conn, std::mem::take(&mut ready.copies), ready.sending.kept.take());
            outcome.map(|response| way.answered(response, &ready.sending, ready.on_upgrade, exchange))
        }
        Err(reject) => Err(reject),
    };
    outcome.or_else(|reject| match fallback::answer(&route, fallback::failure(&reject), exchange) {
        Some(response) => {
            exchange.record.flags.extend(reject.flag());
            Ok(Reply::Local(response))
        }
        None => Err(reject),
    })
}

/// From a route to one of its destinations.
struct Way<'a> {
    conn: &'a Rc<Connection>,
    config: &'a Config,
    route: &'a HttpRoute,
    chosen: &'a weft_model::Target,
}

/// A request, ready to be sent.
struct Ready<'a> {
    sending: Sending<'a>,
    head: Box<Head>,
    copies: Copies,
    on_upgrade: Option<Option<OnUpgrade>>,
}

impl<'a> Way<'a> {
    fn prepare(
        &self,
        mut parts: Parts,
        target: Target,
        upgrade: Option<HeaderValue>,
        body: &mut Incoming,
        started: Instant,
        exchange: &mut Exchange,
    ) -> Result<Ready<'a>, Reject> {
        let Self { conn, config, route, chosen } = *self;
        let name = match &chosen.backend {
            Backend::Cluster(name) => name,
            Backend::Invalid { status, reason } => return Err(Reject::InvalidBackend { status: *status, reason: reason.clone() }),
        };
        let upstream = config.upstreams.get(name).ok_or_else(|| Reject::NoCluster(name.to_string()))?;
        exchange.sent_to(upstream);
        exchange.facts.grpc_web = grpc_web::to_grpc(upstream.protocol(), &mut parts.headers, body);
        let (came, grpc) = (parts.version, exchange.record.grpc);
        let version = inner_version(upstream.protocol(), came, grpc, upgrade.is_some(), conn.is_gateway() && !upstream.follows_client());
        let deadline = Deadline::of(conn, route, &parts.headers, grpc, started);
        let on_upgrade = upgrade.is_some().then(|| body.on_upgrade());
        let mut head = make_head(conn, parts, target, upgrade)?;
        rewrite::rewrite(route, chosen, &mut head)?;
        if upstream.is_mesh() {
            conn.introduce(config, &mut head.headers);
        }
        let copies = self.copies(&head);
        let affinity = Affinity::of(upstream, &head.headers, head.path.query(), conn.peer_address.ip(), || conn.worker.random());
        let sending = Sending {
            worker: &conn.worker,
            upstream,
            route,
            version,
            deadline,
            second: SecondBackend::of(conn, config, route, came, grpc).map(Box::new),
            sends_max: SENDS_MAX - u32::try_from(copies.len()).unwrap_or(SENDS_MAX),
            keep_body: !copies.is_empty(),
            affinity,
            kept: RefCell::default(),
        };
        Ok(Ready { sending, head, copies, on_upgrade })
    }

    /// The backend's answer, or the fixed one that takes its place.
    fn answered(
        &self,
        mut response: Response<Incoming>,
        sending: &Sending<'_>,
        on_upgrade: Option<Option<OnUpgrade>>,
        exchange: &mut Exchange,
    ) -> Reply {
        let status = response.status().as_u16();
        if let Some(response) = fallback::answer(self.route, Some(BackendFailure::Status(status)), exchange) {
            // The backend's answer is not read, so its connection is not used again.
            exchange.lasting.lease = None;
            return Reply::Local(response);
        }
        exchange.answered_by(response.headers());
        trust::sanitize_answer(self.conn, response.headers_mut());
        self.route.response_headers.apply(response.headers_mut());
        let fell = exchange.record.flags.contains(&ResponseFlag::Fallback);
        let answered = sending.second.as_ref().filter(|_| fell).map_or(self.chosen, |second| second.target);
        answered.response_headers.apply(response.headers_mut());
        sending.affinity.apply(response.headers_mut());
        answer(response, sending.deadline.map(|d| d.at), on_upgrade, exchange)
    }

    /// The copies that this request's share asks for, of the route and of the destination.
    fn copies(&self, head: &Head) -> Copies {
        let asked = self.route.mirrors.iter().chain(&self.chosen.mirrors).filter(|m| m.share.includes(self.conn.worker.roll()));
        let mut copies: Copies =
            asked.filter_map(|m| Some((self.config.upstreams.get(&m.cluster)?.clone(), Box::new(head.clone())))).collect();
        if copies.len() > COPIES_MAX {
            self.conn.worker.settings.registry.limit("COPIES_MAX").inc();
            copies.truncate(COPIES_MAX);
        }
        copies
    }
}

/// A program asks the HTTP proxy for a tunnel: what comes through it is then looked at as if it had been captured.
async fn connect(
    conn: &Rc<Connection>,
    config: Rc<Config>,
    mut body: Incoming,
    target: &Target,
    exchange: &mut Exchange,
) -> Result<Reply, Reject> {
    let (Scope::Outbound { proxy: true, .. }, Some(port)) = (&conn.scope, target.port) else {
        return Err(Reject::BadRequest("CONNECT is not served here"));
    };
    let (service, _) = destination::find_service(&conn.worker, config, &target.host).await;
    let service = service.filter(|s| s.port(port).is_some()).ok_or_else(|| Reject::UnknownHost(target.authority.clone()))?;
    let upgrade = body.on_upgrade().ok_or(Reject::BadRequest("CONNECT needs HTTP/1.1"))?;
    // What is in the tunnel has records of its own.
    exchange.forget();
    let (worker, from) = (conn.worker.clone(), conn.peer_address);
    let wanted = std::net::SocketAddr::new(service.addresses.first().copied().unwrap_or(conn.local_address.ip()), port);
    conn.worker.tasks.spawn_local("tunnel", async move {
        let counted = worker.count_connection();
        if let Some(upgraded) = upgrade.io().await {
            crate::accept::outbound(worker, upgraded, from, wanted, Some(service)).await;
        }
        drop(counted);
    });
    Ok(Reply::Local(Response::new(Bytes::new())))
}

/// A gateway judges who enters; a sidecar lets its own program call, and the destination judges.
async fn permit_to_leave(
    conn: &Rc<Connection>,
    config: &Config,
    parts: &mut Parts,
    target: &mut Target,
    body: &mut Incoming,
    exchange: &mut Exchange,
) -> Result<Permit, Reject> {
    if let Some(permit) = Permit::judged_at_destination(&conn.scope) {
        return Ok(permit);
    }
    conn.check_client()?;
    let authenticated = authenticated(conn, config, parts, target, exchange)?;
    let asked = consult(conn, config, &authenticated, conn.port(), parts, target, body, exchange).await?;
    let head = request_head(conn, parts, target, &target.host);
    let caller = Caller::new(conn, &authenticated, target.remote_ip(conn)).asked(asked);
    decided(conn, authorize_at_gateway(&config.snapshot, &caller, conn.port(), Some(&head)), exchange)
}

/// Services that CUSTOM policies name come first; without such policies nothing is paid.
#[allow(clippy::too_many_arguments, reason = "what a check looks at is the whole request")]
async fn consult(
    conn: &Rc<Connection>,
    config: &Config,
    authenticated: &Authenticated,
    port: u16,
    parts: &mut Parts,
    target: &Target,
    body: &mut Incoming,
    exchange: &mut Exchange,
) -> Result<bool, Reject> {
    if !config.snapshot.asks {
        return Ok(false);
    }
    // Boxed: rare, and it would be part of every request's state.
    Box::pin(ask_providers(conn, config, authenticated, port, parts, target, body, exchange)).await
}

/// A token that is there must be good, before anything asks who calls.
fn authenticated(
    conn: &Connection,
    config: &Config,
    parts: &mut Parts,
    target: &mut Target,
    exchange: &mut Exchange,
) -> Result<Authenticated, Reject> {
    let Some(rules) = &config.snapshot.tokens else { return Ok(Authenticated::default()) };
    let authenticated = authenticate(conn, rules, parts, target).map_err(|decision| {
        exchange.record.policy = Some((*decision).clone());
        Reject::Unauthenticated(decision)
    })?;
    target.token = authenticated.token().cloned();
    Ok(authenticated)
}

/// Rate and concurrency limits, where there are any: after authorization, since they are per caller, and before anything is sent.
async fn admission(
    conn: &Rc<Connection>,
    config: &Config,
    covered: Covered<'_>,
    parts: &Parts,
    target: &Target,
    exchange: &mut Exchange,
) -> Result<(), Reject> {
    let Some(limits) = &config.snapshot.admission else { return Ok(()) };
    // Boxed: rare, and it would be part of every request's state.
    Box::pin(admit(conn, config, limits, covered, parts, target, exchange)).await
}

/// Notes the decision; without a permit the call ends here.
fn decided(conn: &Connection, judgement: Judgement, exchange: &mut Exchange) -> Result<Permit, Reject> {
    judgement.count(&conn.worker.settings.registry);
    let Judgement { decision, permit, shadow, audited } = judgement;
    exchange.record.policy.clone_from(&decision);
    exchange.record.shadow = shadow;
    exchange.record.audited = audited;
    match (permit, decision) {
        (Some(permit), _) => Ok(permit),
        (None, Some(decision)) => Err(Reject::Denied(Box::new(decision))),
        (None, None) => Err(Reject::Overload("authorization gave no reason")),
    }
}

/// What matching and authorization see. `host` is the name that routes are looked up by.
pub(crate) fn request_head<'a>(conn: &'a Connection, parts: &'a Parts, target: &'a Target, host: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: parts.method.as_str(),
        scheme: conn.scheme(),
        authority: &target.authority,
        host,
        path: target.path.path(),
        query: target.path.query(),
        headers: &parts.headers,
        claims: target.token.as_ref().map(|token| &token.claims),
    }
}

/// Which HTTP is spoken on the next hop: as the port declares, else as the request came.
pub(crate) fn inner_version(protocol: Protocol, came: Version, grpc: bool, upgrade: bool, gateway: bool) -> HttpVersion {
    let two = came == Version::HTTP_2;
    match protocol {
        // A WebSocket, which HTTP/2 carries only where a port is declared to speak nothing else.
        _ if upgrade && protocol != Protocol::Http2 => HttpVersion::One,
        Protocol::Http2 | Protocol::Grpc => HttpVersion::Two,
        // gRPC cannot be told in HTTP/1, whatever the port is called.
        _ if grpc && two => HttpVersion::Two,
        Protocol::Http => HttpVersion::One,
        // A browser's HTTP/2 says nothing of what the service behind a gateway speaks.
        _ if two && !gateway => HttpVersion::Two,
        _ => HttpVersion::One,
    }
}

fn make_head(conn: &Connection, parts: Parts, target: Target, upgrade: Option<HeaderValue>) -> Result<Box<Head>, Reject> {
    let authority = HeaderValue::try_from(target.authority).map_err(|_| Reject::BadRequest("the authority is not legal"))?;
    let mut headers = parts.headers;
    headers::strip_hop_by_hop(&mut headers);
    // The engine answers it when the body is first asked for.
    headers.remove(header::EXPECT);
    let scheme = if conn.scheme() == "https" { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
    // Boxed: it goes through several futures, each of which would hold it.
    Ok(Box::new(Head { method: parts.method, path: target.path, authority, scheme, headers, upgrade }))
}

type Copies = Vec<(Rc<crate::upstream::Upstream>, Box<Head>)>;

/// Sends them once the request itself is out: a copy never delays it. A body that was too long to keep, or is not through when the
/// answer begins, is not copied, nor is its request.
fn send_copies(conn: &Connection, copies: Copies, kept: Option<Rc<super::body::Replay>>) {
    let body = kept.as_ref().map(|replay| replay.all());
    if body == Some(None) {
        return;
    }
    for (upstream, head) in copies {
        super::mirror::send(&conn.worker, &upstream, head, body.clone().flatten());
    }
}

/// The upstream's answer, without what was for its connection only.
fn answer(
    mut response: Response<Incoming>,
    deadline: Option<Instant>,
    on_upgrade: Option<Option<OnUpgrade>>,
    exchange: &mut Exchange,
) -> Reply {
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let protocol = response.headers().get(header::UPGRADE).cloned();
    if let (true, Some(Some(downstream)), Some(protocol)) = (upgraded, on_upgrade, protocol) {
        let Some(upstream) = response.body_mut().on_upgrade() else {
            return Reply::Upstream { response, deadline };
        };
        let (mut parts, _) = response.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
        parts.extensions = http::Extensions::new();
        exchange.tunnel = Some((downstream, upstream));
        return Reply::Upgraded(Response::from_parts(parts, ()));
    }
    headers::strip_hop_by_hop(response.headers_mut());
    Reply::Upstream { response, deadline }
}

/// The only place that logs, counts, reports, and maps a [`Reject`] to an answer.
fn finish(conn: &Rc<Connection>, outcome: Result<Reply, Reject>, mut exchange: Box<Exchange>, version: Version) -> Response<ResponseBody> {
    let mut response = match outcome {
        Ok(Reply::Upstream { mut response, deadline }) => {
            exchange.record.status = response.status().as_u16();
            exchange.record.grpc_status = headers::grpc_status(response.headers()).filter(|_| exchange.record.grpc);
            *response.version_mut() = version;
            conn.introduce_callee(response.headers_mut());
            response.headers_mut().extend(std::mem::take(&mut exchange.answer_headers));
            exchange.proxy_headers(response.headers_mut());
            exchange.capture_response(response.headers());
            if let Some(web) = &exchange.facts.grpc_web {
                web.answer(response.headers_mut());
            }
            exchange.note_answer();
            if let Some(standing) = &exchange.standing {
                standing.write(response.headers_mut());
            }
            if let Some(cors) = exchange.facts.cors.take() {
                weft_model::apply_cors(cors, response.headers_mut());
            }
            return response.map(|body| ResponseBody::upstream(body, exchange, deadline));
        }
        Ok(Reply::Upgraded(response)) => {
            exchange.record.status = response.status().as_u16();
            exchange.capture_response(response.headers());
            let (parts, ()) = response.into_parts();
            super::tunnel::start(&conn.worker.clone(), exchange);
            return Response::from_parts(parts, ResponseBody::local(Bytes::new(), None));
        }
        Ok(Reply::Local(response)) => {
            if exchange.record.details.is_empty() {
                exchange.record.details = details::DIRECT_RESPONSE.into();
            }
            response
        }
        Err(reject) => {
            let mut response = refuse(&reject, &mut exchange);
            if let Reject::Limited(limited) = &reject {
                limited.write(response.headers_mut());
            }
            // What could not be understood may be followed by more of the kind; plain text has no business on a STRICT port.
            let plain = matches!(&reject, Reject::Denied(decision) if decision.reason == PLAIN_TEXT);
            if (plain || matches!(reject, Reject::BadRequest(_))) && version != Version::HTTP_2 {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    exchange.record.status = response.status().as_u16();
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("weft"));
    response.headers_mut().insert(headers::REQUEST_ID, exchange.facts.id.clone());
    if let Some(cors) = exchange.facts.cors.take() {
        weft_model::apply_cors(cors, response.headers_mut());
    }
    conn.introduce_callee(response.headers_mut());
    exchange.proxy_headers(response.headers_mut());
    exchange.capture_response(response.headers());
    response.map(|bytes| ResponseBody::local(bytes, Some(exchange)))
}

/// An answer that says what happened, under which code, and how to learn more.
fn refuse(reject: &Reject, exchange: &mut Exchange) -> Response<Bytes> {
    let flag = reject.flag();
    let id = exchange.facts.id.clone();
    let record = &mut exchange.record;
    record.flags.extend(flag);
    record.details = reject.details();
    if let Some(cause) = reject.cause() {
        record.cause = Some(cause);
    }
    if let Reject::Timeout { timer, .. } | Reject::Idle(timer) = reject {
        record.timer = Some((**timer).clone());
    }
    let code = flag.map_or("-", ResponseFlag::code);
    let side = if record.reporter == Reporter::Source { "at the caller's proxy" } else { "at the callee's proxy" };
    if record.grpc {
        record.grpc_status = Some(reject.grpc_status());
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        let web = exchange.facts.grpc_web.as_ref().map(|web| web.content_type());
        headers.insert(header::CONTENT_TYPE, web.unwrap_or(HeaderValue::from_static("application/grpc")));
        headers.insert("grpc-status", HeaderValue::from(u16::from(reject.grpc_status())));
        let message: String = reject.words().chars().filter(|c| (' '..='~').contains(c) && *c != '%').collect();
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        return response;
    }
    if let Reject::External(refusal) = reject
        && let Some(body) = &refusal.body
    {
        // The service speaks for itself: a login page, a redirect, a reason.
        let mut response = Response::new(body.clone());
        *response.status_mut() = reject.status();
        response.headers_mut().extend(refusal.headers.iter().cloned());
        return response;
    }
    let body = format!("{}\n[{code} {side}] weft why {}\n", reject.words(), id.to_str().unwrap_or_default());
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = reject.status();
    if let Reject::Unauthenticated(_) = reject {
        // RFC 6750 §3.1.
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The future that a connection holds per request; the pipeline's own state is behind one allocation.
    const FUTURE_BYTES_MAX: usize = 1024;

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn futures_stay_small() {
        assert!(size(serve) <= FUTURE_BYTES_MAX, "{} bytes", size(serve));
        let pipeline = size_of_pipeline(request_pipeline);
        assert!(pipeline <= 4096, "{pipeline} bytes");
    }

    fn size_of_pipeline<'a, F: Future>(_: impl Fn(&'a Rc<Connection>, Rc<Config>, Parts, Incoming, &'a mut Box<Exchange>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_next_hop_speaks_what_the_port_declares() {
        let check = |protocol, came, grpc, gateway, want| assert_eq!(inner_version(protocol, came, grpc, false, gateway), want);
        check(Protocol::Auto, Version::HTTP_11, false, false, HttpVersion::One);
        check(Protocol::Auto, Version::HTTP_2, false, false, HttpVersion::Two);
        check(Protocol::Auto, Version::HTTP_2, false, true, HttpVersion::One);
        check(Protocol::Auto, Version::HTTP_2, true, true, HttpVersion::Two);
        check(Protocol::Http, Version::HTTP_2, false, false, HttpVersion::One);
        check(Protocol::Http, Version::HTTP_2, true, false, HttpVersion::Two);
        check(Protocol::Grpc, Version::HTTP_11, false, false, HttpVersion::Two);
        assert_eq!(inner_version(Protocol::Grpc, Version::HTTP_11, false, true, false), HttpVersion::One);
    }
}
