//! Gateways: the listeners at the edge and what each host on them offers.

use crate::{HostPattern, Labels, Origin, Protocol};
use serde::{Deserialize, Serialize};

/// One port of a gateway proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayListener {
    /// Name in the object, e.g. `http`.
    pub name: String,
    /// Port as written; the process may map it (an ordinary user cannot open port 80).
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Hosts that it answers.
    pub hosts: Vec<HostPattern>,
    /// Answer every request with a redirect to https.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub https_redirect: bool,
    /// Certificate to present; `None` when `protocol` is in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
    /// Where it was written.
    pub origin: Origin,
}

/// Server TLS at the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayTls {
    /// Certificate chain, PEM.
    pub certificate_pem: String,
    /// Private key, PEM. Sent to gateways that serve it only.
    pub private_key_pem: String,
}

/// All listeners of one gateway proxy, chosen by its labels. Routes per port are `RouteTable`s named by [`crate::RouteTableName`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayListeners {
    /// Labels of the proxy that they are for.
    #[serde(default)]
    pub labels: Labels,
    /// The listeners, by port then name.
    pub listeners: Vec<GatewayListener>,
}
