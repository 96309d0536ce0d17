//! The gateway's ports: opened and closed as the configuration asks, while everything else goes on.

use crate::{
    config::GatewayPorts,
    limits,
    proxy::{Command, Task},
    shared::Shared,
};
use arc_swap::ArcSwap;
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};
use tokio::sync::{mpsc, watch};
use weft_model::{GatewayListener, GatewayTls, HostPattern, Origin, Protocol};
use weft_pki::{Alpn, public_tls::PublicCertificate};
use weft_wire::{listen::reuse_port_listeners, tls::ServerTls};

/// Where each port is open, or why it is not.
pub type GatewayStatus = BTreeMap<u16, Result<SocketAddr, String>>;

/// The same with all that there is to say about a closed port; the control client and the admin endpoint follow it.
pub type PortStates = BTreeMap<u16, Result<SocketAddr, ClosedPort>>;

/// Why a port is not open. It is tried again every [`limits::PORT_RETRY`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedPort {
    /// Where it should be.
    pub address: SocketAddr,
    /// Why not.
    pub reason: String,
    /// What to do.
    pub fix: String,
    /// Where its (first) listener was written.
    pub origin: Origin,
}

struct Open {
    /// Workers stop accepting when this is dropped.
    _stop: watch::Sender<bool>,
    tls: Option<Arc<ArcSwap<ServerTls>>>,
    certificates: Vec<(Vec<HostPattern>, GatewayTls)>,
}

/// Follows the snapshots until the proxy ends.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    ports: GatewayPorts,
    workers: Vec<mpsc::Sender<Command>>,
    states: watch::Sender<PortStates>,
) {
    let mut generation = shared.generation();
    let mut open = BTreeMap::new();
    loop {
        let listeners = shared.snapshot().gateway.as_ref().map(|g| g.listeners.clone()).unwrap_or_default();
        reconcile(&listeners, &ports, &workers, &mut open, &states).await;
        let closed = states.borrow().values().any(Result::is_err);
        let retry = async {
            match closed {
                true => tokio::time::sleep(limits::PORT_RETRY).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            // Cancel safe: a change that was not seen is seen by the next call.
            changed = generation.changed() => if changed.is_err() {
                return;
            },
            () = retry => {}
        }
    }
}

async fn reconcile(
    listeners: &[GatewayListener],
    ports: &GatewayPorts,
    workers: &[mpsc::Sender<Command>],
    open: &mut BTreeMap<u16, Open>,
    states: &watch::Sender<PortStates>,
) {
    let mut wanted: BTreeMap<u16, Vec<&GatewayListener>> = BTreeMap::new();
    for listener in listeners {
        wanted.entry(listener.port).or_default().push(listener);
    }
    open.retain(|port, _| wanted.contains_key(port));
    states.send_if_modified(|states| {
        let before = states.len();
        states.retain(|port, _| wanted.contains_key(port));
        states.len() != before
    });
    for (port, listeners) in wanted {
        let origin = listeners.first().map(|listener| listener.origin.clone()).unwrap_or_default();
        let set = |port: u16, state: Result<SocketAddr, (String, String)>| {
            let closed = |(reason, fix)| ClosedPort { address: ports.address(port), reason, fix, origin: origin.clone() };
            note(states, port, state.map_err(closed));
        };
        let certificates = certificates_of(&listeners);
        let edge = match edge_tls(&certificates) {
            Ok(edge) => edge,
            Err(reason) => {
                // A port that is open keeps its last good certificates.
                if !open.contains_key(&port) {
                    set(port, Err((reason, "correct the certificate and the key that the listener names".into())));
                }
                continue;
            }
        };
        if edge.is_none() && listeners.iter().any(|l| matches!(l.protocol, Protocol::Https | Protocol::Tls)) {
            open.remove(&port);
            let fix = "name a Secret with a certificate and a key in the listener, or apply that Secret";
            set(port, Err(("the listener speaks TLS and has no certificate".into(), fix.into())));
            continue;
        }
        if let Some(known) = open.get_mut(&port) {
            match (&known.tls, edge) {
                (None, None) => continue,
                (Some(current), Some(edge)) => {
                    if known.certificates != certificates {
                        current.store(Arc::new(edge));
                        known.certificates = certificates;
                    }
                    continue;
                }
                // From plain to TLS or back: the port is opened anew.
                (_, edge) => {
                    open.remove(&port);
                    tokio::task::yield_now().await;
                    set(port, start(port, edge, certificates, ports, workers, open).await);
                }
            }
        } else {
            set(port, start(port, edge, certificates, ports, workers, open).await);
        }
    }
}

/// Keeps the state of a port, and says so when it is another than before.
fn note(states: &watch::Sender<PortStates>, port: u16, state: Result<SocketAddr, ClosedPort>) {
    states.send_if_modified(|states| {
        if states.get(&port) == Some(&state) {
            return false;
        }
        match &state {
            Err(closed) => {
                let (address, reason) = (closed.address, &closed.reason);
                tracing::warn!(port, %address, reason, "a port of the gateway is not open; the others are not affected");
            }
            Ok(address) if states.contains_key(&port) => tracing::info!(port, %address, "the port of the gateway is open now"),
            Ok(_) => {}
        }
        states.insert(port, state);
        true
    });
}

async fn start(
    port: u16,
    edge: Option<ServerTls>,
    certificates: Vec<(Vec<HostPattern>, GatewayTls)>,
    ports: &GatewayPorts,
    workers: &[mpsc::Sender<Command>],
    open: &mut BTreeMap<u16, Open>,
) -> Result<SocketAddr, (String, String)> {
    let address = ports.address(port);
    let listeners = bind(address, workers.len()).await.map_err(|error| said(port, &error))?;
    let address = listeners.first().and_then(|l| l.local_addr().ok()).unwrap_or(address);
    let tls = edge.map(|edge| Arc::new(ArcSwap::from_pointee(edge)));
    let stop = watch::Sender::new(false);
    for (worker, listener) in workers.iter().zip(listeners) {
        let task = Task::Gateway { port, tls: tls.clone() };
        let sent = worker.send(Command::Listen { listener, task, stop: stop.subscribe() }).await;
        sent.map_err(|_| ("the proxy is ending".to_owned(), String::new()))?;
    }
    open.insert(port, Open { _stop: stop, tls, certificates });
    Ok(address)
}

/// A port that was closed a moment ago may still be held by a worker that has not seen it yet: tried a few times.
async fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut tries = 0;
    loop {
        match reuse_port_listeners(address, count) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 5 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            bound => return bound,
        }
    }
}

