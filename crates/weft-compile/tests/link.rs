//! Linking and projecting a small mesh, through the public functions only.

use std::{collections::BTreeSet, sync::Arc};
use weft_compile::{Inputs, ProxyIdentity, ProxyRole, RegisteredPort, RegisteredWorkload, RootState, link, project};
use weft_model::{ModelValue, Origin, Protocol, Root, SpiffeId, Workload};

fn workload(name: &str, app: &str, version: &str, port: u16, listener: u16) -> RegisteredWorkload {
    let labels = [("app", app), ("version", version)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    RegisteredWorkload {
        workload: Workload {
            id: format!("default/{name}"),
            name: name.into(),
            namespace: "default".into(),
            identity: SpiffeId::new("cluster.local", "default", app).expect("legal"),
            labels: labels.into_iter().collect(),
            locality: String::new(),
            origin: Origin::built_in("weft run"),
        },
        ports: vec![RegisteredPort {
            port,
            address: format!("127.0.0.1:{listener}").parse().expect("address"),
            protocol: Protocol::Auto,
            name: String::new(),
        }],
        healthy: true,
    }
}

fn inputs(yaml: &str, workloads: Vec<RegisteredWorkload>) -> Inputs {
    let parsed = weft_api::parse(yaml, "mesh.yaml");
    Inputs { documents: parsed.documents.into_iter().map(Arc::new).collect(), workloads, ..Inputs::default() }
}

fn sidecar(name: &str) -> ProxyIdentity {
    ProxyIdentity {
        workload_id: format!("default/{name}"),
        namespace: "default".into(),
        labels: [("app".to_owned(), "productpage".to_owned())].into(),
        identity: SpiffeId::new("cluster.local", "default", "productpage").expect("legal"),
        role: ProxyRole::Sidecar,
    }
}

#[test]
fn workloads_alone_make_a_mesh() {
    let all = vec![workload("reviews-v1", "reviews", "v1", 9080, 20001), workload("reviews-v2", "reviews", "v2", 9080, 20002)];
    let linked = link(&inputs("", all));
    let root = |text: &str| Root::Host(text.into());
    let roots: BTreeSet<Root> = [root("reviews"), root("reviews.default.svc.cluster.local"), root("nobody")].into();
    let projection = project(&linked.mesh, &sidecar("productpage-v1"), &roots);
    assert_eq!(projection.roots[&root("reviews")], RootState::Resolved("reviews.default.svc.cluster.local".into()));
    assert_eq!(projection.roots[&root("nobody")], RootState::Unknown);
    let names: Vec<String> = projection.view.values.keys().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "inbound",
            "service/reviews.default.svc.cluster.local",
            "routes/mesh/reviews.default.svc.cluster.local/9080",
            "tcp-routes/reviews.default.svc.cluster.local/9080",
            "cluster/outbound|9080||reviews.default.svc.cluster.local",
            "endpoints/outbound|9080||reviews.default.svc.cluster.local",
        ]
    );
    let service = projection.view.values.values().find_map(|v| match v.value.as_ref() {
        ModelValue::Service(s) => Some(s.clone()),
        _ => None,
    });
    let address = service.expect("the service").addresses[0].to_string();
    let by_address = project(&linked.mesh, &sidecar("productpage-v1"), &[root(&address)].into());
    assert_eq!(by_address.roots[&root(&address)], RootState::Resolved("reviews.default.svc.cluster.local".into()));
}

#[test]
fn subsets_follow_the_rules() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";
    let all = vec![workload("reviews-v1", "reviews", "v1", 9080, 20001), workload("reviews-v2", "reviews", "v2", 9080, 20002)];
    let linked = link(&inputs(yaml, all));
    assert_eq!(linked.diagnostics, vec![]);
    let projection = project(&linked.mesh, &sidecar("productpage-v1"), &[Root::Host("reviews".into())].into());
    let endpoints: Vec<(String, usize)> = projection
        .view
        .values
        .values()
        .filter_map(|v| match v.value.as_ref() {
            ModelValue::Endpoints(e) => Some((e.cluster.subset.clone(), e.endpoints.len())),
            _ => None,
        })
        .collect();
    assert_eq!(endpoints, [(String::new(), 2), ("v1".into(), 1), ("v2".into(), 1)]);
}
