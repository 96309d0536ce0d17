//! External authorization (Envoy's ext_authz): a service is asked whether a request may go on, over gRPC or HTTP, before DENY and
//! ALLOW are looked at. Whatever it does not say clearly is a no, unless `failOpen` is written.

use super::{Authenticated, Caller, ext_authz_messages as messages};
use crate::{
    http::{Connection, Exchange, Incoming, Reject, SideAnswer, SideCall, Target, request_head, side_call},
    limits::{CHECKED_BODY_BYTES_MAX, SIDE_ANSWER_BYTES_MAX},
    worker::Config,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use http_body_util::BodyExt as _;
use std::{rc::Rc, time::Duration};
use weft_model::{AuthorizationAction, CheckedBody, ExternalAuthorization, ExternalProtocol, HttpRoute, Origin, StringMatch, custom};
use weft_telemetry::{PolicyDecision, details};

/// What the service said.
#[derive(Debug)]
pub(super) enum Said {
    /// Yes, with edits.
    Allowed(Edits),
    /// No, with this answer.
    Denied { status: u16, headers: Vec<(HeaderName, HeaderValue)>, body: Bytes },
}

/// What an allowed request, and its answer, get from the service.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Each replaces what is there, or is added to it.
    pub set: Vec<(HeaderName, HeaderValue, bool)>,
    pub remove: Vec<HeaderName>,
    pub downstream: Vec<(HeaderName, HeaderValue)>,
}

impl Edits {
    fn touch_the_request(&self) -> bool {
        !self.set.is_empty() || !self.remove.is_empty()
    }
}

/// A refusal in the words of the service, or because it gave none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The service's own answer; `None`: the proxy's words.
    pub body: Option<Bytes>,
    pub details: &'static str,
    pub decision: PolicyDecision,
}

/// Asks the providers of all CUSTOM policies that match. True when there were such policies, and all agree.
#[allow(clippy::too_many_arguments, reason = "what a check looks at is the whole request")]
pub(crate) async fn ask_providers(
    conn: &Rc<Connection>,
    config: &Config,
    authenticated: &Authenticated,
    port: u16,
    parts: &mut Parts,
    target: &Target,
    body: &mut Incoming,
    exchange: &mut Exchange,
) -> Result<bool, Reject> {
    let asked: Vec<(String, Origin, ExternalAuthorization)> = {
        let head = request_head(conn, parts, target, &target.host);
        let caller = Caller::new(conn, authenticated, target.remote_ip(conn));
        let input = caller.input(port, Some(&head));
        let policies = config.snapshot.policies.iter().map(|p| &**p);
        let providers =
            custom(policies, &input).filter_map(|(p, rule)| Some((p.name.clone(), rule.clone(), p.provider.as_deref()?.clone())));
        providers.collect()
    };
    // A policy without a provider was not asked: authorization sees that and refuses.
    let complete = !config.snapshot.policies.iter().any(|p| p.action == AuthorizationAction::Custom && p.provider.is_none());
    for (policy, rule, provider) in &asked {
        let by = By { policy, rule, provider };
        let Some(edits) = by.ask(conn, config, parts, target, body, exchange).await? else { continue };
        if provider.clear_route_cache {
            exchange.routed_by = None;
        } else if exchange.routed_by.is_none() && edits.touch_the_request() {
            exchange.routed_by = Some(Box::new(parts.headers.clone()));
        }
        apply(edits, parts, exchange);
    }
    Ok(!asked.is_empty() && complete)
}

/// Asks the service that the route names, if it names one.
pub(crate) async fn ask_for_route(
    conn: &Rc<Connection>,
    config: &Config,
    route: &HttpRoute,
    parts: &mut Parts,
    target: &Target,
    body: &mut Incoming,
    exchange: &mut Exchange,
) -> Result<(), Reject> {
    let Some(provider) = &route.external_auth else { return Ok(()) };
    let by = By { policy: &route.name, rule: &provider.origin, provider };
    if let Some(edits) = by.ask(conn, config, parts, target, body, exchange).await? {
        apply(edits, parts, exchange);
    }
    Ok(())
}

/// Who asks whom, and the line that says so.
struct By<'a> {
    policy: &'a str,
    rule: &'a Origin,
    provider: &'a ExternalAuthorization,
}

impl By<'_> {
    /// What an allowed request gets; `None` where it goes on without an answer.
    async fn ask(
        &self,
        conn: &Rc<Connection>,
        config: &Config,
        parts: &Parts,
        target: &Target,
        body: &mut Incoming,
        exchange: &mut Exchange,
    ) -> Result<Option<Edits>, Reject> {
        let provider = self.provider;
        let mut refuse = |status, headers, body, details, reason| {
            let decision = PolicyDecision { policy: self.policy.to_owned(), allowed: false, origin: self.rule.clone(), reason };
            exchange.record.policy = Some(decision.clone());
            Reject::External(Box::new(Refusal { status, headers, body, details, decision }))
        };
        let (sent, size) = match checked_body(provider.body, body).await {
            Ok(read) => read,
            Err(why) => return Err(refuse(413, Vec::new(), None, details::EXT_AUTHZ_DENIED, why.into())),
        };
        match ask(conn, config, provider, parts, target, sent, size).await {
            Ok(Said::Allowed(edits)) => Ok(Some(edits)),
            Ok(Said::Denied { status, headers, body }) => {
                let reason = format!("provider {} refused", provider.name);
                Err(refuse(status, headers, Some(body), details::EXT_AUTHZ_DENIED, reason))
            }
            Err(why) if provider.fail_open => {
                tracing::debug!(%why, provider = %provider.name, "let through without an answer");
                Ok(None)
            }
            Err(why) => {
                let reason = format!("provider {} gave no answer: {why}", provider.name);
                Err(refuse(provider.status_on_error, Vec::new(), None, details::EXT_AUTHZ_ERROR, reason))
            }
        }
    }
}

