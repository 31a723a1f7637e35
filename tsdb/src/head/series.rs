use model::Timestamp;

use crate::head::groups::Groups;
use crate::head::labels::{HeadLabels, LabelSets};
use crate::head::order::SeriesOrder;
use crate::head::series_index::SeriesIndex;
use crate::head::snapshot::HeadSnapshot;
use crate::texts::Texts;
use crate::watch::Pace;

/// Bytes that what is known of a series takes while it is looked for: here, and in the group that has it.
const SERIES_BYTES: usize = 56;

/// Series of the head that a query has found, as they were at that moment.
pub(crate) struct HeadSeries {
    /// Ascending.
    ids: Vec<u32>,
    /// Of their label sets.
    places: Vec<u32>,
    sets: LabelSets,
    /// Samples outside of this are not wanted.
    range: (Timestamp, Timestamp),
    snapshot: HeadSnapshot,
}

impl HeadSeries {
    /// Notes what the series `ids` (ascending) have now in `range`, both ends included; nothing is decoded or sorted, as this is done
    /// under locks.
    pub(crate) fn take(
        index: &SeriesIndex,
        groups: &Groups,
        ids: Vec<u32>,
        range: (Timestamp, Timestamp),
        pace: &Pace<'_>,
    ) -> Self {
        pace.found(ids.len(), ids.len() * SERIES_BYTES);
        let ids = if pace.look() { ids } else { Vec::new() };
        let places = ids.iter().map(|id| index.place(*id)).collect();
        let snapshot = HeadSnapshot::take(groups, &ids, range);
        Self { ids, places, sets: index.label_sets(), range, snapshot }
    }

    /// Those that may have samples in the range.
    pub(crate) fn present(self, pace: &Pace<'_>) -> Self {
        let Self { mut ids, mut places, sets, range, mut snapshot } = self;
        snapshot.prepare();
        let present = snapshot.present(range.0, range.1, pace);
        if present.len() < ids.len() {
            let pick = |of: &[u32]| present.iter().map(|at| of[*at as usize]).collect();
            (ids, places) = (pick(&ids), pick(&places));
            snapshot = snapshot.pick(&present);
        }
        Self { ids, places, sets, range, snapshot }
    }

    /// The series in the order of their labels.
    pub(crate) fn in_order(self, order: &SeriesOrder, pace: &Pace<'_>) -> (HeadSnapshot, HeadLabels) {
        let Self { ids, places, sets, snapshot, .. } = self;
        let order = order.sort(&sets, &ids, &places, pace);
        let places = order.iter().map(|at| places[*at as usize]).collect();
        (snapshot.pick(&order), HeadLabels { sets, places })
    }
}

/// Series of the head in the order of their labels. What they have is looked at later.
pub(crate) struct OrderedSeries {
    ids: Vec<u32>,
    /// Of their label sets.
    places: Vec<u32>,
    sets: LabelSets,
}

impl OrderedSeries {
    /// Notes the series `ids` (ascending), which are not in order yet: this is done under a lock.
    pub(crate) fn take(index: &SeriesIndex, ids: Vec<u32>) -> Self {
        let places = ids.iter().map(|id| index.place(*id)).collect();
        Self { ids, places, sets: index.label_sets() }
    }

    /// Puts them in order.
    pub(crate) fn in_order(self, order: &SeriesOrder) -> Self {
        let Self { ids, places, sets } = self;
        let order = order.sort(&sets, &ids, &places, &Pace::unwatched());
        let pick = |of: Vec<u32>| order.iter().map(|at| of[*at as usize]).collect();
        Self { ids: pick(ids), places: pick(places), sets }
    }

    /// Names and values of their labels, each once and in order.
    pub(crate) fn texts(&self) -> Texts {
        let texts = &self.sets.texts;
        let mut used = vec![false; texts.len()];
        for place in &self.places {
            self.sets.symbols(*place).for_each(|symbol| used[symbol as usize] = true);
        }
        let mut symbols: Vec<u32> = (0..texts.len() as u32).filter(|symbol| used[*symbol as usize]).collect();
        symbols.sort_unstable_by_key(|symbol| texts.bytes(*symbol));
        symbols.into_iter().map(|symbol| texts.text(symbol)).collect()
    }

    /// Parts of so many series: their numbers and labels.
    pub(crate) fn parts(&self, size: usize) -> impl Iterator<Item = (&[u32], HeadLabels)> {
        let labels = |places: &[u32]| HeadLabels { sets: self.sets.clone(), places: places.to_vec() };
        self.ids.chunks(size).zip(self.places.chunks(size)).map(move |(ids, places)| (ids, labels(places)))
    }
}
