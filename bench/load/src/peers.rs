//! Other proxies: a pair whose caller's side takes plain text and speaks mutual TLS 1.3 to the callee's side (both verify), or one
//! proxy alone in plain text.

use anyhow::{Context, Result};
use std::{fs, net::TcpListener, path::Path, process::Command};

/// What the proxies carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Http1,
    Http2,
    Tcp,
}

/// What is built: the protocol, and whether there are two proxies with mutual TLS between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) wire: Wire,
    pub(crate) pair: bool,
}

impl Shape {
    /// The pair of the main table.
    pub(crate) const MESH: Self = Self { wire: Wire::Http1, pair: true };

    /// Sides as name, address to listen on, address of the next hop, TLS towards the listener, TLS towards the next hop.
    fn sides<'a>(self, outer: &'a str, inner: &'a str, origin: &'a str, tls_in: &'a str, tls_out: &'a str) -> Vec<[&'a str; 5]> {
        match self.pair {
            true => vec![["caller", outer, inner, "", tls_out], ["callee", inner, origin, tls_in, ""]],
            false => vec![["alone", outer, origin, "", ""]],
        }
    }
}

/// How to start one side.
pub(crate) struct Start {
    pub(crate) command: Command,
}

/// A pair that is ready to start: where the client connects, and the two sides.
pub(crate) struct Pair {
    pub(crate) target: String,
    /// Where the callee's side listens, in a pair.
    pub(crate) callee: String,
    pub(crate) sides: Vec<Start>,
}

/// Two ports that were free a moment ago. Other programs cannot be given a listener.
fn ports() -> Result<(u16, u16)> {
    let (a, b) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((a.local_addr()?.port(), b.local_addr()?.port()))
}

/// Fills `NAME`s in a template.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

const NGINX: &str = "\
worker_processes 1; daemon off; pid DIR/SIDE.pid; error_log DIR/SIDE.log error;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
  client_body_temp_path DIR/SIDE-a; proxy_temp_path DIR/SIDE-b; fastcgi_temp_path DIR/SIDE-c; uwsgi_temp_path DIR/SIDE-d; scgi_temp_path DIR/SIDE-e;
  upstream next { server NEXT; keepalive 128; keepalive_requests 100000000; keepalive_timeout 1h; }
  server { listen LISTEN; LISTENER
    location / { proxy_pass SCHEME://next; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; UPSTREAM }
  }
}
";

/// Debian's nginx: HTTP/1.1 only, its TCP proxy is a package of its own.
pub(crate) fn nginx(program: &str, folder: &Path, origin: &str, shape: Shape) -> Result<Pair> {
    anyhow::ensure!(shape.wire == Wire::Http1, "Debian's nginx is measured with HTTP/1.1 only");
    let (outer, inner) = ports()?;
    let dir = folder.display().to_string();
    let (outer, inner) = (format!("127.0.0.1:{outer}"), format!("127.0.0.1:{inner}"));
    let tls_out = fill(
        "proxy_ssl_certificate DIR/client.pem; proxy_ssl_certificate_key DIR/client.key; proxy_ssl_trusted_certificate DIR/ca.pem;
         proxy_ssl_verify on; proxy_ssl_name server; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;",
        &[("DIR", &dir)],
    );
    let tls_in = fill(
        "ssl_certificate DIR/server.pem; ssl_certificate_key DIR/server.key; ssl_client_certificate DIR/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;",
        &[("DIR", &dir)],
    );
    let mut starts = vec![];
    for [side, listen, next, listener, upstream] in shape.sides(&outer, &inner, origin, &tls_in, &tls_out) {
        let scheme = if upstream.is_empty() { "http" } else { "https" };
        let listen = if listener.is_empty() { listen.to_owned() } else { format!("{listen} ssl") };
        let listen = listen.as_str();
        let path = folder.join(format!("{side}.conf"));
        let values = [
            ("LISTENER", listener),
            ("LISTEN", listen),
            ("UPSTREAM", upstream),
            ("NEXT", next),
            ("SCHEME", scheme),
            ("SIDE", side),
            ("DIR", &dir),
        ];
        write(&path, &fill(NGINX, &values))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&path);
        starts.push(Start { command });
    }
    Ok(Pair { target: outer, callee: inner, sides: starts })
}

const HAPROXY: &str = "\
global
  nbthread 1
  maxconn 2000
defaults
  mode MODE
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  REUSE
frontend in
  bind LISTEN
  default_backend next
backend next
  server s NEXT
";

