//! Messages of `envoy.service.auth.v3.Authorization`, as far as they are used. Written by hand: of the protocol only this is needed.

use super::external_authorization::{Edits, Said, is_settable};
use crate::http::{Connection, SideAnswer, Target};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Version, request::Parts};
use prost::Message as _;
use std::{collections::HashMap, net::SocketAddr};
use weft_model::{CheckedBody, StringMatch};

pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field:meta])* $field_name:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct $name { $($(#[$field])* $field_name: $type,)* }
    )*};
}

messages! {
    CheckRequest {
        #[prost(message, optional, tag = "1")]
        attributes: Option<Attributes>,
    }
    Attributes {
        #[prost(message, optional, tag = "1")]
        source: Option<PeerMessage>,
        #[prost(message, optional, tag = "2")]
        destination: Option<PeerMessage>,
        #[prost(message, optional, tag = "4")]
        request: Option<RequestMessage>,
        #[prost(message, optional, tag = "12")]
        tls_session: Option<TlsSession>,
    }
    TlsSession {
        #[prost(string, tag = "1")]
        sni: String,
    }
    PeerMessage {
        #[prost(message, optional, tag = "1")]
        address: Option<Address>,
        #[prost(string, tag = "4")]
        principal: String,
    }
    Address {
        #[prost(message, optional, tag = "1")]
        socket_address: Option<SocketAddressMessage>,
    }
    SocketAddressMessage {
        #[prost(string, tag = "2")]
        address: String,
        #[prost(uint32, tag = "3")]
        port_value: u32,
    }
    RequestMessage {
        #[prost(message, optional, tag = "2")]
        http: Option<HttpRequest>,
    }
    HttpRequest {
        #[prost(string, tag = "1")]
        id: String,
        #[prost(string, tag = "2")]
        method: String,
        #[prost(map = "string, string", tag = "3")]
        headers: HashMap<String, String>,
        #[prost(string, tag = "4")]
        path: String,
        #[prost(string, tag = "5")]
        host: String,
        #[prost(string, tag = "6")]
        scheme: String,
        #[prost(string, tag = "7")]
        query: String,
        #[prost(int64, tag = "9")]
        size: i64,
        #[prost(string, tag = "10")]
        protocol: String,
        #[prost(string, tag = "11")]
        body: String,
        #[prost(bytes = "vec", tag = "12")]
        raw_body: Vec<u8>,
    }
    CheckResponse {
        #[prost(message, optional, tag = "1")]
        status: Option<RpcStatus>,
        #[prost(message, optional, tag = "2")]
        denied_response: Option<DeniedResponse>,
        #[prost(message, optional, tag = "3")]
        ok_response: Option<OkResponse>,
    }
    RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
    }
    DeniedResponse {
        #[prost(message, optional, tag = "1")]
        status: Option<HttpStatus>,
        #[prost(message, repeated, tag = "2")]
        headers: Vec<HeaderOption>,
        #[prost(string, tag = "3")]
        body: String,
    }
    HttpStatus {
        #[prost(int32, tag = "1")]
        code: i32,
    }
    OkResponse {
        #[prost(message, repeated, tag = "2")]
        headers: Vec<HeaderOption>,
        #[prost(string, repeated, tag = "5")]
        headers_to_remove: Vec<String>,
        #[prost(message, repeated, tag = "6")]
        response_headers_to_add: Vec<HeaderOption>,
    }
    HeaderOption {
        #[prost(message, optional, tag = "1")]
        header: Option<HeaderMessage>,
        #[prost(message, optional, tag = "2")]
        append: Option<BoolMessage>,
    }
    BoolMessage {
        #[prost(bool, tag = "1")]
        value: bool,
    }
    HeaderMessage {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(string, tag = "2")]
        value: String,
        #[prost(bytes = "vec", tag = "3")]
        raw_value: Vec<u8>,
    }
}

