//! Running hyper on one thread: its executor for futures that stay on this worker.

use weft_std::Spawner;

/// Spawns on the worker's `LocalSet`, through its task set.
#[derive(Clone)]
pub(crate) struct LocalExecutor(pub Spawner);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, work: F) {
        self.0.spawn_local("h2", work);
    }
}
