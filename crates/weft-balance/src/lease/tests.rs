//! Leases: never more than the limit in a window, whoever asks; fair by demand; and what holds while the control plane is away.

use super::*;

const LIMIT: &str = "default/limit/all";

fn rate(requests: u32, per_ms: u64) -> LimitRate {
    LimitRate { requests, per_ms, burst: requests }
}

/// A small generator, so that runs can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

#[test]
fn never_more_than_the_limit_in_a_window_whoever_asks() {
    for seed in 1..300_u32 {
        let mut random = Random(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let limit = rate(1 + u32::try_from(random.below(500)).expect("small"), 1 + random.below(3000));
        let mut book = LeaseBook::default();
        let mut now = 0;
        let mut granted: BTreeMap<(u64, String), u32> = BTreeMap::new();
        let mut held: BTreeMap<(String, String), (u64, u32)> = BTreeMap::new();
        for _ in 0..400 {
            now += random.below(limit.per_ms / 3 + 2);
            let proxy = format!("p{}", random.below(7));
            let key = format!("k{}", random.below(3));
            let mut ask = LeaseAsk { limit: LIMIT.into(), key: key.clone(), ..LeaseAsk::default() };
            ask.want = u32::try_from(random.below(100)).expect("small");
            ask.demand = u32::try_from(random.below(200)).expect("small");
            // Returned now and then, sometimes more than there is: a proxy may lie.
            let (window, tokens) = held.get(&(proxy.clone(), key.clone())).copied().unwrap_or_default();
            (ask.window, ask.returned) =
                (window, if random.below(4) == 0 { tokens + u32::try_from(random.below(9)).expect("small") } else { 0 });
            let grant = book.ask(Duration::from_millis(now), &proxy, limit, &ask);
            let sum = granted.entry((grant.window, key.clone())).or_default();
            if ask.window == grant.window {
                *sum -= ask.returned.min(tokens);
            }
            let kept = if ask.window == grant.window { tokens.saturating_sub(ask.returned) } else { 0 };
            held.insert((proxy, key), (grant.window, kept + grant.tokens));
            *sum += grant.tokens;
            assert!(*sum <= limit.requests, "seed {seed}: {sum} of {} in window {}", limit.requests, grant.window);
            assert!(grant.left_ms >= 1 && grant.left_ms <= limit.per_ms && grant.tokens <= ask.want);
        }
    }
}

/// Proxies with their load in requests per second, over `seconds`; how many of each passed. Answers take `delay_ms`.
fn run(limit: LimitRate, loads: &[u32], seconds: u64, delay_ms: u64) -> Vec<u32> {
    let mut book = LeaseBook::default();
    let mut holders: Vec<LeaseHolder> = loads.iter().map(|_| LeaseHolder::new(100)).collect();
    holders.iter_mut().for_each(|h| h.connected(true));
    let mut on_the_way: Vec<(u64, usize, LeaseGrant)> = Vec::new();
    let mut waiting = vec![0u32; loads.len()];
    let mut passed = vec![0u32; loads.len()];
    let mut due = vec![0.0; loads.len()];
    for ms in 0..seconds * 1000 {
        let now = Duration::from_millis(ms);
        on_the_way.retain(|(at, to, grant)| {
            if *at <= ms {
                holders[*to].granted(now, grant);
            }
            *at > ms
        });
        for (index, load) in loads.iter().enumerate() {
            due[index] += f64::from(*load) / 1000.0;
            // What waited looks again, without being counted again.
            for _ in 0..std::mem::take(&mut waiting[index]) {
                match holders[index].take(now, LIMIT, &limit, "", Patience::Again) {
                    Leased::Granted { .. } => passed[index] += 1,
                    Leased::Wait => waiting[index] += 1,
                    Leased::Refused { .. } => {}
                }
            }
            while due[index] >= 1.0 {
                due[index] -= 1.0;
                match holders[index].take(now, LIMIT, &limit, "", Patience::First) {
                    Leased::Granted { .. } => passed[index] += 1,
                    Leased::Wait => waiting[index] += 1,
                    Leased::Refused { .. } => {}
                }
            }
            for ask in holders[index].asks(now) {
                let grant = book.ask(now, &index.to_string(), limit, &ask);
                on_the_way.push((ms + delay_ms, index, grant));
            }
        }
    }
    passed
}

#[test]
fn the_sum_over_proxies_is_the_limit() {
    // (limit a second, loads): what passes is within 5 % of the smaller of limit and load.
    for (requests, loads) in [
        (1000, vec![500, 500, 500, 500]),
        (1000, vec![5000, 10, 10]),
        (1000, vec![100, 200, 300]),
        (100, vec![50; 10]),
        (10_000, vec![8000, 8000]),
        (50, vec![1000]),
    ] {
        let passed: u32 = run(rate(requests, 1000), &loads, 20, 2).iter().sum();
        let want = requests.min(loads.iter().sum()) * 20;
        assert!(passed <= want + want / 50, "{requests} {loads:?}: {passed} of {want}");
        assert!(passed >= want - want / 20, "{requests} {loads:?}: {passed} of {want}");
    }
    // A long window with few tokens, and many proxies that each want some.
    let passed: u32 = run(rate(30, 60_000), &[5; 12], 60, 2).iter().sum();
    assert_eq!(passed, 30);
}

#[test]
fn small_demands_are_met_and_large_ones_share_the_rest() {
    let passed = run(rate(1000, 1000), &[5000, 3000, 100, 50], 20, 2);
    let near = |got: u32, want: u32| got.abs_diff(want) <= want / 8;
    assert!(near(passed[2], 2000) && near(passed[3], 1000), "{passed:?}");
    assert!(near(passed[0], 8500) && near(passed[1], 8500), "{passed:?}");
}

#[test]
fn without_the_control_plane_the_last_shares_hold() {
    let limit = rate(100, 1000);
    let (mut book, mut holder, mut other) = (LeaseBook::default(), LeaseHolder::new(10), LeaseHolder::new(10));
    let at = Duration::from_millis;
    for holder in [&mut holder, &mut other] {
        holder.connected(true);
    }
    // Two seconds in which both want more than there is.
    for ms in 0..2000 {
        for (name, holder) in [("a", &mut holder), ("b", &mut other)] {
            let _ = holder.take(at(ms), LIMIT, &limit, "", Patience::First);
            for ask in holder.asks(at(ms)) {
                let grant = book.ask(at(ms), name, limit, &ask);
                holder.granted(at(ms), &grant);
            }
        }
    }
    let mut passed = 0;
    for holder in [&mut holder, &mut other] {
        holder.connected(false);
        let mut own = 0;
        for ms in 3000..4000 {
            own += u32::from(matches!(holder.take(at(ms), LIMIT, &limit, "", Patience::First), Leased::Granted { .. }));
        }
        assert!((45..=50).contains(&own), "{own}");
        passed += own;
    }
    assert!(passed <= 100);
    // One that never had a share takes the limit for its own.
    let mut alone = LeaseHolder::new(10);
    let own = (0..1000).filter(|ms| matches!(alone.take(at(*ms), LIMIT, &limit, "", Patience::First), Leased::Granted { .. })).count();
    assert_eq!(own, 100);
}

#[test]
fn a_control_plane_that_does_not_answer_is_away() {
    let limit = rate(10, 1000);
    let mut holder = LeaseHolder::new(10);
    let at = Duration::from_millis;
    holder.connected(true);
    assert_eq!(holder.take(at(0), LIMIT, &limit, "", Patience::First), Leased::Wait);
    assert_eq!(holder.asks(at(0)).len(), 1);
    assert_eq!(holder.asks(at(500)).len(), 0, "one question at a time");
    assert_eq!(holder.asks(at(1000)).len(), 1, "and again after a second");
    assert!(matches!(holder.take(at(1001), LIMIT, &limit, "", Patience::First), Leased::Granted { .. }));
}

#[test]
fn keys_have_accounts_of_their_own_and_are_bounded() {
    let mut book = LeaseBook::default();
    let ask = |key: &str| LeaseAsk { limit: LIMIT.into(), key: key.into(), want: 10, demand: 10, ..LeaseAsk::default() };
    let limit = rate(10, 1000);
    assert_eq!(book.ask(Duration::ZERO, "p", limit, &ask("a")).tokens, 10);
    assert_eq!(book.ask(Duration::ZERO, "p", limit, &ask("b")).tokens, 10);
    assert_eq!(book.ask(Duration::ZERO, "p", limit, &ask("a")).tokens, 0);
    let granted = (0..LEASE_KEYS_MAX + 500).filter(|n| book.ask(Duration::ZERO, "p", limit, &ask(&format!("x{n}"))).tokens > 0).count();
    assert_eq!(granted, LEASE_KEYS_MAX - 2, "keys of this window are never forgotten");
    assert_eq!(book.ask(Duration::ZERO, "p", limit, &ask("b")).tokens, 0);
    assert_eq!(book.ask(Duration::from_secs(1), "p", limit, &ask("fresh")).tokens, 10);
}
