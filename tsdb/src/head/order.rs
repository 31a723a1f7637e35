//! The order of the head's series by their labels: kept for large selections, so that a million series are sorted once and not
//! with each query.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::head::labels::LabelSets;
use crate::sorting::{RUN, merge, sort_runs};
use crate::watch::Pace;

/// Fewer series are sorted each time they are asked for.
const LARGE: usize = 4096;

/// A selection of at least one in so many of the series that are in order is found by walking through all of these.
const WALK: usize = 64;

/// How often whoever waits for another's sorting looks whether to go on.
const WAIT: Duration = Duration::from_millis(10);

/// What is known of the order of symbols and series.
#[derive(Default)]
pub(crate) struct SeriesOrder {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Of the label sets that this is about.
    generation: u64,
    /// Symbols in the order of their texts, and the place of each in it. Symbols that are newer are in neither.
    by_text: Vec<u32>,
    ranks: Arc<Vec<u32>>,
    /// Series and the places of their label sets in the order of these; some may be gone.
    series: Vec<(u32, u32)>,
}

impl SeriesOrder {
    /// Positions of the series `ids` (ascending), whose label sets are at `places`, in the order of these. The order may be
    /// anything after `pace` has said stop.
    pub(crate) fn sort(&self, sets: &LabelSets, ids: &[u32], places: &[u32], pace: &Pace<'_>) -> Vec<u32> {
        if ids.len() < 2 {
            return (0..ids.len() as u32).collect();
        }
        let Some(mut kept) = self.lock(pace) else { return (0..ids.len() as u32).collect() };
        if kept.generation != sets.generation {
            *kept = Kept { generation: sets.generation, ..Kept::default() };
        }
        if ids.len() < LARGE || ids.len() < kept.series.len() / WALK {
            let ranks = Arc::clone(&kept.ranks);
            drop(kept);
            return sort_keys(sets, places, &ranks, pace);
        }
        kept.rank(sets, pace);
        let set = Positions::new(ids);
        let mut order = Vec::with_capacity(ids.len());
        kept.walk(&set, ids.len(), pace, &mut order);
        if order.len() < ids.len() {
            kept.add(sets, ids, places, &order, pace);
            order.clear();
            kept.walk(&set, ids.len(), pace, &mut order);
        }
        order
    }

    /// `None` if it was told to stop meanwhile.
    fn lock(&self, pace: &Pace<'_>) -> Option<MutexGuard<'_, Kept>> {
        loop {
            if let Some(kept) = self.kept.try_lock_for(WAIT) {
                return Some(kept);
            }
            if !pace.look() {
                return None;
            }
        }
    }

    /// Bytes of memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        let kept = self.kept.lock();
        (kept.by_text.capacity() + kept.ranks.capacity()) * 4 + kept.series.capacity() * 8
    }
}

impl Kept {
    /// Brings the ranks of symbols up to date; sorts only what is new.
    fn rank(&mut self, sets: &LabelSets, pace: &Pace<'_>) {
        let texts = &sets.texts;
        if self.ranks.len() == texts.len() {
            return;
        }
        let fresh: Vec<u32> = (self.ranks.len() as u32..texts.len() as u32).collect();
        let compare = |a: &u32, b: &u32| texts.bytes(*a).cmp(texts.bytes(*b));
        let fresh = sort_runs(fresh, compare, pace);
        let by_text = merge(&self.by_text, &fresh, compare, pace);
        if !pace.done(0) {
            return;
        }
        let mut ranks = vec![0; by_text.len()];
        for (rank, number) in by_text.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        (self.by_text, self.ranks) = (by_text, Arc::new(ranks));
    }

    /// Appends the positions of the series of a set.
    fn walk(&self, set: &Positions, count: usize, pace: &Pace<'_>, order: &mut Vec<u32>) {
        for part in self.series.chunks(RUN) {
            if order.len() == count || !pace.done(RUN / 8) {
                return;
            }
            order.extend(part.iter().filter_map(|(id, _)| set.position(*id)));
        }
    }