/// The framed question about a request.
pub(super) fn question(
    conn: &Connection,
    parts: &Parts,
    target: &Target,
    wanted: &[StringMatch],
    body: Option<(Bytes, CheckedBody)>,
    size: usize,
) -> Bytes {
    let mut headers: HashMap<String, String> = HashMap::new();
    for (name, value) in &parts.headers {
        if wanted.is_empty() || wanted.iter().any(|m| m.matches(name.as_str())) {
            // Several values are told as one, joined by commas, as in Envoy.
            let text = String::from_utf8_lossy(value.as_bytes());
            headers.entry(name.as_str().to_owned()).and_modify(|all| *all = format!("{all},{text}")).or_insert_with(|| text.into_owned());
        }
    }
    for (name, value) in [(":method", parts.method.as_str()), (":path", target.path.as_str()), (":authority", target.authority.as_str())] {
        headers.insert(name.into(), value.into());
    }
    let (text, raw) = match body {
        None => (String::new(), Vec::new()),
        Some((bytes, how)) if how.as_bytes => (String::new(), bytes.to_vec()),
        Some((bytes, _)) => (String::from_utf8_lossy(&bytes).into_owned(), Vec::new()),
    };
    let http = HttpRequest {
        id: headers.get("x-request-id").cloned().unwrap_or_default(),
        method: parts.method.to_string(),
        headers,
        path: target.path.to_string(),
        host: target.authority.clone(),
        scheme: conn.scheme().into(),
        query: target.path.query().unwrap_or_default().into(),
        size: i64::try_from(size).unwrap_or(-1),
        protocol: if parts.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }.into(),
        body: text,
        raw_body: raw,
    };
    let attributes = Attributes {
        source: Some(peer(conn.peer_address, conn.peer.as_ref().map(|p| p.id.to_string()).unwrap_or_default())),
        destination: Some(peer(conn.local_address, conn.worker.config().own.principal.clone())),
        request: Some(RequestMessage { http: Some(http) }),
        tls_session: conn.sni.clone().map(|sni| TlsSession { sni }),
    };
    framed(&CheckRequest { attributes: Some(attributes) })
}

fn peer(address: SocketAddr, principal: String) -> PeerMessage {
    let socket_address = SocketAddressMessage { address: address.ip().to_canonical().to_string(), port_value: address.port().into() };
    PeerMessage { address: Some(Address { socket_address: Some(socket_address) }), principal }
}

fn framed(request: &CheckRequest) -> Bytes {
    let length = request.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer of the right size takes all.
    request.encode(&mut bytes).ok();
    bytes.freeze()
}

/// What the service said. Only status OK lets through.
pub(super) fn answer(answer: &SideAnswer) -> Result<Said, String> {
    let message = answer.body.get(5..).filter(|_| answer.grpc_status() == Some(0) && answer.body.first() == Some(&0));
    let message = message.ok_or_else(|| format!("it failed (gRPC status {:?})", answer.grpc_status()))?;
    let said = CheckResponse::decode(message).map_err(|_| "its answer cannot be read")?;
    let status = said.status.ok_or("its answer has no status")?;
    if status.code == 0 {
        let ok = said.ok_response.unwrap_or_default();
        return Ok(Said::Allowed(Edits {
            set: ok.headers.iter().filter_map(|o| header(o).map(|(n, v)| (n, v, o.append.as_ref().is_some_and(|a| a.value)))).collect(),
            remove: ok.headers_to_remove.iter().filter_map(|n| n.parse().ok()).filter(is_settable).collect(),
            downstream: ok.response_headers_to_add.iter().filter_map(header).collect(),
        }));
    }
    let denied = said.denied_response.unwrap_or_default();
    let code = denied.status.as_ref().and_then(|s| u16::try_from(s.code).ok()).filter(|code| (200..600).contains(code) && *code != 200);
    let headers = denied.headers.iter().filter_map(header).collect();
    Ok(Said::Denied { status: code.unwrap_or(403), headers, body: denied.body.into() })
}

fn header(option: &HeaderOption) -> Option<(HeaderName, HeaderValue)> {
    let header = option.header.as_ref()?;
    let name: HeaderName = header.key.parse().ok()?;
    let value = if header.value.is_empty() { HeaderValue::from_bytes(&header.raw_value) } else { HeaderValue::from_str(&header.value) };
    Some((name, value.ok()?)).filter(|(name, _)| is_settable(name))
}
