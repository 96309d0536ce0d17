//! Fallback: another backend, or a fixed answer, in place of one that failed.

use crate::{
    http::{Connection, Exchange, Head, HttpVersion, Reject, inner_version, rewrite_for},
    upstream::Upstream,
    worker::Config,
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header};
use std::rc::Rc;
use weft_balance::Overflow;
use weft_model::{BackendFailure, Fallback, FallbackTo, HttpRoute, RouteAction, Target};
use weft_telemetry::{ResponseFlag, details};

/// Another backend, ready to take over.
pub(crate) struct SecondBackend<'a> {
    pub fallback: &'a Fallback,
    pub target: &'a Target,
    pub upstream: Rc<Upstream>,
    pub version: HttpVersion,
    /// What the next proxy is told of this one, when the backend is in the mesh.
    pub introduction: Option<HeaderValue>,
}

impl<'a> SecondBackend<'a> {
    /// That of the route, where it has one.
    pub(crate) fn of(conn: &Connection, config: &Config, route: &'a HttpRoute, came: Version, grpc: bool) -> Option<Self> {
        let fallback = route.fallback.as_deref()?;
        let FallbackTo::Backend(target) = &fallback.to else { return None };
        let weft_model::Backend::Cluster(name) = &target.backend else { return None };
        let upstream = config.upstreams.get(name)?.clone();
        let version = inner_version(upstream.protocol(), came, grpc, false, conn.is_gateway());
        let introduction = config.own_header.clone().filter(|_| upstream.is_mesh());
        Some(Self { fallback, target, upstream, version, introduction })
    }

    /// Does it take over after this failure? What the first may have acted on goes on only if it is idempotent, or was named.
    pub(crate) fn takes_over(&self, failure: Option<BackendFailure>, unsent: bool, course: &crate::http::Course) -> bool {
        let Some(failure) = failure else { return false };
        let named = matches!(failure, BackendFailure::Status(status) if self.fallback.on.names(status));
        let unsent = unsent || matches!(failure, BackendFailure::NoEndpoint | BackendFailure::Connect | BackendFailure::Overflow);
        !course.fell && self.fallback.on.covers(failure) && (unsent || named || weft_model::is_idempotent(&course.method))
    }

    /// Makes the request the second backend's.
    pub(crate) fn prepare(&self, head: &mut Head) -> Result<(), Reject> {
        match &self.introduction {
            Some(own) => drop(head.headers.insert(crate::http::PEER, own.clone())),
            None => drop(head.headers.remove(crate::http::PEER)),
        }
        rewrite_for(self.target, head)
    }
}

/// What kind of failure a refusal is of; `None` when the backend has nothing to do with it.
pub(crate) fn failure(reject: &Reject) -> Option<BackendFailure> {
    Some(match reject {
        Reject::NoEndpoint { .. } | Reject::NoCluster(_) | Reject::InvalidBackend { .. } => BackendFailure::NoEndpoint,
        Reject::Overflow { what: Overflow::Connections | Overflow::Pending | Overflow::Requests | Overflow::Retries, .. } => {
            BackendFailure::Overflow
        }
        Reject::Connect(_) | Reject::Tls(_) => BackendFailure::Connect,
        Reject::Reset(_) | Reject::Protocol(_) => BackendFailure::Reset,
        Reject::Timeout { .. } | Reject::Idle(_) => BackendFailure::Timeout,
        _ => return None,
    })
}

/// The fixed answer of the route, if it stands for this failure.
pub(crate) fn answer(route: &HttpRoute, failure: Option<BackendFailure>, exchange: &mut Exchange) -> Option<Response<Bytes>> {
    let fallback = route.fallback.as_deref()?;
    let FallbackTo::Respond { status, body, headers } = &fallback.to else { return None };
    if !matches!(route.action, RouteAction::Forward(_)) || !fallback.on.covers(failure?) {
        return None;
    }
    let mut response = Response::new(Bytes::from_owner(body.0.clone()));
    *response.status_mut() = StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    if !body.0.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    headers.apply(response.headers_mut());
    exchange.record.flags.push(ResponseFlag::Fallback);
    exchange.record.details = details::FALLBACK.into();
    exchange.record.cause = Some(fallback.origin.clone());
    Some(response)
}
