//! How rows of float samples get into their groups: the row that is expected at once, one that differs a little in one go, and any other
//! sample by sample.

use std::ops::Range;

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

/// Where the samples of a row lie that differs from the layout of its group.
struct ChangedRow {
    group: u32,
    runs: Runs,
    new: Vec<u32>,
}

/// Stands for the column of a series that has none yet.
const NEW: u32 = u32::MAX;

/// Columns of a row one after the other, as neighbours; `NEW..NEW` for each that is to come.
#[derive(Default)]
struct Runs(Vec<Range<u32>>);

impl Runs {
    fn push(&mut self, columns: Range<u32>) {
        match self.0.last_mut() {
            Some(last) if last.end == columns.start => last.end = columns.end,
            _ => self.0.push(columns),
        }
    }
}

/// Where neighbours of a row lie.
enum Place {
    /// In these columns.
    Columns(Range<u32>),
    /// In no group yet: they get columns.
    New,
}

/// How many numbers two lists have in common from the first on.
fn equal_at_first(a: &[u32], b: &[u32]) -> usize {
    const STEP: usize = 16;
    let whole = a.as_chunks::<STEP>().0.iter().zip(b.as_chunks::<STEP>().0).take_while(|(a, b)| a == b).count() * STEP;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

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

    /// Finds the place of a row that is newer than all of its group and differs from its layout: series may be missing, stand elsewhere, or
    /// be new. Calls `each` with neighbours of the row and where they lie. Returns the group; `None` if there is anything to be judged one
    /// by one.
    fn place_row(
        &self,
        time: Timestamp,
        series: &[u32],
        limits: Limits,
        mut each: impl FnMut(&Group, &[u32], Place),
    ) -> Option<u32> {
        let number = series.iter().find_map(|series| self.group_of(*series))?;
        let group = self.group(number)?;
        // a few samples are judged as quickly
        if time <= group.max_time() || group.careful || series.len() < 2 || !self.is_behind_all_late(time, limits) {
            return None;
        }
        let layout = &group.series[..group.live];
        // mostly a series stands behind the one that was before it in the layout too, or has taken the place of one
        let (mut at, mut next) = (0, 0);
        while at < series.len() {
            let alike = equal_at_first(&series[at..], layout.get(next..).unwrap_or_default());
            if alike > 0 {
                let columns = next as u32..(next + alike) as u32;
                each(group, &series[at..at + alike], Place::Columns(columns));
                (at, next) = (at + alike, next + alike);
                continue;
            }
            let one = &series[at..=at];
            match self.home(series[at]) {
                Home::At(home, column) if home == number => {
                    let in_layout = (column as usize) < layout.len();
                    next = if in_layout { column as usize + 1 } else { next + 1 };
                    each(group, one, Place::Columns(column..column + 1));
                }
                Home::None if self.histograms.is_empty() || self.histograms.get(series[at]).is_none() => {
                    next += 1;
                    each(group, one, Place::New);
                }
                Home::At(..) | Home::None | Home::Gone => return None,
            }
            at += 1;
        }
        Some(number)
    }

    /// The series of a row that [`Groups::place_row`] finds a place for that could be removed before its transaction commits; `None` if it
    /// finds none.
    fn idle_in_row(&self, time: Timestamp, series: &[u32], limits: Limits) -> Option<Vec<u32>> {
        let recent = self.recent();
        let mut idle = Vec::new();
        self.place_row(time, series, limits, |group, series, place| match place {
            // of a series that is in the group and has no histograms the column knows the last sample
            Place::Columns(columns) => {
                idle.extend(group.idle_since(recent, columns).map(|column| group.series[column as usize]));
            }
            Place::New => idle.extend_from_slice(series),
        })?;
        Some(idle)
    }

    /// The place of a row, if [`Groups::place_row`] finds one.
    fn changed_row(&self, time: Timestamp, series: &[u32], limits: Limits) -> Option<ChangedRow> {
        let (mut runs, mut new) = (Runs::default(), Vec::new());
        let group = self.place_row(time, series, limits, |_, series, place| match place {
            Place::Columns(columns) => runs.push(columns),
            Place::New => {
                series.iter().for_each(|_| runs.0.push(NEW..NEW));
                new.extend_from_slice(series);
            }
        })?;
        Some(ChangedRow { group, runs, new })
    }

    /// Takes a row of a [`Groups::changed_row`].
    fn push_changed_row(
        &mut self,
        row: ChangedRow,
        time: Timestamp,
        series: &[u32],
        values: &[f64],
        starts: Option<&[Timestamp]>,
    ) -> RowOutcome {
        let ChangedRow { group, mut runs, new } = row;
        if !new.is_empty() {
            let (mut first, mut last) = (NEW, 0);
            for series in new {
                // it may be in the row twice
                if self.home(series) == Home::None
                    && let Some(column) = self.add_column(group, series, Last::NEVER)
                {
                    (first, last) = (first.min(column), last.max(column));
                }
            }
            // only now: what was in the place of a new column has moved
            let mut at = 0;
            for columns in std::mem::take(&mut runs.0) {
                let is_new = columns.start == NEW;
                let end = at + if is_new { 1 } else { columns.len() };
                if !is_new && (columns.end <= first || columns.start > last) {
                    runs.push(columns);
                } else {
                    for id in &series[at..end] {
                        let Home::At(_, column) = self.home(*id) else {
                            return RowOutcome { refused: series.len(), ..RowOutcome::default() };
                        };
                        runs.push(column..column + 1);
                    }
                }
                at = end;
            }
        }
        let Some(Some(g)) = self.groups.get_mut(group as usize) else { return RowOutcome::default() };
        let in_order = g.push_columns(time, &runs.0, values, starts);
        if g.is_full() {
            g.wish_order(series);
        }
        self.cover(time);
        self.seal_if_full(group);
        RowOutcome { in_order, refused: series.len() - in_order, ..RowOutcome::default() }
    }

    /// Checks a row without taking it; calls `refuse` with the index of each sample that would be refused. Pins series
    /// that could otherwise be removed before the transaction commits.
    pub(crate) fn check_row(
        &mut self,
        time: Timestamp,
        series: &[u32],
        values: &[f64],
        limits: Limits,
        transaction: u64,
        mut refuse: impl FnMut(usize, AppendError),
    ) {
        if let Some(group) = self.next_row(time, series, limits, Group::may_begin_row) {
            let recent = self.group(group).is_some_and(|g| g.max_time() >= self.recent());
            if !recent {
                series.iter().for_each(|s| self.pins.pin(*s, transaction));
            }
            return;
        }
        if let Some(idle) = self.idle_in_row(time, series, limits) {
            idle.into_iter().for_each(|series| self.pins.pin(series, transaction));
            return;
        }
        for (at, (series, value)) in series.iter().zip(values).enumerate() {
            match self.judge(*series, time, Some(*value), limits) {
                Err(error) => refuse(at, error),
                Ok(_) => self.pin_if_idle(*series, transaction),
            }
        }
    }

    /// Takes a row. Samples that are refused by the rules are left out and counted.
    pub(crate) fn push_row(
        &mut self,
        time: Timestamp,
        series: &[u32],
        values: &[f64],
        starts: Option<&[Timestamp]>,
        limits: Limits,
    ) -> RowOutcome {
        if let Some(group) = self.next_row(time, series, limits, Group::is_next_row)
            && let Some(Some(g)) = self.groups.get_mut(group as usize)
        {
            g.push_row(time, values, starts);
            self.cover(time);
            self.seal_if_full(group);
            return RowOutcome { in_order: series.len(), ..RowOutcome::default() };
        }
        if let Some(row) = self.changed_row(time, series, limits) {
            return self.push_changed_row(row, time, series, values, starts);
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
