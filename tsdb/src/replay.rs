use std::path::Path;

use hashbrown::HashMap;
use model::{Metadata, Timestamp};

use crate::error::{FileError, ReadError};
use crate::exemplars::ExemplarStore;
use crate::files::Files;
use crate::head::{Entry, Groups, HeadSnapshot, Limits, Scattered, SeriesIndex};
use crate::metrics::Counters;
use crate::opening::ReplayProgress;
use crate::select::{Selection, Source};
use crate::wal::{self, Known, ReplayStats, Section, TornEnd};

/// The head as the log tells it.
pub(crate) struct Replayed {
    pub(crate) index: SeriesIndex,
    pub(crate) groups: Groups,
    pub(crate) exemplars: ExemplarStore,
    pub(crate) metadata: HashMap<u32, Metadata>,
    /// Numbers in the log of series that have another number in the index.
    pub(crate) aliases: HashMap<u32, u32>,
    pub(crate) stats: ReplayStats,
    unknown: u64,
}

/// Reads the log, but for what is `known`, into a head that has what is known; not to its end if `progress` is stopped. The rules that let a sample in are applied again, in
/// the same order, with the same outcome.
pub(crate) fn replay(
    files: &Files,
    dir: &Path,
    mut state: Replayed,
    known: Option<Known>,
    counters: &Counters,
    progress: &ReplayProgress,
    torn: TornEnd,
) -> Result<Replayed, FileError> {
    state.groups.late_came_before = known.is_some();
    state.stats = wal::replay(files, dir, known, progress, torn, |section| state.apply(section))?;
    state.groups.late_came_before = true;
    state.index.post_all();
    counters.wal_corruptions.add(state.stats.damaged);
    counters.wal_unknown_series.add(state.unknown);
    if state.unknown > 0 {
        tracing::warn!(samples = state.unknown, "the log has samples of series whose record is damaged");
    }
    Ok(state)
}

/// Forgets samples that are in blocks, and series without samples. `ranges` are those of the blocks, ends not included: a
/// crash may have come between a block and the note of it in the log.
///
/// A sample that was late when it came may look like the first of its series to the replay. What lies before the end of the
/// blocks and in the range of none stays, as late.
pub(crate) fn forget_blocks(state: &mut Replayed, mut ranges: Vec<(Timestamp, Timestamp)>) -> Result<(), ReadError> {
    let Some(end) = ranges.iter().map(|r| r.1).max() else { return Ok(()) };
    ranges.sort_unstable();
    let mut from = state.groups.bounds.min_time;
    for (min, max) in ranges {
        if from < min {
            keep_as_late(state, from, min - 1)?;
        }
        from = from.max(max);
    }
    forget_before(state, end);
    Ok(())
}

/// Puts the samples in `min_time..=max_time` among those that are out of order.
fn keep_as_late(state: &mut Replayed, min_time: Timestamp, max_time: Timestamp) -> Result<(), ReadError> {
    let ids: Vec<u32> = state.index.ids().collect();
    for ids in ids.chunks(1024) {
        let mut head = HeadSnapshot::take(&state.groups, ids, (min_time, max_time));
        head.prepare();
        let labels = ids.iter().map(|id| state.index.labels(*id)).collect();
        let selection = Selection::join(vec![(Source::Head(head), labels)], Vec::new());
        for (at, id) in ids.iter().enumerate() {
            for samples in selection.read_raw(at..at + 1, min_time, max_time)? {
                for (time, value) in samples.floats.timestamps.iter().zip(&samples.floats.values) {
                    state.groups.out_of_order.push_float(*id, *time, *value);
                }
                for (time, sample) in samples.histograms.timestamps.iter().zip(samples.histograms.values) {
                    state.groups.out_of_order.push_histogram(*id, *time, sample);
                }
            }
        }
    }
    Ok(())
}

/// Forgets samples before `time`, and series without samples.
fn forget_before(state: &mut Replayed, time: Timestamp) {
    let gone = state.groups.truncate(time, u64::MAX);
    state.index.remove(&gone);
    for id in gone {
        state.metadata.remove(&id);
    }
    state.aliases.retain(|_, id| state.index.contains(*id));
}

/// Keeps what belongs to series that are known.
fn retain_known<T>(known: &[Option<u32>], values: &mut Vec<T>) {
    let mut known = known.iter();
    values.retain(|_| known.next().is_some_and(Option::is_some));
}

impl Replayed {
    /// An empty head.
    pub(crate) fn new(groups: Groups, exemplars: ExemplarStore) -> Self {
        Self {
            index: SeriesIndex::new(),
            groups,
            exemplars,
            metadata: HashMap::new(),
            aliases: HashMap::new(),
            stats: ReplayStats::default(),
            unknown: 0,
        }
    }

