//! WebSocket, and CONNECT, where one side speaks HTTP/2 (RFC 8441): at the two doors it is turned into HTTP/1.1's form and back,
//! so that routing and policies know one form only.
//!
//! HTTP/1.1 proves by `Sec-WebSocket-Key` and `-Accept` that the server understood (RFC 6455 §4); HTTP/2 has no such thing. A key
//! is therefore made where HTTP/1.1 begins, and its answer checked there. The frames themselves are passed on untouched.

use super::{
    Connection,
    body::{Incoming, RequestBody, ResponseBody},
    pool::{SendError, SendErrorKind},
    reject::Reject,
    serve,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use sha1::{Digest as _, Sha1};
use std::rc::Rc;
use weft_wire::http2::{self, Protocol, SendRequest, Tunnel, tunnel};

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;
/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Serves a request that came by HTTP/2.
pub(crate) async fn serve_http2(conn: Rc<Connection>, mut request: Request<http2::Body>) -> Response<ResponseBody> {
    if request.method() != Method::CONNECT {
        return serve::serve(conn, request.map(Incoming::H2)).await;
    }
    match request.extensions_mut().remove::<Protocol>() {
        // Boxed: rare.
        None => Box::pin(plain_connect(conn, request)).await,
        Some(Protocol(protocol)) if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") => Box::pin(websocket(conn, request)).await,
        Some(_) => {
            let mut response = Response::new(ResponseBody::local(Bytes::from_static(b"of all protocols only websocket is served\n"), None));
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
            response
        }
    }
}

/// RFC 9113 §8.5.
async fn plain_connect(conn: Rc<Connection>, request: Request<http2::Body>) -> Response<ResponseBody> {
    let (writer, outgoing) = tunnel();
    let request = request.map(|body| Incoming::Tunnel(Some(Box::new(Tunnel::new(body, writer)))));
    let response = serve::serve(conn, request).await;
    if response.status().is_success() { response.map(|_| ResponseBody::tunnel(outgoing)) } else { response }
}

/// RFC 8441 §5.
async fn websocket(conn: Rc<Connection>, request: Request<http2::Body>) -> Response<ResponseBody> {
    let (writer, outgoing) = tunnel();
    let mut request = request.map(|body| Incoming::Tunnel(Some(Box::new(Tunnel::new(body, writer)))));
    *request.method_mut() = Method::GET;
    let nonce = [conn.worker.random().to_be_bytes(), conn.worker.random().to_be_bytes()].concat();
    let key = STANDARD.encode(nonce);
    let expected = accept(key.as_bytes());
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(KEY, key);
    }
    let mut response = serve::serve(conn, request).await;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    if headers.remove(ACCEPT).is_none_or(|accept| accept != expected) {
        let words = Bytes::from_static(b"the upstream answered the WebSocket handshake wrongly\n");
        response.headers_mut().clear();
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return response.map(|_| ResponseBody::local(words, None));
    }
    *response.status_mut() = StatusCode::OK;
    response.map(|_| ResponseBody::tunnel(outgoing))
}

/// Makes an upgrade that is to be sent by HTTP/2 an extended CONNECT. The key stays until [`send`] has read it.
pub(super) fn ask_by_http2(request: &mut Request<RequestBody>, upgrade: HeaderValue) -> Result<(), Reject> {
    if !upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return Err(Reject::BadRequest("of all upgrades only websocket passes to HTTP/2"));
    }
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol(HeaderValue::from_static("websocket")));
    Ok(())
}

/// Sends by HTTP/2; what opens a tunnel is answered as HTTP/1.1 would.
pub(super) async fn send(
    sender: &SendRequest<RequestBody>,
    mut request: Box<Request<RequestBody>>,
) -> Result<Response<Incoming>, SendError> {
    if request.extensions().get::<Protocol>().is_none() {
        return answered(sender.send(request).await);
    }
    sender.settings().await;
    if sender.takes_extended_connect() == Some(false) {
        let words = "the upstream takes no extended CONNECT (RFC 8441)".into();
        return Err(SendError { unsent: None, kind: SendErrorKind::Protocol, words });
    }
    let expected = request.headers_mut().remove(KEY).map(|key| accept(key.as_bytes()));
    let (writer, outgoing) = tunnel();
    *request.body_mut() = RequestBody::Tunnel(outgoing);
    let response = sender.send(request).await;
    let mut response = match response {
        Ok(response) if response.status() == StatusCode::OK => {
            response.map(|body| Incoming::Tunnel(Some(Box::new(Tunnel::new(body, writer)))))
        }
        other => return answered(other),
    };
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(expected) = expected {
        response.headers_mut().insert(ACCEPT, expected);
    }
    Ok(response)
}

fn answered(outcome: Result<Response<http2::Body>, http2::SendError<RequestBody>>) -> Result<Response<Incoming>, SendError> {
    match outcome {
        Ok(response) => Ok(response.map(Incoming::H2)),
        Err(error) => Err(SendError { unsent: error.unsent, ..SendError::of_http2(&error.reason) }),
    }
}

/// RFC 6455 §4.2.2.
fn accept(key: &[u8]) -> HeaderValue {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::from_str(&STANDARD.encode(hash)).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6455_1_3_the_example() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
