//! Bulkheads: so many requests under way for each key, so that one caller cannot take the places of the others.

use crate::key_table::KeyTable;

/// What is under way, by key.
#[derive(Debug)]
pub struct Compartments {
    under_way: KeyTable<u32>,
    keys_max: usize,
    keys: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The places of this key are taken.
    Requests,
    /// So many keys have requests under way that another cannot be counted.
    Keys,
}

impl Compartments {
    /// Empty, for at most `keys_max` keys that have requests under way at once.
    pub fn new(keys_max: usize) -> Self {
        Self { under_way: KeyTable::new(keys_max), keys_max, keys: 0 }
    }

    /// Takes a place for `key`; give it back with [`Compartments::leave`].
    ///
    /// # Errors
    /// When none is free. Counts are never forgotten to make room: beyond the bound, new keys are refused.
    pub fn enter(&mut self, key: &str, places: u32) -> Result<(), Full> {
        let known = self.under_way.find(key).is_some_and(|count| *count > 0);
        if !known && self.keys >= self.keys_max {
            return Err(Full::Keys);
        }
        if !known {
            self.make_room();
        }
        let (count, _) = self.under_way.entry(key, |count| *count > 0);
        if *count >= places {
            return Err(Full::Requests);
        }
        *count += 1;
        self.keys += usize::from(*count == 1);
        Ok(())
    }

    /// A request of `key` is over.
    pub fn leave(&mut self, key: &str) {
        if let Some(count) = self.under_way.find(key).filter(|count| **count > 0) {
            *count -= 1;
            self.keys -= usize::from(*count == 0);
        }
    }

    /// The oldest key makes room for a new one. Those in use are moved away from that end first; one that is not is there, since
    /// fewer keys are in use than the table holds.
    fn make_room(&mut self) {
        while self.under_way.oldest_matters(|count| *count > 0) {
            self.under_way.renew_oldest();
        }
    }

    /// How many are under way for `key`.
    pub fn count(&mut self, key: &str) -> u32 {
        self.under_way.find(key).map_or(0, |count| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_cannot_take_the_places_of_another() {
        let mut places = Compartments::new(3);
        assert!((0..5).all(|_| places.enter("greedy", 5).is_ok()));
        assert_eq!(places.enter("greedy", 5), Err(Full::Requests));
        assert_eq!(places.enter("modest", 5), Ok(()));
        places.leave("greedy");
        assert_eq!(places.enter("greedy", 5), Ok(()));
        assert_eq!((places.count("greedy"), places.count("modest")), (5, 1));
    }

    #[test]
    fn counts_are_never_forgotten() {
        let mut places = Compartments::new(2);
        assert_eq!((places.enter("a", 1), places.enter("b", 1)), (Ok(()), Ok(())));
        assert_eq!(places.enter("c", 1), Err(Full::Keys));
        places.leave("b");
        assert_eq!(places.enter("c", 1), Ok(()));
        assert_eq!(places.enter("a", 1), Err(Full::Requests), "the older key kept its count");
        for n in 0..100 {
            places.leave("c");
            let _ = places.enter("c", 1);
            places.leave("c");
            assert_eq!(places.enter(&n.to_string(), 1), Ok(()));
            places.leave(&n.to_string());
        }
        assert_eq!(places.enter("a", 1), Err(Full::Requests));
        places.leave("nobody");
    }
}
