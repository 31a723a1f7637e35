use std::sync::Arc;

use hashbrown::HashMap;
use model::{Labels, Timestamp};

use crate::error::{AppendError, Conflict};
use crate::head::group::Group;
use crate::head::histograms::{Entry, Histograms};
use crate::head::out_of_order::OutOfOrder;
use crate::head::pins::{KEPT, Pins};
use crate::head::spill::SpillArea;
use crate::{HistogramSample, SeriesRef};

mod rows;
mod samples;

pub(crate) use rows::{RowOutcome, RowPlace};
pub(crate) use samples::Scattered;

const PAGE: usize = 256;

/// Where a series' float samples lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// No such series.
    Gone,
    /// It has no float sample yet.
    None,
    /// Group and column.
    At(u32, u32),
}

/// The times the head covers and takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Earliest sample in order, `Timestamp::MAX` without any.
    pub(crate) min_time: Timestamp,
    /// Latest sample, `Timestamp::MIN` without any.
    pub(crate) max_time: Timestamp,
    /// What is older is in blocks.
    pub(crate) min_valid: Timestamp,
    /// Out-of-order window, 0 for none.
    pub(crate) window: i64,
    /// Range of a block.
    pub(crate) block_range: i64,
}

impl Bounds {
    /// Those of a head without samples.
    pub(crate) fn empty(window: i64, block_range: i64) -> Self {
        Self { min_time: Timestamp::MAX, max_time: Timestamp::MIN, min_valid: Timestamp::MIN, window, block_range }
    }
}

/// What a transaction goes by from its first sample to its commit, as upstream's appenders do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The oldest sample taken in order.
    pub(crate) min_valid: Timestamp,
    /// The newest sample of the head, from which the out-of-order window is measured.
    pub(crate) newest: Timestamp,
}

impl Limits {
    /// Of what has been taken before, as the log has it.
    pub(crate) const REPLAY: Self = Self { min_valid: Timestamp::MIN, newest: Timestamp::MIN };
}

impl Bounds {
    /// The limits of a transaction whose first sample is at `first`.
    pub(crate) fn limits(&self, first: Timestamp) -> Limits {
        let newest = if self.max_time == Timestamp::MIN { first } else { self.max_time };
        Limits { min_valid: self.min_valid.max(newest.saturating_sub(self.block_range / 2)), newest }
    }
}

/// What to do with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    InOrder,
    OutOfOrder,
    /// The series has it already.
    Known,
}

/// All samples of the head. One lock holds them: what is done under it takes microseconds per thousand samples.
pub(crate) struct Groups {
    groups: Vec<Option<Group>>,
    free: Vec<u32>,
    /// How often a column of some group has been added, moved or removed.
    layouts: u64,
    homes: Vec<Option<Box<[Home; PAGE]>>>,
    pub(crate) histograms: Histograms,
    pub(crate) out_of_order: OutOfOrder,
    /// What is out of order came before what comes now; not so while a log is read behind a checkpoint, which has all of it.
    pub(crate) late_came_before: bool,
    pub(crate) bounds: Bounds,
    /// Series that no record of the log names yet.
    pub(crate) unlogged: HashMap<u32, Labels>,
    /// Series that open transactions may be about to write.
    pub(crate) pins: Pins,
    /// Deleted ranges, by series.
    pub(crate) tombstones: crate::tombstones::Tombstones,
    pub(crate) area: Arc<SpillArea>,
}

impl Groups {
    pub(crate) fn new(bounds: Bounds, area: SpillArea) -> Self {
        Self {
            groups: Vec::new(),
            free: Vec::new(),
            layouts: 0,
            homes: Vec::new(),
            histograms: Histograms::default(),
            out_of_order: OutOfOrder::default(),
            late_came_before: true,
            bounds,
            unlogged: HashMap::new(),
            pins: Pins::default(),
            tombstones: crate::tombstones::Tombstones::default(),
            area: Arc::new(area),
        }
    }

    pub(crate) fn home(&self, series: u32) -> Home {
        match self.homes.get(series as usize / PAGE) {
            Some(Some(page)) => page[series as usize % PAGE],
            _ => Home::Gone,
        }
    }

