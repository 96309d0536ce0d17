//! A stand-in program for `weft run`: it answers with its own name and with what the services it calls answered.

use super::http::{self, Outgoing};
use ::http::{HeaderMap, Method, StatusCode};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs},
    rc::Rc,
    time::Instant,
};

/// A program that listens on `--port`, and for each request calls every `--call` and answers with all that it learnt.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoAppArgs {
    /// Name in the answer.
    #[arg(long, default_value = "echo")]
    name: String,
    /// Version in the answer.
    #[arg(long, default_value = "v1")]
    version: String,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    bind: IpAddr,
    /// Port to listen on.
    #[arg(long)]
    port: u16,
    /// What to call for each request, as host:port/path. Names are resolved each time.
    #[arg(long = "call", value_name = "HOST:PORT/PATH")]
    calls: Vec<String>,
}

/// Runs the program until it is killed.
pub(crate) fn app(args: DemoAppArgs) -> Result<()> {
    let listener = TcpListener::bind((args.bind, args.port)).with_context(|| format!("cannot listen on {}:{}", args.bind, args.port))?;
    let args = Rc::new(args);
    crate::client::block_on(async move {
        let served = http::serve(listener, move |method, path, headers| {
            let args = args.clone();
            async move { Some(answer(&args, &method, &path, &headers).await) }
        });
        served.await.context("the demo program cannot accept connections")
    })
}

async fn answer(args: &DemoAppArgs, method: &Method, path: &str, headers: &HeaderMap) -> (StatusCode, Value) {
    let mut calls = Vec::new();
    for target in &args.calls {
        calls.push(call(target, headers).await);
    }
    let seen: Value = headers
        .iter()
        .map(|(k, v)| (k.to_string(), json!(String::from_utf8_lossy(v.as_bytes()))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let body = json!({
        "name": args.name, "version": args.version, "method": method.as_str(), "path": path, "headers": seen, "calls": calls,
    });
    (StatusCode::OK, body)
}

/// Calls one target and tells what came back and how long it took.
async fn call(target: &str, headers: &HeaderMap) -> Value {
    let started = now();
    let result = exchange(target, headers).await;
    let ms = started.elapsed().as_millis() as u64;
    match result {
        Ok((status, body)) => json!({ "to": target, "status": status.as_u16(), "ms": ms, "body": body }),
        Err(error) => json!({ "to": target, "status": 0, "ms": ms, "error": format!("{error:#}") }),
    }
}

async fn exchange(target: &str, headers: &HeaderMap) -> Result<(StatusCode, Value)> {
    let (authority, path) = target.split_once('/').unwrap_or((target, ""));
    let address: SocketAddr = authority
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {authority}"))?
        .next()
        .with_context(|| format!("{authority} has no address"))?;
    let mut outgoing = Outgoing::new(Method::GET, address, authority, &format!("/{path}"));
    for name in ["x-request-id", "traceparent", "tracestate", "end-user"] {
        if let Some(value) = headers.get(name) {
            outgoing.header(name, value.clone());
        }
    }
    let (status, body) = outgoing.send().await?;
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
}

fn now() -> Instant {
    Instant::now()
}
