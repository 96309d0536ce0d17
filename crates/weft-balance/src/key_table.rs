//! A table of so many keys at most, of which the one that was used longest ago makes room for a new one.

use std::collections::BTreeMap;

const NONE: usize = usize::MAX;

/// Values by key, bounded.
#[derive(Debug)]
pub(crate) struct KeyTable<V> {
    by_key: BTreeMap<Box<str>, usize>,
    slots: Vec<Slot<V>>,
    /// The slot used last, and the one used longest ago.
    newest: usize,
    oldest: usize,
    keys_max: usize,
}

#[derive(Debug)]
struct Slot<V> {
    key: Box<str>,
    value: V,
    newer: usize,
    older: usize,
}

impl<V: Default> KeyTable<V> {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { by_key: BTreeMap::new(), slots: Vec::new(), newest: NONE, oldest: NONE, keys_max: keys_max.max(1) }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The value of `key`, made if need be. The second says whether another key, that `matters`, had to go for it.
    pub(crate) fn entry(&mut self, key: &str, matters: impl Fn(&V) -> bool) -> (&mut V, bool) {
        if let Some(&at) = self.by_key.get(key) {
            self.unlink(at);
            self.link_newest(at);
            return (&mut self.slots[at].value, false);
        }
        if self.slots.len() < self.keys_max {
            let at = self.slots.len();
            self.slots.push(Slot { key: key.into(), value: V::default(), newer: NONE, older: NONE });
            self.by_key.insert(key.into(), at);
            self.link_newest(at);
            return (&mut self.slots[at].value, false);
        }
        let at = self.oldest;
        self.unlink(at);
        let lost = matters(&self.slots[at].value);
        let gone = std::mem::replace(&mut self.slots[at].key, key.into());
        self.by_key.remove(&gone);
        self.slots[at].value = V::default();
        self.by_key.insert(key.into(), at);
        self.link_newest(at);
        (&mut self.slots[at].value, lost)
    }

    /// The value of `key`, if there is one. Does not count as a use.
    pub(crate) fn find(&mut self, key: &str) -> Option<&mut V> {
        let at = *self.by_key.get(key)?;
        Some(&mut self.slots[at].value)
    }

    /// Is the table full, and the value that would make room one that `matters`?
    pub(crate) fn oldest_matters(&self, matters: impl Fn(&V) -> bool) -> bool {
        self.slots.len() >= self.keys_max && self.slots.get(self.oldest).is_some_and(|slot| matters(&slot.value))
    }

    /// The value used longest ago counts as used now.
    pub(crate) fn renew_oldest(&mut self) {
        let at = self.oldest;
        if at != NONE {
            self.unlink(at);
            self.link_newest(at);
        }
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.slots[at].newer, self.slots[at].older);
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older].newer = newer,
        }
    }

    fn link_newest(&mut self, at: usize) {
        self.slots[at].older = self.newest;
        self.slots[at].newer = NONE;
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest].newer = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_used_longest_ago_makes_room() {
        let mut table = KeyTable::<u32>::new(3);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3)] {
            *table.entry(key, |_| true).0 = value;
        }
        assert_eq!(*table.entry("a", |_| true).0, 1);
        let (value, lost) = table.entry("d", |value| *value == 2);
        assert_eq!((*value, lost), (0, true));
        assert!(table.find("b").is_none() && table.find("a").is_some() && table.len() == 3);
        for n in 0..1000 {
            table.entry(&format!("k{n}"), |_| false);
        }
        assert_eq!((table.len(), table.by_key.len()), (3, 3));
        assert!(["k997", "k998", "k999"].iter().all(|key| table.find(key).is_some()));
    }
}
