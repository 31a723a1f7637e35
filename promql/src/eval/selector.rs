use std::rc::Rc;
use std::sync::Arc;

use model::{Labels, Matcher, Timestamp};

use super::counting::sizes;
use super::durations::LookAt;
use super::frame::{Frame, Row, is_absent};
use super::windows::{WindowCache, WindowShape};
use super::{Evaluator, stats_only};
use crate::ast::{Extended, VectorSelector};
use crate::storage::{Column, Samples, SelectRequest};
use crate::{PosRange, QueryError};

/// Series read from the storage at a time.
const CHUNK: usize = 512;

/// A function over the samples that a vector selector finds: (time of the sample, its start timestamp).
pub(super) type SampleTimeFn = fn(Timestamp, Timestamp) -> f64;

impl Evaluator<'_> {
    /// Reads all series that match, a range of them at a time, in label order.
    pub(super) fn read_series(
        &self,
        matchers: &[Matcher],
        (mint, maxt): (Timestamp, Timestamp),
        each: &mut dyn FnMut(&Labels, Samples) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.query.check()?;
        let selection = self.query.storage.select(&SelectRequest { matchers, mint, maxt, labels_only: false })?;
        let labels = selection.labels();
        for from in (0..labels.len()).step_by(CHUNK) {
            self.query.check()?;
            let to = (from + CHUNK).min(labels.len());
            let samples = selection.read(from..to, mint, maxt)?;
            for (labels, samples) in labels[from..to].iter().zip(samples) {
                each(labels, samples)?;
            }
        }
        let warnings = selection.warnings();
        if !warnings.is_empty() {
            let mut all = self.query.storage_warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for warning in warnings {
                if !all.contains(warning) {
                    all.push(warning.clone());
                }
            }
        }
        Ok(())
    }

    pub(super) fn vector_selector(&self, selector: &VectorSelector, pos: PosRange) -> Result<Frame, QueryError> {
        let mut frame = Frame::default();
        self.select_rows(selector, pos, &mut |row| {
            frame.rows.push(row);
            Ok(())
        })?;
        Ok(frame)
    }

    /// The series of a selector with their latest samples, one after the other.
    pub(super) fn select_rows(
        &self,
        selector: &VectorSelector,
        pos: PosRange,
        each: &mut dyn FnMut(Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let look = self.look_at(&selector.shift)?;
        if selector.extended == Some(Extended::Smoothed) {
            return self.smoothed_rows(selector, look, pos, each);
        }
        let mut latest = Latest::new(self, look);
        let span = latest.span();
        let stats_only = self.query.stats_only.contains(&stats_only::key(selector));
        self.read_series(&selector.matchers, span, &mut |labels, mut samples| {
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
            self.keep_selected(row, stats_only, each)
        })
    }

    /// Counts what a row of a selector holds and passes it on, unless it is empty.
    pub(super) fn keep_selected(
        &self,
        row: Row,
        stats_only: bool,
        each: &mut dyn FnMut(Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut samples = 0;
        let mut count = self.count_series();
        for (step, size) in sizes(&row, stats_only) {
            count.add(step, size, size);
            samples += size;
        }
        drop(count);
        if samples == 0 {
            return Ok(());
        }
        self.query.hold(samples)?;
        each(row)
    }

    /// The series of a selector with a function of the times of their latest samples.
    pub(super) fn select_times(&self, selector: &VectorSelector, value: SampleTimeFn) -> Result<Frame, QueryError> {
        let look = self.look_at(&selector.shift)?;
        let mut latest = Latest::new(self, look);
        let span = latest.span();
        let mut frame = Frame::default();
        self.read_series(&selector.matchers, span, &mut |labels, samples| {
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
            self.keep_selected(row, false, &mut |row| {
                frame.rows.push(row);
                Ok(())
            })
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
    windows: WindowCache,
    last: Option<(Arc<[Timestamp]>, Picks)>,
}

impl Latest {
    fn new(evaluator: &Evaluator<'_>, look: LookAt) -> Self {
        let shape = WindowShape { look, range: evaluator.query.lookback, before: 0, after: 0 };
        let steps = evaluator.steps;
        Self { shape, steps, windows: WindowCache::new(shape, steps), last: None }
    }

    fn span(&self) -> (Timestamp, Timestamp) {
        self.shape.span(self.steps)
    }

    fn picks(&mut self, timestamps: &Arc<[Timestamp]>) -> Picks {
        match &self.last {
            Some((column, picks)) if Arc::ptr_eq(column, timestamps) => picks.clone(),
            _ => {
                let bounds = self.windows.bounds(timestamps);
                let picks: Picks = bounds.iter().map(|(from, to)| if from == to { NONE } else { to - 1 }).collect();
                self.last = Some((timestamps.clone(), picks.clone()));
                picks
            }
        }
    }
}
