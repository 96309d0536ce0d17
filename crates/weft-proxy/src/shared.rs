//! What the workers and the control client of one proxy share: the snapshot, the identity, the way to ask.

use crate::{
    Snapshot,
    control::{Leases, Needs},
};
use arc_swap::ArcSwap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use weft_pki::SvidState;
use weft_std::clock::{self, Instant};
use weft_telemetry::Report;

/// Shared by all threads of one proxy.
#[derive(Debug)]
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
    /// Zero of the time that the workers share (ejections, warm-ups).
    pub(crate) epoch: Instant,
    /// Certificate, key and trust bundle of this proxy; the control client installs and rotates them.
    pub svid: SvidState,
    /// Tokens of global rate limits.
    pub leases: Leases,
    /// Names of endpoints outside of the mesh.
    pub names: crate::Names,
    /// Who wants to see exchanges.
    pub taps: crate::Taps,
    /// Cold misses go here.
    pub needs: Needs,
    /// Telemetry goes here, about once a second from each worker.
    pub reports: mpsc::Sender<Report>,
}

impl Shared {
    /// With an empty snapshot: everything is refused until the first is published.
    pub fn new(svid: SvidState, needs: Needs, reports: mpsc::Sender<Report>) -> Arc<Self> {
        let snapshot = ArcSwap::from_pointee(Snapshot::default());
        Arc::new(Self {
            snapshot,
            generation: watch::Sender::new(0),
            epoch: clock::now(),
            svid,
            leases: Leases::new(),
            names: crate::Names::default(),
            taps: crate::Taps::default(),
            needs,
            reports,
        })
    }

    /// The snapshot in use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Cheap access for the request path.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Puts a new snapshot in place. `generation` is the control plane's number, for people.
    pub fn publish(&self, snapshot: Snapshot, generation: u64) {
        self.snapshot.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }

    /// The generation in use; changes with every publication.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
