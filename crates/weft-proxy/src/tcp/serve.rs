//! The way of a connection whose bytes are not read.

use crate::{
    http::{Connection, Reject, Scope, tls_record},
    net::{DialError, Io},
    policy::{Caller, Permit, authorize},
    snapshot::Snapshot,
    worker::Config,
};
use std::time::Duration;
use weft_balance::{Outcome, Slot};
use weft_model::{Backend, Service, Target, pick_target};
use weft_pki::Alpn;
use weft_std::clock::{self, Instant};
use weft_telemetry::{Attempt, Party, Reporter, RequestRecord, ResponseFlag, TraceContext, details};
use weft_wire::forward::{ForwardEnd, forward};

/// Longest time that a connection may stay without a byte in either direction (Envoy's default).
const IDLE: Duration = Duration::from_secs(3600);

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
    let caller = Caller { peer: conn.peer.as_ref(), source: conn.peer_address, destination: conn.local_address, sni: conn.sni.as_deref() };
    let (decision, permit) = authorize(&config.snapshot, &caller, *port, None);
    record.policy.clone_from(&decision);
    let inbound_port = config.snapshot.inbound.as_ref().and_then(|i| i.ports.iter().find(|p| p.port == *port));
    record.destination_service = inbound_port.map(|p| p.service.clone()).unwrap_or_default();
    record.cluster = format!("inbound|{port}||");
    let Some(permit) = permit else {
        return Err(match decision {
            Some(decision) => Reject::Denied(Box::new(decision)),
            None => Reject::Overload("authorization gave no reason"),
        });
    };
    let slot = pool.tcp_slot().map_err(|what| Reject::Overflow { what, cause: Box::default() })?;
    let (upstream, _) = pool.connect(&conn.worker, Alpn::WeftTcp).await.map_err(reject)?;
    copy(permit, conn, io, upstream, record, slot).await;
    Ok(())
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
    let (target, origin) = target(&config, conn, &service, port)?;
    record.route_origin = Some(origin);
    let name = match &target.backend {
        Backend::Cluster(name) => name,
        Backend::Invalid { status, reason } => return Err(Reject::InvalidBackend { status: *status, reason: reason.clone() }),
    };
    record.cluster = name.to_string();
    let upstream = config.upstreams.get(name).ok_or_else(|| Reject::NoCluster(name.to_string()))?;
    let mut tried = Vec::new();
    loop {
        let chosen = upstream.pick(clock::now(), (conn.worker.roll(), conn.worker.roll()), &tried)?;
        record.destination = Party {
            workload: chosen.endpoint.workload_name.clone(),
            namespace: chosen.endpoint.namespace.clone(),
            service: service.name.clone(),
            version: chosen.endpoint.version.clone(),
            principal: chosen.endpoint.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let cause = || Box::new(upstream.entry().cluster.origin.clone());
        let slot = chosen.pool.tcp_slot().map_err(|what| Reject::Overflow { what, cause: cause() })?;
        let _in_flight = upstream.in_flight(&chosen);
        let began = clock::now();
        let connected = chosen.pool.connect(&conn.worker, Alpn::WeftTcp).await;
        let outcome = match &connected {
            Ok(_) => "connected".to_owned(),
            Err(DialError::Connect(why)) => format!("connect: {why}"),
            Err(DialError::Timeout(ms)) => format!("connect time-out of {ms} ms"),
            Err(DialError::Tls(why)) => format!("TLS: {why}"),
        };
        let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let workload = chosen.endpoint.workload.clone();
        record.attempts.push(Attempt { endpoint: chosen.endpoint.address.to_string(), workload, outcome, duration_us });
        match connected {
            Ok((remote, peer)) => {
                upstream.observed(chosen.id, Outcome::Status(200), clock::now());
                record.tls = peer.as_ref().map(tls_record);
                copy(Permit::judged_at_destination(), conn, io, remote, record, slot).await;
                return Ok(());
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

/// The rule's destination, or the whole service where there is no rule.
fn target(config: &Config, conn: &Connection, service: &Service, port: u16) -> Result<(Target, weft_model::Origin), Reject> {
    let none = || Reject::NoRoute(conn.sni.clone().unwrap_or_else(|| service.host.to_string()));
    let (targets, origin) = match config.snapshot.tcp_routes(service.host.as_str(), port) {
        Some(routes) => {
            let route = routes.find(conn.sni.as_deref()).ok_or_else(none)?;
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

async fn copy(_permit: Permit, conn: &Connection, mut io: Io, mut upstream: Io, record: &mut RequestRecord, _slot: Slot) {
    let drain = conn.worker.drain.clone();
    // Bytes that are not understood cannot be told to finish: they get some time, and are cut.
    let stop = async {
        drain.signaled().await;
        tokio::time::sleep(crate::limits::TCP_DRAIN_TIMEOUT).await;
    };
    let forwarded = forward(&mut io, &mut upstream, Some(IDLE), stop).await;
    record.bytes_received = forwarded.sent_bytes;
    record.bytes_sent = forwarded.received_bytes;
    if !matches!(forwarded.end, ForwardEnd::Closed) {
        tracing::debug!(end = ?forwarded.end, "a connection ended early");
    }
}

fn reject(error: DialError) -> Reject {
    match error {
        DialError::Connect(why) => Reject::Connect(why),
        DialError::Timeout(ms) => Reject::Connect(format!("no connection within {ms} ms")),
        DialError::Tls(why) => Reject::Tls(why),
    }
}

/// Records a connection that was refused before it could be served.
pub(crate) fn refused(conn: &Connection, why: &Reject) {
    let record = start(conn);
    let now = clock::now();
    let rejected = match why {
        Reject::Tls(text) => Reject::Tls(text.clone()),
        other => other.clone(),
    };
    finish(conn, record, now, Err(rejected));
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
        ..RequestRecord::default()
    }
}

/// The only place that counts, logs and reports a connection.
fn finish(conn: &Connection, mut record: RequestRecord, started: Instant, outcome: Result<(), Reject>) {
    if let Err(reject) = outcome {
        record.flags.extend(reject.flag());
        record.details = reject.details();
        record.cause = reject.cause();
        // A connection that came in and was refused shows the peer's fault, not the upstream's.
        if matches!(conn.scope, Scope::Inbound { .. }) && matches!(reject, Reject::Tls(_)) {
            record.flags = vec![ResponseFlag::DownstreamProtocol];
            record.attempts.push(Attempt { endpoint: String::new(), workload: String::new(), outcome: reject.words(), duration_us: 0 });
        }
        tracing::debug!(reason = reject.words(), "a connection was refused");
    }
    record.duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    conn.worker.observe(record);
}
