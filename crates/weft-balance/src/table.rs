//! Hash tables: a ring and a Maglev table. Made off the request path and shared by the workers.
//!
//! A table holds all endpoints of a level, whether they can be used at the moment or not. A look-up walks past those that
//! cannot, so that an ejection moves the callers of that endpoint only, and nothing is rebuilt.

use weft_model::{hash_bytes, stir};

/// Most points of a ring, whatever the weights: 16 bytes each.
const RING_POINTS_MAX: u64 = 1 << 20;
/// Most slots of a Maglev table (Envoy's bound): 4 bytes each.
const MAGLEV_SLOTS_MAX: usize = 5_000_011;

/// A table of indices.
#[derive(Debug)]
pub(crate) enum Table {
    /// Points on a ring, in order.
    Ring(Vec<(u64, u32)>),
    /// Slots; their number is a prime.
    Maglev(Vec<u32>),
}

/// One endpoint for a table.
pub(crate) struct Entry {
    pub index: u32,
    /// What its place is derived from: the same in every proxy.
    pub key: String,
    pub weight: u64,
}

impl Table {
    /// Each endpoint gets points in proportion to its weight, `size` or more in all. The number for the lightest is a power of two,
    /// so that it rarely changes when endpoints come and go: what changes it moves the callers of all.
    pub(crate) fn ring(entries: &[Entry], size: u32) -> Self {
        let entries: Vec<&Entry> = entries.iter().filter(|e| e.weight > 0).collect();
        let sum: u64 = entries.iter().map(|e| e.weight).sum();
        let least = entries.iter().map(|e| e.weight).min().unwrap_or(1).max(1);
        let wanted = (u64::from(size).clamp(1, RING_POINTS_MAX / 2) * least).div_ceil(sum.max(1)).next_power_of_two();
        let mut ring = Vec::new();
        for entry in entries {
            let exact = u128::from(entry.weight) * u128::from(wanted) / u128::from(least);
            let most = u128::from(entry.weight) * u128::from(RING_POINTS_MAX) / u128::from(sum.max(1));
            let count = exact.min(most).max(1) as u64;
            let start = hash_bytes(entry.key.as_bytes());
            ring.extend((0..count).map(|n| (stir(start.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))), entry.index)));
        }
        ring.sort_unstable();
        Self::Ring(ring)
    }

    /// Maglev (Eisenbud et al., NSDI 2016, §3.4), with weights as turns. `size` is made a prime if it is none.
    pub(crate) fn maglev(entries: &[Entry], size: u32) -> Self {
        let entries: Vec<&Entry> = entries.iter().filter(|e| e.weight > 0).collect();
        let size = next_prime((size as usize).clamp(entries.len().max(2), MAGLEV_SLOTS_MAX));
        if entries.is_empty() {
            return Self::Maglev(Vec::new());
        }
        let most = entries.iter().map(|e| e.weight).max().unwrap_or(1) as f64;
        let mut walkers: Vec<(usize, usize, f64, f64, u32)> = entries
            .iter()
            .map(|e| {
                let hash = hash_bytes(e.key.as_bytes());
                let (offset, step) = (hash as usize % size, stir(hash ^ 0x5bd1_e995) as usize % (size - 1) + 1);
                (offset, step, 0.0, e.weight as f64 / most, e.index)
            })
            .collect();
        let mut slots = vec![u32::MAX; size];
        let mut filled = 0;
        loop {
            for (at, step, credit, share, index) in &mut walkers {
                *credit += *share;
                if *credit < 1.0 {
                    continue;
                }
                *credit -= 1.0;
                while slots[*at] != u32::MAX {
                    *at = (*at + *step) % size;
                }
                slots[*at] = *index;
                filled += 1;
                if filled == size {
                    return Self::Maglev(slots);
                }
            }
        }
    }

    /// The first endpoint for `hash` that may be used.
    pub(crate) fn find(&self, hash: u64, usable: impl Fn(u32) -> bool) -> Option<u32> {
        match self {
            Self::Ring(ring) => {
                let start = ring.partition_point(|(point, _)| *point < hash);
                let round = ring[start..].iter().chain(&ring[..start]);
                round.map(|(_, index)| *index).find(|index| usable(*index))
            }
            Self::Maglev(slots) => {
                let size = slots.len();
                let first = (hash % size.max(1) as u64) as usize;
                // The size is a prime, so that the walk visits each slot once.
                let step = if size > 2 { stir(hash) as usize % (size - 1) + 1 } else { 1 };
                (0..size).map(|n| slots[(first + n * step) % size]).find(|index| usable(*index))
            }
        }
    }
}

