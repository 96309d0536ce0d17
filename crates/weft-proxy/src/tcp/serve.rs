//! The way of a connection whose bytes are not read.

use super::tunnel;
use crate::{
    http::{Connection, Reject, Scope, tls_record},
    limits,
    net::{DialError, Io},
    policy::{Affinity, Authenticated, Caller, Judgement, Permit, authorize, authorize_at_gateway},
    snapshot::Snapshot,
    upstream::{Chosen, millis},
    worker::Config,
};
use std::time::Duration;
use weft_balance::{Outcome, Slot};
use weft_model::{Backend, ClusterName, ConnectionHead, ConnectionLimits, GATEWAY_TCP_HOST, Service, Target, pick_target};
use weft_pki::Alpn;
use weft_std::clock::{self, Instant};
use weft_telemetry::{Attempt, Party, Reporter, RequestRecord, ResponseFlag, TraceContext, details};
use weft_wire::forward::{ForwardEnd, forward};

/// To the program of this proxy's workload.
pub(crate) async fn inbound(conn: Connection, io: Io) {
    let mut record = start(&conn);
    let started = clock::now();
    let outcome = inbound_connection(&conn, io, &mut record).await;
    finish(&conn, record, started, outcome);
}

async fn inbound_connection(conn: &Connection, io: Io, record: &mut RequestRecord) -> Result<(), Reject> {
    let Scope::Inbound { port, pool } = &conn.scope else { return Ok(()) };
    let config = conn.worker.config();
    let inbound_port = config.snapshot.inbound.as_ref().and_then(|i| i.ports.iter().find(|p| p.port == *port));
    record.destination_service = inbound_port.map(|p| p.service.clone()).unwrap_or_default();
    record.cluster = format!("inbound|{port}||");
    let permit = permitted(conn, &config.snapshot, record)?;
    let slot = pool.tcp_slot().map_err(|what| Reject::Overflow { what, cause: Box::default() })?;
    let (upstream, _) = pool.connect(&conn.worker, Alpn::WeftTcp).await.map_err(reject)?;
    let limits = inbound_port.map(|p| p.limits.clone()).unwrap_or_default();
    copy(permit, conn, io, upstream, record, slot, Lifetime::of(&limits, &weft_model::Origin::default())).await
}

/// To a service.
pub(crate) async fn outbound(conn: Connection, io: Io) {
    let mut record = start(&conn);
    let started = clock::now();
    let outcome = outbound_connection(&conn, io, &mut record).await;
    finish(&conn, record, started, outcome);
}

async fn outbound_connection(conn: &Connection, io: Io, record: &mut RequestRecord) -> Result<(), Reject> {
    let config = conn.worker.config();
    let (service, port) = match &conn.scope {
        Scope::Outbound { service: Some(service), port, .. } if service.port(*port).is_some() => (service.clone(), *port),
        _ => return Err(Reject::UnknownHost(conn.local_address.to_string())),
    };
    record.destination_service = service.host.to_string();
    record.destination.service.clone_from(&service.name);
    let (target, origin) = target(&config, conn, &service, port)?;
    record.route_origin = Some(origin);
    let permit = permitted(conn, &config.snapshot, record)?;
    forward_to(permit, conn, &config, io, cluster_of(target)?, record).await
}

/// From outside, at an edge: to what the port's rules say, or to the cluster that the server name names.
pub(crate) async fn gateway(conn: Connection, io: Io, cluster: Option<ClusterName>) {
    let mut record = start(&conn);
    let started = clock::now();
    let outcome = gateway_connection(&conn, io, cluster, &mut record).await;
    finish(&conn, record, started, outcome);
}

async fn gateway_connection(conn: &Connection, io: Io, cluster: Option<ClusterName>, record: &mut RequestRecord) -> Result<(), Reject> {
    let config = conn.worker.config();
    // Judged before a rule is looked for: who may not enter does not learn what is inside.
    let permit = permitted(conn, &config.snapshot, record)?;
    if let Some(name) = cluster {
        return raw(permit, conn, &config, io, name, record).await;
    }
    let none = || Reject::NoRoute(conn.sni.clone().unwrap_or_else(|| format!("port {}", conn.port())));
    let routes = config.snapshot.tcp_routes(GATEWAY_TCP_HOST, conn.port()).ok_or_else(none)?;
    let route = routes.find(&head(conn)).ok_or_else(none)?;
    record.route_origin = Some(route.origin.clone());
    let target = pick_target(&route.targets, conn.worker.roll()).and_then(|i| route.targets.get(i)).ok_or_else(none)?;
    let name = cluster_of(target.clone())?;
    record.destination_service.clone_from(&name.host);
    forward_to(permit, conn, &config, io, name, record).await
}

