//! Active health checks: what is asked of an endpoint, how often, and what answer is good.

use crate::Origin;
use serde::{Deserialize, Serialize};

/// How the endpoints of a cluster are asked for their health (BackendPolicy `healthCheck`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Time between two questions, in milliseconds; up to a tenth more or less by chance.
    pub interval_ms: u64,
    /// Longest wait for the answer, in milliseconds.
    pub timeout_ms: u64,
    /// Good answers in a row that make an unhealthy endpoint healthy.
    pub healthy_threshold: u32,
    /// Bad answers in a row that make a healthy endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Where it was written.
    pub origin: Origin,
}

/// The question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// `GET` of a path.
    Http(HttpProbe),
    /// A connection.
    Tcp,
    /// `grpc.health.v1.Health/Check` of a service; empty for the whole server.
    Grpc(String),
}

/// An HTTP question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// Path, with query.
    pub path: String,
    /// `Host`; empty: the service's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Good statuses, as ranges with both ends; empty: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<(u16, u16)>,
    /// Further headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

impl HttpProbe {
    /// Is it a good status?
    pub fn accepts(&self, status: u16) -> bool {
        match self.statuses.is_empty() {
            true => (200..400).contains(&status),
            false => self.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status)),
        }
    }
}

/// The request message of `Health/Check`, framed (gRPC over HTTP/2): one field, the service's name.
pub fn grpc_check_request(service: &str) -> Vec<u8> {
    let name = service.as_bytes();
    let name = name.get(..name.len().min(127)).unwrap_or_default();
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend([0x0a, u8::try_from(name.len()).unwrap_or(127)]);
        message.extend(name);
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    framed.extend(message);
    framed
}

/// Does the framed answer say `SERVING`?
pub fn grpc_says_serving(body: &[u8]) -> bool {
    // Field 1, varint: 1 is SERVING. Nothing else is in the message.
    body.get(5..).is_some_and(|message| message.windows(2).any(|pair| pair == [0x08, 0x01]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let mut probe = HttpProbe { path: "/".into(), host: String::new(), statuses: Vec::new(), headers: Vec::new() };
        assert!(probe.accepts(204) && probe.accepts(302) && !probe.accepts(404));
        probe.statuses = vec![(404, 404), (500, 510)];
        assert!(probe.accepts(404) && probe.accepts(503) && !probe.accepts(200));
    }

    #[test]
    fn grpc_messages() {
        assert_eq!(grpc_check_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(grpc_check_request("a"), [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        assert!(grpc_says_serving(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(!grpc_says_serving(&[0, 0, 0, 0, 2, 8, 2]) && !grpc_says_serving(&[0, 0, 0, 0, 0]));
    }
}
