//! Which samples of a column each step sees. Found once for all series that share the column.

use std::rc::Rc;
use std::sync::Arc;

use model::Timestamp;

use super::durations::LookAt;
use super::frame::Steps;

/// From the first to behind the last sample, for each step.
pub(super) type Bounds = Rc<[(u32, u32)]>;

/// What rates of series with equal timestamps have in common.
#[derive(Debug, Default)]
pub(super) struct RateSteps {
    /// For each step.
    pub(super) steps: Vec<RateStep>,
    /// Samples in the largest window and in the last one.
    pub(super) largest: usize,
    pub(super) last: usize,
    /// Samples in all windows.
    pub(super) loaded: u64,
    /// The same without those that an earlier window has.
    pub(super) read: u64,
}

impl RateSteps {
    fn new(timestamps: &[Timestamp], shape: WindowShape, steps: Steps, per_seconds: Option<f64>) -> Self {
        let mut rates = Self { steps: Vec::with_capacity(steps.count), ..Self::default() };
        for (step, &(from, to)) in shape.bounds(timestamps, steps).iter().enumerate() {
            let times = &timestamps[from as usize..to as usize];
            let reach = Reach::new(times, shape.range_at(steps.time(step)), None);
            let factor = reach.factor(None, per_seconds);
            rates.steps.push(RateStep { from, to, factor, near_zero: reach.near_zero() });
            rates.largest = rates.largest.max(times.len());
            rates.last = times.len();
        }
        let totals = rates.loads().fold((0, 0), |(loaded, read), load| (loaded + load.0 as u64, read + load.1 as u64));
        (rates.loaded, rates.read) = totals;
        rates
    }

    /// Of each step the samples in its window, and how many of them no earlier window has.
    pub(super) fn loads(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut seen = 0;
        self.steps.iter().map(move |&RateStep { from, to, .. }| {
            let read = to - seen.clamp(from, to);
            seen = to;
            ((to - from) as usize, read as usize)
        })
    }
}

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
        let (mut from, mut to) = (Walk::default(), Walk::default());
        steps
            .times()
            .map(|time| {
                let (start, end) = self.range_at(time);
                let (start, end) = (start.saturating_sub(self.before), end.saturating_add(self.after));
                from.advance(timestamps, start);
                to.at = to.at.max(from.at);
                to.advance(timestamps, end);
                (from.at as u32, to.at as u32)
            })
            .collect()
    }

    /// The last sample in the range of each step, or `none`.
    pub(super) fn latest(
        self,
        timestamps: &[Timestamp],
        steps: Steps,
        none: u32,
    ) -> impl Iterator<Item = u32> + use<'_> {
        let mut to = Walk::default();
        steps.times().map(move |time| {
            let (start, end) = self.range_at(time);
            to.advance(timestamps, end);
            let last = timestamps[..to.at].last();
            if last.is_some_and(|last| *last > start) { to.at as u32 - 1 } else { none }
        })
    }
}

/// A way through a column.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    at: usize,
    /// How far it went last: mostly it goes as far the next time.
    stride: usize,
}

impl Walk {
    /// Goes on to the first timestamp that is behind `time`.
    #[inline]
    fn advance(&mut self, timestamps: &[Timestamp], time: Timestamp) {
        let before = self.at;
        let guess = before + self.stride;
        let right = guess <= timestamps.len()
            && (guess == before || timestamps[guess - 1] <= time)
            && timestamps.get(guess).is_none_or(|next| *next > time);
        self.at = if right { guess } else { advance(timestamps, before, time) };
        self.stride = self.at - before;
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

/// How far a rate reaches in time: from the first to the last sample, and beyond them to the bounds of the range. In seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    sampled: f64,
    /// Before the first sample, unless the counter would be below zero then.
    to_start: f64,
    /// Behind the last one.
    to_end: f64,
}

impl Reach {
    /// Of a window with samples at these times, at least one, and a range. A counter with a known start begins there.
    pub(super) fn new(
        times: &[Timestamp],
        (range_start, range_end): (Timestamp, Timestamp),
        known_start: Option<Timestamp>,
    ) -> Self {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Self::default() };
        let seconds = |from: Timestamp, to: Timestamp| (to - from) as f64 / 1000.0;
        let average = if times.len() > 1 { seconds(*first, *last) / (times.len() - 1) as f64 } else { 0.0 };
        let within = |seconds: f64| if seconds >= average * 1.1 { average / 2.0 } else { seconds };
        Self {
            sampled: seconds(known_start.unwrap_or(*first), *last),
            to_start: if known_start.is_some() { 0.0 } else { within(seconds(range_start, *first)) },
            to_end: within(seconds(*last, range_end)),
        }
    }

    /// A counter whose first value is more than so many times its increase is sure not to reach zero within the range.
    fn near_zero(&self) -> f64 {
        // a little more than rounding can make up for
        self.to_start / self.sampled * 1.000_001
    }

    /// By what an increase is multiplied. `counter` is the first value of a counter and its increase: it was not below zero, so it
    /// cannot have started earlier than its slope says.
    #[inline]
    pub(super) fn factor(&self, counter: Option<(f64, f64)>, per_seconds: Option<f64>) -> f64 {
        let mut to_start = self.to_start;
        if let Some((first, increase)) = counter
            && increase > 0.0
            && first >= 0.0
        {
            let to_zero = self.sampled * (first / increase);
            if to_zero < to_start {
                to_start = to_zero;
            }
        }
        let factor = (self.sampled + to_start + self.to_end) / self.sampled;
        per_seconds.map_or(factor, |seconds| factor / seconds)
    }
}