    fn group_of(&self, series: u32) -> Option<u32> {
        match self.home(series) {
            Home::At(group, _) => Some(group),
            Home::None | Home::Gone => None,
        }
    }

    fn set_home(&mut self, series: u32, home: Home) {
        let page = series as usize / PAGE;
        if self.homes.len() <= page {
            self.homes.resize_with(page + 1, || None);
        }
        self.homes[page].get_or_insert_with(|| Box::new([Home::Gone; PAGE]))[series as usize % PAGE] = home;
        if home == Home::Gone && self.homes[page].iter().flat_map(|p| p.iter()).all(|h| *h == Home::Gone) {
            self.homes[page] = None;
        }
    }

    /// Makes a series known.
    pub(crate) fn create(&mut self, series: u32) {
        self.set_home(series, Home::None);
    }

    /// All groups.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().flatten()
    }

    /// Takes a group of an image of the head, whose series are known and in no group; otherwise it is not taken.
    pub(crate) fn restore(&mut self, group: Group) -> bool {
        let number = self.groups.len() as u32;
        for (column, series) in group.series.iter().enumerate() {
            if self.home(*series) != Home::None {
                return false;
            }
            self.set_home(*series, Home::At(number, column as u32));
        }
        self.groups.push(Some(group));
        true
    }

    /// All series that are waiting to be logged have been.
    pub(crate) fn forget_unlogged(&mut self) {
        if self.unlogged.is_empty() && self.unlogged.capacity() > KEPT {
            self.unlogged.shrink_to_fit();
        }
    }

    /// As [`Pins::pin`], if the series has had no sample for a while.
    pub(crate) fn pin_if_idle(&mut self, series: u32, transaction: u64) {
        if self.last(series, self.home(series)).is_none_or(|l| l.0 < self.recent()) {
            self.pins.pin(series, transaction);
        }
    }

    pub(crate) fn group(&self, group: u32) -> Option<&Group> {
        self.groups.get(group as usize)?.as_ref()
    }

    /// Time of the newest in-order sample of a series, and its value if that is a float.
    fn last(&self, series: u32, home: Home) -> Option<(Timestamp, Option<f64>)> {
        let float = match home {
            Home::At(group, column) => self.group(group).map(|g| g.last(column)).filter(|l| l.time != Timestamp::MIN),
            Home::None | Home::Gone => None,
        };
        let histogram =
            if self.histograms.is_empty() { None } else { self.histograms.get(series).and_then(|h| h.last()) };
        match (float, histogram) {
            (_, Some(h)) if float.is_none_or(|f| f.time <= h.time) => Some((h.time, None)),
            (Some(f), _) => Some((f.time, Some(f.value))),
            (None, _) => None,
        }
    }

    fn came_late(&self, series: u32, time: Timestamp) -> bool {
        self.late_came_before && self.out_of_order.has(series, time)
    }

    /// Upstream's `memSeries.appendable`.
    fn judge(&self, series: u32, time: Timestamp, value: Option<f64>, limits: Limits) -> Result<Verdict, AppendError> {
        let home = self.home(series);
        if home == Home::Gone {
            return Err(AppendError::UnknownSeries(SeriesRef(u64::from(series))));
        }
        let window = self.bounds.window;
        let min_valid = limits.min_valid.max(self.bounds.min_valid);
        if time >= min_valid {
            match self.last(series, home) {
                // it came late by the limits of another transaction: the first one counts
                last if last.is_none_or(|l| time > l.0) && self.came_late(series, time) => {
                    return Ok(Verdict::OutOfOrder);
                }
                None => return Ok(Verdict::InOrder),
                Some((last, _)) if time > last => return Ok(Verdict::InOrder),
                Some((last, stored)) if time == last => {
                    return match (stored, value) {
                        (Some(a), Some(b)) if a.to_bits() == b.to_bits() => Ok(Verdict::Known),
                        (Some(existing), Some(new)) => Err(AppendError::Duplicate {
                            timestamp: time,
                            conflict: Conflict::Floats { existing, new },
                        }),
                        // two histograms are compared by the caller
                        (None, None) => Ok(Verdict::Known),
                        _ => Err(AppendError::Duplicate { timestamp: time, conflict: Conflict::Histogram }),
                    };
                }
                Some(_) => {}
            }
        }
        if window > 0 {
            let too_old = time < limits.newest.saturating_sub(window);
            return if too_old { Err(AppendError::TooOld) } else { Ok(Verdict::OutOfOrder) };
        }
        Err(if time < min_valid { AppendError::OutOfBounds } else { AppendError::OutOfOrder })
    }

    /// Whether a sample would be taken in order.
    pub(crate) fn is_newest(&self, series: u32, time: Timestamp, limits: Limits) -> bool {
        self.judge(series, time, None, limits) == Ok(Verdict::InOrder)
    }

    /// Series with samples since then are in no danger of being removed soon.
    fn recent(&self) -> Timestamp {
        self.bounds.max_time.saturating_sub(self.bounds.block_range / 2)
    }

    fn cover(&mut self, time: Timestamp) {
        self.bounds.min_time = self.bounds.min_time.min(time);
        self.bounds.max_time = self.bounds.max_time.max(time);
    }

    fn seal_if_full(&mut self, group: u32) {
        if let Some(Some(g)) = self.groups.get_mut(group as usize)
            && g.is_full()
            && g.seal(&self.area)
        {
            self.renumber(group);
        }
    }

    /// Seals the rows of a group if there are some from before a time. Whether there may be a group with a higher number.
    pub(crate) fn seal_before(&mut self, group: u32, time: Timestamp) -> bool {
        if let Some(Some(g)) = self.groups.get_mut(group as usize)
            && g.tail.rows() > 0
            && g.tail.min_time < time
            && g.seal(&self.area)
        {
            self.renumber(group);
        }
        (group as usize) < self.groups.len()
    }

    fn renumber(&mut self, group: u32) {
        self.layouts += 1;
        let Some(Some(g)) = self.groups.get(group as usize) else { return };
        for (column, series) in g.series.clone().into_iter().enumerate() {
            self.set_home(series, Home::At(group, column as u32));
        }
    }

    /// Checks a histogram sample without taking it.
    pub(crate) fn check_histogram(
        &mut self,
        series: u32,
        time: Timestamp,
        sample: &HistogramSample,
        limits: Limits,
        transaction: u64,
    ) -> Result<(), AppendError> {
        self.judge_histogram(series, time, sample, limits)?;
        self.pins.pin(series, transaction);
        Ok(())
    }

    fn judge_histogram(
        &self,
        series: u32,
        time: Timestamp,
        sample: &HistogramSample,
        limits: Limits,
    ) -> Result<Verdict, AppendError> {
        let verdict = self.judge(series, time, None, limits)?;
        if verdict == Verdict::Known
            && let Some(last) = self.histograms.get(series).and_then(|h| h.last())
            && !last.sample.same(sample)
        {
            return Err(AppendError::Duplicate { timestamp: time, conflict: Conflict::Histogram });
        }
        Ok(verdict)
    }

    /// Takes a histogram sample.
    pub(crate) fn push_histogram(&mut self, series: u32, entry: Entry, limits: Limits) -> RowOutcome {
        let time = entry.time;
        match self.judge_histogram(series, time, &entry.sample, limits) {
            Ok(Verdict::InOrder) => {
                self.histograms.push(series, entry, &self.area);
                if let Home::At(group, _) = self.home(series)
                    && let Some(Some(g)) = self.groups.get_mut(group as usize)
                {
                    g.careful = true;
                }
                self.cover(time);
                RowOutcome { in_order: 1, ..RowOutcome::default() }
            }
            Ok(Verdict::OutOfOrder) => {
                let taken = self.out_of_order.push_histogram(series, time, entry.sample);
                RowOutcome { out_of_order: usize::from(taken), ..RowOutcome::default() }
            }
            Ok(Verdict::Known) => RowOutcome::default(),
            Err(_) => RowOutcome { refused: 1, ..RowOutcome::default() },
        }
    }

    /// Drops samples before `min_time` and keeps all series.
    pub(crate) fn drop_before(&mut self, min_time: Timestamp) {
        self.bounds.min_valid = self.bounds.min_valid.max(min_time);
        self.bounds.min_time = self.bounds.min_time.max(min_time);
        self.histograms.truncate(min_time);
        self.tombstones.truncate(min_time);
        for group in self.groups.iter_mut().flatten() {
            group.truncate(min_time, |_| false, &self.area);
        }
    }

    /// Drops samples before `min_time` (they are in blocks) and returns the series that have none left and that no
    /// transaction from `oldest_open` on may be about to write.
    pub(crate) fn truncate(&mut self, min_time: Timestamp, oldest_open: u64) -> Vec<u32> {
        self.bounds.min_valid = self.bounds.min_valid.max(min_time);
        self.bounds.min_time = self.bounds.min_time.max(min_time);
        self.pins.retain_since(oldest_open);
        self.histograms.truncate(min_time);
        self.tombstones.truncate(min_time);
        let mut gone = Vec::new();
        for number in 0..self.groups.len() {
            let Some(mut group) = self.groups[number].take() else { continue };
            let dead = |series: u32| self.is_dead(&group, series, min_time);
            let dead: Vec<u32> = group.series.iter().copied().filter(|s| dead(*s)).collect();
            let set: hashbrown::HashSet<u32> = dead.iter().copied().collect();
            let renumber = group.truncate(min_time, |s| set.contains(&s), &self.area);
            gone.extend(dead);
            if group.series.is_empty() {
                self.free.push(number as u32);
                continue;
            }
            self.groups[number] = Some(group);
            if renumber {
                self.renumber(number as u32);
            }
        }
        for page in 0..self.homes.len() {
            let Some(homes) = &self.homes[page] else { continue };
            for (slot, home) in homes.iter().enumerate() {
                let series = (page * PAGE + slot) as u32;
                if *home == Home::None && !self.is_needed(series) {
                    gone.push(series);
                }
            }
        }
        for series in &gone {
            self.set_home(*series, Home::Gone);
            self.unlogged.remove(series);
            self.tombstones.forget(*series);
        }
        gone.sort_unstable();
        self.area.rotate();
        gone
    }

    fn is_dead(&self, group: &Group, series: u32, min_time: Timestamp) -> bool {
        let Home::At(_, column) = self.home(series) else { return true };
        group.last(column).time < min_time && !self.is_needed(series)
    }

    fn is_needed(&self, series: u32) -> bool {
        self.pins.contains(series) || self.histograms.get(series).is_some() || self.out_of_order.contains(series)
    }

    /// Number of sealed and open chunks, as upstream counts them: one for each series.
    pub(crate) fn chunk_count(&self) -> usize {
        let sealed = |g: &Group| g.chunks.iter().flat_map(|c| c.sets.iter()).map(|s| s.series.len()).sum::<usize>();
        let open = |g: &Group| if g.tail.rows() > 0 { g.live } else { 0 };
        self.groups.iter().flatten().map(|g| sealed(g) + open(g)).sum::<usize>() + self.histograms.chunk_count()
    }

    /// Bytes in the files of sealed chunks.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.groups.iter().flatten().flat_map(|g| &g.chunks).map(|c| c.file_bytes()).sum()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.groups.iter().flatten().map(Group::heap_bytes).sum::<usize>()
            + self.groups.capacity() * size_of::<Option<Group>>()
            + self.homes.iter().flatten().count() * PAGE * size_of::<Home>()
            + self.histograms.heap_bytes()
            + self.out_of_order.heap_bytes()
    }

    /// Earliest and latest sample, those out of order included.
    pub(crate) fn extent(&self) -> (Timestamp, Timestamp) {
        let late = (self.out_of_order.min_time, self.out_of_order.max_time);
        (
            self.bounds.min_time.min(late.0.unwrap_or(Timestamp::MAX)),
            self.bounds.max_time.max(late.1.unwrap_or(Timestamp::MIN)),
        )
    }

    /// Time of the newest sample of a series, those out of order included.
    pub(crate) fn newest(&self, series: u32) -> Option<Timestamp> {
        let last = self.last(series, self.home(series)).map(|l| l.0);
        last.max(self.out_of_order.get(series).and_then(|late| late.max_time()))
    }

    /// Whether there is such a series.
    pub(crate) fn contains(&self, series: u32) -> bool {
        self.home(series) != Home::Gone
    }

    /// Shared out-of-order samples, for a snapshot.
    pub(crate) fn late(&self, series: u32) -> Option<Arc<crate::head::out_of_order::OutOfOrderSeries>> {
        self.out_of_order.get(series).cloned()
    }
}
