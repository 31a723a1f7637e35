use std::rc::Rc;
use std::sync::Arc;

use model::{Labels, Timestamp};

use super::durations::LookAt;
use super::frame::{Frame, Row, is_absent};
use super::parallel::Wants;
use super::windows::{Recent, WindowShape};
use super::{Evaluator, stats_only};
use crate::annotations::Annotations;
use crate::ast::{Extended, VectorSelector};
use crate::storage::{Column, KeptLabels, Samples, Wanted};
use crate::{PosRange, QueryError};

/// A function over the samples that a vector selector finds: (time of the sample, its start timestamp).
pub(super) type SampleTimeFn = fn(Timestamp, Timestamp) -> f64;

impl Evaluator<'_> {
    pub(super) fn vector_selector(&self, selector: &VectorSelector, pos: PosRange) -> Result<Frame, QueryError> {
        let mut frame = self.query.frame();
        self.select_rows(selector, pos, KeptLabels::All, &mut |row| frame.push(row))?;
        Ok(frame)
    }

    /// The series of a selector with their latest samples, one after the other; at least the labels `kept` are needed.
    pub(super) fn select_rows(
        &self,
        selector: &VectorSelector,
        pos: PosRange,
        kept: KeptLabels<'_>,
        each: &mut dyn FnMut(Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let look = self.look_at(&selector.shift)?;
        if selector.extended == Some(Extended::Smoothed) {
            return self.smoothed_rows(selector, look, pos, each);
        }
        let shape = self.latest_shape(look);
        let stats_only = self.query.stats_only.contains(&stats_only::key(selector));
        let state = || Latest::new(shape, self.steps);
        let work = |latest: &mut Latest, labels: &Labels, mut samples: Samples, _: &mut Annotations| {
            if stats_only {
                stats_only::resolve_hints(&mut samples);
            }
            let mut row = Row::new(labels.clone(), false, self.steps.count);
            let float_picks = latest.picks(&samples.floats.timestamps);
            if !samples.floats.is_empty() {
                for (value, pick) in row.floats.iter_mut().zip(float_picks.iter()) {
                    if *pick != NONE {
                        // a staleness marker says that there is nothing, as does what it is written to
                        *value = samples.floats.values[*pick as usize];
                    }
                }
            }
            if !samples.histograms.is_empty() {
                let picks = latest.picks(&samples.histograms.timestamps);
                for (step, pick) in picks.iter().enumerate().filter(|(_, pick)| **pick != NONE) {
                    let float = float_picks[step];
                    if float != NONE
                        && samples.floats.timestamps[float as usize] > samples.histograms.timestamps[*pick as usize]
                    {
                        continue;
                    }
                    row.clear(step);
                    let histogram = &samples.histograms.values[*pick as usize];
                    if !histogram.is_stale() {
                        row.set_histogram(step, histogram.clone());
                    }
                }
            }
            Ok(self.counted(row, stats_only))
        };
        let present = self.query.presence_only.contains(&stats_only::key(selector));
        let wants = Wants { samples: if present { Wanted::Presence } else { Wanted::Samples }, labels: kept };
        self.work_on_series(&selector.matchers, shape.span(self.steps), wants, state, work, &mut |row| {
            self.keep(row, each)
        })
    }

    /// The window in which the latest sample counts.
    fn latest_shape(&self, look: LookAt) -> WindowShape {
        WindowShape { look, range: self.query.lookback, before: 0, after: 0 }
    }

    /// Holds a row and passes it on.
    pub(super) fn keep(
        &self,
        (row, samples): (Row, usize),
        each: &mut dyn FnMut(Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.query.hold(samples)?;
        each(row)
    }

    /// Counts what a row of a selector has read; `None` if it is empty.
    pub(super) fn counted(&self, row: Row, stats_only: bool) -> Option<(Row, usize)> {
        let samples = self.count_row(&row, stats_only);
        (samples > 0).then_some((row, samples))
    }

    /// The series of a selector with a function of the times of their latest samples.
    pub(super) fn select_times(&self, selector: &VectorSelector, value: SampleTimeFn) -> Result<Frame, QueryError> {
        let look = self.look_at(&selector.shift)?;
        let shape = self.latest_shape(look);
        let mut frame = self.query.frame();
        let state = || Latest::new(shape, self.steps);
        let work = |latest: &mut Latest, labels: &Labels, samples: Samples, _: &mut Annotations| {
            let mut row = Row::new(labels.clone(), false, self.steps.count);
            let mut times: Vec<Option<Timestamp>> = vec![None; self.steps.count];
            let floats = latest.picks(&samples.floats.timestamps);
            let mut put = |times: &mut Vec<Option<Timestamp>>, step: usize, time, start, stale: bool| {
                if times[step].is_some_and(|known| known > time) {
                    return;
                }
                times[step] = Some(time);
                if stale {
                    row.clear(step);
                } else {
                    row.set_float(step, value(time, start));
                }
            };
            for (step, pick) in floats.iter().enumerate().filter(|(_, pick)| **pick != NONE) {
                let (time, start) = times_of(&samples.floats, *pick);
                put(&mut times, step, time, start, is_absent(samples.floats.values[*pick as usize]));
            }
            let histograms = latest.picks(&samples.histograms.timestamps);
            for (step, pick) in histograms.iter().enumerate().filter(|(_, pick)| **pick != NONE) {
                let (time, start) = times_of(&samples.histograms, *pick);
                put(&mut times, step, time, start, samples.histograms.values[*pick as usize].is_stale());
            }
            Ok(self.counted(row, false))
        };
        let mut push = |row| frame.push(row);
        let wants = Wants { samples: Wanted::Samples, labels: KeptLabels::All };
        self.work_on_series(&selector.matchers, shape.span(self.steps), wants, state, work, &mut |row| {
            self.keep(row, &mut push)
        })?;
        Ok(frame)
    }
}

fn times_of<V>(column: &Column<V>, pick: u32) -> (Timestamp, Timestamp) {
    let start = column.start_timestamps.as_ref().map_or(0, |starts| starts[pick as usize]);
    (column.timestamps[pick as usize], start)
}

/// The index of a sample for each step, or [`NONE`].
type Picks = Rc<[u32]>;

/// No sample.
const NONE: u32 = u32::MAX;

/// Finds the latest sample within the lookback of each step, once per column.
struct Latest {
    shape: WindowShape,
    steps: super::Steps,
    known: Recent<Picks>,
}

impl Latest {
    fn new(shape: WindowShape, steps: super::Steps) -> Self {
        Self { shape, steps, known: Recent::new() }
    }

    fn picks(&mut self, timestamps: &Arc<[Timestamp]>) -> Picks {
        self.known.get_or(timestamps, || self.shape.latest(timestamps, self.steps, NONE))
    }
}