/// Debian's HAProxy.
pub(crate) fn haproxy(program: &str, folder: &Path, origin: &str, shape: Shape) -> Result<Pair> {
    let (outer, inner) = ports()?;
    let (outer, inner) = (format!("127.0.0.1:{outer}"), format!("127.0.0.1:{inner}"));
    let dir = folder.display();
    let (mode, reuse, alpn, proto) = match shape.wire {
        Wire::Http1 => ("http", "http-reuse always", "alpn http/1.1", ""),
        Wire::Http2 => ("http", "http-reuse always", "alpn h2", "proto h2"),
        Wire::Tcp => ("tcp", "", "", ""),
    };
    let tls_out = format!(
        "ssl verify required ca-file {dir}/ca.pem crt {dir}/client.both sni str(server) verifyhost server ssl-min-ver TLSv1.3 {alpn}"
    );
    let tls_in = format!("ssl crt {dir}/server.both ca-file {dir}/ca.pem verify required ssl-min-ver TLSv1.3 {alpn}");
    let mut starts = vec![];
    for [side, listen, next, listener, upstream] in shape.sides(&outer, &inner, origin, &tls_in, &tls_out) {
        let path = folder.join(format!("{side}.cfg"));
        let (listen, next) = (format!("{listen} {listener} {proto}"), format!("{next} {upstream} {proto}"));
        write(&path, &fill(HAPROXY, &[("LISTEN", &listen), ("NEXT", &next), ("MODE", mode), ("REUSE", reuse)]))?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-q").arg("-f").arg(&path);
        starts.push(Start { command });
    }
    Ok(Pair { target: outer, callee: inner, sides: starts })
}

const ENVOY: &str = r#"{
"static_resources": {
  "listeners": [{"name": "in", "address": {"socket_address": {"address": "127.0.0.1", "port_value": LISTEN}},
    "filter_chains": [{ LISTENER "filters": [FILTER]}]}],
  "clusters": [{"name": "next", "type": "STATIC", "connect_timeout": "5s", UPSTREAM
    "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": NEXT}}}}]}]}}]
}}"#;

const ENVOY_HTTP: &str = r#"{"name": "http", "typed_config": {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      "stat_prefix": "in",
      "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "0s"}}]}]},
      "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
    }}"#;

const ENVOY_TCP: &str = r#"{"name": "tcp", "typed_config": {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "in", "cluster": "next"}}"#;

const ENVOY_HTTP2_UPSTREAM: &str = r#""typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}},"#;

/// Envoy, `--concurrency 1`, the same protocol inside as outside.
pub(crate) fn envoy(program: &str, folder: &Path, origin: &str, shape: Shape) -> Result<Pair> {
    let (outer, inner) = ports()?;
    let dir = folder.display().to_string();
    let (filter, upstream_options, alpn) = match shape.wire {
        Wire::Http1 => (ENVOY_HTTP, "", "\"http/1.1\""),
        Wire::Http2 => (ENVOY_HTTP, ENVOY_HTTP2_UPSTREAM, "\"h2\""),
        Wire::Tcp => (ENVOY_TCP, "", ""),
    };
    let tls = |side: &str, kind: &str, more: &str| {
        let common = r#"{"tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}, "alpn_protocols": [ALPN],
            "tls_certificates": [{"certificate_chain": {"filename": "DIR/SIDE.pem"}, "private_key": {"filename": "DIR/SIDE.key"}}],
            "validation_context": {"trusted_ca": {"filename": "DIR/ca.pem"}}}"#;
        let text = r#""transport_socket": {"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.KIND", MORE "common_tls_context": COMMON}},"#;
        fill(text, &[("KIND", kind), ("MORE", more), ("COMMON", common), ("SIDE", side), ("DIR", &dir), ("ALPN", alpn)])
    };
    let tls_out = tls("client", "UpstreamTlsContext", "\"sni\": \"server\",");
    let tls_in = tls("server", "DownstreamTlsContext", "\"require_client_certificate\": true,");
    let (outer_text, inner_text) = (outer.to_string(), inner.to_string());
    let origin_port = origin.rsplit(':').next().unwrap_or_default();
    let sides = shape.sides(&outer_text, &inner_text, origin_port, &tls_in, &tls_out);
    let mut starts = vec![];
    for (at, [side, listen, next, listener, upstream]) in sides.into_iter().enumerate() {
        let path = folder.join(format!("{side}.json"));
        let upstream = format!("{upstream}{upstream_options}");
        let values = [("FILTER", filter), ("LISTENER", listener), ("LISTEN", listen), ("UPSTREAM", &upstream), ("NEXT", next)];
        write(&path, &fill(ENVOY, &values))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).args(["--concurrency", "1", "--log-level", "error", "--base-id"]);
        // Two instances on one machine must not share memory.
        command.arg((u32::from(outer) + u32::try_from(at).unwrap_or(0)).to_string());
        starts.push(Start { command });
    }
    Ok(Pair { target: format!("127.0.0.1:{outer}"), callee: format!("127.0.0.1:{inner}"), sides: starts })
}
