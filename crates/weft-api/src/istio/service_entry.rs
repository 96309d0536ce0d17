//! `ServiceEntry`: a service that the registry does not know by itself.

use super::{LabelSelector, WorkloadEntry};
use crate::read::Spanned;

object! {
    /// `networking.istio.io ServiceEntry`: a service that the registry does not know by itself.
    pub struct ServiceEntry {
        /// Names; a wildcard prefix is allowed, a bare `*` is not.
        hosts: Vec<Spanned<String>> = "hosts",
        /// Virtual addresses or blocks.
        addresses: Vec<Spanned<String>> = "addresses",
        /// Ports.
        ports: Vec<Spanned<ServiceEntryPort>> = "ports",
        /// In the mesh or outside; absent: outside.
        location: Option<ServiceEntryLocation> = "location",
        /// How endpoints are found; absent: `NONE`.
        resolution: Option<Resolution> = "resolution",
        /// Endpoints.
        endpoints: Vec<Spanned<WorkloadEntry>> = "endpoints",
        /// Pods and WorkloadEntries of the same namespace that are its endpoints.
        workload_selector: Option<LabelSelector> = "workloadSelector",
        /// Namespaces that see it.
        export_to: Vec<String> = "exportTo",
        /// Names that its servers may prove.
        subject_alt_names: Vec<String> = "subjectAltNames",
    }
}

object! {
    /// A port of a service entry.
    pub struct ServiceEntryPort {
        /// Number.
        number: u16 = "number",
        /// Name.
        name: String = "name",
        /// `HTTP`, `HTTPS`, `GRPC`, `HTTP2`, `MONGO`, `TCP` or `TLS`.
        protocol: Option<Spanned<String>> = "protocol",
        /// Port of the endpoints; absent: the same.
        target_port: Option<u16> = "targetPort",
    }
}

choice! {
    /// Is the service part of the mesh?
    pub enum ServiceEntryLocation {
        /// Outside.
        MeshExternal = "MESH_EXTERNAL",
        /// Inside.
        MeshInternal = "MESH_INTERNAL",
    }
}

choice! {
    /// How endpoints are found.
    pub enum Resolution {
        /// The address that the caller wanted.
        None = "NONE",
        /// The listed endpoints.
        Static = "STATIC",
        /// By DNS.
        Dns = "DNS",
        /// By DNS, one address at a time.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// By DNS, of the name in the request.
        DynamicDns = "DYNAMIC_DNS",
    }
}
