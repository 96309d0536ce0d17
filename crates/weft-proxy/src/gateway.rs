//! The gateway's ports: opened and closed as the configuration asks, while everything else goes on.

use crate::{
    config::GatewayPorts,
    edge::{self, Edge},
    handover::Listening,
    limits,
    proxy::{Command, Task},
    shared::Shared,
};
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};
use tokio::sync::{mpsc, watch};
use weft_model::{GatewayListener, Origin};
use weft_pki::SvidState;
use weft_wire::listen::reuse_port_listeners;

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
    edge: watch::Sender<Arc<Edge>>,
    /// What its sockets are called when they are handed over.
    label: String,
    /// As served, with their files read.
    listeners: Vec<GatewayListener>,
}

/// Follows the snapshots until the proxy ends.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    ports: GatewayPorts,
    workers: Vec<mpsc::Sender<Command>>,
    states: watch::Sender<PortStates>,
    listening: Listening,
) {
    let mut generation = shared.generation();
    let mut open = BTreeMap::new();
    loop {
        let listeners = shared.snapshot().gateway.as_ref().map(|g| g.listeners.clone()).unwrap_or_default();
        reconcile(&listeners, &ports, (&workers, &shared.svid, &listening), &mut open, &states).await;
        let closed = states.borrow().values().any(Result::is_err);
        let files = listeners.iter().any(edge::names_files);
        let retry = async {
            match (closed, files) {
                (true, _) => tokio::time::sleep(limits::PORT_RETRY).await,
                (false, true) => tokio::time::sleep(limits::PEM_RELOAD).await,
                (false, false) => std::future::pending().await,
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
    (workers, svid, listening): (&[mpsc::Sender<Command>], &SvidState, &Listening),
    open: &mut BTreeMap<u16, Open>,
    states: &watch::Sender<PortStates>,
) {
    let mut wanted: BTreeMap<u16, Vec<&GatewayListener>> = BTreeMap::new();
    for listener in listeners {
        wanted.entry(listener.port).or_default().push(listener);
    }
    open.retain(|port, known| {
        let keep = wanted.contains_key(port);
        if !keep {
            listening.remove(&known.label);
        }
        keep
    });
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
        let known = open.get(&port);
        let (usable, problems) = usable(&listeners, known.map(|k| k.listeners.as_slice()).unwrap_or_default(), svid);
        for problem in &problems {
            tracing::warn!(port, problem, "a listener is not served as written; its last good form, if there is one, stays in use");
        }
        if usable.is_empty() {
            open.remove(&port);
            let fix = "name a Secret with a certificate and a key in the listener, or apply that Secret";
            set(port, Err((problems.join("; "), fix.into())));
            continue;
        }
        if known.is_some_and(|k| k.listeners == usable) {
            continue;
        }
        let edge = match Edge::new(&usable, svid) {
            Ok(edge) => Arc::new(edge),
            // Each can be served by itself: only together they cannot.
            Err(reason) => {
                set(port, Err((reason, "correct the certificates and keys that the listeners name".into())));
                continue;
            }
        };
        match open.get_mut(&port) {
            Some(known) => {
                known.edge.send_replace(edge);
                known.listeners = usable;
            }
            None => set(port, start(port, edge, usable, ports, (workers, listening), open).await),
        }
    }
}

/// The listeners of a port as they can be served: one that cannot is served in its last good form, or not at all, and harms no other.
fn usable(written: &[&GatewayListener], known: &[GatewayListener], svid: &SvidState) -> (Vec<GatewayListener>, Vec<String>) {
    let (mut usable, mut problems) = (Vec::new(), Vec::new());
    for listener in written {
        let checked = edge::resolved(listener).and_then(|l| Edge::new(std::slice::from_ref(&l), svid).map(|_| l));
        match checked {
            Ok(listener) => usable.push(listener),
            Err(why) => {
                problems.push(format!("listener {}: {why}", listener.name));
                usable.extend(known.iter().find(|k| k.name == listener.name && k.origin.object() == listener.origin.object()).cloned());
            }
        }
    }
    (usable, problems)
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
    edge: Arc<Edge>,
    served: Vec<GatewayListener>,
    ports: &GatewayPorts,
    (workers, listening): (&[mpsc::Sender<Command>], &Listening),
    open: &mut BTreeMap<u16, Open>,
) -> Result<SocketAddr, (String, String)> {
    let address = ports.address(port);
    let label = format!("gateway/{address}");
    let listeners = match listening.inherited(&label) {
        Some(inherited) => inherited,
        None => bind(address, workers.len()).await.map_err(|error| said(port, &error))?,
    };
    listening.note(&label, &listeners);
    let address = listeners.first().and_then(|l| l.local_addr().ok()).unwrap_or(address);
    let edge = watch::Sender::new(edge);
    let stop = watch::Sender::new(false);
    // A predecessor may have had more workers: every queue of its sockets is served.
    for (worker, listener) in workers.iter().cycle().zip(listeners) {
        let task = Task::Gateway { port, edge: edge.subscribe() };
        let sent = worker.send(Command::Listen { listener, task, stop: stop.subscribe() }).await;
        sent.map_err(|_| ("the proxy is ending".to_owned(), String::new()))?;
    }
    open.insert(port, Open { _stop: stop, edge, listeners: served, label });
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
