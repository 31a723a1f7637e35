//! How rows of float samples get into their groups: the row that is expected at once, one that differs a little in one go, and any other
//! sample by sample.

use model::Timestamp;

use super::{Groups, Home, Limits, Verdict};
use crate::error::AppendError;
use crate::head::group::{Group, Last};

/// What became of the samples of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowOutcome {
    pub(crate) in_order: usize,
    pub(crate) out_of_order: usize,
    pub(crate) refused: usize,
}

/// Where the samples of a row lie that differs from the layout of its group. It is found when the row is checked, and holds at the commit
/// if it [still does](Groups::is_still_place).
pub(crate) struct RowPlace {
    group: u32,
    /// The column of each sample, [`NEW`] for those of series that are to get one.
    columns: Vec<u32>,
    /// Which samples these are.
    new: Vec<usize>,
    /// [`Groups::layouts`] when it was found.
    layouts: u64,
}

/// Stands for the column of a series that has none yet. It is behind all others.
const NEW: u32 = u32::MAX;

impl Groups {
    /// The group that takes a row on the fast path, if there is one. `fits` compares the row with the group's layout.
    fn next_row(
        &self,
        time: Timestamp,
        series: &[u32],
        limits: Limits,
        fits: impl FnOnce(&Group, Timestamp, &[u32]) -> bool,
    ) -> Option<u32> {
        let Home::At(group, 0) = self.home(*series.first()?) else { return None };
        (self.is_behind_all_late(time, limits) && fits(self.group(group)?, time, series)).then_some(group)
    }

    /// Whether samples of a time are in order wherever they are newer than the last one of their series.
    pub(super) fn is_behind_all_late(&self, time: Timestamp, limits: Limits) -> bool {
        time >= limits.min_valid.max(self.bounds.min_valid)
            && !(self.late_came_before && self.out_of_order.max_time.is_some_and(|late| time <= late))
    }

    /// The group if it may have a place for a row that differs from its layout: one that is newer than all there is.
    fn group_for(&self, group: u32, time: Timestamp, limits: Limits) -> Option<&Group> {
        let may = |group: &&Group| time > group.max_time() && !group.careful && self.is_behind_all_late(time, limits);
        self.group(group).filter(may)
    }

    /// Whether a series is in no group and has no histograms: all it has got is a number.
    fn is_new(&self, series: u32) -> bool {
        self.home(series) == Home::None && (self.histograms.is_empty() || self.histograms.get(series).is_none())
    }

    /// Finds the place of a row that is newer than all of its group and differs from its layout: series may be missing, stand elsewhere, or
    /// be new. `None` if there is anything to be judged one by one.
    fn place_row(&self, time: Timestamp, series: &[u32], limits: Limits) -> Option<RowPlace> {
        // a few samples are judged as quickly
        if series.len() < 2 {
            return None;
        }
        let number = series.iter().find_map(|series| self.group_of(*series))?;
        let group = self.group_for(number, time, limits)?;
        let (mut columns, mut new) = (Vec::with_capacity(series.len()), Vec::new());
        // mostly a series stands behind the one that was before it in the last row too, or has taken the place of one
        let (mut next, mut left) = (0, series);
        loop {
            let expected = group.take_expected(next, left, &mut columns);
            next += expected;
            let Some((id, behind)) = left[expected..].split_first() else { break };
            left = behind;
            let column = match self.home(*id) {
                Home::At(home, column) if home == number => {
                    next = group.place_of(column, next);
                    column
                }
                Home::None if self.is_new(*id) => {
                    new.push(columns.len());
                    NEW
                }
                Home::At(..) | Home::None | Home::Gone => return None,
            };
            columns.push(column);
            next += 1;
        }
        Some(RowPlace { group: number, columns, new, layouts: self.layouts })
    }

    /// Whether a place that was found for a row before is what would be found now: others may have committed meanwhile, and rows been
    /// sealed or series removed.
    fn is_still_place(&self, place: &RowPlace, time: Timestamp, series: &[u32], limits: Limits) -> bool {
        let Some(group) = self.group_for(place.group, time, limits) else { return false };
        let same_column = |(column, id): (&u32, &u32)| *column == NEW || group.series.get(*column as usize) == Some(id);
        place.columns.len() == series.len()
            && place.new.iter().all(|at| self.is_new(series[*at]))
            && (place.layouts == self.layouts || place.columns.iter().zip(series).all(same_column))
    }

