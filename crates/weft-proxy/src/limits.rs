//! Every bound on what the network can make this proxy do. Each has a name, a unit and a reason.

use std::time::Duration;

/// Longest request head (line and headers) in bytes; beyond it 431. Envoy allows 60 KiB.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most headers in one request; beyond it 431.
pub const HEADERS_MAX: usize = 100;
/// Longest time for a request's head to come in once its connection waits for it; then 408 or close (slow loris).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a caller between two requests on an HTTP/1 connection. Envoy's edge allows a stream as much.
pub const DOWNSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest time for a connection's first bytes: server-first protocols send none, and are passed on as TCP after it.
pub const SNIFF_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest time for a TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause of an accept loop while the proxy is short of memory or file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections served at once for each worker where nothing else is configured; beyond it new ones are closed with a reason.
pub const CONNECTIONS_MAX: usize = 10_000;
/// HTTP/2 streams that a peer may have open on one connection.
pub const H2_STREAMS_MAX: u32 = 256;
/// Bytes that may be in flight on one HTTP/2 stream.
pub const H2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that may be in flight on one HTTP/2 connection.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes that wait to be sent on one HTTP/2 stream whose peer reads slowly.
pub const H2_SEND_BUFFER_BYTES: usize = 128 * 1024;
/// A peer that has open streams and says nothing for so long is asked whether it is still there.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to say so.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pooled connections that may turn out closed, one after the other, before a request gives up.
pub const STALE_CONNECTIONS_MAX: usize = 16;
/// Streams that a peer may reset before the connection is closed (rapid reset, CVE-2023-44487).
pub const H2_RESET_STREAMS_MAX: usize = 64;
/// Requests in flight on one upstream HTTP/2 connection before another is opened.
pub const H2_UPSTREAM_STREAMS_MAX: u32 = 100;
/// Idle HTTP/1 connections kept per endpoint and worker.
pub const IDLE_CONNECTIONS_MAX: usize = 256;
/// Longest time that an upstream connection stays idle where nothing else is configured.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Checks of a cluster that nobody calls for so long are stopped until the next call.
pub const HEALTH_CHECK_UNUSED: Duration = Duration::from_secs(600);
/// Most bytes of an answer to a health check that are read.
pub const HEALTH_CHECK_BYTES_MAX: usize = 64 * 1024;
/// Longest time for which an endpoint is believed that it is busy (`Retry-After`).
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How long an endpoint that answers 429 or 503 without `Retry-After` is taken to be busy: not at all for 503, which has other causes.
pub const BUSY_DEFAULT: Duration = Duration::from_secs(1);
/// Longest time to connect where nothing else is configured (Envoy's and Istio's default).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one request is sent in all: attempts, hedges, fallback and copies together (amplification).
pub const SENDS_MAX: u32 = 10;
/// Copies of one request; further mirrors of its route get none.
pub const COPIES_MAX: usize = 5;
/// A request body up to this size can be sent again; a larger one makes the request final, in bytes.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// Questions to the control plane that may wait at once.
pub const NEEDS_QUEUED_MAX: usize = 1024;
/// Longest wait for the answer to a cold miss.
pub const NEED_TIMEOUT: Duration = Duration::from_secs(2);
/// How long "the mesh does not know it" is believed.
pub const UNKNOWN_KEPT: Duration = Duration::from_secs(2);
/// Names remembered as unknown, per worker.
pub const UNKNOWN_MAX: usize = 4096;
/// Longest time that opaque connections go on once a drain has begun.
pub const TCP_DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest name accepted in a `Host`, in bytes.
pub const AUTHORITY_BYTES_MAX: usize = 512;
/// Most of a request's body that an external authorization service may see, in bytes; it is kept in memory meanwhile.
pub const CHECKED_BODY_BYTES_MAX: usize = 1 << 20;
/// Longest answer of a service that the proxy itself asks, in bytes.
pub const SIDE_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a draining proxy still accepts: who was told late that it goes away is served all the same.
pub const DRAIN_ACCEPT: Duration = Duration::from_millis(100);
/// How long a draining proxy keeps an idle HTTP/1 connection, so that a request that is on its way is answered and not reset.
pub const DRAIN_IDLE: Duration = Duration::from_millis(250);
/// Longest wait for tokens of a global rate limit; then the last share of this proxy decides.
pub const LEASE_WAIT: Duration = Duration::from_millis(250);
/// Keys of one rate limit or bulkhead that are told apart at once; of more, those used longest ago start anew.
pub const LIMIT_KEYS_MAX: usize = 10_000;
/// How often a worker hands its telemetry over.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Reports waiting for the control client; beyond it they are dropped and counted.
pub const REPORTS_QUEUED_MAX: usize = 64;
/// Most headers in one response of an upstream.
pub const RESPONSE_HEADERS_MAX: usize = 200;
/// Shortest time that an address of a name is kept, whatever its server says.
pub const NAME_TTL_MIN: Duration = Duration::from_secs(5);
/// Longest time that an address of a name is kept.
pub const NAME_TTL_MAX: Duration = Duration::from_secs(300);
/// Wait before a name is asked for again whose servers do not answer.
pub const NAME_FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// Names that are kept; beyond it all are asked for anew.
pub const NAMES_MAX: usize = 4096;
/// Addresses of a name that are tried for one connection.
pub const NAME_ADDRESSES_TRIED_MAX: usize = 3;
/// How long it is believed that the server speaks first on a port.
pub const DETECTED_KEPT: Duration = Duration::from_secs(600);
/// Ports of which that is remembered, per worker.
pub const DETECTED_MAX: usize = 4096;
/// Longest time for a proxy outside to open a tunnel.
pub const TUNNEL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer with which it does so, in bytes.
pub const TUNNEL_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest time that an opaque connection may stay without a byte where nothing else is configured (Envoy's default).
pub const TCP_IDLE: Duration = Duration::from_secs(3600);
/// Longest time for a PROXY protocol header.
pub const PROXY_PROTOCOL_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest file with certificates or keys, in bytes.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// How often files with certificates and keys are looked at.
pub const PEM_RELOAD: Duration = Duration::from_secs(10);
/// How often a port of the gateway that could not be opened is tried again.
pub const PORT_RETRY: Duration = Duration::from_secs(2);
/// First wait between two looks at the program's health.
pub const HEALTH_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Longest wait between two looks at the program's health.
pub const HEALTH_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// How long the program may take to accept the connection of such a look.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// Tapped exchanges that wait to be reported; beyond it they are not shown.
pub const TAPPED_KEPT_MAX: usize = 256;
/// Tapped exchanges in one report, so that its size stays far below that of a message.
pub const TAPPED_PER_REPORT_MAX: usize = 32;