/// What a rate needs to know of the window of a step, beside the values in it. There are many of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateStep {
    /// The first sample of the window.
    pub(super) from: u32,
    /// Behind the last sample.
    pub(super) to: u32,
    /// By what an increase is multiplied, unless the counter must have started within the range.
    pub(super) factor: f64,
    /// See [`Reach::near_zero`].
    near_zero: f64,
}

impl RateStep {
    /// Whether [`Reach::factor`] is sure to be the same for a counter with this first value and increase as without them.
    #[inline]
    pub(super) fn is_far_from_zero(&self, first: f64, increase: f64) -> bool {
        let rises = increase > 0.0;
        !rises || first > increase * self.near_zero
    }
}

/// What the last few timestamp columns came to. Series in label order often have those of some targets in turn.
pub(super) struct Recent<V>(Vec<(Arc<[Timestamp]>, V)>);

impl<V: Clone> Recent<V> {
    /// Columns that are remembered.
    const COLUMNS: usize = 8;

    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(Self::COLUMNS))
    }

    #[inline]
    pub(super) fn get_or(&mut self, timestamps: &Arc<[Timestamp]>, make: impl FnOnce() -> V) -> V {
        if let Some((_, value)) = self.0.iter().rev().find(|(column, _)| Arc::ptr_eq(column, timestamps)) {
            return value.clone();
        }
        let value = make();
        if self.0.len() == Self::COLUMNS {
            self.0.remove(0);
        }
        self.0.push((timestamps.clone(), value.clone()));
        value
    }
}

/// Remembers the windows of the last few columns.
pub(super) struct WindowCache {
    shape: WindowShape,
    steps: Steps,
    bounds: Recent<Bounds>,
    rates: Recent<Rc<RateSteps>>,
}

impl WindowCache {
    pub(super) fn new(shape: WindowShape, steps: Steps) -> Self {
        Self { shape, steps, bounds: Recent::new(), rates: Recent::new() }
    }

    pub(super) fn bounds(&mut self, timestamps: &Arc<[Timestamp]>) -> Bounds {
        self.bounds.get_or(timestamps, || self.shape.bounds(timestamps, self.steps))
    }

    /// How far the rate at a step reaches, whose window has samples at these times.
    pub(super) fn reach(&self, times: &[Timestamp], step: usize) -> Reach {
        Reach::new(times, self.shape.range_at(self.steps.time(step)), None)
    }

    /// What rates of samples at these times have in common; `per_seconds` is the same at each call.
    pub(super) fn rates(&mut self, timestamps: &Arc<[Timestamp]>, per_seconds: Option<f64>) -> Rc<RateSteps> {
        self.rates.get_or(timestamps, || Rc::new(RateSteps::new(timestamps, self.shape, self.steps, per_seconds)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_are_open_on_the_left() {
        let shape = WindowShape { look: LookAt { at: None, offset: 0 }, range: 20, before: 0, after: 0 };
        let steps = Steps { start: 20, interval: 10, count: 4 };
        let bounds = shape.bounds(&[0, 10, 20, 30, 50], steps);
        assert_eq!(&*bounds, [(1, 3), (2, 4), (3, 4), (4, 5)]);
    }

    proptest! {
        /// A counter that is said to be far from zero has the factor of one of which nothing is known.
        #[test]
        fn what_is_far_from_zero_changes_no_factor(
            (sampled, to_start, to_end) in (0.001..1e6f64, 0.0..1e6f64, 0.0..1e6f64),
            (first, increase, near) in (any::<f64>(), any::<f64>(), 0.999_999..1.000_001f64),
        ) {
            let reach = Reach { sampled, to_start, to_end };
            let step = RateStep { from: 0, to: 2, factor: reach.factor(None, Some(60.0)), near_zero: reach.near_zero() };
            // one that reaches zero just where it counts
            for first in [first, to_start * increase / sampled * near] {
                if step.is_far_from_zero(first, increase) {
                    prop_assert_eq!(reach.factor(Some((first, increase)), Some(60.0)), step.factor);
                }
            }
        }

        /// Whatever the timestamps, steps and windows: bounds are those of a search for each step.
        #[test]
        fn bounds_are_found(
            gaps in prop::collection::vec(0i64..40, 0..80),
            interval in 1i64..60,
            range in 0i64..90,
            (before, after) in (0i64..20, 0i64..20),
            start in -50i64..100,
        ) {
            let mut time = 0;
            // one in three at a regular distance, so that guesses are right and wrong
            let timestamps: Vec<i64> = gaps.iter().map(|gap| { time += if gap % 3 == 0 { 15 } else { gap + 1 }; time }).collect();
            let steps = Steps { start, interval, count: 30 };
            let shape = WindowShape { look: LookAt { at: None, offset: 0 }, range, before, after };
            let bounds = shape.bounds(&timestamps, steps);
            let latest: Vec<u32> = shape.latest(&timestamps, steps, u32::MAX).collect();
            for (step, time) in steps.times().enumerate() {
                let behind = |time: i64| timestamps.partition_point(|t| *t <= time) as u32;
                let from = behind(time - range - before);
                prop_assert_eq!(bounds[step], (from, behind(time + after).max(from)));
                let last = behind(time);
                let expected = if last > behind(time - range) { last - 1 } else { u32::MAX };
                prop_assert_eq!(latest[step], expected);
            }
        }
    }
}
