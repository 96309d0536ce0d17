//! What is linked: documents, registered workloads and the settings of the mesh.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use weft_api::Document;
use weft_model::{Protocol, Workload};

/// Everything that `link` reads. The same inputs always give the same mesh.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Parsed documents, oldest first: where two contradict each other, the earlier wins.
    pub documents: Vec<Arc<Document>>,
    /// Workloads that a proxy has registered.
    pub workloads: Vec<RegisteredWorkload>,
    /// Settings.
    pub settings: MeshSettings,
    /// Texts of key sets by the address that they were asked from ([`crate::KeySource`]), or why there is none.
    pub key_sets: Arc<BTreeMap<String, Result<Arc<str>, String>>>,
}

/// Settings of the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshSettings {
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// Namespace whose selector-less policies and DestinationRules hold for all namespaces.
    pub root_namespace: String,
    /// DNS suffix of services.
    pub cluster_domain: String,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self { trust_domain: "cluster.local".into(), root_namespace: "istio-system".into(), cluster_domain: "cluster.local".into() }
    }
}

impl MeshSettings {
    /// The host of a service: `reviews.default.svc.cluster.local`.
    pub fn service_host(&self, name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.cluster_domain)
    }
}

/// A running workload, as its proxy registered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredWorkload {
    /// Who it is.
    pub workload: Workload,
    /// Where it listens.
    pub ports: Vec<RegisteredPort>,
    /// False when its health check fails or it drains.
    pub healthy: bool,
}

/// One port of a registered workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredPort {
    /// Port of the program.
    pub port: u16,
    /// Inbound listener of its proxy for that port.
    pub address: SocketAddr,
    /// What it speaks.
    #[serde(default)]
    pub protocol: Protocol,
    /// Name; empty when unnamed.
    #[serde(default)]
    pub name: String,
}