    /// Takes a row whose place has been found.
    fn push_placed_row(
        &mut self,
        place: RowPlace,
        time: Timestamp,
        series: &[u32],
        values: &[f64],
        starts: Option<&[Timestamp]>,
    ) -> RowOutcome {
        let RowPlace { group, mut columns, new, .. } = place;
        let mut first = NEW;
        for id in new.iter().map(|at| series[*at]) {
            // it may be in the row twice
            if self.home(id) == Home::None
                && let Some(column) = self.add_column(group, id, Last::NEVER)
            {
                first = first.min(column);
            }
        }
        // only now: what was in the place of a new column has moved
        if first != NEW {
            for (column, id) in columns.iter_mut().zip(series).filter(|(column, _)| **column >= first) {
                let Home::At(_, there) = self.home(*id) else {
                    return RowOutcome { refused: series.len(), ..RowOutcome::default() };
                };
                *column = there;
            }
        }
        let Some(Some(g)) = self.groups.get_mut(group as usize) else { return RowOutcome::default() };
        let in_order = g.push_columns(time, columns, values, starts);
        if g.is_full() {
            g.wish_order(series);
        }
        self.cover(time);
        self.seal_if_full(group);
        RowOutcome { in_order, refused: series.len() - in_order, ..RowOutcome::default() }
    }

    /// Checks a row without taking it; calls `refuse` with the index of each sample that would be refused. Pins series
    /// that could otherwise be removed before the transaction commits. Returns the place of the row if it had to be found: then nothing is
    /// refused, and [`Groups::push_row`] need not find it again.
    pub(crate) fn check_row(
        &mut self,
        time: Timestamp,
        series: &[u32],
        values: &[f64],
        limits: Limits,
        transaction: u64,
        mut refuse: impl FnMut(usize, AppendError),
    ) -> Option<RowPlace> {
        if let Some(group) = self.next_row(time, series, limits, Group::may_begin_row) {
            let recent = self.group(group).is_some_and(|g| g.max_time() >= self.recent());
            if !recent {
                series.iter().for_each(|s| self.pins.pin(*s, transaction));
            }
            return None;
        }
        if let Some(place) = self.place_row(time, series, limits) {
            let recent = self.recent();
            let Some(Some(group)) = self.groups.get(place.group as usize) else { return None };
            // of a series that is in the group and has no histograms the column knows the last sample
            let is_idle = |column: u32| column == NEW || group.is_idle_since(recent, column);
            for (series, _) in series.iter().zip(&place.columns).filter(|(_, column)| is_idle(**column)) {
                self.pins.pin(*series, transaction);
            }
            return Some(place);
        }
        for (at, (series, value)) in series.iter().zip(values).enumerate() {
            match self.judge(*series, time, Some(*value), limits) {
                Err(error) => refuse(at, error),
                Ok(_) => self.pin_if_idle(*series, transaction),
            }
        }
        None
    }

