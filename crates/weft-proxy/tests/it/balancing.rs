//! Which endpoint a request goes to: hashes, cookies, latency and business, place.

use crate::fixture::{
    Mesh, TestProxy, cluster, endpoints, get, inbound, loopback, merge, origin, program, publish, route, send, service, table, text,
};
use http::Request;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// Programs that answer with their own address.
async fn programs(count: usize) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for name in 0..count {
        all.push(program(false, move |_| async move { text(200, name.to_string()) }).await);
    }
    all
}

/// The client's view: plain endpoints, and this cluster.
pub(crate) fn values(of_cluster: Value, callees: &[SocketAddr]) -> Vec<Value> {
    let plain: Vec<(SocketAddr, Option<&str>)> = callees.iter().map(|address| (*address, None)).collect();
    vec![
        inbound("productpage", 9080, "PERMISSIVE"),
        service("HTTP"),
        table(vec![route(&[("", 1)], json!({}))]),
        cluster("", {
            let mut value = json!({ "protocol": "HTTP" });
            merge(&mut value, of_cluster);
            value
        }),
        endpoints("", &plain),
    ]
}

pub(crate) fn client(of_cluster: Value, callees: &[SocketAddr]) -> TestProxy {
    Mesh::new().client("productpage", values(of_cluster, callees))
}

async fn ask(proxy: &TestProxy, header: Option<(&str, &str)>, path: &str) -> String {
    let mut request: Request<_> = get(path);
    if let Some((name, value)) = header {
        request.headers_mut().insert(name.parse::<http::HeaderName>().expect("name"), value.parse().expect("value"));
    }
    send(proxy.address, request).await.body
}

#[tokio::test]
async fn a_header_or_query_parameter_chooses_the_endpoint() {
    let callees = programs(3).await;
    let by_header = json!({ "balancing": "RING_HASH", "hash": { "on": { "header": "x-user" }, "size": 1024 } });
    let proxy = client(by_header, &callees);
    let mut homes = BTreeMap::new();
    for user in 0..12 {
        let user = format!("user-{user}");
        homes.insert(user.clone(), ask(&proxy, Some(("x-user", &user)), "/").await);
    }
    assert!(homes.values().collect::<BTreeSet<_>>().len() > 1, "{homes:?}");
    for (user, home) in &homes {
        assert_eq!(ask(&proxy, Some(("x-user", user)), "/").await, *home);
    }
    let by_query = json!({ "balancing": "MAGLEV", "hash": { "on": { "query": "id" }, "size": 1009 } });
    publish(&proxy.shared, values(by_query, &callees));
    for id in 0..6 {
        let path = format!("/?a=b&id={id}");
        assert_eq!(ask(&proxy, None, &path).await, ask(&proxy, None, &path).await);
    }
}

#[tokio::test]
async fn a_caller_without_a_cookie_gets_one_that_holds_it() {
    let callees = programs(3).await;
    let cookie = json!({ "cookie": { "name": "cart", "path": "/", "ttl_s": 60, "attributes": [["SameSite", "Lax"]] } });
    let proxy = client(json!({ "balancing": "MAGLEV", "hash": { "on": cookie, "size": 1009 } }), &callees);
    let mut homes = BTreeSet::new();
    for _ in 0..8 {
        let first = send(proxy.address, get("/")).await;
        let set = first.header("set-cookie").to_owned();
        assert!(set.starts_with("cart=\"") && set.ends_with("\"; Max-Age=60; Path=/; SameSite=Lax; HttpOnly"), "{set}");
        let pair = set.split(';').next().expect("a pair").to_owned();
        for _ in 0..3 {
            let mut again = get("/");
            again.headers_mut().insert("cookie", format!("other=1; {pair}").parse().expect("value"));
            let answer = send(proxy.address, again).await;
            assert_eq!((answer.body.as_str(), answer.header("set-cookie")), (first.body.as_str(), ""));
        }
        homes.insert(first.body);
    }
    assert!(homes.len() > 1, "all at one");
}

