//! A pick allocates nothing, whatever the algorithm: counted by an allocator that notes the allocations of its thread.
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::Duration,
};
use weft_balance::{Balancer, Outcome, Pick, Plan};
use weft_model::{Cluster, Endpoint, Place};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u32> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_pick_allocates_nothing() {
    for (balancing, weight) in [
        ("LEAST_REQUEST", 1),
        ("LEAST_REQUEST", 3),
        ("ROUND_ROBIN", 1),
        ("ROUND_ROBIN", 3),
        ("RANDOM", 3),
        ("EWMA", 1),
        ("RING_HASH", 1),
        ("MAGLEV", 1),
    ] {
        let cluster: Cluster = serde_json::from_value(serde_json::json!({
            "name": "outbound|80||a", "balancing": balancing, "hash": { "on": "sourceIp", "size": 1009 },
            "locality": { "priority": {} }, "origin": { "kind": "Service", "name": "a" }
        }))
        .expect("a cluster");
        let endpoint = |n: u32| -> Endpoint {
            let weight = if n == 0 { weight } else { 1 };
            serde_json::from_value(serde_json::json!({ "address": format!("10.0.0.{n}:80"), "weight": weight })).expect("an endpoint")
        };
        let mut balancer = Balancer::default();
        let plan = Plan::new(&cluster, (0..50).map(endpoint).collect(), &Place::default(), Arc::default());
        balancer.update(Arc::new(plan));
        let mut one = |n: u64| {
            let now = Duration::from_millis(n + 1);
            let rolls = (n.wrapping_mul(2_654_435_761) as u32, n.wrapping_mul(40_503) as u32);
            let hash = Some(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (id, _) = balancer.pick(&Pick { now, rolls, tried: &[], left: &[], hash }).expect("one");
            balancer.started(id);
            balancer.observed(id, Outcome::Status(200), now);
            balancer.measured(id, Duration::from_millis(3), now);
            balancer.finished(id);
        };
        one(0);
        let before = ALLOCATIONS.with(Cell::get);
        (1..1_000).for_each(&mut one);
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "{balancing}");
    }
}
