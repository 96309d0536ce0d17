//! Taps: exchanges shown to an operator, without their secrets.

use crate::fixture::{Pair, TestProxy, echo_program, get, send};
use weft_std::clock;
use weft_telemetry::{REDACTED, TapOrder, Tapped};

async fn tapped(proxy: &mut TestProxy) -> Vec<Tapped> {
    loop {
        let report = proxy.reports.recv().await.expect("runs");
        if !report.tapped.is_empty() {
            return report.tapped;
        }
    }
}

fn order(filter: &str) -> TapOrder {
    let filter = TapOrder::read_filter(filter).expect("legal");
    TapOrder { id: "t".into(), filter, per_second: 10, total: 10, duration_ms: 60_000 }
}

#[tokio::test]
async fn a_tap_shows_what_it_is_asked_for_without_secrets() {
    let mut pair = Pair::new(echo_program(false).await);
    // A filter sees no secret either: else it could be guessed letter by letter.
    let filter = "request.url_path == '/wanted' && !request.headers['authorization'].startsWith('Bearer')";
    pair.server.shared.taps.order(order(filter), clock::now()).expect("room");
    for path in ["/other", "/wanted?access_token=hush&page=2"] {
        let mut request = get(path);
        for (name, value) in [("authorization", "Bearer hush"), ("cookie", "id=hush"), ("x-session-token", "hush"), ("accept", "text/css")]
        {
            request.headers_mut().insert(name, value.parse().expect("legal"));
        }
        assert_eq!(send(pair.client.address, request).await.status, 200);
    }
    let shown = tapped(&mut pair.server).await;
    assert_eq!(shown.len(), 1);
    let exchange = &shown[0];
    assert_eq!((exchange.tap.as_str(), exchange.record.path.as_str()), ("t", "/wanted?access_token=<redacted>&page=2"));
    assert_eq!((exchange.record.method.as_str(), exchange.record.status), ("GET", 200));
    assert!(exchange.record.authority.starts_with("reviews"), "{}", exchange.record.authority);
    let header = |name: &str| exchange.request.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    for name in ["authorization", "cookie", "x-session-token"] {
        assert_eq!(header(name), Some(REDACTED), "{name}");
    }
    assert_eq!(header("accept"), Some("text/css"));
    assert!(!exchange.response.headers.is_empty());
    assert!(!serde_json::to_string(exchange).expect("json").contains("hush"));
    // The record that is kept for everybody is as it would have been.
    let record = pair.client.record(|r| r.path.starts_with("/wanted")).await;
    assert_eq!((record.authority.as_str(), record.attempts.len()), (exchange.record.authority.as_str(), 1));
}

#[tokio::test]
async fn a_tap_that_ended_shows_nothing() {
    let mut pair = Pair::new(echo_program(false).await);
    let taps = &pair.server.shared.taps;
    taps.order(order(""), clock::now()).expect("room");
    taps.order(TapOrder { duration_ms: 0, ..order("") }, clock::now()).expect("ended");
    assert_eq!(send(pair.client.address, get("/")).await.status, 200);
    pair.server.record(|_| true).await;
    assert!(pair.server.reports.try_recv().is_err());
}
