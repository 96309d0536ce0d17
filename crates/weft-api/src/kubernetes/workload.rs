//! `Pod` and `Deployment`, as declarations of workloads: labels, ports and account. The rest of a pod is none of the mesh's business.

use crate::read::Spanned;
use std::collections::BTreeMap;

object! {
    /// `apps/v1 Deployment`: a template of pods. Labels of the workload are those of the template.
    pub struct Deployment {
        /// How many; absent: 1.
        replicas: Option<u32> = "replicas",
        /// The pods.
        template: PodTemplate = "template",
    }
    open true
}

object! {
    /// A template of pods.
    pub struct PodTemplate {
        /// Labels and annotations of each.
        metadata: Option<PodTemplateMeta> = "metadata",
        /// What each is.
        spec: Option<Spanned<Pod>> = "spec",
    }
    open true
}

object! {
    /// Labels and annotations of pods.
    pub struct PodTemplateMeta {
        /// Labels.
        labels: BTreeMap<String, String> = "labels",
        /// Annotations.
        annotations: BTreeMap<String, String> = "annotations",
    }
    open true
}

object! {
    /// `v1 Pod`, its `spec`.
    pub struct Pod {
        /// Account; absent: `default`.
        service_account_name: Option<String> = "serviceAccountName",
        /// Deprecated form of `service_account_name`.
        service_account: Option<String> = "serviceAccount",
        /// Containers.
        containers: Vec<Container> = "containers",
        /// Host name, where a headless service gives each pod a name of its own.
        hostname: Option<String> = "hostname",
    }
    open true
}

impl Pod {
    /// The account, with its default.
    pub fn account(&self) -> &str {
        self.service_account_name.as_deref().or(self.service_account.as_deref()).unwrap_or("default")
    }
}

object! {
    /// A container.
    pub struct Container {
        /// Name.
        name: Option<String> = "name",
        /// Ports.
        ports: Vec<Spanned<ContainerPort>> = "ports",
    }
    open true
}

object! {
    /// A port of a container.
    pub struct ContainerPort {
        /// Number.
        container_port: u16 = "containerPort",
        /// Name.
        name: Option<String> = "name",
        /// `TCP`, `UDP` or `SCTP`; absent: `TCP`.
        protocol: Option<String> = "protocol",
    }
    open true
}