fn next_prime(from: usize) -> usize {
    let is_prime = |n: usize| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (from..).find(|n| is_prime(*n)).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(weights: &[u64]) -> Vec<Entry> {
        weights.iter().zip(0u32..).map(|(weight, index)| Entry { index, key: format!("10.0.0.{index}:80"), weight: *weight }).collect()
    }
    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000u64).map(|n| hash_bytes(&n.to_le_bytes()))
    }
    fn spread(table: &Table, endpoints: usize) -> Vec<u32> {
        let mut counts = vec![0; endpoints];
        keys().for_each(|key| counts[table.find(key, |_| true).expect("someone") as usize] += 1);
        counts
    }
    /// χ² per degree of freedom against the shares that the weights ask for.
    fn chi(counts: &[u32], weights: &[u64]) -> f64 {
        let (all, sum) = (counts.iter().sum::<u32>() as f64, weights.iter().sum::<u64>() as f64);
        let term = |(count, weight): (&u32, &u64)| {
            let expected = all * *weight as f64 / sum;
            (f64::from(*count) - expected).powi(2) / expected
        };
        counts.iter().zip(weights).map(term).sum::<f64>() / (counts.len() - 1) as f64
    }

    #[test]
    fn maglev_spreads_evenly_and_by_weight() {
        for weights in [vec![1; 10], vec![3, 1, 2, 2]] {
            let counts = spread(&Table::maglev(&entries(&weights), 65_537), weights.len());
            // Uniform keys over equal shares: χ² per degree is 1 on average; 3 is far beyond chance for 9 degrees.
            assert!(chi(&counts, &weights) < 3.0, "{counts:?}");
        }
    }

    #[test]
    fn a_ring_spreads_by_the_number_of_its_points() {
        let weights = vec![1; 10];
        let fine = chi(&spread(&Table::ring(&entries(&weights), 100_000), 10), &weights);
        let coarse = chi(&spread(&Table::ring(&entries(&weights), 1_024), 10), &weights);
        // A ring of n points has shares that vary by 1/√(points of one): with 10,000 each that is 1 %, below what 20,000 keys show.
        assert!(fine < 4.0, "{fine}");
        assert!(coarse < 80.0, "{coarse}");
        let counts = spread(&Table::ring(&entries(&[9, 1]), 10_000), 2);
        assert!((17_000..19_000).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn who_leaves_takes_only_his_callers_with_him() {
        for make in [|e: &[Entry]| Table::ring(e, 4_096), |e: &[Entry]| Table::maglev(e, 65_537)] {
            let (mut all, full) = (entries(&[1; 10]), entries(&[1; 10]));
            let before = make(&full);
            // Unusable for a while: nobody else moves, and his callers spread over the others.
            let mut heirs = [0; 10];
            for key in keys() {
                let (was, is) = (before.find(key, |_| true).expect("one"), before.find(key, |i| i != 3).expect("one"));
                assert!(was == 3 || was == is);
                heirs[is as usize] += u32::from(was == 3);
            }
            assert!(heirs.iter().enumerate().all(|(i, n)| (i == 3) == (*n == 0)), "{heirs:?}");
            // Gone for good: Maglev moves a few others too (its paper measures some per cent), a ring none.
            all.remove(3);
            let after = make(&all);
            let moved = keys().filter(|k| before.find(*k, |_| true) != Some(3) && before.find(*k, |_| true) != after.find(*k, |_| true));
            let moved = moved.count();
            assert!(moved <= if matches!(after, Table::Ring(_)) { 0 } else { 600 }, "{moved} of 20000 moved");
        }
    }

    #[test]
    fn sizes_are_bounded_and_prime() {
        let Table::Maglev(slots) = Table::maglev(&entries(&[1, 1]), 100) else { unreachable!("a maglev table") };
        assert_eq!(slots.len(), 101);
        let Table::Ring(ring) = Table::ring(&entries(&[u64::from(u32::MAX), 1]), 8) else { unreachable!("a ring") };
        assert!(ring.len() as u64 <= RING_POINTS_MAX + 2);
        assert_eq!(Table::maglev(&[], 101).find(7, |_| true), None);
    }
}
