//! Workloads, traffic and proxies: catalogue, graph, services, health, checks.

use crate::{HOST, ROUTE_TO_V1, eventually, service, start};
use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
};
use weft_control::{CheckStatus, Control, HealthLevel, JoinGrant, Nack, NodeKind, ProxyRole, ProxyStatus, ResourceStatus};
use weft_model::{Protocol, Root, Workload};
use weft_std::clock;
use weft_telemetry::{EdgeAggregator, Party, Reporter, RequestRecord, ResponseFlag, TlsRecord};

async fn join(control: &Control, name: &str, version: &str) -> Workload {
    join_at(control, name, version, "127.0.0.1:15006".parse().expect("address")).await
}

async fn join_at(control: &Control, name: &str, version: &str, address: SocketAddr) -> Workload {
    let labels = [("app", name), ("version", version)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let workload = format!("{name}-{version}");
    let grant = JoinGrant { namespace: "default".into(), service_account: name.into(), workload, labels, ..JoinGrant::default() };
    let token = control.mint_join_token(&grant).await.expect("mints");
    let now_ms = clock::unix_ms();
    let grant = control.parts().tokens.redeem(&token.token, now_ms).await.expect("good");
    let workload = control.parts().registry.enrol(&grant, now_ms).await.expect("enrols");
    let port = weft_compile::RegisteredPort { port: 9080, address, protocol: Protocol::Http, name: "http".into() };
    control.parts().registry.register(workload.clone(), vec![port], true, ProxyRole::Sidecar, now_ms).await.expect("registers");
    workload
}

fn party(name: &str, version: &str) -> Party {
    Party {
        workload: format!("{name}-{version}"),
        namespace: "default".into(),
        service: name.into(),
        version: version.into(),
        principal: format!("spiffe://cluster.local/ns/default/sa/{name}"),
    }
}

/// A call of productpage to a version of reviews.
fn call(reporter: Reporter, id: &str, version: &str, status: u16, flags: &[ResponseFlag]) -> RequestRecord {
    let arrived = flags.is_empty();
    let peer = "spiffe://cluster.local/ns/default/sa/reviews".to_owned();
    let tls = TlsRecord { version: "TLSv1_3".into(), group: "X25519MLKEM768".into(), peer, peer_not_after_unix_s: 0 };
    RequestRecord {
        id: id.into(),
        reporter,
        start_unix_ms: clock::unix_ms(),
        duration_us: 3_000,
        protocol: "HTTP/1.1".into(),
        status,
        flags: flags.to_vec(),
        source: party("productpage", "v1"),
        destination: if arrived { party("reviews", version) } else { Party::default() },
        destination_service: HOST.into(),
        tls: arrived.then_some(tls),
        ..RequestRecord::default()
    }
}

fn report(control: &Control, records: Vec<RequestRecord>) {
    let mut edges = EdgeAggregator::default();
    records.into_iter().for_each(|record| edges.observe_owned(record));
    control.parts().telemetry.report(edges.take(), clock::unix_ms());
}

#[tokio::test]
async fn a_workload_becomes_a_service_and_leaves() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    let before = control.generation();
    let workload = join(&control, "reviews", "v1").await;
    let mut watch = control.subscribe();
    eventually(&mut watch, "the workload implies a service", |m| m.generation > before && m.mesh.services.contains_key(HOST)).await;
    let services = control.services(60);
    assert_eq!((services[0].host.as_str(), services[0].endpoints_healthy, services[0].origin.is_none()), (HOST, 1, true));
    control.parts().registry.leave(&workload.id).await.expect("leaves");
    eventually(&mut watch, "the service is gone", |m| !m.mesh.services.contains_key(HOST)).await;
    control.shutdown().await;
}