/// Why a port cannot be opened, and what to do.
fn said(port: u16, error: &io::Error) -> (String, String) {
    let elsewhere = format!("map the port elsewhere with `weft up --gateway {port}=PORT`");
    match error.kind() {
        io::ErrorKind::AddrInUse => ("the address is in use by another program".into(), format!("end that program, or {elsewhere}")),
        io::ErrorKind::PermissionDenied => ("this user may not open it".into(), format!("{elsewhere}, to one above 1023")),
        _ => (error.to_string(), elsewhere),
    }
}

fn certificates_of(listeners: &[&GatewayListener]) -> Vec<(Vec<HostPattern>, GatewayTls)> {
    listeners.iter().filter_map(|l| Some((l.hosts.clone(), l.tls.clone()?))).collect()
}

fn edge_tls(certificates: &[(Vec<HostPattern>, GatewayTls)]) -> Result<Option<ServerTls>, String> {
    if certificates.is_empty() {
        return Ok(None);
    }
    let hosts: Vec<Vec<String>> = certificates.iter().map(|(hosts, _)| hosts.iter().map(ToString::to_string).collect()).collect();
    let shown = certificates.iter().zip(&hosts).map(|((_, tls), hosts)| PublicCertificate {
        hosts,
        chain_pem: &tls.certificate_pem,
        key_pem: &tls.private_key_pem,
    });
    let shown: Vec<PublicCertificate<'_>> = shown.collect();
    ServerTls::public(&shown, &[Alpn::H2, Alpn::Http11]).map(Some).map_err(|e| e.to_string())
}
