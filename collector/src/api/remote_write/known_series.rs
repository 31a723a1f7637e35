//! Series by the bytes that remote writers name them with. They name all of them in each request, so what is remembered here need not be
//! decoded, checked, sorted and looked up again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tsdb::SeriesRef;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::series_table::SeriesTable;

/// What has not been asked for between two looks is forgotten: a look takes place when something new is named this long after the last.
const GENERATION: Duration = Duration::from_secs(30 * 60);
const SHARDS: usize = 16;

/// 96 bits of a hash of a series' labels as they are sent, under a seed that nobody outside knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u32; 3]);

/// Set in the number of a series that has been asked for since the last look.
const ASKED: u32 = 1 << 31;

struct Shard {
    series: SeriesTable,
    /// The last look.
    since: Instant,
}

/// The series that remote writers have named lately: 16 bytes each, and room for a quarter more.
pub(crate) struct KnownSeries {
    seed: u64,
    shards: [Mutex<Shard>; SHARDS],
}

impl Default for KnownSeries {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { series: SeriesTable::default(), since: Instant::now() });
        Self { seed: RandomState::new().hash_one(0), shards: std::array::from_fn(|_| shard()) }
    }
}

impl KnownSeries {
    pub(super) fn key(&self, labels: &[u8]) -> Key {
        let hash = xxh3_128_with_seed(labels, self.seed);
        Key([hash as u32, (hash >> 32) as u32, (hash >> 64) as u32])
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        // bits that the tables do not go by
        &self.shards[key.0[2] as usize % SHARDS]
    }

    /// The series that these labels led to. The store may have forgotten it since.
    pub(super) fn find(&self, key: Key) -> Option<SeriesRef> {
        let mut shard = self.shard(key).lock();
        let series = shard.series.get_mut(key)?;
        *series |= ASKED;
        Some(SeriesRef((*series & !ASKED).into()))
    }

    pub(super) fn insert(&self, key: Key, series: SeriesRef) {
        self.insert_at(key, series, Instant::now());
    }

    fn insert_at(&self, key: Key, series: SeriesRef, now: Instant) {
        // more series than that do not fit into memory, and none has the number 0
        let fits = |series: &u32| *series != 0 && series & ASKED == 0;
        let Some(series) = u32::try_from(series.0).ok().filter(fits) else { return };
        let mut shard = self.shard(key).lock();
        if now.duration_since(shard.since) >= GENERATION {
            shard.series.retain(|series| std::mem::replace(series, *series & !ASKED) & ASKED != 0);
            shard.since = now;
        }
        shard.series.insert(key, series | ASKED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let known = KnownSeries::default();
        let key = |n: u64| known.key(&n.to_le_bytes());
        let start = Instant::now();
        for n in 1..1000 {
            known.insert_at(key(n), SeriesRef(n), start);
        }
        assert!((1..1000).all(|n| known.find(key(n)) == Some(SeriesRef(n))));
        assert_eq!(known.find(key(1000)), None);
        for none in [0, u64::from(ASKED), 1 << 40] {
            known.insert_at(key(none), SeriesRef(none), start);
            assert_eq!(known.find(key(none)), None);
        }
        // something new is named in every shard after a while, and again
        for later in 1..=2 {
            for n in 1..1000 {
                known.insert_at(key(later * 10_000 + n), SeriesRef(n), start + GENERATION * later as u32);
            }
            assert!((1..500).all(|n| known.find(key(n)) == Some(SeriesRef(n))));
        }
        assert!((500..1000).all(|n| known.find(key(n)).is_none()));
    }

    #[test]
    fn nobody_outside_knows_where_labels_lead() {
        let (a, b) = (KnownSeries::default(), KnownSeries::default());
        assert_ne!(a.key(b"labels"), b.key(b"labels"));
    }
}