    /// Takes a row. Samples that are refused by the rules are left out and counted. `place` is what [`Groups::check_row`] has returned
    /// for it, if it has.
    pub(crate) fn push_row(
        &mut self,
        time: Timestamp,
        series: &[u32],
        values: &[f64],
        starts: Option<&[Timestamp]>,
        limits: Limits,
        place: Option<RowPlace>,
    ) -> RowOutcome {
        if let Some(group) = self.next_row(time, series, limits, Group::is_next_row)
            && let Some(Some(g)) = self.groups.get_mut(group as usize)
        {
            g.push_row(time, values, starts);
            self.cover(time);
            self.seal_if_full(group);
            return RowOutcome { in_order: series.len(), ..RowOutcome::default() };
        }
        let place = place.filter(|place| self.is_still_place(place, time, series, limits));
        if let Some(place) = place.or_else(|| self.place_row(time, series, limits)) {
            return self.push_placed_row(place, time, series, values, starts);
        }
        let mut outcome = RowOutcome::default();
        let mut homeless = Vec::new();
        let mut samples: Vec<(u32, f64, Timestamp)> = Vec::with_capacity(series.len());
        let mut complete = true;
        for (at, (id, value)) in series.iter().zip(values).enumerate() {
            let start = starts.map_or(0, |s| s[at]);
            match self.judge(*id, time, Some(*value), limits) {
                Ok(Verdict::InOrder) => {
                    if !matches!(self.home(*id), Home::At(..)) {
                        homeless.push(*id);
                    }
                    samples.push((*id, *value, start));
                }
                Ok(Verdict::OutOfOrder) => {
                    complete = false;
                    outcome.out_of_order += usize::from(self.out_of_order.push_float(*id, time, *value));
                }
                Ok(Verdict::Known) => complete = false,
                Err(_) => {
                    complete = false;
                    outcome.refused += 1;
                }
            }
        }
        if !homeless.is_empty() {
            // where most of the row lies, if it lies anywhere
            let homes = || samples.iter().filter_map(|(id, ..)| self.group_of(*id));
            let group = homes().nth(homes().count() / 2).unwrap_or_else(|| self.new_group(homeless.len()));
            for id in homeless {
                // it may be in the row twice
                if self.group_of(id).is_none() {
                    let last = self.last(id, Home::None).map_or(Last::NEVER, |(time, _)| Last { time, value: 0.0 });
                    self.add_column(group, id, last);
                }
            }
        }
        // only now: a new column may have moved another one
        let cell = |(id, value, start)| match self.home(id) {
            Home::At(group, column) => Some((group, column, value, start)),
            Home::None | Home::Gone => None,
        };
        let cells: Vec<(u32, u32, f64, Timestamp)> = samples.into_iter().filter_map(cell).collect();
        outcome.in_order = cells.len();
        if let (Some(first), true) = (cells.first(), complete)
            && cells.iter().all(|c| c.0 == first.0)
            && let Some(Some(g)) = self.groups.get_mut(first.0 as usize)
            && g.tail.rows() > 0
            && series.len() > 1
        {
            g.wish_order(series);
        }
        self.push_cells(time, cells, &mut outcome);
        if outcome.in_order > 0 {
            self.cover(time);
        }
        outcome
    }

    fn push_cells(&mut self, time: Timestamp, mut cells: Vec<(u32, u32, f64, Timestamp)>, outcome: &mut RowOutcome) {
        // stable: of two samples of a series the first counts
        cells.sort_by_key(|c| (c.0, c.1));
        let before = cells.len();
        cells.dedup_by_key(|c| (c.0, c.1));
        outcome.in_order -= before - cells.len();
        outcome.refused += before - cells.len();
        for run in cells.chunk_by(|a, b| a.0 == b.0) {
            let group = run[0].0;
            let Some(Some(g)) = self.groups.get_mut(group as usize) else { continue };
            if g.tail.rows() == 0 && g.chunks.is_empty() && g.series.len() == run.len() {
                g.lay_out();
            }
            let whole = run.len() == g.live && run.last().is_some_and(|c| c.1 as usize + 1 == g.live);
            if whole && time > g.max_time() {
                let values: Vec<f64> = run.iter().map(|c| c.2).collect();
                let starts: Vec<Timestamp> = run.iter().map(|c| c.3).collect();
                g.push_row(time, &values, Some(&starts));
            } else {
                let some: Vec<(u32, f64, Timestamp)> = run.iter().map(|c| (c.1, c.2, c.3)).collect();
                g.push_cells(time, &some);
            }
            self.seal_if_full(group);
        }
    }

    pub(super) fn new_group(&mut self, columns: usize) -> u32 {
        let mut group = Group::new();
        group.reserve(columns);
        if let Some(number) = self.free.pop() {
            self.groups[number as usize] = Some(group);
            return number;
        }
        self.groups.push(Some(group));
        self.groups.len() as u32 - 1
    }

    /// Gives a series a column of a group, which is returned, and the series that was in its place another one. `None` if there is no
    /// such group.
    pub(super) fn add_column(&mut self, group: u32, series: u32, last: Last) -> Option<u32> {
        let g = self.groups.get_mut(group as usize)?.as_mut()?;
        self.layouts += 1;
        let (column, moved) = g.add(series, last);
        // the last sample was a histogram
        g.careful |= last.time != Timestamp::MIN;
        self.set_home(series, Home::At(group, column));
        if let Some((other, there)) = moved {
            self.set_home(other, Home::At(group, there));
        }
        Some(column)
    }
}
