//! Clusters whose endpoints are names: how a proxy turns them into addresses.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How names are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DnsUse {
    /// Every address is an endpoint (ServiceEntry `DNS`).
    #[default]
    Strict,
    /// One address at a time, the next for each new connection (ServiceEntry `DNS_ROUND_ROBIN`).
    Logical,
}

/// Which addresses a name may stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DnsTrust {
    /// No address of this machine or link: who owns the name must not reach what only neighbours may.
    #[default]
    Outside,
    /// Any: the name is declared to be one of the mesh.
    Any,
}

/// May `address` be used for a name with this trust?
pub fn address_is_trusted(trust: DnsTrust, address: IpAddr) -> bool {
    let near = match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    match address.to_canonical() {
        // Nothing can be connected to these, whoever says so.
        IpAddr::V4(v4) if v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() => false,
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => false,
        _ => trust == DnsTrust::Any || !near,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_never_leads_to_this_machine_or_link() {
        for (address, outside, any) in [
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, true),
            ("fe80::1", false, true),
            ("0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("::", false, false),
            ("10.0.0.1", true, true),
            ("2001:db8::1", true, true),
        ] {
            let ip = address.parse().expect("an address");
            assert_eq!((address_is_trusted(DnsTrust::Outside, ip), address_is_trusted(DnsTrust::Any, ip)), (outside, any), "{address}");
        }
    }
}