/// Bytes of the mesh's own TLS between two proxies elsewhere: passed on as they are, to any endpoint.
async fn raw(
    permit: Permit,
    conn: &Connection,
    config: &Config,
    io: Io,
    name: ClusterName,
    record: &mut RequestRecord,
) -> Result<(), Reject> {
    record.destination_service.clone_from(&name.host);
    record.cluster = name.to_string();
    let upstream = config.upstreams.get(&name).ok_or_else(|| Reject::NoCluster(name.to_string()))?;
    let chosen = upstream.pick(clock::now(), (conn.worker.roll(), conn.worker.roll()), &[])?;
    let cluster = upstream.entry().cluster.clone();
    let cause = || Box::new(cluster.origin.clone());
    let slot = chosen.pool.tcp_slot().map_err(|what| Reject::Overflow { what, cause: cause() })?;
    let _in_flight = upstream.in_flight(&chosen);
    let limit = millis(cluster.limits.connect_timeout_ms).unwrap_or(limits::CONNECT_TIMEOUT);
    let names = Some((&conn.worker.shared.names, cluster.dns_trust));
    let remote = crate::net::dial(&chosen.endpoint.address, limit, names).await.map_err(reject)?;
    copy(permit, conn, io, Box::new(remote), record, slot, Lifetime::of(&cluster.limits, &cluster.origin)).await
}

/// Connects to an endpoint of the cluster, trying others while nothing was sent, and copies.
async fn forward_to(
    permit: Permit,
    conn: &Connection,
    config: &Config,
    io: Io,
    name: ClusterName,
    record: &mut RequestRecord,
) -> Result<(), Reject> {
    record.cluster = name.to_string();
    let upstream = config.upstreams.get(&name).ok_or_else(|| Reject::NoCluster(name.to_string()))?;
    let cluster = upstream.entry().cluster.clone();
    let mut tried = Vec::new();
    // Of an opaque connection only the caller's address can be hashed.
    let hash = Affinity::of(upstream, &http::HeaderMap::new(), None, conn.peer_address.ip(), || conn.worker.random()).hash;
    loop {
        let chosen = upstream.pick_by(clock::now(), (conn.worker.roll(), conn.worker.roll()), &tried, &[], hash)?;
        let chosen = upstream.for_client(chosen, conn.peer_address, conn.local_address);
        record.destination = Party {
            workload: chosen.endpoint.workload_name.clone(),
            namespace: chosen.endpoint.namespace.clone(),
            version: chosen.endpoint.version.clone(),
            principal: chosen.endpoint.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..std::mem::take(&mut record.destination)
        };
        let cause = || Box::new(cluster.origin.clone());
        let slot = chosen.pool.tcp_slot().map_err(|what| Reject::Overflow { what, cause: cause() })?;
        let _in_flight = upstream.in_flight(&chosen);
        let began = clock::now();
        let mut connected = chosen.pool.connect(&conn.worker, Alpn::WeftTcp).await;
        if let (Ok((remote, peer)), Some(wanted)) = (connected.as_mut(), &cluster.tunnel) {
            let through: Io = std::mem::replace(remote, Box::new(tokio::io::empty()));
            connected = tunnel::open(through, wanted).await.map(|io| (io, peer.take()));
        }
        record.attempts.push(attempt(&chosen, &connected, began));
        match connected {
            Ok((remote, peer)) => {
                upstream.observed(chosen.id, Outcome::Status(200), clock::now());
                record.tls = peer.as_ref().map(tls_record);
                return copy(permit, conn, io, remote, record, slot, Lifetime::of(&cluster.limits, &cluster.origin)).await;
            }
            Err(error) => {
                upstream.observed(chosen.id, Outcome::Failed, clock::now());
                tried.push(chosen.id);
                // Nothing was sent: two further endpoints may be tried.
                if tried.len() > 2 {
                    return Err(reject(error));
                }
            }
        }
    }
}

fn attempt<T>(chosen: &Chosen, connected: &Result<T, DialError>, began: Instant) -> Attempt {
    let outcome = match connected {
        Ok(_) => "connected".to_owned(),
        Err(DialError::Connect(why)) => format!("connect: {why}"),
        Err(DialError::Dns(why)) => format!("DNS: {why}"),
        Err(DialError::Timeout(ms)) => format!("connect time-out of {ms} ms"),
        Err(DialError::Tls(why)) => format!("TLS: {why}"),
    };
    let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Attempt { endpoint: chosen.endpoint.address.to_string(), workload: chosen.endpoint.workload.clone(), outcome, duration_us }
}

