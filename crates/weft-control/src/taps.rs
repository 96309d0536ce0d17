//! Taps: single exchanges of a workload's proxies, shown to one signed-in user while they happen.

use crate::{CommandError, Control, Proxies, ProxyCommand, limits};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;
use weft_model::SpiffeId;
use weft_proto::v1;
use weft_std::clock::{self, Instant};
use weft_telemetry::{TAP_PER_SECOND_MAX, TAP_SECONDS_MAX, TAP_TOTAL_MAX, TAPS_MAX, TapOrder, Tapped};

/// What a user wants to see.
#[derive(Debug, Clone, Default)]
pub struct TapRequest {
    /// Name of a workload, or id of one of its instances.
    pub workload: String,
    /// An expression; empty for every exchange.
    pub filter: String,
    /// Most exchanges.
    pub total: u32,
    /// How long, in seconds.
    pub seconds: u32,
}

/// Why there is no tap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// The filter or a number cannot be used.
    #[error("{0}")]
    Request(String),
    /// Nothing to tap.
    #[error("no proxy of a workload {0} is connected")]
    NoProxy(String),
    /// Others tap.
    #[error("there are {TAPS_MAX} taps already: wait until one ends")]
    TooMany,
    /// A proxy does not listen.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// All taps that run. A cloneable handle.
#[derive(Debug, Clone, Default)]
pub struct Taps {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    open: BTreeMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    /// Who may report for it.
    identities: BTreeSet<String>,
    exchanges: mpsc::Sender<Tapped>,
}

/// A running tap; dropping it ends it at the proxies.
#[derive(Debug)]
pub struct Tap {
    id: String,
    proxies: Vec<String>,
    left: u32,
    until: Instant,
    exchanges: mpsc::Receiver<Tapped>,
    taps: Taps,
    commands: Proxies,
}

impl Taps {
    /// Hands on what a proxy reported. What no tap asked this identity for is left out.
    pub(crate) fn report(&self, tapped: Vec<Tapped>, id: &SpiffeId) {
        let (inner, identity) = (self.lock(), id.to_string());
        for exchange in tapped {
            if let Some(open) = inner.open.get(&exchange.tap).filter(|open| open.identities.contains(&identity))
                && open.exchanges.try_send(exchange).is_err()
            {
                tracing::debug!(%identity, "a tapped exchange was left out: the user does not read");
            }
        }
    }

    fn open(&self, started_ms: u64, identities: BTreeSet<String>) -> Result<(String, mpsc::Receiver<Tapped>), TapError> {
        let mut inner = self.lock();
        if inner.open.len() >= TAPS_MAX {
            return Err(TapError::TooMany);
        }
        inner.last += 1;
        // A proxy may still run one of the control plane's life before.
        let id = format!("{started_ms}-{}", inner.last);
        let (sender, exchanges) = mpsc::channel(limits::TAPPED_WAITING_MAX);
        inner.open.insert(id.clone(), Open { identities, exchanges: sender });
        Ok((id, exchanges))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the map whole, so a poisoned lock is still good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Begins a tap at all proxies of a workload. It is written to the log; `user` says who asked.
    ///
    /// # Errors
    /// When the filter cannot be read, no such proxy is connected, or there are too many taps.
    pub fn tap(&self, request: &TapRequest, user: &str) -> Result<Tap, TapError> {
        TapOrder::read_filter(&request.filter).map_err(TapError::Request)?;
        for (name, given, most) in [("max", request.total, TAP_TOTAL_MAX), ("duration", request.seconds, TAP_SECONDS_MAX)] {
            if given == 0 || given > most {
                return Err(TapError::Request(format!("{name} must be from 1 to {most}")));
            }
        }
        let parts = self.parts();
        let wanted = |proxy: &crate::ProxyStatus| proxy.connected && (proxy.workload == request.workload || proxy.id == request.workload);
        let found: Vec<_> = parts.proxies.list().into_iter().filter(wanted).collect();
        if found.is_empty() {
            return Err(TapError::NoProxy(request.workload.clone()));
        }
        let identities = found.iter().map(|proxy| proxy.identity.clone()).collect();
        let (id, exchanges) = parts.taps.open(self.started_unix_ms(), identities)?;
        let duration = Duration::from_secs(request.seconds.into());
        let mut tap = Tap {
            id: id.clone(),
            proxies: Vec::new(),
            left: request.total,
            until: clock::now() + duration + limits::TAP_GRACE,
            exchanges,
            taps: parts.taps.clone(),
            commands: parts.proxies.clone(),
        };
        for proxy in found {
            let order = v1::Tap {
                id: id.clone(),
                filter: request.filter.clone(),
                per_second: TAP_PER_SECOND_MAX,
                total: request.total,
                duration_ms: u64::from(request.seconds) * 1_000,
            };
            parts.proxies.command(&proxy.id, ProxyCommand::Tap(order))?;
            tap.proxies.push(proxy.id);
        }
        let (workload, filter, seconds, proxies) = (&request.workload, &request.filter, request.seconds, tap.proxies.join(" "));
        tracing::info!(tap = id, user, workload, filter, seconds, max = request.total, proxies, "a tap begins");
        Ok(tap)
    }
}

impl Tap {
    /// Its name, which the log tells too.
    pub fn id(&self) -> &str {
        &self.id
    }
    /// Ids of the proxies that are tapped.
    pub fn proxies(&self) -> &[String] {
        &self.proxies
    }

    /// The next exchange; `None` when the time is over or all were shown.
    pub async fn next(&mut self) -> Option<Tapped> {
        self.left = self.left.checked_sub(1)?;
        tokio::time::timeout_at(self.until, self.exchanges.recv()).await.ok().flatten()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.taps.lock().open.remove(&self.id);
        for proxy in &self.proxies {
            // A proxy that does not hear it ends the tap by its own clock.
            let over = v1::Tap { id: self.id.clone(), ..v1::Tap::default() };
            self.commands.command(proxy, ProxyCommand::Tap(over)).ok();
        }
        tracing::info!(tap = self.id, "a tap ends");
    }
}
