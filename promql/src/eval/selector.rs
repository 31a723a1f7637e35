use std::rc::Rc;
use std::sync::Arc;

use model::{Labels, Timestamp};

use super::counting::SeriesCount;
use super::durations::LookAt;
use super::frame::{ABSENT, Frame, Hist, Row, is_absent};
use super::parallel::Wants;
use super::windows::{Recent, WindowShape};
use super::{Evaluator, stats_only};
use crate::annotations::Annotations;
use crate::ast::{Extended, VectorSelector};
use crate::storage::{Column, FloatsRef, KeptLabels, Lent, Newest, NewestAt, Samples, Wanted};
use crate::{PosRange, QueryError};

/// A function over the samples that a vector selector finds: (time of the sample, its start timestamp).
pub(super) type SampleTimeFn = fn(Timestamp, Timestamp) -> f64;

impl Evaluator<'_> {
    pub(super) fn vector_selector(&self, selector: &VectorSelector, pos: PosRange) -> Result<Frame, QueryError> {
        let mut frame = self.query.frame();
        self.select_rows(selector, pos, KeptLabels::All, &mut |row| frame.push(row.take()))?;
        Ok(frame)
    }

    /// The series of a selector with their latest samples, one after the other; at least the labels `kept` are needed.
    pub(super) fn select_rows(
        &self,
        selector: &VectorSelector,
        pos: PosRange,
        kept: KeptLabels<'_>,
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let look = self.look_at(&selector.shift)?;
        if selector.extended == Some(Extended::Smoothed) {
            return self.smoothed_rows(selector, look, pos, each);
        }
        let shape = self.latest_shape(look);
        let stats_only = self.query.stats_only.contains(&stats_only::key(selector));
        let present = self.query.presence_only.contains(&stats_only::key(selector));
        let wants = Wants { samples: if present { Wanted::Presence } else { Wanted::Samples }, labels: kept };
        let span = shape.span(self.steps);
        // what resets a histogram is seen in the one before
        if self.steps.count == 1 && !stats_only {
            let state = || self.count_series();
            let work = |count: &mut SeriesCount<'_>, labels: &Labels, newest: Newest<Hist>, _: &mut Annotations| {
                Ok(newest_row(labels, newest).map(|row| {
                    let samples = row.samples();
                    count.add(0, samples, samples);
                    (row, samples)
                }))
            };
            return self.work_on_series(&selector.matchers, span, wants, state, work, &mut |row| self.keep(row, each));
        }
        let state = || (Latest::new(shape, self.steps), self.count_series());
        let work = |(latest, count): &mut (Latest, SeriesCount<'_>), labels: &Labels, lent: Lent<'_, Hist>| {
            let mut row = Row::new(labels.clone(), false, 0);
            match lent {
                // a staleness marker says that there is nothing, as in a row
                Lent::Newest(floats) => row.floats = floats.to_vec(),
                Lent::Samples(floats, histograms) => {
                    row.floats = vec![ABSENT; self.steps.count];
                    latest.put_floats(floats, &mut row.floats);
                    if let Some(mut histograms) = histograms {
                        if stats_only {
                            stats_only::resolve_hints(&mut histograms);
                        }
                        latest.put_histograms(floats.timestamps, &histograms, &mut row);
                    }
                }
            }
            Ok(self.counted(row, stats_only, count))
        };
        let at = NewestAt {
            start: look.at.unwrap_or(self.steps.start),
            interval: if look.at.is_some() { 0 } else { self.steps.interval },
            count: self.steps.count,
            offset: look.offset,
            range: shape.range,
        };
        self.work_on_newest(&selector.matchers, at, wants, state, work, &mut |row| self.keep(row, each))
    }

    /// The window in which the latest sample counts.
    fn latest_shape(&self, look: LookAt) -> WindowShape {
        WindowShape { look, range: self.query.lookback, before: 0, after: 0 }
    }

    /// Holds a row and passes it on.
    pub(super) fn keep(
        &self,
        (row, samples): &mut (Row, usize),
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.query.hold(*samples)?;
        each(row)
    }

    /// Counts what a row of a selector has read; `None` if it is empty.
    pub(super) fn counted(&self, row: Row, stats_only: bool, count: &mut SeriesCount<'_>) -> Option<(Row, usize)> {
        let samples = self.count_row(&row, stats_only, count);
        (samples > 0).then_some((row, samples))
    }

    /// The series of a selector with a function of the times of their latest samples.
    pub(super) fn select_times(&self, selector: &VectorSelector, value: SampleTimeFn) -> Result<Frame, QueryError> {
        let look = self.look_at(&selector.shift)?;
        let shape = self.latest_shape(look);
        let mut frame = self.query.frame();
        let state = || (Latest::new(shape, self.steps), self.count_series());
        let work = |(latest, count): &mut (Latest, SeriesCount<'_>),
                    labels: &Labels,
                    samples: Samples,
                    _: &mut Annotations| {
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
            Ok(self.counted(row, false, count))
        };
        let mut push = |row: &mut Row| frame.push(row.take());
        let wants = Wants { samples: Wanted::Samples, labels: KeptLabels::All };
        self.work_on_series(&selector.matchers, shape.span(self.steps), wants, state, work, &mut |row| {
            self.keep(row, &mut push)
        })?;
        Ok(frame)
    }
}

/// The row of a series at the only step; `None` if there is nothing, as a staleness marker says.
fn newest_row(labels: &Labels, newest: Newest<Hist>) -> Option<Row> {
    match newest {
        Newest::Float(value) if !is_absent(value) => {
            Some(Row { labels: labels.clone(), drop_name: false, floats: vec![value], histograms: Vec::new() })
        }
        Newest::Histogram(histogram) if !histogram.is_stale() => {
            let mut row = Row::new(labels.clone(), false, 1);
            row.set_histogram(0, histogram);
            Some(row)
        }
        Newest::None | Newest::Float(_) | Newest::Histogram(_) => None,
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
        self.known.get_or(timestamps, || self.shape.latest(timestamps, self.steps, NONE).collect())
    }

    /// Puts the latest floats at each step where there are some. A staleness marker says that there is nothing, as does what it is
    /// written to.
    fn put_floats(&mut self, floats: FloatsRef<'_>, row: &mut [f64]) {
        let FloatsRef { timestamps, shared, values } = floats;
        if values.is_empty() {
            return;
        }
        let put = |(to, pick): (&mut f64, u32)| {
            if let Some(value) = values.get(pick as usize) {
                *to = *value;
            }
        };
        match shared {
            Some(timestamps) => row.iter_mut().zip(self.picks(timestamps).iter().copied()).for_each(put),
            None => row.iter_mut().zip(self.shape.latest(timestamps, self.steps, NONE)).for_each(put),
        }
    }

    /// Puts the latest histograms at each step where no later float is.
    fn put_histograms(&mut self, float_times: &[Timestamp], histograms: &Column<Hist>, row: &mut Row) {
        let floats: Vec<u32> = self.shape.latest(float_times, self.steps, NONE).collect();
        let picks = self.picks(&histograms.timestamps);
        for (step, pick) in picks.iter().enumerate().filter(|(_, pick)| **pick != NONE) {
            let float = floats[step];
            if float != NONE && float_times[float as usize] > histograms.timestamps[*pick as usize] {
                continue;
            }
            row.clear(step);
            let histogram = &histograms.values[*pick as usize];
            if !histogram.is_stale() {
                row.set_histogram(step, histogram.clone());
            }
        }
    }
}
