//! Trust boundaries: which headers of a request may come from whom, and whose address the client's is.
//!
//! What only the mesh may say (`x-weft-*`, `x-envoy-*`, `x-forwarded-*`) never comes in from outside: neither a policy nor the program
//! sees it. Over mutual TLS the peer's proxy is believed: it takes `x-weft-*` and client certificates out of what its program says, and
//! passes on the program's own `x-envoy-*` and `x-forwarded-*`.

use super::{Connection, Scope, headers};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;
use weft_model::{ClientCertificateDetails as Details, ProxySettings};

/// Removes what must not come from outside, and sets what the next hop may rely on. Returns the address of the client, behind the
/// proxies that are believed.
pub(crate) fn sanitize(conn: &Connection, settings: &ProxySettings, map: &mut HeaderMap) -> IpAddr {
    headers::strip_weft(map);
    let peer_ip = conn.peer_address.ip().to_canonical();
    match &conn.scope {
        Scope::Outbound { .. } => {
            map.remove(headers::FORWARDED_CLIENT_CERT);
            map.entry(headers::FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
            peer_ip
        }
        // A proxy of the mesh took out what its own side may not say: what is left, a gateway has seen.
        Scope::Inbound { .. } if conn.peer.is_some() => {
            let details = settings.client_certificate_details.unwrap_or(Details::AppendForward);
            if matches!(details, Details::Sanitize | Details::SanitizeSet) {
                map.remove(headers::FORWARDED_CLIENT_CERT);
            }
            peer_ip
        }
        // In plain text nobody is believed.
        Scope::Inbound { .. } => {
            outside(map, settings);
            insert(map, headers::FORWARDED_FOR, &peer_ip.to_string());
            map.insert(headers::FORWARDED_PROTO, HeaderValue::from_static("http"));
            peer_ip
        }
        Scope::Gateway { .. } => at_edge(conn, settings, map, peer_ip),
    }
}

fn at_edge(conn: &Connection, settings: &ProxySettings, map: &mut HeaderMap, peer_ip: IpAddr) -> IpAddr {
    let believed = if settings.trusted_proxies > 0 { addresses(map) } else { Vec::new() };
    let proto = map.get(headers::FORWARDED_PROTO).filter(|p| settings.trusted_proxies > 0 && (*p == "http" || *p == "https")).cloned();
    let details = settings.client_certificate_details.unwrap_or(Details::SanitizeSet);
    let mutual = conn.client.is_some();
    let keep = match details {
        Details::AlwaysForwardOnly => true,
        Details::ForwardOnly | Details::AppendForward => mutual,
        Details::Sanitize | Details::SanitizeSet => false,
    };
    let certificate = map.get(headers::FORWARDED_CLIENT_CERT).cloned().filter(|_| keep);
    outside(map, settings);
    let list = believed.iter().map(|(text, _)| text.as_str()).chain([peer_ip.to_string().as_str()]).collect::<Vec<_>>().join(", ");
    insert(map, headers::FORWARDED_FOR, &list);
    map.insert(headers::FORWARDED_PROTO, proto.unwrap_or(HeaderValue::from_static(conn.scheme())));
    match certificate {
        Some(value) => drop(map.insert(headers::FORWARDED_CLIENT_CERT, value)),
        None => drop(map.remove(headers::FORWARDED_CLIENT_CERT)),
    }
    if matches!(details, Details::SanitizeSet | Details::AppendForward)
        && let Some(value) = conn.client.as_ref().and_then(|c| HeaderValue::from_str(&c.forwarded).ok())
    {
        map.append(headers::FORWARDED_CLIENT_CERT, value);
    }
    // Each believed proxy has added the address of its own client: the one that the outermost added is the client's.
    let hops = usize::try_from(settings.trusted_proxies).unwrap_or(usize::MAX);
    match believed.len().checked_sub(hops).and_then(|at| believed.get(at)) {
        Some((_, Some(ip))) if hops > 0 => ip.to_canonical(),
        _ => peer_ip,
    }
}

/// All of `x-forwarded-for`, the nearest last. What is no address stays as text and is nobody's.
fn addresses(map: &HeaderMap) -> Vec<(String, Option<IpAddr>)> {
    let values = map.get_all(headers::FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok());
    let parts = values.flat_map(|v| v.split(',')).map(str::trim).filter(|text| !text.is_empty());
    parts.map(|text| (text.to_owned(), text.trim_matches(['[', ']']).parse().ok())).collect()
}

/// Takes out what nobody outside may say.
fn outside(map: &mut HeaderMap, settings: &ProxySettings) {
    let keep_certificate = settings.client_certificate_details == Some(Details::AlwaysForwardOnly);
    let told = |name: &HeaderName| is_mesh_only(name) && !(keep_certificate && *name == headers::FORWARDED_CLIENT_CERT);
    while let Some(name) = map.keys().find(|n| told(n)).cloned() {
        map.remove(name);
    }
}

/// Takes out of an answer what is for the mesh only.
pub(crate) fn sanitize_answer(conn: &Connection, map: &mut HeaderMap) {
    headers::strip_weft(map);
    if conn.is_gateway() {
        while let Some(name) = map.keys().find(|n| n.as_str().starts_with("x-envoy-")).cloned() {
            map.remove(name);
        }
    }
}

fn insert(map: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        map.insert(name, value);
    }
}

/// Headers that only the mesh may set.
fn is_mesh_only(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || name.starts_with("x-envoy-") || name == "forwarded" || name == "x-real-ip"
}

/// Tells the program whose certificate the caller showed, as the mode says.
pub(crate) fn adds_certificate(settings: &ProxySettings) -> bool {
    match settings.client_certificate_details {
        None | Some(Details::AppendForward | Details::SanitizeSet) => true,
        Some(Details::Sanitize | Details::ForwardOnly | Details::AlwaysForwardOnly) => false,
    }
}
