//! What the page and the command line do, over a real socket: live events.

use crate::{Api, TOKEN};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_come_by_themselves() {
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(weft_manage::serve(listener, api.router.clone()));
    let read = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connects");
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n").expect("sends");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let status = lines.next().expect("a status line");
        let kind = lines.find(|line| line.starts_with("event:")).expect("an event");
        let data = lines.find(|line| line.starts_with("data:")).expect("its data");
        (status, kind, data)
    });
    let (status, kind, data) = read.await.expect("no panic");
    assert_eq!((status.as_str(), kind.as_str()), ("HTTP/1.1 200 OK", "event: tick"));
    let tick: serde_json::Value = serde_json::from_str(data.trim_start_matches("data:").trim()).expect("JSON");
    let document = crate::document();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/Tick" });
    let wrong = crate::schema::violations(&document, &schema, &tick, "tick");
    assert!(wrong.is_empty(), "{wrong:#?}");
    server.abort();
    api.control.shutdown().await;
}
