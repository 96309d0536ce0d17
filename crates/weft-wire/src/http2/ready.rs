//! Which of a connection's futures want to be polled: one bit each, set by wakers that live as long as their place.

use super::limits::STREAM_RECORDS_MAX;
use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

const WORDS: usize = STREAM_RECORDS_MAX / 64;

/// The bits, and who polls them. Wakers must be `Send`, hence the atomics; nobody contends for them.
#[derive(Default)]
pub(crate) struct Ready {
    words: [AtomicU64; WORDS],
    task: AtomicWaker,
}

impl Ready {
    /// Sets a bit without waking: the connection's task is the one that runs.
    pub(crate) fn mark(&self, index: u32) {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        if let Some(word) = self.words.get(word) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// The next one at or after `from`, round about; its bit is cleared.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let from = from as usize % STREAM_RECORDS_MAX;
        for step in 0..=WORDS {
            let at = (from / 64 + step) % WORDS;
            let mut bits = self.words[at].load(Ordering::Acquire);
            if step == 0 {
                bits &= u64::MAX << (from % 64);
            }
            if bits != 0 {
                let bit = bits.trailing_zeros();
                self.words[at].fetch_and(!(1 << bit), Ordering::AcqRel);
                return Some(at as u32 * 64 + bit);
            }
        }
        None
    }

    /// Is any bit set?
    pub(crate) fn any(&self) -> bool {
        self.words.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }

    pub(crate) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    pub(crate) fn wake(&self) {
        self.task.wake();
    }

    /// A waker for a place.
    pub(crate) fn waker(self: &Arc<Self>, index: u32) -> Waker {
        Waker::from(Arc::new(Place { ready: self.clone(), index }))
    }
}

struct Place {
    ready: Arc<Ready>,
    index: u32,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.mark(self.index);
        self.ready.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_out_in_turn() {
        let ready = Arc::new(Ready::default());
        for index in [3, 64, 1023] {
            ready.waker(index).wake();
        }
        assert_eq!((ready.next(4), ready.next(65), ready.next(1000), ready.next(0)), (Some(64), Some(1023), Some(3), None));
    }
}
