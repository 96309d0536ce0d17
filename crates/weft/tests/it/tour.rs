//! The README's tour: one command to a moving picture, three more to a failure explained, a denial with its reason, one's own program.

use crate::harness::{Mesh, eventually, http, list};

#[test]
fn the_tour_of_the_readme_works() {
    let mut mesh = Mesh::up(&["--demo"]);

    // Within moments the graph moves: every service seen, every link inside the mesh mutually authenticated.
    let graph = eventually("seven services with traffic", || {
        let graph = mesh.get("graph?window=60");
        let with_traffic =
            list(&graph["nodes"]).iter().filter(|n| n["namespace"] == "shop" && n["inbound"]["requests"].as_u64() > Some(0)).count();
        (with_traffic >= 7).then_some(graph)
    });
    let inside: Vec<_> = list(&graph["edges"]).iter().filter(|e| e["source"].as_str().is_some_and(|s| s.starts_with("shop/"))).collect();
    assert!(inside.len() >= 6, "{inside:#?}");
    for edge in inside {
        assert_eq!(edge["traffic"]["mtlsShare"].as_f64(), Some(1.0), "{edge}");
    }
    let reviews = mesh.get("services/shop/reviews");
    assert_eq!(list(&reviews["versions"]).len(), 3, "{reviews}");

    // The planted fault explains itself.
    let why = eventually("the planted fault was met", || {
        let output = mesh.cli(&["why", "--last", "--status", "5xx"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert!(why.contains("program of payments-v1 closed the connection"), "{why}");
    assert!(why.contains("fix:"), "{why}");

    // A denial names its policy and line.
    let gateway = ([127, 0, 0, 1], mesh.gateway_port).into();
    let denied = http(gateway, "GET", "/admin", &[("host", "localhost")], "");
    assert_eq!(denied.status, 403, "{denied:?}");
    let id = denied.header("x-request-id").expect("every answer names its request").to_owned();
    let why = eventually("the denial is known", || {
        let output = mesh.cli(&["why", &id]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()).filter(|t| t.contains("no-admin"))
    });
    assert!(why.contains("shop.yaml:"), "the line of the policy: {why}");

    // One's own program joins the mesh and can call it.
    mesh.run_app("mine", "v1", 9080, &["-n", "shop"], &["catalog:8080/products"]);
    let workloads = mesh.get("workloads");
    assert!(
        list(&workloads).iter().any(|w| w["name"] == "mine-v1" && w["identity"] == "spiffe://cluster.local/ns/shop/sa/mine"),
        "{workloads}"
    );
    let top = mesh.cli_ok(&["top"]);
    assert!(top.contains("checkout") && top.contains("mTLS"), "{top}");
    assert!(mesh.cli_ok(&["status"]).contains("current"));
    let check = mesh.cli_ok(&["check"]);
    assert!(check.contains("Status check results are"), "{check}");
    let explain = mesh.cli_ok(&["explain", "-n", "shop", "-H", "end-user: jason", "http://reviews:8080/reviews/1"]);
    assert!(explain.contains("jason") && explain.contains("taken"), "{explain}");

    // Single requests while they happen, without their secrets.
    let tapped = mesh.cli_ok(&["tap", "gateway", "--max", "2", "--duration", "30", "--filter", "response.code < 400"]);
    assert_eq!(tapped.matches("shop.example.com").count() / 2, 2, "two exchanges, each with its line and its host: {tapped}");
    let refused = mesh.cli(&["tap", "gateway", "--filter", "response.code =="]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("not an expression"));

    // `weft down` ends it and leaves the state; `up` resumes it.
    mesh.cli_ok(&["down"]);
    assert!(mesh.up_process().wait().success());
    mesh.start_up(&[]);
    assert!(mesh.cli_ok(&["get", "vs", "-n", "shop"]).contains("reviews"), "applied resources are still there");
}