    fn known(&mut self, id: u32, time: Timestamp) -> Option<u32> {
        let id = self.aliases.get(&id).copied().unwrap_or(id);
        if self.groups.contains(id) {
            return Some(id);
        }
        // the number must stay without a series: a later checkpoint would put the new series before these samples
        self.index.skip(id);
        // what is in blocks may be of series that are gone
        self.unknown += u64::from(time >= self.groups.bounds.min_valid);
        None
    }

    /// Takes a part of the log.
    pub(crate) fn apply(&mut self, section: Section) {
        match section {
            Section::Series(all) => {
                for (id, labels) in all {
                    if self.groups.contains(id) {
                        continue;
                    }
                    match self.index.find(&labels) {
                        Some(first) => {
                            self.aliases.insert(id, first);
                            self.index.skip(id);
                        }
                        None => {
                            self.index.insert(id, &labels);
                            self.groups.create(id);
                        }
                    }
                }
            }
            Section::Row { time, mut series, mut values, mut starts, late } => {
                if !series.iter().all(|id| self.groups.contains(*id)) {
                    let known: Vec<Option<u32>> = series.iter().map(|id| self.known(*id, time)).collect();
                    retain_known(&known, &mut values);
                    starts.iter_mut().for_each(|starts| retain_known(&known, starts));
                    series = known.into_iter().flatten().collect();
                }
                if late {
                    for (id, value) in series.iter().zip(&values) {
                        self.groups.out_of_order.push_float(*id, time, *value);
                    }
                } else {
                    self.groups.push_row(time, &series, &values, starts.as_deref(), Limits::REPLAY, None);
                }
            }
            Section::Samples { mut series, mut times, mut values, mut starts } => {
                if !series.iter().all(|id| self.groups.contains(*id)) {
                    let known: Vec<Option<u32>> =
                        series.iter().zip(&times).map(|(id, time)| self.known(*id, *time)).collect();
                    retain_known(&known, &mut times);
                    retain_known(&known, &mut values);
                    starts.iter_mut().for_each(|starts| retain_known(&known, starts));
                    series = known.into_iter().flatten().collect();
                }
                let starts = starts.as_deref();
                let samples = Scattered { times: &times, series: &series, values: &values, starts };
                self.groups.push_scattered(samples, Limits::REPLAY);
            }
            Section::Histograms { samples, late } => {
                for (id, time, start, sample) in samples {
                    let Some(id) = self.known(id, time) else { continue };
                    if late {
                        self.groups.out_of_order.push_histogram(id, time, sample);
                    } else {
                        self.groups.push_histogram(id, Entry { time, start, sample, late: false }, Limits::REPLAY);
                    }
                }
            }
            Section::Metadata(entries) => {
                for (id, metadata) in entries {
                    if let Some(id) = self.known(id, Timestamp::MIN) {
                        self.metadata.insert(id, metadata);
                    }
                }
            }
            Section::Exemplars(exemplars) => {
                for (id, exemplar) in exemplars {
                    if let Some(id) = self.known(id, Timestamp::MIN) {
                        self.exemplars.push(&self.index.labels(id), exemplar);
                    }
                }
            }
            Section::Tombstones(tombstones) => {
                for (id, ranges) in tombstones.sorted() {
                    if let Some(id) = self.known(id, Timestamp::MIN) {
                        ranges.iter().for_each(|range| self.groups.tombstones.add(id, *range));
                    }
                }
            }
            Section::Flushed(time) => {
                self.groups.out_of_order.truncate(time);
                // series stay: the log does not say again what they are
                self.groups.drop_before(time);
            }
            Section::End => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Bounds, SpillArea};
    use crate::wal::{RecordBuilder, WalOptions, WalWriter};

    #[test]
    fn a_number_whose_series_is_lost_is_not_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let (files, wal) = (Files::default(), dir.path().join("wal"));
        files.create_dir(&wal).unwrap();
        let options = WalOptions { segment_bytes: 1 << 20 };
        let mut writer = WalWriter::create(files.clone(), &wal, options, 1, Vec::new(), Timestamp::MIN).unwrap();
        let mut record = RecordBuilder::default();
        record.row(1000, &[7], &[1.0], None);
        writer.append(&record.bytes, record.max_time).unwrap();
        let bounds = Bounds::empty(0, 1000);
        let area = SpillArea::open(&files, &dir.path().join("head")).unwrap();
        let counters = Counters::default();
        let state = Replayed::new(Groups::new(bounds, area), ExemplarStore::new(0));
        let mut state = replay(&files, &wal, state, None, &counters, &ReplayProgress::default(), TornEnd::Cut).unwrap();
        assert_eq!(counters.wal_unknown_series.get(), 1);
        let labels = model::Labels::from_pairs([("__name__", "new")]);
        assert_eq!(state.index.get_or_create(&labels, None), Some((8, true)));
    }
}
