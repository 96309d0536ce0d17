//! Values for tests: one of each kind, and some that can be made in numbers.

use serde_json::{Value, json};
use weft_model::{ModelValue, RootState, View};

fn value(kind: &str, body: Value) -> ModelValue {
    serde_json::from_value(json!({ "type": kind, "value": body })).expect("a sample of the model's own form")
}

fn origin(name: &str, line: usize) -> Value {
    json!({ "kind": "VirtualService", "namespace": "default", "name": name, "file": "shop.yaml", "line": line })
}

/// The proxy's own side.
pub(crate) fn inbound(edition: usize) -> ModelValue {
    let workload = json!({
        "id": "default/reviews-1", "name": "reviews", "namespace": "default", "labels": { "app": "reviews" },
        "identity": "spiffe://cluster.local/ns/default/sa/reviews", "origin": origin("reviews", edition),
    });
    let ports = json!([{ "port": 9080, "protocol": "HTTP", "mtls": "STRICT", "mtls_origin": origin("strict", edition) }]);
    let body = json!({ "workload": workload, "ports": ports, "default_mtls": "PERMISSIVE", "default_mtls_origin": origin("mesh", 1) });
    value("Inbound", body)
}

/// A service.
pub(crate) fn service(host: &str, edition: usize) -> ModelValue {
    let ports = json!([{ "number": 9080, "name": "http", "protocol": "HTTP" }]);
    value("Service", json!({ "host": host, "namespace": "default", "name": host, "ports": ports, "origin": origin(host, edition) }))
}

/// Its endpoints.
pub(crate) fn endpoints(host: &str, edition: usize) -> ModelValue {
    let address = format!("127.0.0.1:{}", 1000 + edition % 60_000);
    let endpoint =
        json!({ "address": address, "tls": "mesh", "identity": "spiffe://cluster.local/ns/default/sa/x", "weight": 1, "healthy": true });
    value("Endpoints", json!({ "cluster": format!("outbound|9080||{host}"), "endpoints": [endpoint] }))
}

/// One of each kind, with nested structures filled.
pub(crate) fn one_of_each() -> Vec<ModelValue> {
    let host = "reviews.default.svc.cluster.local";
    let rule = json!({
        "from": [{ "principals": { "any": [{ "exact": "cluster.local/ns/default/sa/web" }] } }],
        "to": [{ "methods": { "any": [{ "exact": "GET" }] } }],
        "origin": origin("allow", 7),
    });
    let target = json!({ "backend": { "cluster": format!("outbound|9080|v1|{host}") }, "weight": 100 });
    let route = json!({ "name": "all", "matches": [], "action": { "forward": [target] }, "origin": origin("reviews", 9) });
    vec![
        inbound(1),
        value("Authorization", json!({ "name": "default/allow", "action": "ALLOW", "rules": [rule], "origin": origin("allow", 5) })),
        value(
            "RequestAuthentication",
            json!({ "name": "default/jwt", "rules": [{ "issuer": "https://issuer.example", "keys": [{ "kid": "a", "material": { "ed25519": { "x": "AQ" } } }],
                "locations": [{ "header": { "name": "authorization", "prefix": "Bearer " } }], "origin": origin("jwt", 4) }], "origin": origin("jwt", 2) }),
        ),
        value("Settings", json!({ "path_normalization": "STRICT", "trusted_proxies": 2, "origin": origin("istio", 1) })),
        value(
            "GatewayListeners",
            json!({ "labels": { "istio": "ingressgateway" }, "listeners": [
            { "name": "http", "port": 80, "protocol": "HTTP", "hosts": ["*"], "origin": origin("gw", 3) }] }),
        ),
        service(host, 4),
        value("RouteTable", json!({ "name": format!("mesh/{host}/9080"), "hosts": [{ "hosts": ["*"], "routes": [route] }] })),
        value(
            "TcpRoutes",
            json!({ "host": "db", "port": 5432, "routes": [
            { "sni": ["db.example.com"], "targets": [{ "backend": { "cluster": "outbound|5432||db" }, "weight": 1 }], "origin": origin("db", 2) }] }),
        ),
        value("Cluster", json!({ "name": format!("outbound|9080|v1|{host}"), "protocol": "HTTP", "origin": origin("reviews", 12) })),
        endpoints(host, 9080),
    ]
}

/// A mesh for the sessions: hosts with an edition each. The view of a proxy is its own side and the closure of its roots.
#[derive(Debug, Clone, Default)]
pub(crate) struct TinyMesh {
    pub(crate) generation: u64,
    pub(crate) own: usize,
    pub(crate) hosts: std::collections::BTreeMap<String, usize>,
}

impl TinyMesh {
    pub(crate) fn project(&self, roots: &std::collections::BTreeSet<weft_model::Root>) -> crate::Projected {
        let mut projected = crate::Projected { generation: self.generation, ..crate::Projected::default() };
        projected.view.insert(inbound(self.own));
        for root in roots {
            let state = match root {
                weft_model::Root::Own => RootState::Resolved(String::new()),
                weft_model::Root::Host(host) => match self.hosts.get(host) {
                    Some(edition) => {
                        insert(&mut projected.view, host, *edition);
                        RootState::Resolved(host.clone())
                    }
                    None => RootState::Unknown,
                },
            };
            projected.roots.insert(root.clone(), state);
        }
        projected
    }
}

fn insert(view: &mut View, host: &str, edition: usize) {
    // The service itself changes rarely, its endpoints with each edition.
    view.insert(service(host, 1 + edition / 4));
    view.insert(endpoints(host, edition));
}
