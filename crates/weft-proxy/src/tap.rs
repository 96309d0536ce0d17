//! Taps of this proxy: who wants to see exchanges, and those that wait to be reported.

use crate::limits::{TAPPED_KEPT_MAX, TAPPED_PER_REPORT_MAX};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use weft_std::clock::Instant;
use weft_telemetry::{Extras, Registry, Report, TAP_PER_SECOND_MAX, TAP_SECONDS_MAX, TAP_TOTAL_MAX, TAPS_MAX, TapOrder, Tapped};

/// Shared by the workers and the control client.
#[derive(Debug, Default)]
pub struct Taps {
    /// All that a request looks at while nobody taps.
    active: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: Vec<Running>,
    shown: Vec<Tapped>,
}

#[derive(Debug)]
struct Running {
    order: TapOrder,
    until: Instant,
    left: u32,
    second: Instant,
    in_second: u32,
}

impl Taps {
    /// Does anybody tap?
    pub fn active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Begins a tap, or ends it where its duration is 0. The bounds hold whatever the order says.
    ///
    /// # Errors
    /// When there are too many already.
    pub fn order(&self, order: TapOrder, now: Instant) -> Result<(), String> {
        let mut inner = self.lock();
        inner.running.retain(|tap| tap.order.id != order.id && tap.until > now);
        let refused = order.duration_ms > 0 && inner.running.len() >= TAPS_MAX;
        if order.duration_ms > 0 && !refused {
            let longest = Duration::from_secs(TAP_SECONDS_MAX.into());
            let until = now + Duration::from_millis(order.duration_ms).min(longest);
            let (left, per_second) = (order.total.min(TAP_TOTAL_MAX), order.per_second.min(TAP_PER_SECOND_MAX));
            inner.running.push(Running { order: TapOrder { per_second, ..order }, until, left, second: now, in_second: 0 });
        }
        self.active.store(!inner.running.is_empty(), Relaxed);
        if refused { Err(format!("this proxy has {TAPS_MAX} taps already")) } else { Ok(()) }
    }

    /// Keeps an exchange for those taps that want it and may have it.
    pub(crate) fn offer(&self, now: Instant, exchange: &Tapped, extras: &Extras, registry: &Registry) {
        let mut inner = self.lock();
        let Inner { running, shown } = &mut *inner;
        for tap in running.iter_mut().filter(|tap| tap.until > now && tap.left > 0 && tap.order.wants(exchange, extras)) {
            if now.saturating_duration_since(tap.second) >= Duration::from_secs(1) {
                (tap.second, tap.in_second) = (now, 0);
            }
            if tap.in_second >= tap.order.per_second {
                registry.limit("TAP_PER_SECOND_MAX").inc();
            } else if shown.len() >= TAPPED_KEPT_MAX {
                registry.limit("TAPPED_KEPT_MAX").inc();
            } else {
                tap.in_second += 1;
                tap.left -= 1;
                shown.push(Tapped { tap: tap.order.id.clone(), ..exchange.clone() });
            }
        }
    }

    /// Hands over what is there, and forgets taps whose time is over. What finds the queue full stays for the next time.
    pub(crate) fn flush(&self, reports: &mpsc::Sender<Report>, now: Instant) {
        let mut inner = self.lock();
        inner.running.retain(|tap| tap.until > now && tap.left > 0);
        self.active.store(!inner.running.is_empty(), Relaxed);
        while !inner.shown.is_empty()
            && let Ok(permit) = reports.try_reserve()
        {
            let some = inner.shown.len().min(TAPPED_PER_REPORT_MAX);
            permit.send(Report { tapped: inner.shown.drain(..some).collect(), ..Report::default() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the lists whole, so a poisoned lock is still good.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_std::clock;

    fn order(id: &str, per_second: u32, total: u32, duration_ms: u64) -> TapOrder {
        TapOrder { id: id.into(), filter: None, per_second, total, duration_ms }
    }

    fn shown(taps: &Taps, now: Instant) -> usize {
        let (sender, mut receiver) = mpsc::channel(64);
        taps.flush(&sender, now);
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|report| report.tapped.len()).sum()
    }

    #[test]
    fn a_tap_is_bounded_in_rate_total_and_time() {
        let (taps, registry, start) = (Taps::default(), Registry::default(), clock::now());
        assert!(!taps.active());
        taps.order(order("a", 2, 3, 5_000), start).expect("room");
        let offer = |at: Instant| (0..10).for_each(|_| taps.offer(at, &Tapped::default(), &Extras::default(), &registry));
        offer(start);
        assert_eq!(shown(&taps, start), 2, "rate");
        let later = start + Duration::from_secs(1);
        offer(later);
        assert_eq!(shown(&taps, later), 1, "total");
        assert!(!taps.active(), "all was shown");
        taps.order(order("b", 2, 3, 5_000), later).expect("room");
        let over = later + Duration::from_secs(5);
        offer(over);
        assert_eq!((shown(&taps, over), taps.active()), (0, false), "time");
    }

    #[test]
    fn there_is_room_for_a_few_and_an_end_makes_room() {
        let (taps, now) = (Taps::default(), clock::now());
        for i in 0..TAPS_MAX {
            taps.order(order(&i.to_string(), 1, 1, 1_000), now).expect("room");
        }
        assert!(taps.order(order("more", 1, 1, 1_000), now).is_err());
        taps.order(order("0", 0, 0, 0), now).expect("ended");
        taps.order(order("more", 1, 1, 1_000), now).expect("room");
    }
}
