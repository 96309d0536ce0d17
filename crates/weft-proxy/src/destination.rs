//! Which service a call is for, and which rule of it the request takes.

use crate::{
    control::Needed,
    http::{Connection, Reject, Scope, Target, request_head},
    limits::{NEED_TIMEOUT, UNKNOWN_KEPT, UNKNOWN_MAX},
    snapshot::Snapshot,
    worker::{Config, Worker},
};
use http::request::Parts;
use std::{net::IpAddr, rc::Rc, sync::Arc};
use weft_model::{HttpRoute, Redirect, RedirectPort, Root, RouteAction, Service};
use weft_std::clock;

/// A rule, and the configuration that it was found in (a cold miss brings a newer one).
pub(crate) struct Found {
    pub config: Rc<Config>,
    pub route: Arc<HttpRoute>,
    /// Host of the service, where one is known already.
    pub service: Option<Arc<Service>>,
}

/// The rule for a request at a sidecar's outbound side or at a gateway.
pub(crate) async fn route(conn: &Connection, config: Rc<Config>, parts: &Parts, target: &Target) -> Result<Found, Reject> {
    match &conn.scope {
        Scope::Gateway { port, edge, .. } => {
            if edge.as_ref().is_some_and(|edge| !edge.borrow().leads_to(conn.sni.as_deref(), &target.host)) {
                return Err(Reject::Misdirected(target.host.clone()));
            }
            gateway_route(conn, config, parts, target, *port)
        }
        Scope::Outbound { port, service, proxy } => {
            let port = if *proxy { target.port.unwrap_or(80) } else { *port };
            mesh_route(conn, config, parts, target, port, service.as_ref()).await
        }
        Scope::Inbound { .. } => Err(Reject::NoRoute(target.host.clone())),
    }
}

fn gateway_route(conn: &Connection, config: Rc<Config>, parts: &Parts, target: &Target, port: u16) -> Result<Found, Reject> {
    let listeners = config.snapshot.gateway.as_ref().map(|g| g.listeners.as_slice()).unwrap_or_default();
    let here = listeners.iter().filter(|l| l.port == port && l.hosts.iter().any(|h| h.matches(&target.host)));
    if conn.scheme() == "http"
        && let Some(listener) = here.clone().find(|l| l.https_redirect)
    {
        let redirect = Redirect { status: 301, scheme: Some("https".into()), host: None, port: RedirectPort::FromScheme, path: None };
        let route = HttpRoute { action: RouteAction::Redirect(redirect), ..HttpRoute::new("https-redirect", listener.origin.clone()) };
        return Ok(Found { route: Arc::new(route), service: None, config });
    }
    // A listener answers its hosts only, even where a route would take more.
    if here.clone().next().is_none() {
        return Err(Reject::NoRoute(target.host.clone()));
    }
    let route = config.snapshot.gateway_routes(port).and_then(|table| table.find(&request_head(conn, parts, target, &target.host)));
    match route.cloned() {
        Some(route) => Ok(Found { route, service: None, config }),
        None => Err(Reject::NoRoute(target.host.clone())),
    }
}

/// A known service that answers to `Host` on this port; else the service whose address was called; else nothing.
async fn mesh_route(
    conn: &Connection,
    mut config: Rc<Config>,
    parts: &Parts,
    target: &Target,
    port: u16,
    called: Option<&Arc<Service>>,
) -> Result<Found, Reject> {
    let answers =
        |service: &Arc<Service>| service.host.as_str() == target.host || service.aliases.iter().any(|a| a.as_str() == target.host);
    let service = match called {
        Some(called) if answers(called) => config.snapshot.service(called.host.as_str()).unwrap_or(called).clone(),
        _ => {
            let (found, newer) = find_service(&conn.worker, config, &target.host).await;
            config = newer;
            let by_host = found.filter(|s| s.port(port).is_some());
            by_host.or_else(|| called.cloned()).ok_or_else(|| Reject::UnknownHost(target.authority.clone()))?
        }
    };
    if service.port(port).is_none() {
        return Err(Reject::UnknownHost(format!("{}:{port}", target.host)));
    }
    let host = service.host.as_str();
    let route = match config.snapshot.service_routes(host, port) {
        None => Some(Arc::new(Snapshot::default_route(&service, port))),
        Some(table) => {
            let named = table.find(&request_head(conn, parts, target, host));
            named.or_else(|| table.find(&request_head(conn, parts, target, &target.host))).cloned()
        }
    };
    match route {
        Some(route) => Ok(Found { service: Some(service), route, config }),
        None => Err(Reject::NoRoute(target.host.clone())),
    }
}

/// A service by name or address: from the snapshot, else by asking the control plane once.
pub(crate) async fn find_service(worker: &Rc<Worker>, config: Rc<Config>, host: &str) -> (Option<Arc<Service>>, Rc<Config>) {
    let look = |config: &Config| match host.parse::<IpAddr>() {
        Ok(address) => config.snapshot.service_at(address).or_else(|| config.snapshot.service(host)).cloned(),
        Err(_) => config.snapshot.service(host).cloned(),
    };
    if let Some(service) = look(&config) {
        return (Some(service), config);
    }
    let now = clock::now();
    if worker.unknown.borrow().get(host).is_some_and(|until| *until > now) {
        return (None, config);
    }
    // Boxed: rare.
    let needed = Box::pin(worker.shared.needs.need(Root::Host(host.to_owned()), NEED_TIMEOUT)).await;
    let config = worker.config();
    match needed {
        Needed::Resolved(full) => (look(&config).or_else(|| config.snapshot.service(&full).cloned()), config),
        // Without an answer nothing is known for a while either: a program must not wait again for each of its requests.
        Needed::Unknown | Needed::Timeout => {
            if let Some(service) = look(&config) {
                return (Some(service), config);
            }
            let mut unknown = worker.unknown.borrow_mut();
            if unknown.len() >= UNKNOWN_MAX {
                unknown.clear();
            }
            unknown.insert(host.to_owned(), clock::now() + UNKNOWN_KEPT);
            (None, config)
        }
    }
}