/// What rules look at.
fn head(conn: &Connection) -> ConnectionHead<'_> {
    ConnectionHead { sni: conn.sni.as_deref(), destination: conn.local_address.ip(), source: conn.peer_address.ip() }
}

fn cluster_of(target: Target) -> Result<ClusterName, Reject> {
    match target.backend {
        Backend::Cluster(name) => Ok(name),
        Backend::Invalid { status, reason } => Err(Reject::InvalidBackend { status, reason }),
    }
}

/// Judges the connection as its side of the mesh does: a sidecar lets its own program call, and the destination judges.
fn judge(conn: &Connection, snapshot: &Snapshot) -> Judgement {
    let opaque = Authenticated::opaque();
    let caller = Caller::new(conn, &opaque, conn.peer_address.ip());
    match &conn.scope {
        Scope::Inbound { port, .. } => authorize(snapshot, &caller, *port, None),
        Scope::Gateway { port, .. } => authorize_at_gateway(snapshot, &caller, *port, None),
        Scope::Outbound { .. } => Judgement { permit: Permit::judged_at_destination(&conn.scope), ..Judgement::default() },
    }
}

/// The same, noted in the record.
fn permitted(conn: &Connection, snapshot: &Snapshot, record: &mut RequestRecord) -> Result<Permit, Reject> {
    let judgement = judge(conn, snapshot);
    judgement.count(&conn.worker.settings.registry);
    let Judgement { decision, permit, shadow, audited } = judgement;
    record.policy.clone_from(&decision);
    (record.shadow, record.audited) = (shadow, audited);
    permit.ok_or_else(|| match decision {
        Some(decision) => Reject::Denied(Box::new(decision)),
        None => Reject::Overload("authorization gave no reason"),
    })
}