    /// Adds those of the series `ids` that are not there, which is all but those at the positions `known`.
    fn add(&mut self, sets: &LabelSets, ids: &[u32], places: &[u32], known: &[u32], pace: &Pace<'_>) {
        let mut is_known = vec![false; ids.len()];
        known.iter().for_each(|at| is_known[*at as usize] = true);
        let fresh: Vec<(u32, u32)> = is_known
            .iter()
            .zip(ids.iter().zip(places))
            .filter(|(known, _)| !**known)
            .map(|(_, (i, p))| (*i, *p))
            .collect();
        drop(is_known);
        let fresh_places: Vec<u32> = fresh.iter().map(|series| series.1).collect();
        let order = sort_keys(sets, &fresh_places, &self.ranks, pace);
        drop(fresh_places);
        let fresh: Vec<(u32, u32)> = order.into_iter().map(|at| fresh[at as usize]).collect();
        let ranks = &self.ranks;
        let symbols = |a: u32, b: u32| ranks.get(a as usize).cmp(&ranks.get(b as usize));
        let series = merge(&self.series, &fresh, |a, b| sets.compare(a.1, b.1, symbols), pace);
        // what was not finished is not kept
        if pace.done(0) {
            self.series = series;
        }
    }
}

/// The positions of label sets in the order of these; in any order if it was told to stop.
///
/// The first pair of most is the name of the metric: sets are told apart by it first, and then those that have it in common are sorted by
/// the others, so that the labels of few are at hand at a time.
fn sort_keys(sets: &LabelSets, places: &[u32], ranks: &[u32], pace: &Pace<'_>) -> Vec<u32> {
    let compare = |a: u32, b: u32| match (a == b, ranks.get(a as usize), ranks.get(b as usize)) {
        (true, ..) => Ordering::Equal,
        (_, Some(a), Some(b)) => a.cmp(b),
        _ => sets.texts.bytes(a).cmp(sets.texts.bytes(b)),
    };
    // distinct first pairs, and of each set which of them it has
    let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
    let mut counts: Vec<u32> = Vec::new();
    let mut firsts: Vec<u32> = Vec::with_capacity(places.len());
    for place in places {
        if !pace.done(4) {
            return (0..places.len() as u32).collect();
        }
        // no series is without labels
        let pair = sets.symbols(*place).pairs().next().unwrap_or_default();
        let number = *numbers.entry(pair).or_insert(counts.len() as u32);
        if number as usize == counts.len() {
            counts.push(0);
        }
        counts[number as usize] += 1;
        firsts.push(number);
    }
    let pairs: Vec<((u32, u32), u32)> = numbers.into_iter().collect();
    let by_pair = |((a, x), _): &((u32, u32), u32), ((b, y), _): &((u32, u32), u32)| {
        compare(*a, *b).then_with(|| compare(*x, *y))
    };
    let pairs = sort_runs(pairs, by_pair, pace);
    let mut start = 0;
    let mut next = vec![0; counts.len()];
    for (_, number) in &pairs {
        next[*number as usize] = start;
        start += counts[*number as usize];
    }
    let mut order = vec![0; places.len()];
    for (at, number) in firsts.iter().enumerate() {
        let to = &mut next[*number as usize];
        order[*to as usize] = at as u32;
        *to += 1;
    }
    drop(firsts);
    let mut rest = &mut order[..];
    for (_, number) in pairs {
        let (run, later) = rest.split_at_mut(counts[number as usize] as usize);
        if run.len() > 1 && pace.done(0) {
            sort_rest(sets, places, ranks, compare, pace, run);
        }
        rest = later;
    }
    order
}

/// Sorts the positions of label sets whose first pair is the same.
fn sort_rest(
    sets: &LabelSets,
    places: &[u32],
    ranks: &[u32],
    compare: impl Fn(u32, u32) -> Ordering,
    pace: &Pace<'_>,
    positions: &mut [u32],
) {
    let mut keys: Vec<u32> = Vec::with_capacity(positions.len() * 8);
    let mut spans: Vec<(u32, u32, u32)> = Vec::with_capacity(positions.len());
    for at in &*positions {
        pace.done(12);
        let start = keys.len();
        keys.extend(sets.symbols(places[*at as usize]).skip(2));
        spans.push((start as u32, keys.len() as u32, *at));
    }
    let ranked = keys.iter().all(|symbol| (*symbol as usize) < ranks.len());
    if ranked {
        keys.iter_mut().for_each(|symbol| *symbol = ranks[*symbol as usize]);
    }
    let key = |span: &(u32, u32, u32)| &keys[span.0 as usize..span.1 as usize];
    let sorted = if ranked {
        sort_runs(spans, |a, b| key(a).cmp(key(b)), pace)
    } else {
        let compare = |a: &[u32], b: &[u32]| {
            let different = a.iter().zip(b).map(|(a, b)| compare(*a, *b)).find(|order| order.is_ne());
            different.unwrap_or(a.len().cmp(&b.len()))
        };
        sort_runs(spans, |a, b| compare(key(a), key(b)), pace)
    };
    positions.iter_mut().zip(sorted).for_each(|(at, span)| *at = span.2);
}

