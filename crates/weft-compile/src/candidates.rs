//! What a selector can choose: registered workloads, and workloads whose address is written down (WorkloadEntry, Workload).

use crate::{
    RegisteredPort, RegisteredWorkload,
    catalog::plain_endpoint,
    diag,
    link::Linker,
    mesh::{DeclaredWorkload, ServiceEndpoint},
};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};
use weft_api::{Resource, istio, kubernetes};
use weft_model::{EndpointAddress, Labels, Origin, selects};

/// Something that a selector can choose.
#[derive(Debug, Clone)]
pub(crate) enum Candidate {
    /// A proxy registered it; with the container port names that a Deployment declares for it.
    Registered(Box<RegisteredWorkload>, Vec<(String, u16)>),
    /// Somebody wrote its address down.
    Written(WrittenWorkload),
}

/// A workload with a written address.
#[derive(Debug, Clone)]
pub(crate) struct WrittenWorkload {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) address: String,
    /// Ports by name.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) weight: u32,
    pub(crate) locality: String,
}

impl Candidate {
    fn namespace(&self) -> &str {
        match self {
            Self::Registered(r, _) => &r.workload.namespace,
            Self::Written(w) => &w.namespace,
        }
    }
    fn labels(&self) -> &Labels {
        match self {
            Self::Registered(r, _) => &r.workload.labels,
            Self::Written(w) => &w.labels,
        }
    }
}

/// All candidates, found by one label of a selector.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    all: Vec<Candidate>,
    by_label: BTreeMap<(String, String, String), Vec<usize>>,
    by_namespace: BTreeMap<String, Vec<usize>>,
}

impl Candidates {
    /// Everything that `inputs` has.
    pub(crate) fn collect(linker: &mut Linker<'_>) -> Self {
        let declared = declared_by_label(&linker.mesh.declared);
        let registered = |r: &RegisteredWorkload| Candidate::Registered(Box::new(r.clone()), container_ports(&declared, r));
        let mut all: Vec<Candidate> = linker.inputs.workloads.iter().map(registered).collect();
        for (_, document, entry) in linker.documents(|r| if let Resource::WorkloadEntry(e) = r { Some(e) } else { None }) {
            let written = WrittenWorkload::from_entry(&document.meta.name, &document.meta.namespace, entry, &document.meta.labels);
            all.extend(written.checked(linker, &document.origin).map(Candidate::Written));
        }
        for (_, document, spec) in linker.documents(|r| if let Resource::Workload(w) = r { Some(w) } else { None }) {
            let Some(address) = &spec.address else { continue };
            let mut labels = document.meta.labels.clone();
            labels.extend(spec.labels.clone());
            let written = WrittenWorkload {
                name: document.meta.name.clone(),
                namespace: document.meta.namespace.clone(),
                labels,
                address: address.value.clone(),
                ports: spec.ports.iter().filter_map(|p| Some((p.name.clone()?, p.port))).collect(),
                weight: spec.weight.unwrap_or(1),
                locality: spec.locality.clone().unwrap_or_default(),
            };
            all.extend(written.checked(linker, &address.origin(&document.origin)).map(Candidate::Written));
        }
        let mut found = Self { all, ..Self::default() };
        for (index, candidate) in found.all.iter().enumerate() {
            let namespace = candidate.namespace().to_owned();
            for (key, value) in candidate.labels() {
                found.by_label.entry((namespace.clone(), key.clone(), value.clone())).or_default().push(index);
            }
            found.by_namespace.entry(namespace).or_default().push(index);
        }
        found
    }
    /// Those in `namespace` that have all labels of `selector`.
    pub(crate) fn select(&self, namespace: &str, selector: &Labels) -> Vec<&Candidate> {
        let lists = selector.iter().map(|(k, v)| self.by_label.get(&(namespace.to_owned(), k.clone(), v.clone())));
        // The label that the fewest have decides how many are looked at.
        let shortest = match selector.is_empty() {
            true => self.by_namespace.get(namespace),
            false => lists.min_by_key(|list| list.map_or(0, |l| l.len())).flatten(),
        };
        shortest.into_iter().flatten().filter_map(|i| self.all.get(*i)).filter(|c| selects(selector, c.labels())).collect()
    }
}

/// What a service port asks of a workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    /// By number …
    pub(crate) number: Option<u16>,
    /// … or by the workload's port name.
    pub(crate) name: Option<&'a str>,
    /// Name of the service's port, which a WorkloadEntry may map.
    pub(crate) port_name: Option<&'a str>,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number, self.name) {
            (Some(number), _) => write!(f, "{number}"),
            (None, name) => f.write_str(name.unwrap_or_default()),
        }
    }
}

impl Target<'_> {
    /// The port of a registered workload: by number, by its own port name, or by the container port name that a Deployment declares.
    pub(crate) fn registered_port<'r>(&self, registered: &'r RegisteredWorkload, named: &[(String, u16)]) -> Option<&'r RegisteredPort> {
        let by_number = |number: u16| registered.ports.iter().find(|p| p.port == number);
        if let Some(number) = self.number {
            return by_number(number);
        }
        let name = self.name?;
        let own = registered.ports.iter().find(|p| p.name == name);
        own.or_else(|| named.iter().filter(|(n, _)| n == name).find_map(|(_, number)| by_number(*number)))
    }
}

