//! The gateway's ports: opened and closed as the configuration asks, while everything else goes on.

use crate::{
    config::GatewayPorts,
    proxy::{Command, Task},
    shared::Shared,
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, watch};
use weft_model::{GatewayListener, GatewayTls, HostPattern, Protocol};
use weft_pki::{Alpn, public_tls::PublicCertificate};
use weft_wire::{listen::reuse_port_listeners, tls::ServerTls};

/// Where each port is open, or why it is not.
pub type GatewayStatus = BTreeMap<u16, Result<SocketAddr, String>>;

/// Shared with the handle and the admin endpoint.
pub(crate) type SharedStatus = Arc<Mutex<GatewayStatus>>;

struct Open {
    /// Workers stop accepting when this is dropped.
    _stop: watch::Sender<bool>,
    tls: Option<Arc<ArcSwap<ServerTls>>>,
    certificates: Vec<(Vec<HostPattern>, GatewayTls)>,
}

/// Follows the snapshots until the proxy ends.
pub(crate) async fn follow(shared: Arc<Shared>, ports: GatewayPorts, workers: Vec<mpsc::Sender<Command>>, status: SharedStatus) {
    let mut generation = shared.generation();
    let mut open = BTreeMap::new();
    loop {
        let listeners = shared.snapshot().gateway.as_ref().map(|g| g.listeners.clone()).unwrap_or_default();
        reconcile(&listeners, &ports, &workers, &mut open, &status).await;
        if generation.changed().await.is_err() {
            return;
        }
    }
}

async fn reconcile(
    listeners: &[GatewayListener],
    ports: &GatewayPorts,
    workers: &[mpsc::Sender<Command>],
    open: &mut BTreeMap<u16, Open>,
    status: &SharedStatus,
) {
    let mut wanted: BTreeMap<u16, Vec<&GatewayListener>> = BTreeMap::new();
    for listener in listeners {
        wanted.entry(listener.port).or_default().push(listener);
    }
    let set = |port: u16, state: Result<SocketAddr, String>| {
        if let Err(reason) = &state {
            tracing::warn!(port, reason, "a port of the gateway is not open; the others are not affected");
        }
        status.lock().unwrap_or_else(PoisonError::into_inner).insert(port, state);
    };
    open.retain(|port, _| wanted.contains_key(port));
    status.lock().unwrap_or_else(PoisonError::into_inner).retain(|port, _| wanted.contains_key(port));
    for (port, listeners) in wanted {
        let certificates = certificates_of(&listeners);
        let edge = match edge_tls(&certificates) {
            Ok(edge) => edge,
            Err(reason) => {
                // A port that is open keeps its last good certificates.
                if !open.contains_key(&port) {
                    set(port, Err(reason));
                }
                continue;
            }
        };
        if edge.is_none() && listeners.iter().any(|l| matches!(l.protocol, Protocol::Https | Protocol::Tls)) {
            open.remove(&port);
            set(port, Err("the listener speaks TLS and has no certificate".into()));
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

async fn start(
    port: u16,
    edge: Option<ServerTls>,
    certificates: Vec<(Vec<HostPattern>, GatewayTls)>,
    ports: &GatewayPorts,
    workers: &[mpsc::Sender<Command>],
    open: &mut BTreeMap<u16, Open>,
) -> Result<SocketAddr, String> {
    let address = ports.address(port);
    let listeners = bind(address, workers.len()).await?;
    let address = listeners.first().and_then(|l| l.local_addr().ok()).unwrap_or(address);
    let tls = edge.map(|edge| Arc::new(ArcSwap::from_pointee(edge)));
    let stop = watch::Sender::new(false);
    for (worker, listener) in workers.iter().zip(listeners) {
        let task = Task::Gateway { port, tls: tls.clone() };
        worker.send(Command::Listen { listener, task, stop: stop.subscribe() }).await.map_err(|_| "the proxy is ending".to_owned())?;
    }
    open.insert(port, Open { _stop: stop, tls, certificates });
    Ok(address)
}

/// A port that was closed a moment ago may still be held by a worker that has not seen it yet: tried a few times.
async fn bind(address: SocketAddr, count: usize) -> Result<Vec<std::net::TcpListener>, String> {
    let mut tries = 0;
    loop {
        match reuse_port_listeners(address, count) {
            Ok(listeners) => return Ok(listeners),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries < 5 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(format!("{address} is in use by another program"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(format!("{address} may not be opened by this user; map the port to one above 1023"));
            }
            Err(error) => return Err(format!("{address}: {error}")),
        }
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
