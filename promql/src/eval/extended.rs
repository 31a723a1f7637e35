//! `anchored` and `smoothed` selectors.

use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram, IncompatibleSchemas, Labels, Timestamp};

use super::Evaluator;
use super::counting::SeriesCount;
use super::durations::LookAt;
use super::frame::{Hist, Row};
use super::parallel::Wants;
use super::range_functions::{Output, RangeCall, Window, without_stale};
use super::windows::{WindowCache, WindowShape};
use crate::annotations::{Annotations, HistogramOp};
use crate::ast::{Extended, VectorSelector};
use crate::storage::{KeptLabels, Samples, Wanted};
use crate::{PosRange, QueryError};

const ANCHORED_FUNCTIONS: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
const SMOOTHED_FUNCTIONS: [&str; 3] = ["delta", "increase", "rate"];

/// Whether a function takes such a selector.
pub(super) fn check_function(extended: Option<Extended>, function: &str) -> Result<(), QueryError> {
    let (name, allowed) = match extended {
        None => return Ok(()),
        Some(Extended::Anchored) => ("anchored", &ANCHORED_FUNCTIONS[..]),
        Some(Extended::Smoothed) => ("smoothed", &SMOOTHED_FUNCTIONS[..]),
    };
    if allowed.contains(&function) {
        return Ok(());
    }
    let allowed = allowed.join(", ");
    Err(QueryError::execution(format!("{name} modifier can only be used with: {allowed} - not with {function}")))
}

/// The part of the window that belongs to the range: from the last sample before it, or the first in it.
pub(super) fn first_index(times: &[Timestamp], range_start: Timestamp) -> usize {
    times.partition_point(|t| *t <= range_start).saturating_sub(1)
}

/// The value between two samples. A counter that was reset between them is taken to have started at zero.
fn interpolate(before: (Timestamp, f64), after: (Timestamp, f64), at: Timestamp, counter: bool) -> f64 {
    let (y2, mut y1) = (after.1, before.1);
    if counter && y2 < y1 {
        y1 = 0.0;
    }
    y1 + (y2 - y1) * (at - before.0) as f64 / (after.0 - before.0) as f64
}

/// What can be interpolated.
trait Point: Clone {
    /// The value at a time between two samples.
    fn between(
        before: (Timestamp, &Self),
        after: (Timestamp, &Self),
        at: Timestamp,
        counter: bool,
    ) -> Result<Self, IncompatibleSchemas>;
}

impl Point for f64 {
    fn between(
        before: (Timestamp, &Self),
        after: (Timestamp, &Self),
        at: Timestamp,
        counter: bool,
    ) -> Result<Self, IncompatibleSchemas> {
        Ok(interpolate((before.0, *before.1), (after.0, *after.1), at, counter))
    }
}

impl Point for Hist {
    fn between(
        before: (Timestamp, &Self),
        after: (Timestamp, &Self),
        at: Timestamp,
        counter: bool,
    ) -> Result<Self, IncompatibleSchemas> {
        if before.1.uses_custom_buckets() != after.1.uses_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let fraction = (at - before.0) as f64 / (after.0 - before.0) as f64;
        let mut value = FloatHistogram::clone(after.1);
        if counter && after.1.detect_reset(before.1) {
            value.mul(fraction);
        } else {
            value.sub(before.1)?;
            value.mul(fraction);
            value.add(before.1)?;
        }
        value.counter_reset_hint = if after.1.counter_reset_hint == CounterResetHint::Gauge {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
        };
        Ok(Arc::new(value))
    }
}

/// A range with values at its bounds.
struct Bounded<V> {
    left: V,
    right: V,
    /// Samples strictly inside, by index.
    inner: std::ops::Range<usize>,
    /// Whether the value on the left lies between two samples.
    left_interpolated: bool,
    /// Whether the value on the right does, and of which sample it is before.
    right_interpolated: Option<usize>,
    /// The last sample of the range, if the value on the right is its.
    right_index: usize,
}

