//! What a route changes of a request, and the answers that it gives itself.

use super::{Reject, upstream::Head};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use weft_model::{DirectBody, HttpRoute, PathRewrite, RequestHead};

/// The route's edits, then the destination's. A path that the destination gives replaces the route's: both are of the path that came.
pub(crate) fn rewrite(route: &HttpRoute, chosen: &weft_model::Target, head: &mut Head) -> Result<(), Reject> {
    if let Some(path) = chosen.rewrite.path.as_ref().or(route.rewrite.path.as_ref()) {
        rewrite_path(path, head)?;
    }
    if let Some(authority) = chosen.rewrite.authority.as_ref().or(route.rewrite.authority.as_ref()) {
        head.authority = HeaderValue::from_str(authority).map_err(|_| Reject::BadRequest("the rewritten authority is not legal"))?;
    }
    for edits in [&route.request_headers, &chosen.request_headers] {
        edits.apply(&mut head.headers);
        // An edit of Host means the authority.
        if let Some(authority) = edits.authority() {
            head.authority = authority.clone();
        }
    }
    Ok(())
}

/// The changes of one destination alone, to a request that was rewritten already.
pub(crate) fn rewrite_for(target: &weft_model::Target, head: &mut Head) -> Result<(), Reject> {
    if let Some(path) = &target.rewrite.path {
        rewrite_path(path, head)?;
    }
    if let Some(authority) = &target.rewrite.authority {
        head.authority = HeaderValue::from_str(authority).map_err(|_| Reject::BadRequest("the rewritten authority is not legal"))?;
    }
    target.request_headers.apply(&mut head.headers);
    if let Some(authority) = target.request_headers.authority() {
        head.authority = authority.clone();
    }
    Ok(())
}

fn rewrite_path(path: &PathRewrite, head: &mut Head) -> Result<(), Reject> {
    let new = path.apply(head.path.path()).ok_or(Reject::BadRequest("the rewritten path would be too long"))?;
    let new = if new.starts_with('/') { new } else { format!("/{new}") };
    let whole = match head.path.query() {
        Some(query) if new.contains('?') => format!("{new}&{query}"),
        Some(query) => format!("{new}?{query}"),
        None => new,
    };
    head.path = whole.try_into().map_err(|_| Reject::BadRequest("the rewritten path is not legal"))?;
    Ok(())
}

/// Answers with a redirect.
pub(crate) fn redirect(to: &weft_model::Redirect, request: &RequestHead<'_>, port: u16) -> Result<Response<Bytes>, Reject> {
    let location = to.location(request, port).ok_or(Reject::BadRequest("the redirect's location would be too long"))?;
    let location = HeaderValue::from_str(&location).map_err(|_| Reject::BadRequest("the redirect's location is not legal"))?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(to.status).unwrap_or(StatusCode::FOUND);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Answers with what the configuration holds.
pub(crate) fn respond(route: &HttpRoute, status: u16, body: &DirectBody) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_owner(body.0.clone()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !body.0.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    route.response_headers.apply(response.headers_mut());
    response
}
