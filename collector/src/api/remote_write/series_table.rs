//! A table that is nearly full and grows by little, where one of the usual kind doubles and is up to half empty: 6.5 MB for 300,000 series
//! and not 8.9, of the hundred that such a store is to take in all.

use super::known_series::Key;

/// One more slot for so many when there are too few.
const GROWTH: usize = 8;
const LEAST: usize = 16;

/// Numbers of series, none of which is 0, by keys that are hashes already. One that is in the place of another lies in the next that is
/// free; nothing is taken out but by [`SeriesTable::retain`].
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    /// Free where the number is 0.
    slots: Vec<(Key, u32)>,
    len: usize,
}

impl SeriesTable {
    fn place(&self, key: Key) -> usize {
        let [high, low, _] = key.0;
        let hash = u64::from(high) << 32 | u64::from(low);
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    /// The slot of a key, or the free one that is its; there is one.
    fn slot(&self, key: Key) -> usize {
        let mut at = self.place(key);
        while let (known, series) = self.slots[at]
            && series != 0
            && known != key
        {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }

    /// The series of a key.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut u32> {
        if self.slots.is_empty() {
            return None;
        }
        let at = self.slot(key);
        Some(&mut self.slots[at].1).filter(|series| **series != 0)
    }

    /// Sets the series of a key, which is not 0.
    pub(super) fn insert(&mut self, key: Key, series: u32) {
        debug_assert_ne!(series, 0, "no series has this number");
        // a fifth stays free, so that free slots are near
        if (self.len + 1) * 5 > self.slots.len() * 4 {
            let size = self.slots.len() + self.slots.len() / GROWTH;
            self.rebuild(size.max(LEAST));
        }
        let at = self.slot(key);
        self.len += usize::from(self.slots[at].1 == 0);
        self.slots[at] = (key, series);
    }

    /// Takes out the series that are not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut u32) -> bool) {
        for (_, series) in &mut self.slots {
            if *series != 0 && !keep(series) {
                *series = 0;
                self.len -= 1;
            }
        }
        // what is left is not found any more where there is a gap before it
        self.rebuild(self.len + self.len / 3 + LEAST);
    }

    fn rebuild(&mut self, size: usize) {
        let slots = std::mem::replace(&mut self.slots, vec![(Key::default(), 0); size]);
        for (key, series) in slots.into_iter().filter(|slot| slot.1 != 0) {
            let at = self.slot(key);
            self.slots[at] = (key, series);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few keys begin alike, and some of these at the end of the table.
    fn key() -> impl Strategy<Value = Key> {
        let high = prop_oneof![0u32..4, Just(u32::MAX), any::<u32>()];
        (high, 0u32..3, 0u32..20).prop_map(|(high, low, rest)| Key([high, low, rest]))
    }

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows(steps in prop::collection::vec((key(), 1u32..9, 0u8..40), 0..400)) {
            let (mut table, mut map) = (SeriesTable::default(), HashMap::new());
            for (key, series, step) in &steps {
                prop_assert_eq!(table.get_mut(*key).copied(), map.get(&key.0).copied());
                if *step > 0 {
                    table.insert(*key, *series);
                    map.insert(key.0, *series);
                } else {
                    table.retain(|kept| *kept > *series);
                    map.retain(|_, kept| *kept > *series);
                }
                prop_assert_eq!(table.len, map.len());
            }
            for (key, ..) in steps {
                prop_assert_eq!(table.get_mut(key).copied(), map.get(&key.0).copied());
            }
        }
    }

    #[test]
    fn little_of_it_is_empty() {
        let mut table = SeriesTable::default();
        for n in 1..100_000u32 {
            let mixed = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            table.insert(Key([(mixed >> 32) as u32, mixed as u32, n]), n);
            assert!(n < 100 || table.slots.len() <= n as usize * 3 / 2, "{} slots for {n}", table.slots.len());
        }
        table.retain(|series| *series % 10 == 0);
        assert_eq!(table.len, 9999);
        assert!(table.slots.len() < 15_000 && table.slots.capacity() < 15_000);
    }
}