/// Picks or interpolates the values at the bounds of a range. `None` without a sample in the range.
fn bounded<V: Point>(
    times: &[Timestamp],
    values: &[V],
    (range_start, range_end): (Timestamp, Timestamp),
    smoothed: bool,
    counter: bool,
) -> Result<Option<Bounded<V>>, IncompatibleSchemas> {
    let Some(mut last) = times.len().checked_sub(1) else { return Ok(None) };
    let first = first_index(times, range_start).min(last);
    if smoothed {
        last = times[..last].partition_point(|t| *t < range_end);
    }
    if times[last] <= range_start || times[first] > range_end {
        return Ok(None);
    }
    let at = |i: usize| (times[i], &values[i]);
    let left_interpolated = smoothed && times[first] < range_start;
    let left = if left_interpolated {
        V::between(at(first), at(first + 1), range_start, counter)?
    } else {
        values[first].clone()
    };
    let interpolate_right = smoothed && last > 0 && times[last] > range_end;
    let right =
        if interpolate_right { V::between(at(last - 1), at(last), range_end, counter)? } else { values[last].clone() };
    let from = if times[first] <= range_start { first + 1 } else { first };
    let to = if times[last] >= range_end { last } else { last + 1 };
    Ok(Some(Bounded {
        left,
        right,
        inner: from..to.max(from),
        left_interpolated,
        right_interpolated: interpolate_right.then_some(last),
        right_index: last,
    }))
}

/// `rate`, `increase` and `delta` of an anchored or smoothed range: no extrapolation.
pub(super) fn rate(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    if window.is_mixed() {
        notes.mixed_floats_histograms(metric, call.pos);
        return Output::None;
    }
    let counter = call.name != "delta";
    let smoothed = call.extended == Some(Extended::Smoothed);
    if window.floats.is_empty() {
        return match histogram_rate(call, window, counter, smoothed, metric, notes) {
            Ok(Some(value)) => Output::Histogram(Arc::new(value)),
            Ok(None) => Output::None,
            Err(IncompatibleSchemas) => {
                notes.mixed_exponential_custom(metric, call.pos);
                Output::None
            }
        };
    }
    let Ok(Some(range)) = bounded(window.times, window.floats, window.range, smoothed, counter) else {
        return Output::None;
    };
    let mut value = range.right - range.left;
    if counter {
        let (mut correction, mut previous) = (0.0, range.left);
        for current in &window.floats[range.inner] {
            if *current < previous {
                correction += previous;
            }
            previous = *current;
        }
        if range.right < previous {
            correction += previous;
        }
        value += correction;
    }
    if call.name == "rate" {
        value /= call.range_secs;
    }
    Output::Float(value)
}

fn histogram_rate(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    counter: bool,
    smoothed: bool,
    metric: &str,
    notes: &mut Annotations,
) -> Result<Option<FloatHistogram>, IncompatibleSchemas> {
    let hists = window.hists;
    let Some(range) = bounded(window.hist_times, hists, window.range, smoothed, counter)? else { return Ok(None) };
    let first = first_index(window.hist_times, window.range.0);
    let used = &hists[first..=range.right_index];
    let gauge = |h: &Hist| h.counter_reset_hint == CounterResetHint::Gauge;
    if counter && used.iter().any(gauge) {
        notes.not_counter(metric, call.pos);
    }
    let gauge_ends = used.first().is_some_and(gauge) && used.last().is_some_and(gauge);
    if !counter && !gauge_ends {
        notes.not_gauge(metric, call.pos);
    }
    if used.iter().any(|h| h.uses_custom_buckets() != range.right.uses_custom_buckets()) {
        return Err(IncompatibleSchemas);
    }
    let schema = used.iter().map(|h| h.schema).min().unwrap_or(range.right.schema);
    let mut value = range.right.copy_to_schema(schema);
    let mut note = |combined: model::Combined, op| {
        if combined.bounds_reconciled {
            notes.custom_buckets_reconciled(op, call.pos);
        }
    };
    note(value.sub(&range.left)?, HistogramOp::Sub);
    if counter {
        let mut previous = &range.left;
        for at in range.inner.clone() {
            // between a value interpolated after a reset and the sample behind it there is none
            let after_interpolated = range.left_interpolated && at == range.inner.start;
            if !after_interpolated && hists[at].detect_reset(previous) {
                note(value.add(previous)?, HistogramOp::Add);
            }
            previous = &hists[at];
        }
        // both bounds can lie in one gap between samples, where the interpolation has dealt with a reset
        let one_gap = range.inner.is_empty() && range.left_interpolated;
        let reset_at_end = !one_gap
            && match range.right_interpolated {
                Some(next) => hists[next].detect_reset(previous),
                None if range.inner.end == range.right_index + 1 && !range.inner.is_empty() => false,
                None => !Arc::ptr_eq(&range.right, previous) && range.right.detect_reset(previous),
            };
        if reset_at_end {
            note(value.add(previous)?, HistogramOp::Add);
        }
    }
    if call.name == "rate" {
        value.div(call.range_secs);
    }
    value.counter_reset_hint = CounterResetHint::Gauge;
    value.compact(0);
    Ok(Some(value))
}