/// Ascending numbers, and the position of each.
struct Positions {
    base: u32,
    /// Bits of numbers from `base` on, and how many come before each word.
    words: Vec<(u64, u32)>,
}

impl Positions {
    fn new(ids: &[u32]) -> Self {
        let base = ids.first().copied().unwrap_or(0) & !63;
        let len = ids.last().map_or(0, |last| (last - base) as usize / 64 + 1);
        let mut words = vec![(0u64, 0u32); len];
        ids.iter().for_each(|id| words[(id - base) as usize / 64].0 |= 1 << (id % 64));
        let mut before = 0;
        for (bits, count) in &mut words {
            *count = before;
            before += bits.count_ones();
        }
        Self { base, words }
    }

    #[inline]
    fn position(&self, id: u32) -> Option<u32> {
        let at = id.checked_sub(self.base)? as usize / 64;
        let (bits, before) = self.words.get(at)?;
        let bit = 1u64 << (id % 64);
        (bits & bit != 0).then(|| before + (bits & (bit - 1)).count_ones())
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;
    use crate::head::SeriesIndex;
    use crate::watch::Progress;

    fn labels(n: u32) -> Labels {
        // names and values whose order is not that of their numbers, and sets that are the start of others
        let mixed = n.wrapping_mul(2_654_435_761);
        if n < 13 {
            return Labels::from_pairs([("__name__", format!("m{n}"))]);
        }
        let mut pairs = vec![("__name__", format!("m{}", mixed % 13)), ("id", format!("{}", mixed % 100_003 + n))];
        if !n.is_multiple_of(3) {
            pairs.push(("zone", format!("z{}", n % 7)));
        }
        Labels::from_pairs(pairs)
    }

    fn check(order: &SeriesOrder, index: &SeriesIndex, ids: &[u32]) {
        let sets = index.label_sets();
        let places: Vec<u32> = ids.iter().map(|id| index.place(*id)).collect();
        let sorted = order.sort(&sets, ids, &places, &Pace::unwatched());
        assert_eq!(sorted.len(), ids.len());
        let sorted: Vec<Labels> = sorted.iter().map(|at| index.labels(ids[*at as usize])).collect();
        assert!(sorted.is_sorted(), "{} series", ids.len());
    }

    #[test]
    fn series_are_in_order_however_many_there_are_and_whenever_they_come() {
        let mut index = SeriesIndex::new();
        let order = SeriesOrder::default();
        let mut all: Vec<u32> = Vec::new();
        // the second time few come among many, then many among few
        for (from, to) in [(0, 20_000u32), (20_000, 20_100), (20_100, 20_101), (20_101, 60_000)] {
            all.extend((from..to).map(|n| index.get_or_create(&labels(n), None).unwrap().0));
            all.dedup();
            check(&order, &index, &all);
            check(&order, &index, &all[all.len() / 3..]);
            check(&order, &index, &all.iter().copied().step_by(2).collect::<Vec<_>>());
            check(&order, &index, &all.iter().copied().step_by(1000).collect::<Vec<_>>());
            check(&order, &index, &all[5..6]);
            check(&order, &index, &[]);
        }
        // numbers of symbols and places change when much is gone
        let gone: Vec<u32> = all.iter().copied().filter(|id| id % 4 != 0).collect();
        index.remove(&gone[..1000]);
        all.retain(|id| !gone[..1000].contains(id));
        check(&order, &index, &all);
        index.remove(&gone);
        all.retain(|id| id % 4 == 0);
        check(&order, &index, &all);
    }

    #[test]
    fn what_is_stopped_leaves_nothing_wrong_behind() {
        let mut index = SeriesIndex::new();
        let ids: Vec<u32> = (0..50_000).map(|n| index.get_or_create(&labels(n), None).unwrap().0).collect();
        let sets = index.label_sets();
        let places: Vec<u32> = ids.iter().map(|id| index.place(*id)).collect();
        let order = SeriesOrder::default();
        for looks in 0usize..60 {
            let left = std::cell::Cell::new(looks);
            let watch = |_: Progress| left.replace(left.get().saturating_sub(1)) > 0;
            let pace = Pace::new(&watch);
            order.sort(&sets, &ids, &places, &pace);
            check(&order, &index, &ids[..looks * 10]);
        }
        check(&order, &index, &ids);
    }
}
