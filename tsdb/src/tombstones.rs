use hashbrown::HashMap;
use model::Timestamp;

use crate::encoding::varint::{self, Reader};
use crate::error::Damaged;

/// A range of time, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interval {
    pub(crate) min: Timestamp,
    pub(crate) max: Timestamp,
}

impl Interval {
    pub(crate) fn contains(&self, time: Timestamp) -> bool {
        (self.min..=self.max).contains(&time)
    }
}

/// Deleted ranges of series, by the numbers the series have where this belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tombstones {
    series: HashMap<u32, Vec<Interval>>,
}

impl Tombstones {
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(crate) fn get(&self, series: u32) -> &[Interval] {
        self.series.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Adds a range; ranges that touch become one.
    pub(crate) fn add(&mut self, series: u32, mut range: Interval) {
        let ranges = self.series.entry(series).or_default();
        ranges.retain(|r| {
            let apart = r.max.saturating_add(1) < range.min || range.max.saturating_add(1) < r.min;
            if !apart {
                range = Interval { min: range.min.min(r.min), max: range.max.max(r.max) };
            }
            apart
        });
        let at = ranges.partition_point(|r| *r < range);
        ranges.insert(at, range);
    }

    pub(crate) fn forget(&mut self, series: u32) {
        self.series.remove(&series);
    }

    /// Forgets ranges that end before `time`.
    pub(crate) fn truncate(&mut self, time: Timestamp) {
        self.series.retain(|_, ranges| {
            ranges.retain(|r| r.max >= time);
            !ranges.is_empty()
        });
    }

    /// Every series with its ranges, by number.
    pub(crate) fn sorted(&self) -> Vec<(u32, &[Interval])> {
        let mut all: Vec<(u32, &[Interval])> = self.series.iter().map(|(s, r)| (*s, r.as_slice())).collect();
        all.sort_unstable();
        all
    }

    /// Appends the series and their ranges:
    ///
    /// ```text
    /// count of series, then for each: number, count of ranges, then for each: first and last time (zigzag)
    /// ```
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let all = self.sorted();
        varint::put(out, all.len() as u64);
        for (series, ranges) in all {
            varint::put(out, u64::from(series));
            varint::put(out, ranges.len() as u64);
            for range in ranges {
                varint::put_signed(out, range.min);
                varint::put_signed(out, range.max);
            }
        }
    }

    /// Reads what [`Tombstones::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let mut tombstones = Self::default();
        for _ in 0..reader.count(reader.rest.len())? {
            let series = reader.u32()?;
            for _ in 0..reader.count(reader.rest.len())? {
                tombstones.add(series, Interval { min: reader.signed()?, max: reader.signed()? });
            }
        }
        Ok(tombstones)
    }

    /// Number of series with deleted ranges.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut tombstones = Tombstones::default();
        for (min, max) in [(10, 20), (40, 50), (21, 30), (0, 5), (i64::MIN, -10)] {
            tombstones.add(1, Interval { min, max });
        }
        let ranges: Vec<(i64, i64)> = tombstones.get(1).iter().map(|r| (r.min, r.max)).collect();
        assert_eq!(ranges, [(i64::MIN, -10), (0, 5), (10, 30), (40, 50)]);
        tombstones.truncate(31);
        assert_eq!(tombstones.get(1), [Interval { min: 40, max: 50 }]);
        tombstones.truncate(51);
        assert!(tombstones.is_empty());
    }
}
