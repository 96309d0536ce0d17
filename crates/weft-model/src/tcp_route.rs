//! Routing of connections whose bytes are not read: by port and SNI.

use crate::{HostPattern, Origin, Target};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Host under which the connection rules of a gateway's own ports stand in its view (`tcp-routes/gateway/<port>`).
pub const GATEWAY_TCP_HOST: &str = "gateway";

/// Where connections of one service port go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// Names in TLS that this entry is for; empty: any, and plain TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<HostPattern>,
    /// Blocks, in one of which the called address must be; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<IpNet>,
    /// Blocks, in one of which the caller's address must be; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNet>,
    /// Weighted targets.
    pub targets: Vec<Target>,
    /// Where it was written.
    pub origin: Origin,
}

/// What is known of a connection when its rule is looked for.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionHead<'a> {
    /// Server name of its TLS, if it has one.
    pub sni: Option<&'a str>,
    /// Address that it called.
    pub destination: IpAddr,
    /// Address that it comes from.
    pub source: IpAddr,
}

impl TcpRoute {
    /// Does a connection take the entry?
    pub fn matches(&self, connection: &ConnectionHead<'_>) -> bool {
        let within = |blocks: &[IpNet], address: IpAddr| blocks.is_empty() || blocks.iter().any(|b| b.contains(&address.to_canonical()));
        let name = connection.sni.map(str::to_ascii_lowercase);
        (self.sni.is_empty() || name.is_some_and(|name| self.sni.iter().any(|p| p.matches(&name))))
            && within(&self.destinations, connection.destination)
            && within(&self.sources, connection.source)
    }
    /// Does it ask nothing?
    pub fn catches_all(&self) -> bool {
        self.sni.is_empty() && self.destinations.is_empty() && self.sources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_an_entry_asks_must_hold() {
        let net = |text: &str| text.parse::<IpNet>().expect(text);
        let route = TcpRoute {
            sni: vec!["*.example.com".parse().expect("a pattern")],
            destinations: vec![net("10.0.0.0/8"), net("2001:db8::/32")],
            sources: Vec::new(),
            targets: Vec::new(),
            origin: Origin::default(),
        };
        let matches = |sni, to: &str| {
            route.matches(&ConnectionHead { sni, destination: to.parse().expect(to), source: "192.0.2.1".parse().expect("an address") })
        };
        assert!(matches(Some("a.Example.com"), "10.1.2.3"));
        assert!(matches(Some("a.example.com"), "::ffff:10.1.2.3"), "an IPv4 address in IPv6 form is the same address");
        assert!(matches(Some("a.example.com"), "2001:db8::1"));
        assert!(!matches(Some("a.example.com"), "11.0.0.1") && !matches(None, "10.1.2.3") && !matches(Some("example.com"), "10.1.2.3"));
    }
}
