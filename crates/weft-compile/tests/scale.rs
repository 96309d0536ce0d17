//! Many services: linking stays linear, and the same inputs in another order give the same views. `WEFT_SCALE=10000` measures.

use std::{fmt::Write, sync::Arc};
use weft_compile::{Inputs, ProxyIdentity, ProxyRole, RegisteredPort, RegisteredWorkload, link, project};
use weft_model::{Origin, Protocol, Root, SpiffeId, Workload};

fn workload(index: usize) -> RegisteredWorkload {
    let name = format!("s{index}");
    RegisteredWorkload {
        workload: Workload {
            id: format!("default/{name}-v1"),
            name: format!("{name}-v1"),
            namespace: "default".into(),
            identity: SpiffeId::new("cluster.local", "default", &name).expect("legal"),
            labels: [("app".to_owned(), name), ("version".to_owned(), "v1".to_owned())].into(),
            locality: String::new(),
            origin: Origin::built_in("weft run"),
        },
        ports: vec![RegisteredPort { port: 80, address: ([127, 0, 0, 1], 20_000).into(), protocol: Protocol::Http, name: String::new() }],
        healthy: true,
    }
}

fn inputs(count: usize) -> Inputs {
    let mut yaml = String::new();
    for i in 0..count {
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{selector: {{app: s{i}}}, ports: [{{port: 80, name: http}}]}}\n"
        );
        if i % 10 == 0 {
            let _ = write!(
                yaml,
                "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: s{i}}}\nspec: {{hosts: [s{i}], http: [{{route: [{{destination: {{host: s{i}, subset: v1}}}}]}}]}}\n\
                 ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: s{i}}}\nspec: {{host: s{i}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}\n"
            );
        }
    }
    // In pieces: a text has a limit on its documents.
    let parts: Vec<&str> = yaml.split("---\n").filter(|p| !p.is_empty()).collect();
    let documents = parts.chunks(500).flat_map(|chunk| weft_api::parse(&chunk.join("---\n"), "scale.yaml").documents);
    Inputs { documents: documents.map(Arc::new).collect(), workloads: (0..count).map(workload).collect(), ..Inputs::default() }
}

#[test]
#[allow(clippy::print_stderr, reason = "a measurement, when asked for")]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test measures")]
fn many_services() {
    let count = std::env::var("WEFT_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let mut inputs = inputs(count);
    let start = std::time::Instant::now();
    let linked = link(&inputs);
    let took = start.elapsed();
    assert_eq!(linked.diagnostics, vec![]);
    assert_eq!(linked.mesh.services.len(), count);
    let proxy = ProxyIdentity {
        workload_id: "default/s1-v1".into(),
        namespace: "default".into(),
        labels: workload(1).workload.labels,
        identity: workload(1).workload.identity,
        role: ProxyRole::Sidecar,
    };
    let roots = (0..count.min(20)).map(|i| Root::Host(format!("s{i}"))).collect();
    let start = std::time::Instant::now();
    let first = project(&linked.mesh, &proxy, &roots);
    if std::env::var_os("WEFT_SCALE").is_some() {
        eprintln!("{count} services: link {took:?}, project {} roots {:?}", roots.len(), start.elapsed());
    }
    inputs.workloads.reverse();
    let again = link(&inputs);
    assert_eq!(project(&again.mesh, &proxy, &roots), first);
}