/// Waits for a change after which the connection would not be let in any more. Never ready while it would be.
async fn taken_back(conn: &Connection) -> Reject {
    let mut generation = conn.worker.shared.generation();
    let mut edges = match &conn.scope {
        Scope::Gateway { edge, .. } if conn.client.is_some() => edge.clone(),
        _ => None,
    };
    loop {
        match judge(conn, &conn.worker.config().snapshot) {
            Judgement { permit: Some(_), .. } => {}
            Judgement { decision: Some(decision), .. } => return Reject::PolicyChanged(Box::new(decision)),
            Judgement { .. } => return Reject::Overload("authorization gave no reason"),
        }
        if let Err(gone) = conn.check_client() {
            return gone;
        }
        let listeners = async {
            match &mut edges {
                Some(edges) => edges.changed().await,
                None => std::future::pending().await,
            }
        };
        // Cancel safe: a change that was not seen is seen by the next call.
        let changed = tokio::select! {
            changed = generation.changed() => changed,
            changed = listeners => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The rule's destination, or the whole service where there is no rule.
fn target(config: &Config, conn: &Connection, service: &Service, port: u16) -> Result<(Target, weft_model::Origin), Reject> {
    let none = || Reject::NoRoute(conn.sni.clone().unwrap_or_else(|| service.host.to_string()));
    let (targets, origin) = match config.snapshot.tcp_routes(service.host.as_str(), port) {
        Some(routes) => {
            let route = routes.find(&head(conn)).ok_or_else(none)?;
            (route.targets.clone(), route.origin.clone())
        }
        None => match Snapshot::default_route(service, port).action {
            weft_model::RouteAction::Forward(targets) => (targets, service.origin.clone()),
            weft_model::RouteAction::Redirect(_) | weft_model::RouteAction::Respond { .. } => return Err(none()),
        },
    };
    let chosen = pick_target(&targets, conn.worker.roll()).and_then(|i| targets.get(i).cloned());
    chosen.map(|target| (target, origin)).ok_or_else(none)
}

/// How long a connection may be idle, and live.
struct Lifetime {
    idle: Option<Duration>,
    longest: Option<u64>,
    origin: weft_model::Origin,
}

impl Lifetime {
    fn of(limits: &ConnectionLimits, origin: &weft_model::Origin) -> Self {
        let idle = limits.tcp_idle_timeout_ms.map_or(Some(limits::TCP_IDLE), |ms| (ms > 0).then(|| Duration::from_millis(ms)));
        Self { idle, longest: limits.connection_age_ms_max, origin: origin.clone() }
    }
}

async fn copy(
    _permit: Permit,
    conn: &Connection,
    mut io: Io,
    mut upstream: Io,
    record: &mut RequestRecord,
    _slot: Slot,
    lifetime: Lifetime,
) -> Result<(), Reject> {
    let drain = conn.worker.drain.clone();
    let mut ended = None;
    conn.worker.metrics(|metrics| {
        let edge = metrics.edge_of(record);
        metrics.opened(&edge);
    });
    // Bytes that are not understood cannot be told to finish: they get some time, and are cut.
    let stop = async {
        let drained = async {
            drain.signaled().await;
            tokio::time::sleep(limits::TCP_DRAIN_TIMEOUT).await;
        };
        let old = async {
            match lifetime.longest {
                Some(limit_ms) => {
                    tokio::time::sleep(Duration::from_millis(limit_ms)).await;
                    Reject::LivedLongest { limit_ms, cause: Box::new(lifetime.origin.clone()) }
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drained => {}
            reject = taken_back(conn) => ended = Some(reject),
            reject = old => ended = Some(reject),
        }
    };
    let forwarded = forward(&mut io, &mut upstream, lifetime.idle, stop).await;
    if let Some(place) = conn.place().filter(|_| conn.detected == crate::accept::TIMED_OUT && forwarded.upstream_first) {
        conn.worker.detection.server_spoke_first(&place, clock::now(), &conn.worker.settings.registry);
    }
    record.bytes_received = forwarded.sent_bytes;
    record.bytes_sent = forwarded.received_bytes;
    match (forwarded.end, ended) {
        (ForwardEnd::Closed, _) => Ok(()),
        (ForwardEnd::Stopped, Some(reject)) => Err(reject),
        (ForwardEnd::Idle, _) => {
            record.flags.push(ResponseFlag::StreamIdle);
            record.details = details::STREAM_IDLE.into();
            Ok(())
        }
        (end, _) => {
            tracing::debug!(?end, "a connection ended early");
            Ok(())
        }
    }
}

fn reject(error: DialError) -> Reject {
    match error {
        DialError::Connect(why) => Reject::Connect(why),
        DialError::Dns(why) => Reject::Dns(why),
        DialError::Timeout(ms) => Reject::Connect(format!("no connection within {ms} ms")),
        DialError::Tls(why) => Reject::Tls(why),
    }
}

/// Records a connection that was refused before it could be served.
pub(crate) fn refused(conn: &Connection, why: &Reject) {
    let record = start(conn);
    let now = clock::now();
    finish(conn, record, now, Err(why.clone()));
}

fn start(conn: &Connection) -> RequestRecord {
    let worker = &conn.worker;
    let context = TraceContext::root(u128::from(worker.random()) << 64 | u128::from(worker.random()), worker.random(), true);
    RequestRecord {
        id: context.trace_hex(),
        trace_id: context.trace_hex(),
        span_id: context.span_hex(),
        proxy: worker.proxy_id(),
        reporter: if matches!(conn.scope, Scope::Inbound { .. }) { Reporter::Destination } else { Reporter::Source },
        start_unix_ms: clock::unix_ms(),
        protocol: "tcp".into(),
        authority: if matches!(conn.scope, Scope::Outbound { .. }) { conn.local_address.to_string() } else { String::new() },
        downstream: conn.peer_address.to_string(),
        sni: conn.sni.clone().unwrap_or_default(),
        source: conn.caller(None),
        destination: conn.destination_party(),
        tls: conn.tls.as_deref().cloned(),
        details: details::VIA_UPSTREAM.into(),
        detected: conn.detected.into(),
        ..RequestRecord::default()
    }
}

/// The only place that counts, logs and reports a connection.
fn finish(conn: &Connection, mut record: RequestRecord, started: Instant, outcome: Result<(), Reject>) {
    if let Err(reject) = outcome {
        record.flags.extend(reject.flag());
        record.details = reject.details();
        record.cause = reject.cause();
        if let Reject::PolicyChanged(decision) = &reject {
            record.policy = Some((**decision).clone());
        }
        // A connection that came in and was refused shows the peer's fault, not the upstream's.
        if matches!(conn.scope, Scope::Inbound { .. } | Scope::Gateway { .. })
            && matches!(reject, Reject::Tls(_))
            && record.attempts.is_empty()
        {
            record.flags = vec![ResponseFlag::DownstreamProtocol];
            record.attempts.push(Attempt { endpoint: String::new(), workload: String::new(), outcome: reject.words(), duration_us: 0 });
        }
        tracing::debug!(reason = reject.words(), "a connection was refused");
    }
    record.duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    conn.worker.observe(record);
}