#[tokio::test]
async fn the_source_address_chooses_the_endpoint() {
    let proxy = client(json!({ "balancing": "RING_HASH", "hash": { "on": "sourceIp", "size": 1024 } }), &programs(3).await);
    let home = ask(&proxy, None, "/").await;
    for _ in 0..10 {
        assert_eq!(ask(&proxy, None, "/").await, home);
    }
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_busy_is_left_alone() {
    let busy = program(false, |_| async {
        let mut response = text(503, "busy");
        response.headers_mut().insert("retry-after", "600".parse().expect("value"));
        response
    })
    .await;
    let mut callees = programs(2).await;
    callees.push(busy);
    let proxy = client(json!({ "balancing": "EWMA" }), &callees);
    let mut refused = 0;
    for _ in 0..60 {
        refused += u32::from(ask(&proxy, None, "/").await == "busy");
    }
    assert!(refused <= 1, "{refused} of 60 went to the busy one");
    let described = proxy.handle.as_ref().expect("running").describe().await;
    let of_busy = described[0]["clusters"][0]["endpoints"].as_array().expect("list").iter().find(|e| e["address"] == busy.to_string());
    assert!(refused == 0 || of_busy.is_some_and(|e| e["busyForMs"].as_u64() > Some(100_000)), "{described:?}");
}

/// The values with a place for the caller and one for each endpoint.
fn placed(of_cluster: Value, own: &str, callees: &[(SocketAddr, &str)]) -> Vec<Value> {
    let addresses: Vec<SocketAddr> = callees.iter().map(|(address, _)| *address).collect();
    let mut values = values(of_cluster, &addresses);
    values[0]["value"]["workload"]["locality"] = json!(own);
    for (at, (_, locality)) in callees.iter().enumerate() {
        values[4]["value"]["endpoints"][at]["locality"] = json!(locality);
    }
    values
}

#[tokio::test]
async fn the_near_ones_first_and_the_far_ones_when_they_fail() {
    let callees = programs(2).await;
    let gone = tokio::net::TcpListener::bind(loopback()).await.expect("bound").local_addr().expect("address");
    let outlier = json!({
        "consecutive_5xx": 2, "consecutive_gateway_errors": 0, "base_ejection_ms": 600_000, "interval_ms": 1000,
        "ejection_percent_max": 100, "origin": origin("DestinationRule", 5)
    });
    let near = json!({ "locality": { "priority": {} }, "outlier": outlier });
    let proxy = Mesh::new().client("productpage", placed(near.clone(), "eu/a/1", &[(callees[0], "eu/a/1"), (callees[1], "us/a/1")]));
    for _ in 0..10 {
        assert_eq!(ask(&proxy, None, "/").await, "0");
    }
    // The near one goes: two failures, then everything goes far.
    publish(&proxy.shared, placed(near, "eu/a/1", &[(gone, "eu/a/1"), (callees[1], "us/a/1")]));
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(send(proxy.address, get("/")).await.status);
    }
    assert_eq!(answers, [503, 503, 200, 200, 200, 200, 200, 200, 200, 200]);
    // A caller elsewhere finds the other one near.
    publish(&proxy.shared, placed(json!({ "locality": { "priority": {} } }), "us/a/1", &[(callees[0], "eu/a/1"), (callees[1], "us/a/1")]));
    for _ in 0..10 {
        assert_eq!(ask(&proxy, None, "/").await, "1");
    }
}

#[tokio::test]
async fn shares_by_locality() {
    let callees = programs(3).await;
    let shares = json!({ "locality": { "distribute": [{ "from": "eu/*", "to": [["eu/a/*", 80], ["eu/b/*", 20]] }] } });
    let places = [(callees[0], "eu/a/1"), (callees[1], "eu/b/1"), (callees[2], "us/a/1")];
    let proxy = Mesh::new().client("productpage", placed(shares, "eu/c/1", &places));
    let mut counts = [0_u32; 3];
    for _ in 0..200 {
        counts[ask(&proxy, None, "/").await.parse::<usize>().expect("a number")] += 1;
    }
    // Five standard deviations around 160.
    assert!((132..=188).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
}
