//! The tasks of the control plane: the only place here that reads the clock in a loop and spawns.

use crate::{Parts, Registry, engine::Engine, journal::Journal};
use futures_util::StreamExt;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use weft_std::{Tasks, clock};

/// How often files are looked at; a change is taken when two looks agree.
const FILES_EVERY: Duration = Duration::from_millis(150);
/// How often graces are ended and old counts dropped.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for the listener of a workload that is away.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// Listeners asked at once.
const PROBES_MAX: usize = 64;
/// Disconnected proxies are shown this long.
const PROXY_KEPT_MS: u64 = 600_000;

/// Starts all tasks.
pub(crate) fn start(tasks: &Tasks, parts: &Parts, engine: &Arc<tokio::sync::Mutex<Engine>>, journal: &Arc<Mutex<Journal>>) {
    tasks.spawn("watch files", watch_files(engine.clone(), journal.clone()));
    tasks.spawn("follow registry", follow_registry(parts.clone(), engine.clone()));
    tasks.spawn("sweep", sweep(parts.clone(), journal.clone()));
}

async fn watch_files(engine: Arc<tokio::sync::Mutex<Engine>>, journal: Arc<Mutex<Journal>>) {
    let mut ticks = interval(FILES_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut engine = engine.lock().await;
        if let Err(error) = engine.look_at_files(clock::unix_ms()).await {
            tracing::error!(%error, "changed files could not be taken over");
        }
        collect_events(&mut engine, &journal);
    }
}

async fn follow_registry(parts: Parts, engine: Arc<tokio::sync::Mutex<Engine>>) {
    let mut changes = parts.registry.watch();
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        if let Err(error) = engine.lock().await.look_at_registry(clock::unix_ms()).await {
            tracing::error!(%error, "changed workloads could not be taken over");
        }
    }
}

async fn sweep(parts: Parts, journal: Arc<Mutex<Journal>>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now_ms = clock::unix_ms();
        if let Err(error) = parts.registry.sweep(now_ms).await {
            tracing::error!(%error, "the registry could not be saved");
        }
        end_graces_of_the_dead(&parts.registry).await;
        parts.telemetry.age(now_ms);
        parts.proxies.sweep(now_ms.saturating_sub(PROXY_KEPT_MS));
        journal.lock().unwrap_or_else(PoisonError::into_inner).follow(&parts.registry.entries(), &parts.proxies.list(), now_ms);
    }
}

/// Asks the listeners of those who are away: where a connection is refused, the process is gone, and its grace with it. Silence
/// says nothing: the machine may be out of reach from here only.
pub(crate) async fn end_graces_of_the_dead(registry: &Registry) {
    let probes = registry.away().into_iter().map(|(id, address)| async move { is_refused(address).await.then_some(id) });
    let dead = futures_util::stream::iter(probes).buffer_unordered(PROBES_MAX).filter_map(std::future::ready).collect::<Vec<_>>().await;
    for id in dead {
        tracing::info!(workload = %id, "nobody listens at the address of a workload whose session is broken: it is taken out");
        if let Err(error) = registry.gone(&id, clock::unix_ms()).await {
            tracing::error!(%error, "the registry could not be saved");
        }
    }
}

async fn is_refused(address: SocketAddr) -> bool {
    match timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}

/// Moves what the engine has noted into the journal.
pub(crate) fn collect_events(engine: &mut Engine, journal: &Mutex<Journal>) {
    let events = std::mem::take(&mut engine.events);
    if !events.is_empty() {
        journal.lock().unwrap_or_else(PoisonError::into_inner).configuration(events, clock::unix_ms());
    }
}
