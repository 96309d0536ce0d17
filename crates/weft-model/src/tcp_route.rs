//! Routing of connections whose bytes are not read: by port and SNI.

use crate::{HostPattern, Origin, Target};
use serde::{Deserialize, Serialize};

/// Where connections of one service port go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Names in TLS that this entry is for; empty: any, and plain TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<HostPattern>,
    /// Weighted targets.
    pub targets: Vec<Target>,
    /// Where it was written.
    pub origin: Origin,
}

impl TcpRoute {
    /// Does a connection with this SNI take the entry?
    pub fn matches(&self, sni: Option<&str>) -> bool {
        self.sni.is_empty() || sni.is_some_and(|name| self.sni.iter().any(|p| p.matches(name)))
    }
}
