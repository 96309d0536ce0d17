//! `Service`, `ServiceAccount` and `Namespace`.

use crate::node::{Node, Value};
use crate::read::{Path, Read, Reader, Spanned};
use std::collections::BTreeMap;

object! {
    /// `v1 Service`: a host with ports, and the pods behind it.
    pub struct Service {
        /// Labels of its pods; empty: it has none of its own choice.
        selector: BTreeMap<String, String> = "selector",
        /// Ports.
        ports: Vec<Spanned<ServicePort>> = "ports",
        /// Virtual address; `None` is a headless service.
        cluster_ip: Option<String> = "clusterIP",
        /// All virtual addresses.
        cluster_ips: Vec<String> = "clusterIPs",
        /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
        kind: Option<String> = "type",
        /// The name that an `ExternalName` service stands for.
        external_name: Option<String> = "externalName",
        /// Which endpoints callers prefer.
        traffic_distribution: Option<TrafficDistribution> = "trafficDistribution",
    }
    later ["externalIPs", "sessionAffinity", "sessionAffinityConfig", "publishNotReadyAddresses"]
    inert [
        "allocateLoadBalancerNodePorts", "externalTrafficPolicy", "healthCheckNodePort", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy",
        "loadBalancerClass", "loadBalancerIP", "loadBalancerSourceRanges",
    ]
}

choice! {
    /// Which endpoints callers prefer.
    pub enum TrafficDistribution {
        /// Old name of `PreferSameZone`.
        PreferClose = "PreferClose",
        /// Of their own zone.
        PreferSameZone = "PreferSameZone",
        /// Of their own node.
        PreferSameNode = "PreferSameNode",
    }
}

object! {
    /// A port of a service.
    pub struct ServicePort {
        /// Name; may be absent when it is the only one.
        name: Option<String> = "name",
        /// Number.
        port: u16 = "port",
        /// Port of the pods; absent: the same.
        target_port: Option<TargetPort> = "targetPort",
        /// `TCP`, `UDP` or `SCTP`; absent: `TCP`.
        protocol: Option<String> = "protocol",
        /// What is spoken, e.g. `http` or `kubernetes.io/h2c`.
        app_protocol: Option<String> = "appProtocol",
    }
    inert ["nodePort"]
}

/// A port of a pod, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(String),
}

impl Read for TargetPort {
    fn read(node: &Node, at: &Path<'_>, reader: &mut Reader) -> Option<Self> {
        match &node.value {
            Value::Text { text, .. } => Some(Self::Name(text.clone())),
            _ => u16::read(node, at, reader).map(Self::Number),
        }
    }
}

object! {
    /// `v1 ServiceAccount`: an identity that workloads may have. Its name is all that matters.
    pub struct ServiceAccount {}
    open true
}

object! {
    /// `v1 Namespace`: its labels and annotations are in the metadata.
    pub struct Namespace {}
    open true
}
