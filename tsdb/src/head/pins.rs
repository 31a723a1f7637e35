//! Series that must not be removed while a transaction is open that may be about to write them.

use hashbrown::HashMap;

/// Tables with room for more are not kept when they are empty: only few series are new, mostly.
pub(crate) const KEPT: usize = 1 << 12;

/// The pinned series, in two generations: where every transaction pins some, those of earlier ones are forgotten all the same.
#[derive(Default)]
pub(crate) struct Pins {
    new: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    /// The youngest transaction that needs each.
    series: HashMap<u32, u64>,
    /// The youngest of these.
    newest: u64,
}

impl Generation {
    fn clear(&mut self) {
        if self.series.capacity() > KEPT {
            self.series = HashMap::new();
        } else {
            self.series.clear();
        }
        self.newest = 0;
    }
}

impl Pins {
    /// Keeps a series from being removed while the transaction is open.
    pub(crate) fn pin(&mut self, series: u32, transaction: u64) {
        let Generation { series: pins, newest } = &mut self.new;
        let pin = pins.entry(series).or_default();
        *pin = transaction.max(*pin);
        *newest = transaction.max(*newest);
    }

    pub(crate) fn contains(&self, series: u32) -> bool {
        self.new.series.contains_key(&series) || self.old.series.contains_key(&series)
    }

    /// Forgets the older pins if none of the transactions that made them is open any more; those made since are the older ones then.
    pub(crate) fn forget(&mut self, oldest_open: impl FnOnce() -> u64) {
        if self.new.series.is_empty() && self.old.series.is_empty() {
            return;
        }
        let oldest_open = oldest_open();
        if oldest_open > self.old.newest {
            self.old.clear();
            std::mem::swap(&mut self.new, &mut self.old);
            if oldest_open > self.old.newest {
                self.old.clear();
            }
        }
    }

    /// Forgets all that no transaction from `oldest_open` on has made.
    pub(crate) fn retain_since(&mut self, oldest_open: u64) {
        for generation in [&mut self.new, &mut self.old] {
            generation.series.retain(|_, transaction| *transaction >= oldest_open);
        }
    }

    /// How many series are pinned, at most.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.new.series.len() + self.old.series.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_lasts_as_long_as_its_transaction() {
        let mut pins = Pins::default();
        pins.pin(1, 5);
        pins.pin(1, 7);
        pins.pin(2, 6);
        pins.forget(|| 5);
        assert!(pins.contains(1) && pins.contains(2));
        pins.pin(2, 9);
        pins.forget(|| 7);
        assert!(pins.contains(1) && pins.contains(2), "7 and 9 may be open");
        pins.forget(|| 8);
        assert!(!pins.contains(1) && pins.contains(2));
        pins.forget(|| 10);
        assert_eq!(pins.len(), 0);
    }

    #[test]
    fn what_every_transaction_pins_does_not_add_up() {
        let mut pins = Pins::default();
        for transaction in 1..1000 {
            for series in 0..100 {
                pins.pin(transaction as u32 * 100 + series, transaction);
            }
            // the one before may still be open
            pins.forget(|| transaction - 1);
            assert!(pins.contains(transaction as u32 * 100));
            assert!(pins.len() <= 400, "{}", pins.len());
        }
    }

    #[test]
    fn a_cut_leaves_what_open_transactions_need() {
        let mut pins = Pins::default();
        pins.pin(1, 1);
        pins.forget(|| 1);
        pins.pin(2, 2);
        pins.pin(3, 3);
        pins.retain_since(2);
        assert_eq!((pins.contains(1), pins.contains(2), pins.contains(3)), (false, true, true));
    }
}
