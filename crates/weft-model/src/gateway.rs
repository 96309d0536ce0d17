//! Gateways: the listeners at the edge and what each host on them offers.

use crate::{GatewayTls, HostPattern, Labels, Origin, Protocol};
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
    /// How TLS is ended here; `None` when `protocol` is in the clear, and for TLS that is passed on by its server name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
    /// The server name of a connection names the cluster: `outbound_.<port>_.<subset>_.<host>` (`AUTO_PASSTHROUGH`).
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub auto_passthrough: bool,
    /// Every connection of the port begins with a PROXY protocol header.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub proxy_protocol: bool,
    /// Where it was written.
    pub origin: Origin,
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

/// The cluster that a server name of the form `outbound_.<port>_.<subset>_.<host>` names.
pub fn cluster_of_server_name(name: &str) -> Option<crate::ClusterName> {
    let mut parts = name.strip_prefix("outbound_.")?.splitn(3, "_.");
    let (port, subset, host) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let host: crate::Hostname = host.parse().ok()?;
    Some(crate::ClusterName { host: host.to_string(), port, subset: subset.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_of_clusters() {
        let name = |text| cluster_of_server_name(text).map(|c| c.to_string());
        assert_eq!(name("outbound_.9080_.v1_.a.b.svc.x").as_deref(), Some("outbound|9080|v1|a.b.svc.x"));
        assert_eq!(name("outbound_.80_._.a.b").as_deref(), Some("outbound|80||a.b"));
        for wrong in ["a.b", "outbound_.x_._.a", "outbound_.80_.a", "outbound_.80_._.", "outbound_.80_._.a|b"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }
}
