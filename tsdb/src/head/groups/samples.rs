//! How samples that have times of their own get into their groups: what is expected at once, any other sample by sample. Those of a
//! commit share a group all the same: what a series costs by itself is more than what its times cost.

use hashbrown::HashMap;
use model::Timestamp;

use super::{Groups, Home, Limits, RowOutcome, Verdict};
use crate::head::group::Last;

/// Samples, each with a time of its own; no start timestamps, or as many.
#[derive(Clone, Copy)]
pub(crate) struct Scattered<'a> {
    pub(crate) times: &'a [Timestamp],
    pub(crate) series: &'a [u32],
    pub(crate) values: &'a [f64],
    pub(crate) starts: Option<&'a [Timestamp]>,
}

/// A sample and the column it goes to.
#[derive(Clone, Copy)]
struct Cell {
    group: u32,
    column: u32,
    time: Timestamp,
    value: f64,
    start: Timestamp,
}

impl Scattered<'_> {
    fn start(&self, at: usize) -> Timestamp {
        self.starts.map_or(0, |starts| starts[at])
    }

    /// The samples by how many of their series stand before them, so that a part has one of each series.
    fn rounds(&self) -> Vec<Vec<usize>> {
        let mut before: HashMap<u32, usize> = HashMap::with_capacity(self.series.len());
        let mut rounds: Vec<Vec<usize>> = Vec::new();
        for (at, series) in self.series.iter().enumerate() {
            let round = before.entry(*series).or_default();
            if *round == rounds.len() {
                rounds.push(Vec::new());
            }
            rounds[*round].push(at);
            *round += 1;
        }
        rounds
    }
}

impl Groups {
    /// Takes samples that have times of their own. Those that are refused by the rules are left out and counted.
    pub(crate) fn push_scattered(&mut self, samples: Scattered<'_>, limits: Limits) -> RowOutcome {
        let Scattered { times, series, values, .. } = samples;
        if let Some(group) = self.next_scattered(times, series, limits)
            && let Some(Some(g)) = self.groups.get_mut(group as usize)
        {
            let cells = times.iter().zip(values).enumerate();
            g.push_scattered(cells.map(|(at, (time, value))| (at as u32, *time, *value, samples.start(at))));
            times.iter().for_each(|time| self.cover(*time));
            self.seal_if_full(group);
            return RowOutcome { in_order: series.len(), ..RowOutcome::default() };
        }
        let mut outcome = RowOutcome::default();
        for round in samples.rounds() {
            self.push_round(samples, &round, limits, &mut outcome);
        }
        outcome
    }

    /// The group that takes all of the samples at once, if there is one.
    fn next_scattered(&self, times: &[Timestamp], series: &[u32], limits: Limits) -> Option<u32> {
        let Home::At(group, 0) = self.home(*series.first()?) else { return None };
        let first = times.iter().min()?;
        let fits = self.is_behind_all_late(*first, limits) && self.group(group)?.is_next_scattered(times, series);
        fits.then_some(group)
    }

    /// Takes some of the samples, of each series one.
    fn push_round(&mut self, samples: Scattered<'_>, round: &[usize], limits: Limits, outcome: &mut RowOutcome) {
        let mut taken: Vec<usize> = Vec::with_capacity(round.len());
        let mut homeless = Vec::new();
        for at in round.iter().copied() {
            let (id, time, value) = (samples.series[at], samples.times[at], samples.values[at]);
            match self.judge(id, time, Some(value), limits) {
                Ok(Verdict::InOrder) => {
                    if !matches!(self.home(id), Home::At(..)) {
                        homeless.push(id);
                    }
                    taken.push(at);
                }
                Ok(Verdict::OutOfOrder) => {
                    outcome.out_of_order += usize::from(self.out_of_order.push_float(id, time, value));
                }
                Ok(Verdict::Known) => {}
                Err(_) => outcome.refused += 1,
            }
        }
        if !homeless.is_empty() {
            // where most of them lie, if they lie anywhere
            let homes = || taken.iter().filter_map(|at| self.group_of(samples.series[*at]));
            let group = homes().nth(homes().count() / 2).unwrap_or_else(|| self.new_group(homeless.len()));
            for id in homeless {
                let last = self.last(id, Home::None).map_or(Last::NEVER, |(time, _)| Last { time, value: 0.0 });
                self.add_column(group, id, last);
            }
        }
        // only now: a new column may have moved another one
        let cell = |at: &usize| match self.home(samples.series[*at]) {
            Home::At(group, column) => {
                let (time, value, start) = (samples.times[*at], samples.values[*at], samples.start(*at));
                Some(Cell { group, column, time, value, start })
            }
            Home::None | Home::Gone => None,
        };
        let mut cells: Vec<Cell> = taken.iter().filter_map(cell).collect();
        outcome.in_order += cells.len();
        let one_group = cells.windows(2).all(|pair| pair[0].group == pair[1].group);
        if cells.len() > 1
            && one_group
            && taken.len() == samples.series.len()
            && let Some(Some(g)) = self.groups.get_mut(cells[0].group as usize)
            && g.tail.rows() > 0
        {
            g.wish_order(samples.series);
        }
        cells.sort_unstable_by_key(|cell| (cell.group, cell.column));
        cells.iter().for_each(|cell| self.cover(cell.time));
        for run in cells.chunk_by(|a, b| a.group == b.group) {
            let group = run[0].group;
            let Some(Some(g)) = self.groups.get_mut(group as usize) else { continue };
            if g.tail.rows() == 0 && g.chunks.is_empty() && g.series.len() == run.len() {
                g.lay_out();
            }
            match run {
                [Cell { column, time, value, start, .. }] => g.push_cells(*time, &[(*column, *value, *start)]),
                _ => g.push_scattered(run.iter().map(|c| (c.column, c.time, c.value, c.start))),
            }
            self.seal_if_full(group);
        }
    }
}
