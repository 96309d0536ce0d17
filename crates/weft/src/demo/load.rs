//! The demo's load: shoppers that come in through the gateway.

use super::http::Outgoing;
use http::{HeaderValue, Method};
use std::{net::SocketAddr, time::Duration};

/// Shoppers per second.
const REQUESTS_PER_S: u64 = 20;

/// What shoppers do, by turns; the mix gives every service some traffic.
const VISITS: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/product/1"),
    ("GET", "/product/2"),
    ("POST", "/checkout"),
    ("GET", "/product/1"),
    ("GET", "/"),
    ("GET", "/product/2"),
];

/// Sends requests at a steady rate until the task is dropped.
pub(crate) async fn generate(gateway: SocketAddr) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1_000 / REQUESTS_PER_S));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    for (method, path) in VISITS.iter().cycle() {
        ticks.tick().await;
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let mut outgoing = Outgoing::new(method, gateway, "shop.example.com", path);
        outgoing.header("user-agent", HeaderValue::from_static("weft-demo-shopper"));
        tokio::task::spawn_local(outgoing.send());
    }
}
