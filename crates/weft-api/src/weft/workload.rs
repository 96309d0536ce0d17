//! `Workload`: an instance that is declared rather than started by `weft run`.

use crate::read::Spanned;
use std::collections::BTreeMap;

object! {
    /// `weft.dev/v1alpha1 Workload`: a running instance, its address, ports and identity.
    pub struct Workload {
        /// Account, in the namespace of the resource, that is its identity; absent: `default`.
        service_account: Option<String> = "serviceAccount",
        /// IP or DNS name; absent: it is registered when it starts.
        address: Option<Spanned<String>> = "address",
        /// Labels, besides those of the metadata.
        labels: BTreeMap<String, String> = "labels",
        /// Ports of the program.
        ports: Vec<Spanned<WorkloadPort>> = "ports",
        /// `region/zone/subzone`.
        locality: Option<String> = "locality",
        /// Share of the traffic of its services; absent: 1.
        weight: Option<u32> = "weight",
    }
}

object! {
    /// A port of a workload.
    pub struct WorkloadPort {
        /// Number.
        port: u16 = "port",
        /// Name, for services that name their target port.
        name: Option<String> = "name",
        /// What is spoken, e.g. `http`, `grpc` or `tcp`; absent: found out on each connection.
        protocol: Option<String> = "protocol",
    }
}
