//! Virtual addresses: a service without an address of its own gets one from 240.240.0.0/16, the same in every run.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

/// Addresses that may be given: 240.240.0.1 to 240.240.255.254 (class E: never routed, so never anybody else's).
const VIRTUAL_ADDRESSES: u32 = 0xfffe;

/// Hands out virtual addresses. Ask in the order of hosts, so that the answer does not depend on who came first.
#[derive(Debug, Default)]
pub(crate) struct VirtualAddresses {
    taken: BTreeSet<IpAddr>,
}

impl VirtualAddresses {
    /// Takes an address that a user wrote out of the pool.
    pub(crate) fn reserve(&mut self, address: IpAddr) {
        self.taken.insert(address);
    }
    /// The address of `host`: its hash, or the next free one. `None` when all are taken.
    pub(crate) fn allocate(&mut self, host: &str) -> Option<IpAddr> {
        let digest = Sha256::digest(host.as_bytes());
        let start = digest.iter().take(4).fold(0u32, |sum, b| (sum << 8) | u32::from(*b)) % VIRTUAL_ADDRESSES;
        (0..VIRTUAL_ADDRESSES)
            .map(|step| {
                let [_, _, high, low] = ((start + step) % VIRTUAL_ADDRESSES + 1).to_be_bytes();
                IpAddr::V4(Ipv4Addr::new(240, 240, high, low))
            })
            .find(|address| self.taken.insert(*address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_and_distinct() {
        let mut a = VirtualAddresses::default();
        let mut b = VirtualAddresses::default();
        let first = a.allocate("reviews.default.svc.cluster.local").expect("free");
        assert_eq!(Some(first), b.allocate("reviews.default.svc.cluster.local"));
        let mut c = VirtualAddresses::default();
        c.reserve(first);
        assert_ne!(Some(first), c.allocate("reviews.default.svc.cluster.local"));
        let all = (0..=u16::MAX).map(|low| IpAddr::V4(Ipv4Addr::from(0xf0f0_0000 + u32::from(low))));
        let mut full = VirtualAddresses { taken: all.collect() };
        assert_eq!(full.allocate("one-too-many"), None);
        let mut all = VirtualAddresses::default();
        assert_eq!((0..2000).filter_map(|i| all.allocate(&format!("s{i}"))).collect::<BTreeSet<_>>().len(), 2000);
    }
}
