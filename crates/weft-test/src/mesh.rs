//! The mesh of a fixture: resources parsed, workloads registered, all linked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_api::Diagnostic;
use weft_compile::{Inputs, Mesh, Projection, ProxyIdentity, ProxyRole, RegisteredPort, RegisteredWorkload, link, project};
use weft_model::{Labels, Origin, Protocol, Root, SpiffeId, Workload};

/// A linked mesh with the proxies of its workloads.
pub(crate) struct Running {
    pub(crate) mesh: Mesh,
    pub(crate) diagnostics: Vec<Diagnostic>,
    proxies: BTreeMap<String, ProxyIdentity>,
}

impl Running {
    /// Parses and links.
    pub(crate) fn start(yaml: &str, file: &str, first_line: u32, workloads: &str) -> Self {
        let parsed = weft_api::parse_at(yaml, file, first_line);
        let mut proxies = BTreeMap::new();
        let mut registered = Vec::new();
        for (index, line) in (0u16..).zip(workloads.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'))) {
            let (workload, role) = workload(line, 20_000 + index * 10);
            let w = &workload.workload;
            proxies.insert(
                w.name.clone(),
                ProxyIdentity {
                    workload_id: w.id.clone(),
                    namespace: w.namespace.clone(),
                    labels: w.labels.clone(),
                    identity: w.identity.clone(),
                    role,
                },
            );
            registered.push(workload);
        }
        let documents = parsed.documents.into_iter().map(Arc::new).collect();
        let linked = link(&Inputs { documents, workloads: registered, ..Inputs::default() });
        let mut diagnostics = parsed.diagnostics;
        diagnostics.extend(linked.diagnostics);
        diagnostics.sort_by_key(|d| d.origin.line);
        Self { mesh: linked.mesh, diagnostics, proxies }
    }
    /// The view of a workload's proxy.
    pub(crate) fn project(&self, who: &str, roots: &[&str]) -> Option<Projection> {
        let proxy = self.proxies.get(who)?;
        let roots: BTreeSet<Root> = roots.iter().map(|r| Root::Host((*r).into())).collect();
        Some(project(&self.mesh, proxy, &roots))
    }
    /// A workload's proxy.
    pub(crate) fn proxy(&self, who: &str) -> Option<&ProxyIdentity> {
        self.proxies.get(who)
    }
    /// Is it a gateway?
    pub(crate) fn is_gateway(&self, who: &str) -> bool {
        self.proxies.get(who).is_some_and(|p| p.role == ProxyRole::Gateway)
    }
}

/// `reviews-v2 ns=default sa=reviews app=reviews version=v2 port=9080/http:web role=gateway unhealthy`.
fn workload(line: &str, listener: u16) -> (RegisteredWorkload, ProxyRole) {
    let mut words = line.split_whitespace();
    let name = words.next().expect("a name").to_owned();
    let mut locality = String::new();
    let (mut namespace, mut account, mut role, mut healthy) = ("default".to_owned(), None, ProxyRole::Sidecar, true);
    let mut labels = Labels::new();
    let mut ports = Vec::new();
    for word in words {
        match word.split_once('=') {
            None if word == "unhealthy" => healthy = false,
            Some(("ns", value)) => namespace = value.into(),
            Some(("locality", value)) => locality = value.into(),
            Some(("sa", value)) => account = Some(value.to_owned()),
            Some(("role", "gateway")) => role = ProxyRole::Gateway,
            Some(("port", value)) => ports.push(port(value, listener + u16::try_from(ports.len()).expect("few ports"))),
            Some((key, value)) => drop(labels.insert(key.into(), value.into())),
            None => labels.extend([(word.to_owned(), String::new())]),
        }
    }
    let account = account.or_else(|| labels.get("app").cloned()).unwrap_or_else(|| name.clone());
    let workload = Workload {
        id: format!("{namespace}/{name}"),
        identity: SpiffeId::new("cluster.local", &namespace, &account).expect("a legal account"),
        name,
        namespace,
        labels,
        locality,
        origin: Origin::built_in("weft run"),
    };
    (RegisteredWorkload { workload, ports, healthy }, role)
}

/// `9080`, `9080/http`, `9080/http:web`.
fn port(text: &str, listener: u16) -> RegisteredPort {
    let (text, name) = text.split_once(':').unwrap_or((text, ""));
    let (number, protocol) = text.split_once('/').unwrap_or((text, ""));
    RegisteredPort {
        port: number.parse().expect("a port number"),
        address: ([127, 0, 0, 1], listener).into(),
        protocol: Protocol::from_name(protocol).unwrap_or_default(),
        name: name.into(),
    }
}
