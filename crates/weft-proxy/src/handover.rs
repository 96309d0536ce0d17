//! Sockets that a proxy listens on, to be handed to a successor, and those that it got from a predecessor.
//!
//! Upgrading a proxy: the new process takes the sockets ([`weft_wire::handover::take`]), starts with them and says that it serves;
//! the old one then drains. Nothing is refused or reset, since the queues of the sockets never close.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use weft_wire::handover::Sockets;

type Labelled = Arc<Mutex<BTreeMap<String, Vec<TcpListener>>>>;

/// Listeners by what they are for: `inbound/<port>`, `outbound/<n>`, `explicit/<host>/<port>`, `http-proxy`, `gateway/<address>`.
#[derive(Debug, Clone, Default)]
pub struct Listening {
    /// Copies, when they may be asked for.
    own: Option<Labelled>,
    inherited: Labelled,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listening {
    /// For a proxy that can be succeeded, with what its predecessor left; empty for the first.
    pub fn new(inherited: Sockets) -> Self {
        let mut by_label = BTreeMap::<String, Vec<TcpListener>>::new();
        for (label, listeners) in inherited {
            by_label.entry(label).or_default().extend(listeners);
        }
        Self { own: Some(Arc::default()), inherited: Arc::new(Mutex::new(by_label)) }
    }

    /// Sockets of the predecessor for this purpose; each is taken once.
    pub fn inherited(&self, label: &str) -> Option<Vec<TcpListener>> {
        lock(&self.inherited).remove(label)
    }

    /// These are listened on.
    pub(crate) fn note(&self, label: &str, listeners: &[TcpListener]) {
        let Some(own) = &self.own else { return };
        let copies: Vec<TcpListener> = listeners.iter().filter_map(|listener| listener.try_clone().ok()).collect();
        lock(own).entry(label.to_owned()).or_default().extend(copies);
    }

    /// They are not any more.
    pub(crate) fn remove(&self, label: &str) {
        if let Some(own) = &self.own {
            lock(own).remove(label);
        }
    }

    /// Copies of all, for a successor.
    pub fn sockets(&self) -> Sockets {
        let Some(own) = &self.own else { return Sockets::new() };
        let copies = |listeners: &Vec<TcpListener>| listeners.iter().filter_map(|l| l.try_clone().ok()).collect();
        lock(own).iter().map(|(label, listeners)| (label.clone(), copies(listeners))).collect()
    }

    /// Closes the copies: a socket is closed when nobody holds it, and a port that is left must not stay half open.
    pub(crate) fn forget(&self) {
        if let Some(own) = &self.own {
            lock(own).clear();
        }
        lock(&self.inherited).clear();
    }
}
