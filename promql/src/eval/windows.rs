//! Which samples of a column each step sees. Found once for all series that share the column.

use std::rc::Rc;
use std::sync::Arc;

use model::Timestamp;

use super::durations::LookAt;
use super::frame::Steps;

/// From the first to behind the last sample, for each step.
pub(super) type Bounds = Rc<[(u32, u32)]>;

/// What a rate needs to know, for each step.
pub(super) type RateSteps = Rc<[RateStep]>;

/// Finds the samples in `(end - range - before, end + after]` for each step.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowShape {
    pub(super) look: LookAt,
    pub(super) range: i64,
    /// How much further back than the range.
    pub(super) before: i64,
    /// How much further ahead than the range.
    pub(super) after: i64,
}

impl WindowShape {
    /// Start (excluded) and end (included) of the range at a time, without what is added before and after.
    #[inline]
    pub(super) fn range_at(&self, time: Timestamp) -> (Timestamp, Timestamp) {
        let end = self.look.time(time);
        (end.saturating_sub(self.range), end)
    }

    /// First and last timestamp that any step needs.
    pub(super) fn span(&self, steps: Steps) -> (Timestamp, Timestamp) {
        let (first, _) = self.range_at(steps.start);
        let (_, last) = self.range_at(steps.last());
        (first.saturating_sub(self.before).saturating_add(1), last.saturating_add(self.after))
    }

    fn bounds(&self, timestamps: &[Timestamp], steps: Steps) -> Bounds {
        let (mut from, mut to) = (0usize, 0usize);
        steps
            .times()
            .map(|time| {
                let (start, end) = self.range_at(time);
                let (start, end) = (start.saturating_sub(self.before), end.saturating_add(self.after));
                from = advance(timestamps, from, start);
                to = advance(timestamps, to.max(from), end);
                (from as u32, to as u32)
            })
            .collect()
    }
}

/// The first index from `at` on whose timestamp is behind `time`.
fn advance(timestamps: &[Timestamp], at: usize, time: Timestamp) -> usize {
    let rest = &timestamps[at..];
    // steps are mostly close together, so the answer is near
    let near = rest.len().min(16);
    match rest[..near].iter().position(|t| *t > time) {
        Some(found) => at + found,
        None => at + near + rest[near..].partition_point(|t| *t <= time),
    }
}

/// What a rate needs to know of the window of a step, beside the values in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateStep {
    /// The first sample of the window.
    pub(super) from: u32,
    /// Behind the last sample.
    pub(super) to: u32,
    /// From the first to the last sample, in seconds.
    pub(super) sampled: f64,
    /// How far the rate is extrapolated before the first sample, unless the counter would be below zero then.
    pub(super) to_start: f64,
    /// How far it is extrapolated behind the last one.
    pub(super) to_end: f64,
}

impl RateStep {
    fn new(times: &[Timestamp], (from, to): (u32, u32), (range_start, range_end): (Timestamp, Timestamp)) -> Self {
        let none = Self { from, to, sampled: 0.0, to_start: 0.0, to_end: 0.0 };
        let [first, .., last] = times[from as usize..to as usize] else { return none };
        let seconds = |from: Timestamp, to: Timestamp| (to - from) as f64 / 1000.0;
        let sampled = seconds(first, last);
        let average = sampled / f64::from(to - from - 1);
        let within = |seconds: f64| if seconds >= average * 1.1 { average / 2.0 } else { seconds };
        let (to_start, to_end) = (within(seconds(range_start, first)), within(seconds(last, range_end)));
        Self { sampled, to_start, to_end, ..none }
    }
}

/// Remembers the bounds of the last few columns.
pub(super) struct WindowCache {
    shape: WindowShape,
    steps: Steps,
    known: Vec<(Arc<[Timestamp]>, Bounds)>,
    rates: Option<(Arc<[Timestamp]>, RateSteps)>,
}

impl WindowCache {
    pub(super) fn new(shape: WindowShape, steps: Steps) -> Self {
        Self { shape, steps, known: Vec::new(), rates: None }
    }

    pub(super) fn bounds(&mut self, timestamps: &Arc<[Timestamp]>) -> Bounds {
        if let Some((_, bounds)) = self.known.iter().rev().find(|(column, _)| Arc::ptr_eq(column, timestamps)) {
            return bounds.clone();
        }
        let bounds = self.shape.bounds(timestamps, self.steps);
        if self.known.len() == 8 {
            self.known.remove(0);
        }
        self.known.push((timestamps.clone(), bounds.clone()));
        bounds
    }
}

impl WindowCache {
    /// What rates of samples at these times have in common.
    pub(super) fn rates(&mut self, timestamps: &Arc<[Timestamp]>) -> RateSteps {
        if let Some((_, rates)) = self.rates.as_ref().filter(|(column, _)| Arc::ptr_eq(column, timestamps)) {
            return rates.clone();
        }
        let bounds = self.bounds(timestamps);
        let step = |(step, bounds): (usize, &(u32, u32))| {
            RateStep::new(timestamps, *bounds, self.shape.range_at(self.steps.time(step)))
        };
        let rates: RateSteps = bounds.iter().enumerate().map(step).collect();
        self.rates = Some((timestamps.clone(), rates.clone()));
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_on_the_left() {
        let shape = WindowShape { look: LookAt { at: None, offset: 0 }, range: 20, before: 0, after: 0 };
        let steps = Steps { start: 20, interval: 10, count: 4 };
        let bounds = shape.bounds(&[0, 10, 20, 30, 50], steps);
        assert_eq!(&*bounds, [(1, 3), (2, 4), (3, 4), (4, 5)]);
    }
}