/// The beginning of the body for the check, and how long all of it is as far as that is known; the body itself loses nothing.
async fn checked_body(wanted: Option<CheckedBody>, body: &mut Incoming) -> Result<(Option<(Bytes, CheckedBody)>, usize), &'static str> {
    let Some(wanted) = wanted else { return Ok((None, 0)) };
    let most = usize::try_from(wanted.bytes_max).unwrap_or(usize::MAX).min(CHECKED_BODY_BYTES_MAX);
    let mut read = BytesMut::new();
    let mut frames = Vec::new();
    while read.len() <= most {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| "the request's body broke off")?;
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(data);
        }
        frames.push(frame);
    }
    let size = read.len();
    body.put_back(frames);
    if size > most {
        if !wanted.partial {
            return Err("the request's body is longer than the check may hold");
        }
        read.truncate(most);
    }
    Ok((Some((read.freeze(), wanted)), size))
}

async fn ask(
    conn: &Rc<Connection>,
    config: &Config,
    provider: &ExternalAuthorization,
    parts: &Parts,
    target: &Target,
    body: Option<(Bytes, CheckedBody)>,
    size: usize,
) -> Result<Said, String> {
    let name = provider.cluster.as_ref().ok_or("it does not exist")?;
    let upstream = config.upstreams.get(name).ok_or("its service is not known here")?;
    let call = match &provider.protocol {
        ExternalProtocol::Grpc { request_headers } => {
            let question = messages::question(conn, parts, target, request_headers, body, size);
            SideCall::grpc(messages::PATH, &name.host, question)
        }
        ExternalProtocol::Http { .. } => http_call(provider, parts, target, body)?,
    };
    let answer = side_call(&conn.worker, upstream, call, SIDE_ANSWER_BYTES_MAX);
    let answer = match tokio::time::timeout(Duration::from_millis(provider.timeout_ms), answer).await {
        Ok(answer) => answer.map_err(|reject| reject.words())?,
        Err(_) => return Err(format!("no answer within {} ms", provider.timeout_ms)),
    };
    match &provider.protocol {
        ExternalProtocol::Grpc { .. } => messages::answer(&answer),
        ExternalProtocol::Http { .. } => http_answer(provider, answer),
    }
}

/// The request's own method and path, with the headers that the provider may see.
fn http_call(
    provider: &ExternalAuthorization,
    parts: &Parts,
    target: &Target,
    body: Option<(Bytes, CheckedBody)>,
) -> Result<SideCall, String> {
    let ExternalProtocol::Http { path_prefix, request_headers, additional_headers, .. } = &provider.protocol else {
        return Err("it is not asked over HTTP".into());
    };
    let path = format!("{path_prefix}{}", target.path).try_into().map_err(|_| "its pathPrefix is not legal")?;
    let authority = HeaderValue::try_from(target.authority.as_str()).map_err(|_| "the authority is not legal")?;
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        if is_of(request_headers, name) && !is_framing(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    for (name, value) in additional_headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let body = body.map(|(bytes, _)| bytes).unwrap_or_default();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok(SideCall::http(parts.method.clone(), path, authority, headers, body))
}

fn http_answer(provider: &ExternalAuthorization, answer: SideAnswer) -> Result<Said, String> {
    let ExternalProtocol::Http { to_upstream, to_downstream_on_allow, to_downstream_on_deny, .. } = &provider.protocol else {
        return Err("it is not asked over HTTP".into());
    };
    let of = |list: &[StringMatch]| -> Vec<(HeaderName, HeaderValue)> {
        let wanted = answer.headers.iter().filter(|(name, _)| is_of(list, name) && is_settable(name));
        wanted.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    match answer.status.as_u16() {
        200 => Ok(Said::Allowed(Edits {
            set: of(to_upstream).into_iter().map(|(name, value)| (name, value, false)).collect(),
            remove: Vec::new(),
            downstream: of(to_downstream_on_allow),
        })),
        status @ 500.. => Err(format!("it answered {status}")),
        status => {
            // No list: the answer goes to the caller as it is.
            let headers = if to_downstream_on_deny.is_empty() { of(&[StringMatch::Present]) } else { of(to_downstream_on_deny) };
            Ok(Said::Denied { status, headers, body: answer.body })
        }
    }
}

fn is_of(list: &[StringMatch], name: &HeaderName) -> bool {
    list.iter().any(|m| m.matches(name.as_str()))
}

fn is_framing(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE, header::TE, header::TRAILER, header::EXPECT]
        .contains(name)
}

/// Headers that a service may set: not what was judged already, what frames the message, or what only proxies say.
pub(super) fn is_settable(name: &HeaderName) -> bool {
    !is_framing(name) && *name != header::HOST && !name.as_str().starts_with("x-weft-")
}

fn apply(edits: Edits, parts: &mut Parts, exchange: &mut Exchange) {
    for name in edits.remove {
        while parts.headers.remove(&name).is_some() {}
    }
    for (name, value, append) in edits.set {
        if append {
            parts.headers.append(name, value);
        } else {
            parts.headers.insert(name, value);
        }
    }
    exchange.answer_headers.extend(edits.downstream);
}