/// The points of an anchored or smoothed range as a result of its own: values at both bounds and samples inside.
pub(super) fn extend_floats(
    times: &[Timestamp],
    floats: &[f64],
    range: (Timestamp, Timestamp),
    smoothed: bool,
) -> (Vec<Timestamp>, Vec<f64>) {
    extend(times, floats, range, smoothed).unwrap_or_default()
}

/// The same for histograms.
pub(super) fn extend_histograms(
    times: &[Timestamp],
    hists: &[Hist],
    range: (Timestamp, Timestamp),
    smoothed: bool,
) -> (Vec<Timestamp>, Vec<Hist>) {
    extend(times, hists, range, smoothed).unwrap_or_default()
}

fn extend<V: Point>(
    times: &[Timestamp],
    values: &[V],
    range: (Timestamp, Timestamp),
    smoothed: bool,
) -> Result<(Vec<Timestamp>, Vec<V>), IncompatibleSchemas> {
    let Some(found) = bounded(times, values, range, smoothed, false)? else { return Ok((Vec::new(), Vec::new())) };
    let mut out_times = vec![range.0];
    out_times.extend(&times[found.inner.clone()]);
    out_times.push(range.1);
    let mut out = vec![found.left];
    out.extend_from_slice(&values[found.inner]);
    out.push(found.right);
    Ok((out_times, out))
}

impl Evaluator<'_> {
    /// An instant selector with values interpolated between samples.
    pub(super) fn smoothed_rows(
        &self,
        selector: &VectorSelector,
        look: LookAt,
        pos: PosRange,
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let lookback = self.query.lookback;
        let shape = WindowShape { look, range: lookback, before: 0, after: lookback };
        let state = || (WindowCache::new(shape, self.steps), self.count_series());
        let work = |(windows, count): &mut (WindowCache, SeriesCount<'_>),
                    labels: &Labels,
                    samples: Samples,
                    notes: &mut Annotations| {
            let samples = without_stale(samples);
            let mut row = Row::new(labels.clone(), false, self.steps.count);
            let floats = windows.bounds(&samples.floats.timestamps);
            let hists = windows.bounds(&samples.histograms.timestamps);
            let metric = labels.metric_name();
            for step in 0..self.steps.count {
                let at = look.time(self.steps.time(step));
                let float = floats[step].0 as usize..floats[step].1 as usize;
                let hist = hists[step].0 as usize..hists[step].1 as usize;
                if !float.is_empty() && !hist.is_empty() {
                    notes.mixed_floats_histograms(metric, pos);
                } else if !float.is_empty() {
                    let times = &samples.floats.timestamps[float.clone()];
                    if let Ok(Some(value)) = value_at(times, &samples.floats.values[float], at, false) {
                        row.set_float(step, value);
                    }
                } else if !hist.is_empty() {
                    let times = &samples.histograms.timestamps[hist.clone()];
                    let hists = &samples.histograms.values[hist];
                    let counter = !hists.iter().any(|h| h.counter_reset_hint == CounterResetHint::Gauge);
                    match value_at(times, hists, at, counter) {
                        Ok(Some(value)) => row.set_histogram(step, value),
                        Ok(None) => {}
                        Err(IncompatibleSchemas) => notes.mixed_exponential_custom(metric, pos),
                    }
                }
            }
            Ok(self.counted(row, false, count))
        };
        let wants = Wants { samples: Wanted::Samples, labels: KeptLabels::All };
        self.work_on_series(&selector.matchers, shape.span(self.steps), wants, state, work, &mut |row| {
            self.keep(row, each)
        })
    }
}

/// The value at a time: of the sample then, between the samples around it, or of the one before if none follows.
fn value_at<V: Point>(
    times: &[Timestamp],
    values: &[V],
    at: Timestamp,
    counter: bool,
) -> Result<Option<V>, IncompatibleSchemas> {
    let next = times.partition_point(|t| *t < at);
    if times.get(next) == Some(&at) {
        return Ok(Some(values[next].clone()));
    }
    let Some(before) = next.checked_sub(1) else { return Ok(None) };
    if next == times.len() {
        return Ok(Some(values[before].clone()));
    }
    V::between((times[before], &values[before]), (times[next], &values[next]), at, counter).map(Some)
}
