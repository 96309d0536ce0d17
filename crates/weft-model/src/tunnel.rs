//! Tunnels: connections that reach their target through a proxy outside (DestinationRule `tunnel`).

use serde::{Deserialize, Serialize};

/// How the proxy outside is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// `CONNECT`, or `POST` for proxies that want it.
    pub method: TunnelMethod,
    /// Host of the target.
    pub host: String,
    /// Port of the target.
    pub port: u16,
}

/// Method of the request that opens a tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TunnelMethod {
    /// RFC 9110, section 9.3.6.
    #[default]
    Connect,
    /// The same with another word.
    Post,
}

impl TunnelMethod {
    /// As it stands in the request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Post => "POST",
        }
    }
}
