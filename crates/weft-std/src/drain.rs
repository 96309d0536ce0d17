//! Drain: telling everything that serves to finish, and waiting until it has, or until the deadline.

use crate::clock;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// Makes the two ends of a drain.
#[derive(Debug)]
pub struct Drain;

/// The end that asks to finish and waits for it.
#[derive(Debug)]
pub struct DrainTrigger {
    signal: watch::Sender<bool>,
    all_gone: mpsc::Receiver<()>,
    held: Arc<()>,
}

/// The end that connections hold: tells when to finish, and by being dropped that it is done.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    signal: watch::Receiver<bool>,
    _gone: mpsc::Sender<()>,
    _held: Arc<()>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every watch was dropped in time.
    Complete,
    /// The deadline came first; so many watches were still held.
    Expired {
        /// Watches that were not dropped yet.
        left: usize,
    },
}

impl Drain {
    /// A trigger and its first watch.
    #[allow(clippy::new_ret_no_self, reason = "a drain is a pair; the type only names it")]
    pub fn new() -> (DrainTrigger, DrainWatch) {
        let (signal, signaled) = watch::channel(false);
        let (gone, all_gone) = mpsc::channel(1);
        let held = Arc::new(());
        let watch = DrainWatch { signal: signaled, _gone: gone, _held: held.clone() };
        (DrainTrigger { signal, all_gone, held }, watch)
    }
}

impl DrainTrigger {
    /// Signals all watches, without waiting.
    pub fn signal(&self) {
        self.signal.send_replace(true);
    }

    /// How many watches are held.
    pub fn held(&self) -> usize {
        Arc::strong_count(&self.held) - 1
    }

    /// Signals all watches and waits until they are dropped, `deadline` at most.
    pub async fn drain(mut self, deadline: Duration) -> Drained {
        self.signal();
        let end = clock::now() + deadline;
        match tokio::time::timeout_at(end, self.all_gone.recv()).await {
            Ok(_) => Drained::Complete,
            Err(_) => Drained::Expired { left: self.held() },
        }
    }
}

impl DrainWatch {
    /// Returns when draining has begun, at once if it already has; also when the trigger is gone. Safe to cancel.
    pub async fn signaled(&self) {
        // An error means that the trigger was dropped: nobody is left to serve for.
        self.signal.clone().wait_for(|signaled| *signaled).await.ok();
    }

    /// Has draining begun? Cheap; for a check per request.
    pub fn is_signaled(&self) -> bool {
        *self.signal.borrow() || self.signal.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_watches() {
        let (trigger, watch) = Drain::new();
        assert!(!watch.is_signaled());
        let other = watch.clone();
        let worker = tokio::spawn(async move {
            other.signaled().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        });
        drop(watch);
        assert_eq!(trigger.drain(Duration::from_secs(10)).await, Drained::Complete);
        worker.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline() {
        let (trigger, watch) = Drain::new();
        let second = watch.clone();
        assert_eq!(trigger.drain(Duration::from_secs(10)).await, Drained::Expired { left: 2 });
        assert!(watch.is_signaled() && second.is_signaled());
    }

    #[tokio::test]
    async fn a_dropped_trigger_signals() {
        let (trigger, watch) = Drain::new();
        drop(trigger);
        watch.signaled().await;
        assert!(watch.is_signaled());
    }
}
