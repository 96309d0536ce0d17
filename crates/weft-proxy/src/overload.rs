//! The overload manager: sheds with a visible reason before memory, file descriptors or connections run out.
//!
//! A monitor on the side thread looks at both resources twice a second, ten times while something is short; the workers read one
//! number. What is given up, and in which order, is [`Level`]'s. File descriptors are also seen where they are taken: the number of
//! an accepted socket says how many are in use, since the kernel gives out the lowest that is free.

use crate::{limits, policy::Limited};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use weft_balance::Level;
use weft_model::Origin;
use weft_telemetry::{Registry, ResponseFlag};
use weft_wire::resources;

/// What a proxy may use; `None`: what the system says.
#[derive(Debug, Clone, Default)]
pub struct OverloadLimits {
    /// Resident memory in bytes; else the limit of the control group, if it has one.
    pub memory_bytes: Option<u64>,
    /// Open files; else `ulimit -n`.
    pub files: Option<u64>,
    /// Downstream connections; else [`limits::CONNECTIONS_MAX`] for each worker.
    pub connections: Option<usize>,
}

/// How things stand, shared by the threads of one proxy.
#[derive(Debug)]
pub(crate) struct Overload {
    level: AtomicU8,
    /// What is short, while something is: 1 memory, 2 files.
    short_of: AtomicU8,
    used: AtomicU64,
    max: AtomicU64,
    /// The proxy goes away: connections are not kept alive.
    draining: AtomicBool,
    connections: AtomicUsize,
    connections_max: usize,
    memory_max: Option<u64>,
    files_max: Option<u64>,
    registry: Registry,
}

/// Pause between two looks, in peace and in need.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_IN_NEED: Duration = Duration::from_millis(100);

impl Overload {
    pub(crate) fn new(wanted: &OverloadLimits, workers: usize, registry: &Registry) -> Arc<Self> {
        Arc::new(Self {
            level: AtomicU8::new(0),
            short_of: AtomicU8::new(0),
            used: AtomicU64::new(0),
            max: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            connections_max: wanted.connections.unwrap_or(limits::CONNECTIONS_MAX * workers.max(1)),
            memory_max: wanted.memory_bytes.or_else(resources::memory_max),
            files_max: wanted.files.or_else(resources::open_files_max),
            registry: registry.clone(),
        })
    }

    pub(crate) fn level(&self) -> Level {
        match self.level.load(Relaxed) {
            0 => Level::Normal,
            1 => Level::NoKeepAlive,
            2 => Level::Shed,
            _ => Level::StopAccepting,
        }
    }

    /// May connections stay open for a next request?
    pub(crate) fn keeps_alive(&self) -> bool {
        self.level.load(Relaxed) == 0 && !self.draining.load(Relaxed)
    }

    /// The proxy goes away.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// May there be another connection?
    pub(crate) fn has_place(&self) -> bool {
        let free = self.connections.load(Relaxed) < self.connections_max;
        if !free {
            self.registry.limit("CONNECTIONS_MAX").inc();
        }
        free
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// An accepted socket has this number: at least so many files are open.
    pub(crate) fn saw_file(&self, number: u64) {
        if let Some(max) = self.files_max
            && number.saturating_mul(100) >= max.saturating_mul(85)
        {
            self.set(self.level().max(Level::Normal.next(number, max)), 2, number, max);
        }
    }

    fn set(&self, level: Level, short_of: u8, used: u64, max: u64) {
        let before = self.level.swap(level as u8, Relaxed);
        self.short_of.store(short_of, Relaxed);
        self.used.store(used, Relaxed);
        self.max.store(max, Relaxed);
        if before != level as u8 {
            const HELP: &str =
                "What a proxy has given up for want of memory or file descriptors: 1 keep-alive, 2 new requests, 3 new connections.";
            self.registry.gauge("weft_overload_level", HELP, &[]).set(i64::from(level as u8));
            let what = if short_of == 1 { "memory" } else { "file descriptors" };
            match level {
                Level::Normal => tracing::info!("no resource of this proxy is short any more"),
                _ => tracing::warn!(?level, what, used, max, "a resource of this proxy is short"),
            }
        }
    }

    /// Looks at the resources.
    fn look(&self) {
        let now = self.level();
        let memory = self.memory_max.map(|max| (resources::resident_bytes(), max));
        let files = self.files_max.map(|max| (resources::open_files(), max));
        let rated = [(memory, 1), (files, 2)].into_iter().filter_map(|(use_of, which)| {
            let (used, max) = use_of?;
            Some((now.next(used, max), which, used, max))
        });
        if let Some((level, which, used, max)) = rated.max_by_key(|(level, _, used, max)| (*level, used * 100 / (*max).max(1))) {
            self.set(level, which, used, max);
        }
    }

    /// Looks again and again.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            self.look();
            tokio::time::sleep(if self.level() == Level::Normal { LOOK } else { LOOK_IN_NEED }).await;
        }
    }

    /// Why a request is shed now, if it is.
    pub(crate) fn sheds(&self) -> Option<Box<Limited>> {
        if self.level() < Level::Shed {
            return None;
        }
        let (used, max) = (self.used.load(Relaxed), self.max.load(Relaxed));
        let (what, amount, limit) = match self.short_of.load(Relaxed) {
            1 => ("memory", format!("{} of {} MiB are", used >> 20, max >> 20), "OVERLOAD_MEMORY"),
            _ => ("fds", format!("{used} of {max} file descriptors are"), "OVERLOAD_FILES"),
        };
        self.registry.limit(limit).inc();
        Some(Box::new(Limited {
            status: 503,
            grpc_status: 14,
            flag: ResponseFlag::Overload,
            details: format!("overload[{what}]"),
            words: format!("overload: {what}: {amount} in use at this proxy, so that new requests are shed"),
            origin: Origin::built_in(if what == "memory" { "overload: memory" } else { "overload: fds" }),
            retry_after: Some(Duration::from_secs(1)),
            standing: None,
        }))
    }
}
