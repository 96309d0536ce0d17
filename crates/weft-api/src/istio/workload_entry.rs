//! `WorkloadEntry`: a workload that is not a pod.

use std::collections::BTreeMap;

object! {
    /// `networking.istio.io WorkloadEntry`: a workload that is not a pod; also an endpoint of a ServiceEntry.
    pub struct WorkloadEntry {
        /// IP, DNS name, or `unix:///path`.
        address: Option<String> = "address",
        /// Port of the workload by the port name of the service.
        ports: BTreeMap<String, u16> = "ports",
        /// Labels.
        labels: BTreeMap<String, String> = "labels",
        /// Network.
        network: Option<String> = "network",
        /// `region/zone/subzone`.
        locality: Option<String> = "locality",
        /// Share; absent: 1.
        weight: Option<u32> = "weight",
        /// Account, in the same namespace, that is its identity.
        service_account: Option<String> = "serviceAccount",
    }
    later ["network"]
}