#[tokio::test]
async fn the_graph_counts_each_request_once() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    for (name, version) in [("productpage", "v1"), ("reviews", "v1"), ("reviews", "v2")] {
        join(&control, name, version).await;
    }
    let rules = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\nspec:\n  host: reviews\n  subsets:\n  - name: v1\n    labels: {version: v1}\n  - name: v2\n    labels: {version: v2}\n";
    control.apply(&format!("{}---\n{rules}---\n{ROUTE_TO_V1}", service(9080)), "r.yaml", false).await.expect("applies");
    let mut watch = control.subscribe();
    eventually(&mut watch, "all are linked", |m| m.mesh.services.get(HOST).is_some_and(|s| s[0].workloads.len() == 2)).await;
    // 30 to v1 and 10 to v2, told by both sides; and 10 that found nobody, told by the caller alone.
    let mut both = Vec::new();
    for reporter in [Reporter::Source, Reporter::Destination] {
        both.extend((0..40).map(|i| call(reporter, &format!("ok-{i}"), if i < 30 { "v1" } else { "v2" }, 200, &[])));
    }
    both.extend((0..10).map(|i| call(Reporter::Source, &format!("uh-{i}"), "", 503, &[ResponseFlag::NoHealthyUpstream])));
    report(&control, both);

    let (health, graph) = control.health(60);
    let edge = &graph.edges[0];
    assert_eq!((graph.edges.len(), edge.id.as_str()), (1, "default/productpage>default/reviews>http"));
    assert_eq!((edge.traffic.requests, edge.traffic.failures, edge.health), (50, 10, HealthLevel::Failing));
    assert!((edge.traffic.mtls_share - 1.0).abs() < f64::EPSILON, "{}", edge.traffic.mtls_share);
    let shares: Vec<_> = edge.versions.iter().map(|v| (v.version.as_str(), v.traffic.requests)).collect();
    assert_eq!(shares, [("v1", 30), ("v2", 10)]);
    assert_eq!(edge.last_failure_id.as_deref(), Some("uh-9"));
    assert!(graph.nodes.iter().all(|node| node.kind == NodeKind::Service), "{:?}", graph.nodes);
    assert_eq!(health.sentence, "20 % of the calls from productpage to reviews fail.");
    assert_eq!(health.counts.traffic.requests, 50);

    let detail = control.service("default", "reviews", 60).expect("is there");
    assert_eq!((detail.callers.len(), detail.callees.len(), detail.endpoints.len()), (1, 0, 2));
    let versions: Vec<_> = detail.versions.iter().map(|v| (v.version.as_str(), v.subset.as_deref(), v.configured_share)).collect();
    assert_eq!(versions, [("v1", Some("v1"), Some(1.0)), ("v2", None, Some(0.0))], "no route leads to subset v2");
    assert_eq!(detail.failures.len(), 10);
    assert_eq!((detail.routes[0].matches.as_str(), detail.routes[0].origin.file.as_str()), ("any request", "r.yaml"));
    assert!(detail.identities.contains("spiffe://cluster.local/ns/default/sa/reviews"));
    assert!(control.service("default", "nobody", 60).is_none());
    assert_eq!(control.why("uh-3").expect("known").1.len(), 1);
    control.shutdown().await;
}

#[tokio::test]
async fn a_refusal_of_a_proxy_points_to_the_line() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    let workload = join(&control, "reviews", "v1").await;
    control.apply(&format!("{}---\n{ROUTE_TO_V1}", service(9080)), "r.yaml", false).await.expect("applies");
    let status = ProxyStatus {
        id: workload.id.clone(),
        namespace: "default".into(),
        identity: workload.identity.to_string(),
        roots: BTreeSet::from([Root::Host("reviews".into())]),
        ..ProxyStatus::default()
    };
    let session = control.parts().proxies.connect(status, clock::unix_ms());
    let (_, values) = control.proxy_config_json(&workload.id).expect("is there");
    let name = values.keys().find(|name| name.starts_with("routes/")).expect("has routes").clone();
    let nack = Nack { version: "x".into(), field: "hosts[0]".into(), message: "garbled".into() };
    session.update(clock::unix_ms(), |proxy| {
        proxy.resources.insert(name, ResourceStatus { nack: Some(nack), ..ResourceStatus::default() });
    });
    let diagnostics = control.diagnostics();
    let said = diagnostics.iter().find(|d| d.code == "WEFT-3101").unwrap_or_else(|| panic!("{diagnostics:?}"));
    assert_eq!((said.origin.kind.as_str(), said.origin.file.as_str()), ("VirtualService", "r.yaml"), "{said}");
    assert!(said.message.contains("hosts[0]: garbled"), "{said}");
    let checks = control.checks().await;
    let accept = checks.sections.iter().flat_map(|s| &s.checks).find(|c| c.code == "proxies-accept").expect("is checked");
    assert_eq!((accept.status, checks.ok), (CheckStatus::Failed, false));
    drop(session);
    assert!(!control.diagnostics().iter().any(|d| d.code == "WEFT-3101"), "a proxy that left says nothing");
    control.shutdown().await;
}

#[tokio::test]
async fn who_died_with_the_control_plane_is_not_in_its_next_generation() {
    let state = tempfile::tempdir().expect("temporary folder");
    let control = start(state.path(), &[]).await;
    let alive = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dead = TcpListener::bind("127.0.0.1:0").expect("a free port");
    join_at(&control, "alive", "v1", alive.local_addr().expect("bound")).await;
    join_at(&control, "dead", "v1", dead.local_addr().expect("bound")).await;
    let mut watch = control.subscribe();
    eventually(&mut watch, "both are there", |m| m.mesh.workloads.len() == 2).await;
    control.shutdown().await;
    drop(dead);
    let again = start(state.path(), &[]).await;
    let names: Vec<String> = again.mesh().mesh.workloads.values().map(|w| w.registered.workload.name.clone()).collect();
    assert_eq!(names, ["alive-v1"], "its session may come back, nobody listens for the other");
    again.shutdown().await;
}