/// Declared workloads by namespace and their first label, so that each registered workload looks at few.
type ByLabel<'a> = BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a DeclaredWorkload>>;

fn declared_by_label(declared: &[DeclaredWorkload]) -> ByLabel<'_> {
    let mut index = ByLabel::new();
    for workload in declared.iter().filter(|d| d.ports.iter().any(|(name, _)| !name.is_empty())) {
        if let Some((key, value)) = workload.labels.first_key_value() {
            index.entry((&workload.namespace, key, value)).or_default().push(workload);
        }
    }
    index
}

/// Named ports of the containers that a registered workload runs, as its Deployment declares them.
fn container_ports(declared: &ByLabel<'_>, registered: &RegisteredWorkload) -> Vec<(String, u16)> {
    let workload = &registered.workload;
    let near = workload.labels.iter().filter_map(|(k, v)| declared.get(&(workload.namespace.as_str(), k.as_str(), v.as_str())));
    near.flatten().filter(|d| selects(&d.labels, &workload.labels)).flat_map(|d| d.ports.clone()).collect()
}

impl WrittenWorkload {
    /// From a WorkloadEntry or the endpoint of a ServiceEntry.
    pub(crate) fn from_entry(name: &str, namespace: &str, entry: &istio::WorkloadEntry, labels: &Labels) -> Self {
        let mut labels = labels.clone();
        labels.extend(entry.labels.clone());
        Self {
            name: name.into(),
            namespace: namespace.into(),
            labels,
            address: entry.address.clone().unwrap_or_default(),
            ports: entry.ports.clone(),
            weight: entry.weight.unwrap_or(1),
            locality: entry.locality.clone().unwrap_or_default(),
        }
    }
    /// Itself, when its address can be used.
    pub(crate) fn checked(self, linker: &mut Linker<'_>, origin: &Origin) -> Option<Self> {
        let legal = match self.address.strip_prefix("unix://") {
            Some(path) => path.len() > 1 && path.len() < 100 && path.starts_with(['/', '@']) && self.ports.is_empty(),
            None => self.address.parse::<weft_model::Hostname>().is_ok() && !self.address.starts_with("unix:"),
        };
        if !legal {
            linker.report(diag::bad_address(origin.clone(), &self.address));
        }
        legal.then_some(self)
    }
    /// Its endpoint for a service port.
    pub(crate) fn endpoint(&self, target: &Target<'_>, number: u16) -> Option<ServiceEndpoint> {
        let mapped = [target.port_name, target.name].into_iter().flatten().find_map(|name| self.ports.get(name).copied());
        let port = mapped.or(target.number).unwrap_or(number);
        let bare = self.address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(&self.address);
        let address = match bare.parse::<IpAddr>() {
            Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port)),
            Err(_) if self.address.starts_with("unix://") => EndpointAddress::Unix { path: self.address["unix://".len()..].to_owned() },
            Err(_) => EndpointAddress::Name { host: self.address.to_ascii_lowercase(), port },
        };
        let endpoint = weft_model::Endpoint {
            workload_name: self.name.clone(),
            namespace: self.namespace.clone(),
            version: self.labels.get("version").cloned().unwrap_or_default(),
            weight: self.weight,
            locality: self.locality.clone(),
            ..plain_endpoint(address)
        };
        Some(ServiceEndpoint { endpoint, labels: self.labels.clone() })
    }
}

/// Workloads that Deployments, Pods and Workloads declare.
pub(crate) fn declare(linker: &mut Linker<'_>) {
    for (_, document, deployment) in linker.documents(|r| if let Resource::Deployment(d) = r { Some(d) } else { None }) {
        let labels = deployment.template.metadata.as_ref().map(|m| m.labels.clone()).unwrap_or_default();
        let pod = deployment.template.spec.as_ref().map(|s| &s.value);
        let declared = declared_pod(document, labels, pod);
        linker.mesh.declared.push(declared);
    }
    for (_, document, pod) in linker.documents(|r| if let Resource::Pod(p) = r { Some(p) } else { None }) {
        let declared = declared_pod(document, document.meta.labels.clone(), Some(pod));
        linker.mesh.declared.push(declared);
    }
    for (_, document, spec) in linker.documents(|r| if let Resource::Workload(w) = r { Some(w) } else { None }) {
        let mut labels = document.meta.labels.clone();
        labels.extend(spec.labels.clone());
        linker.mesh.declared.push(DeclaredWorkload {
            name: document.meta.name.clone(),
            namespace: document.meta.namespace.clone(),
            service_account: spec.service_account.clone().unwrap_or_else(|| "default".into()),
            labels,
            ports: spec.ports.iter().map(|p| (p.name.clone().unwrap_or_default(), p.port)).collect(),
            origin: document.origin.clone(),
        });
    }
}

fn declared_pod(document: &weft_api::Document, labels: Labels, pod: Option<&kubernetes::Pod>) -> DeclaredWorkload {
    let ports = pod.into_iter().flat_map(|p| &p.containers).flat_map(|c| &c.ports);
    DeclaredWorkload {
        name: document.meta.name.clone(),
        namespace: document.meta.namespace.clone(),
        service_account: pod.map_or("default", kubernetes::Pod::account).to_owned(),
        labels,
        ports: ports.map(|p| (p.name.clone().unwrap_or_default(), p.container_port)).collect(),
        origin: document.origin.clone(),
    }
}
