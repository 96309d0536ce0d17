//! Cross-origin rules: preflights are answered before anybody asks who the caller is (a browser sends no credentials with them).

use crate::{
    destination,
    http::{Connection, Target},
    worker::Config,
};
use bytes::Bytes;
use http::{Method, Response, header, request::Parts};
use std::{rc::Rc, sync::Arc};
use weft_model::{HttpRoute, Preflight, is_preflight};

/// The answer to a preflight, with the rule that gives it; `None` when the request goes on.
pub(crate) async fn preflight(
    conn: &Connection,
    config: &Rc<Config>,
    parts: &Parts,
    target: &Target,
) -> Option<(Response<Bytes>, Arc<HttpRoute>)> {
    if !is_preflight(&parts.method, &parts.headers) {
        return None;
    }
    // The rule for the question itself, else the one for the request that is asked about.
    let mut route = destination::route(conn, config.clone(), parts, target).await.ok().map(|found| found.route);
    if route.as_ref().is_none_or(|r| r.cors.is_none()) {
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut about = parts.clone();
        about.method = Method::from_bytes(asked.as_bytes()).ok()?;
        route = destination::route(conn, config.clone(), &about, target).await.ok().map(|found| found.route);
    }
    let route = route?;
    let Preflight::Answer(headers) = route.cors.as_ref()?.preflight(&parts.headers) else { return None };
    let mut response = Response::new(Bytes::new());
    response.headers_mut().extend(headers);
    Some((response, route))
}
