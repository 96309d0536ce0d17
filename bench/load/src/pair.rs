//! Weft's proxies alone: one or two processes with a configuration made by hand, no control plane and no capture.
//!
//! What `weft run` adds is seen by comparing with it.

use crate::certificates;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use weft_model::{ModelValue, Protocol, SpiffeId, View};
use weft_pki::{Authority, KeyAndCsr, Svid, SvidState};
use weft_proxy::{ExplicitListener, InboundSocket, Program, ProxyConfig, Shared, control::Needs};

const TRUST_DOMAIN: &str = "cluster.local";
const HOST: &str = "origin.default.svc.cluster.local";
const CLUSTER: &str = "outbound|80||origin.default.svc.cluster.local";

/// Serves until killed. `side` is `server` (before the program at `next`), `client` (before the server's proxy at `next`) or `alone`
/// (before the program, which is outside of the mesh). `protocol` is that of the port: `HTTP`, `GRPC` or `TCP`.
pub(crate) fn run(side: &str, next: SocketAddr, folder: &Path, protocol: &str) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (config, values) = match side {
        "server" => server(listener, next, protocol),
        _ => client(listener, next, protocol, side == "client"),
    };
    // Nobody answers questions: the queue is closed, so that none is waited for.
    let (needs, _) = Needs::channel();
    let (reports, mut received) = mpsc::channel(64);
    let shared = Shared::new(svid(side, folder)?, needs, reports);
    let mut view = View::default();
    for value in values {
        view.insert(serde_json::from_value::<ModelValue>(value)?);
    }
    let (snapshot, rejected) = weft_proxy::snapshot::build(&view, None);
    anyhow::ensure!(rejected.is_empty(), "the configuration is rejected: {rejected:?}");
    shared.publish(snapshot, 1);
    let _proxy = weft_proxy::serve(ProxyConfig { name: side.into(), workers: 1, ..config }, Arc::clone(&shared))?;
    println!("listening {address}");
    // Reports are taken and forgotten, as if a control plane were there.
    while received.blocking_recv().is_some() {}
    Ok(())
}

fn identity(account: &str) -> Result<SpiffeId> {
    SpiffeId::new(TRUST_DOMAIN, "default", account).map_err(|e| anyhow::anyhow!("{e}"))
}

/// Writes `mesh-client.pem`, `mesh-client.key` and `mesh-ca.pem`: a caller that the pair's authority vouches for.
pub(crate) fn write_client(folder: &Path) -> Result<()> {
    let authority = Authority::load_or_create(&folder.join("authority"), TRUST_DOMAIN).context("authority")?;
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new(vec![])?.serialize_request(&key)?;
    let issued = authority.sign_workload(&identity("client")?, request.der(), Duration::from_secs(86_400)).context("certificate")?;
    std::fs::write(folder.join("mesh-client.pem"), certificates::pem(&issued.chain))?;
    std::fs::write(folder.join("mesh-client.key"), key.serialize_pem())?;
    Ok(std::fs::write(folder.join("mesh-ca.pem"), authority.bundle_pem())?)
}

/// A certificate from the authority in `folder`, which the two processes share.
fn svid(account: &str, folder: &Path) -> Result<SvidState> {
    let authority = Authority::load_or_create(&folder.join("authority"), TRUST_DOMAIN).context("authority")?;
    let state = SvidState::new(authority.bundle());
    let made = KeyAndCsr::generate().context("key")?;
    let issued = authority.sign_workload(&identity(account)?, made.csr_der(), Duration::from_secs(86_400)).context("certificate")?;
    state.install(Svid::new(made, issued.chain, issued.issued_at_ms).context("certificate")?);
    Ok(state)
}

fn origin(kind: &str) -> Value {
    json!({ "kind": kind, "namespace": "default", "name": "bench" })
}

fn server(listener: TcpListener, program: SocketAddr, protocol: &str) -> (ProxyConfig, Vec<Value>) {
    let advertise = listener.local_addr().unwrap_or(program);
    let inbound = InboundSocket {
        workload_port: program.port(),
        listeners: vec![listener],
        advertise,
        protocol: serde_json::from_value(json!(protocol)).unwrap_or(Protocol::Auto),
        program: Program::Host(program.ip()),
    };
    let value = json!({ "type": "Inbound", "value": {
        "workload": { "id": "default/server-1", "name": "server-v1", "namespace": "default", "identity": "spiffe://cluster.local/ns/default/sa/server",
            "labels": { "app": "origin", "version": "v1" }, "origin": origin("Workload") },
        "ports": [{ "port": program.port(), "protocol": protocol, "mtls": "STRICT", "mtls_origin": origin("PeerAuthentication"), "service": HOST }],
        "default_mtls": "STRICT", "default_mtls_origin": origin("PeerAuthentication")
    }});
    (ProxyConfig { inbound: vec![inbound], ..ProxyConfig::default() }, vec![value])
}

fn client(listener: TcpListener, server: SocketAddr, protocol: &str, mesh: bool) -> (ProxyConfig, Vec<Value>) {
    let explicit = ExplicitListener { host: "origin".into(), port: 80, listeners: vec![listener] };
    let mut endpoint = json!({ "address": server.to_string(), "workload": "default/server-1", "workload_name": "server-v1", "namespace": "default", "version": "v1" });
    if let (true, Some(fields)) = (mesh, endpoint.as_object_mut()) {
        fields.insert("identity".into(), json!("spiffe://cluster.local/ns/default/sa/server"));
        fields.insert("tls".into(), json!("mesh"));
    }
    let mut values = vec![
        json!({ "type": "Inbound", "value": {
            "workload": { "id": "default/client-1", "name": "client-v1", "namespace": "default", "identity": "spiffe://cluster.local/ns/default/sa/client",
                "labels": { "app": "client", "version": "v1" }, "origin": origin("Workload") },
            "ports": [], "default_mtls": "STRICT", "default_mtls_origin": origin("PeerAuthentication")
        }}),
        json!({ "type": "Service", "value": {
            "host": HOST, "namespace": "default", "name": "origin", "aliases": ["origin"], "addresses": ["240.240.0.1"],
            "ports": [{ "number": 80, "name": "port", "protocol": protocol }], "origin": origin("Service")
        }}),
        json!({ "type": "Cluster", "value": { "name": CLUSTER, "protocol": protocol, "origin": origin("Service") } }),
        json!({ "type": "Endpoints", "value": { "cluster": CLUSTER, "endpoints": [endpoint] } }),
    ];
    if protocol != "TCP" {
        values.push(json!({ "type": "RouteTable", "value": { "name": format!("mesh/{HOST}/80"), "hosts": [{ "hosts": [HOST], "routes": [{
            "name": "default", "action": { "forward": [{ "backend": { "cluster": CLUSTER }, "weight": 1 }] }, "origin": origin("Service")
        }] }] } }));
    }
    (ProxyConfig { explicit: vec![explicit], ..ProxyConfig::default() }, values)
}
