//! The servers behind the proxies: HTTP/1.1 with a body of 1,024 bytes, gRPC with a message of that size, and endless bytes over TCP.

use anyhow::{Context, Result};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Size of the body.
const BODY_BYTES: usize = 1_024;

/// Serves until killed. Prints `listening ADDRESS` first. `protocol` is `HTTP`, `GRPC` or `TCP`.
pub(crate) fn run(listen: &str, protocol: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        println!("listening {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let _delayed_at_most = stream.set_nodelay(true);
            match protocol {
                "GRPC" => drop(tokio::spawn(grpc(stream))),
                "TCP" => drop(tokio::spawn(bulk(stream))),
                _ => drop(tokio::spawn(http(stream))),
            }
        }
    })
}

/// Requests have no body, so that each ends with an empty line.
async fn http(mut stream: TcpStream) {
    let response = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY_BYTES}\r\n\r\n{}", "x".repeat(BODY_BYTES));
    let mut buffer = Vec::with_capacity(4_096);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
        if buffer.len() > 65_536 {
            return;
        }
    }
}

/// One message and the trailers, once the request's message is in.
async fn grpc(stream: TcpStream) {
    let message = Bytes::from([&[0, 0, 0, 4, 0], "x".repeat(BODY_BYTES).as_bytes()].concat());
    let Ok(mut connection) = h2::server::Builder::new().max_concurrent_streams(1_000).handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let message = message.clone();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _closed = body.flow_control().release_capacity(data.len());
            }
            let head = http::Response::builder().header("content-type", "application/grpc").body(()).ok()?;
            let mut stream = respond.send_response(head, false).ok()?;
            stream.send_data(message, false).ok()?;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            stream.send_trailers(trailers).ok()
        });
    }
}

/// Bytes without end, as fast as they are taken.
async fn bulk(mut stream: TcpStream) {
    let chunk = vec![b'x'; 256 * 1024];
    // The first byte asks for them.
    if stream.read_u8().await.is_err() {
        return;
    }
    while stream.write_all(&chunk).await.is_ok() {}
}
