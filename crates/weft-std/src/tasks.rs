//! Tasks with an owner: named, observed when they panic, ended and joined with the owner.
//!
//! Nothing in Weft calls `tokio::spawn` but this module, so that nothing outlives what started it and no panic is lost.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A set of running tasks. Dropping it cancels them; [`Tasks::shutdown`] also waits for their end.
#[derive(Debug, Default)]
pub struct Tasks {
    spawner: Spawner,
}

/// A cloneable way to start tasks in the set of a [`Tasks`], for code that does not own the set.
#[derive(Debug, Clone, Default)]
pub struct Spawner {
    tracker: TaskTracker,
    cancel: CancellationToken,
    panics: Arc<AtomicUsize>,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `work` on the current runtime. `name` appears in the log when it panics.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.spawner.spawn(name, work)
    }

    /// Starts `work`, which need not be `Send`, on the current `LocalSet`.
    ///
    /// # Panics
    /// Outside of a `LocalSet`.
    pub fn spawn_local(&self, name: &'static str, work: impl Future<Output = ()> + 'static) -> AbortHandle {
        self.spawner.spawn_local(name, work)
    }

    /// A handle with which others start tasks in this set.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// How many tasks are running.
    pub fn len(&self) -> usize {
        self.spawner.tracker.len()
    }

    /// Is no task running?
    pub fn is_empty(&self) -> bool {
        self.spawner.tracker.is_empty()
    }

    /// How many tasks have panicked.
    pub fn panics(&self) -> usize {
        self.spawner.panics.load(Ordering::Relaxed)
    }

    /// Waits until all tasks have ended by themselves.
    pub async fn join(&self) {
        self.spawner.tracker.close();
        self.spawner.tracker.wait().await;
        self.spawner.tracker.reopen();
    }

    /// Cancels all tasks at their next `await` and waits until they are gone.
    pub async fn shutdown(self) {
        self.spawner.cancel.cancel();
        self.join().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.spawner.cancel.cancel();
    }
}

impl Spawner {
    /// See [`Tasks::spawn`]. A task started after the owner is gone ends at once.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let observed = self.observed(name, Box::pin(work));
        tokio::spawn(self.tracker.track_future(observed)).abort_handle()
    }

    /// See [`Tasks::spawn_local`].
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn_local(&self, name: &'static str, work: impl Future<Output = ()> + 'static) -> AbortHandle {
        let observed = self.observed(name, Box::pin(work));
        tokio::task::spawn_local(self.tracker.track_future(observed)).abort_handle()
    }

    /// Runs `work` until it ends, panics, or the owner goes.
    fn observed<F: Future<Output = ()> + Unpin>(&self, name: &'static str, work: F) -> impl Future<Output = ()> + use<F> {
        let (cancel, panics) = (self.cancel.clone(), self.panics.clone());
        async move {
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                outcome = (CatchPanic { work }) => if let Err(panic) = outcome {
                    panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(task = name, panic = panic_text(panic.as_ref()), "a task panicked; the rest goes on");
                },
            }
        }
    }
}

/// Polls `work` and turns a panic into a value.
struct CatchPanic<F> {
    work: F,
}

impl<F: Future<Output = ()> + Unpin> Future for CatchPanic<F> {
    type Output = Result<(), Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = Pin::new(&mut self.work);
        // The future is dropped right after a panic and never polled again, so nobody sees its broken state.
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// The message of a panic, if it has one.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn shutdown_ends_tasks_that_never_would() {
        let tasks = Tasks::new();
        let alive = Arc::new(());
        for _ in 0..3 {
            let held = alive.clone();
            tasks.spawn("waits for ever", async move {
                pending::<()>().await;
                drop(held);
            });
        }
        assert_eq!(tasks.len(), 3);
        tasks.shutdown().await;
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[tokio::test]
    #[allow(clippy::panic, reason = "the test needs one")]
    async fn a_panic_is_counted_and_harms_nobody_else() {
        let tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tasks.spawn("works", async move { sender.send(7).expect("receiver waits") });
        tasks.join().await;
        assert_eq!((tasks.panics(), receiver.await), (1, Ok(7)));
    }

    #[tokio::test]
    async fn local_tasks_need_not_be_send() {
        let local = tokio::task::LocalSet::new();
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        let seen = count.clone();
        local
            .run_until(async move {
                let tasks = Tasks::new();
                tasks.spawn_local("counts", async move { seen.set(seen.get() + 1) });
                tasks.join().await;
            })
            .await;
        assert_eq!(count.get(), 1);
    }

    #[tokio::test]
    async fn a_task_after_the_owner_ends_at_once() {
        let tasks = Tasks::new();
        let spawner = tasks.spawner();
        drop(tasks);
        spawner.spawn("too late", pending());
        spawner.tracker.close();
        spawner.tracker.wait().await;
    }
}
