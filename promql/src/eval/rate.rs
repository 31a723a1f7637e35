//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram, IncompatibleSchemas, Labels, Timestamp};

use super::frame::Hist;
use super::pace::Pace;
use super::range_functions::{Output, RangeCall, Window};
use super::windows::{RateStep, Reach};
use crate::QueryError;
use crate::annotations::{Annotations, HistogramOp};

/// Tells where in a series values go down, so that windows without such places need not be searched.
pub(super) struct ResetIndex {
    /// How many values up to each place are lower than the one before; empty if there is none at all.
    falls: Vec<u32>,
}

impl ResetIndex {
    pub(super) fn new(function: &str, values: &[f64]) -> Self {
        let counter = matches!(function, "rate" | "increase");
        if !counter || !falls_anywhere(values) {
            return Self { falls: Vec::new() };
        }
        let mut falls = Vec::with_capacity(values.len());
        let mut count = 0;
        let mut previous = f64::NEG_INFINITY;
        for value in values {
            count += u32::from(*value < previous);
            falls.push(count);
            previous = *value;
        }
        Self { falls }
    }

    /// Whether a value in `from..to` is lower than the one before it in that range.
    pub(super) fn any_in(&self, from: usize, to: usize) -> bool {
        !self.falls.is_empty() && to > from + 1 && self.falls[to - 1] != self.falls[from]
    }
}

fn falls_anywhere(values: &[f64]) -> bool {
    // many at a time, without a branch for each
    let falls = |part: &[f64]| part.iter().zip(&part[1..]).fold(false, |any, (a, b)| any | (b < a));
    (0..values.len()).step_by(LOOK).any(|at| falls(&values[at..values.len().min(at + LOOK + 1)]))
}

/// Values that are looked at before the first answer counts.
const LOOK: usize = 64;

/// Whether a counter reset lies between two samples, by their start timestamps.
pub(super) fn is_start_reset(previous: (Timestamp, Timestamp), current: (Timestamp, Timestamp)) -> bool {
    let ((previous_start, previous_time), (start, time)) = (previous, current);
    if start == 0 || start >= time || start < previous_time {
        return false;
    }
    // a start at the sample before means a delta, or a counter whose real start is unknown: the latter has none there either
    start > previous_time || (previous_start != 0 && previous_start < previous_time)
}

/// Whether samples `i` and `i + 1` have a reset between them by their start timestamps.
fn start_reset_at(starts: Option<&[Timestamp]>, times: &[Timestamp], i: usize) -> bool {
    starts.is_some_and(|starts| is_start_reset((starts[i], times[i]), (starts[i + 1], times[i + 1])))
}

/// Notes start times that lie before a sample which belongs to another start.
fn note_overlaps(
    starts: Option<&[Timestamp]>,
    times: &[Timestamp],
    call: &RangeCall<'_>,
    metric: &str,
    notes: &mut Annotations,
) {
    let Some(starts) = starts else { return };
    for i in 1..times.len() {
        if starts[i] != 0 && starts[i] < times[i - 1] && starts[i] != starts[i - 1] {
            notes.overlapping_start_time(metric, call.pos);
            return;
        }
    }
}

/// The start of the first sample's counter, if it lies in the range.
fn known_start(starts: Option<&[Timestamp]>, times: &[Timestamp], range_start: Timestamp) -> Option<Timestamp> {
    let start = *starts?.first()?;
    (start != 0 && start > range_start && start < times[0]).then_some(start)
}

/// `rate`, `increase` and `delta` with extrapolation to the bounds of the range.
pub(super) fn extrapolated(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    counter: bool,
    per_second: bool,
    may_reset: bool,
    metric: &str,
    notes: &mut Annotations,
) -> Output {
    if window.is_mixed() {
        notes.mixed_floats_histograms(metric, call.pos);
        return Output::None;
    }
    let (times, starts) =
        if window.floats.is_empty() { (window.hist_times, window.hist_starts) } else { (window.times, window.starts) };
    let starts = starts.filter(|_| counter);
    let (range_start, _) = window.range;
    let known_start = known_start(starts, times, range_start);
    if times.len() < 2 && known_start.is_none() {
        return Output::None;
    }
    note_overlaps(starts, times, call, metric, notes);
    let mut float = 0.0;
    let mut histogram = None;
    if let (Some(first), Some(last)) = (window.floats.first(), window.floats.last()) {
        float = last - first;
        if counter && (may_reset || starts.is_some()) {
            for (i, pair) in window.floats.windows(2).enumerate() {
                if pair[1] < pair[0] || start_reset_at(starts, times, i) {
                    float += pair[0];
                }
            }
        }
        if known_start.is_some() {
            float += first;
        }
    } else {
        match histogram_increase(call, window, counter, known_start.is_some(), metric, notes) {
            Some(increase) => histogram = Some(increase),
            None => return Output::None,
        }
    }
    let first_and_increase = match (&histogram, window.floats.first(), window.hists.first()) {
        (None, Some(first), _) => Some((*first, float)),
        (Some(increase), _, Some(first)) => Some((first.count, increase.count)),
        _ => None,
    };
    let reach = Reach::new(times, window.range, known_start);
    let factor = reach.factor(first_and_increase.filter(|_| counter), per_second.then_some(call.range_secs));
    match histogram {
        None => Output::Float(float * factor),
        Some(mut increase) => {
            increase.mul(factor);
            Output::Histogram(Arc::new(increase))
        }
    }
}

/// As [`extrapolated`] for a window of floats without start timestamps, of which what lies in the times is known, and the rest is found out
/// by `reach`.
#[inline]
pub(super) fn of_floats(
    call: &RangeCall<'_>,
    step: &RateStep,
    values: &[f64],
    resets: Option<&ResetIndex>,
    per_second: bool,
    reach: impl FnOnce() -> Reach,
    pace: &mut Pace<'_>,
) -> Result<Option<f64>, QueryError> {
    let (from, to) = (step.from as usize, step.to as usize);
    let [first, .., last] = values[from..to] else { return Ok(None) };
    let mut increase = last - first;
    if let Some(resets) = resets
        && resets.any_in(from, to)
    {
        pace.done(to - from)?;
        for pair in values[from..to].windows(2) {
            if pair[1] < pair[0] {
                increase += pair[0];
            }
        }
    }
    let factor = if resets.is_none() || step.is_far_from_zero(first, increase) {
        step.factor
    } else {
        reach().factor(Some((first, increase)), per_second.then_some(call.range_secs))
    };
    Ok(Some(increase * factor))
}

/// The increase of histograms from the first to the last of a window, counter resets taken into account.
fn histogram_increase(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    counter: bool,
    from_start: bool,
    metric: &str,
    notes: &mut Annotations,
) -> Option<FloatHistogram> {
    let hists = window.hists;
    let (first, last) = (hists.first()?, hists.last()?);
    let starts = window.hist_starts.filter(|_| counter);
    let is_gauge = |h: &Hist| h.counter_reset_hint == CounterResetHint::Gauge;
    if counter && hists.iter().any(is_gauge) {
        notes.not_counter(metric, call.pos);
    }
    let incompatible = |notes: &mut Annotations| notes.mixed_exponential_custom(metric, call.pos);
    // a first sample that a reset follows does not count, so its layout does not matter
    let empty;
    let mut base: &FloatHistogram = first;
    let reset_after_first =
        counter && hists.len() > 1 && (start_reset_at(starts, window.hist_times, 0) || hists[1].detect_reset(first));
    if reset_after_first || (from_start && hists.len() > 1) || hists.len() == 1 {
        let layout = hists.get(1).unwrap_or(first);
        empty = FloatHistogram {
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            custom_values: layout.custom_values.clone(),
            ..FloatHistogram::default()
        };
        if reset_after_first || hists.len() == 1 {
            base = &empty;
        }
    }
    let custom = base.uses_custom_buckets();
    if last.uses_custom_buckets() != custom {
        incompatible(notes);
        return None;
    }
    let mut schema = last.schema.min(base.schema);
    if counter {
        for hist in &hists[hists.len().min(1)..hists.len().saturating_sub(1).max(1)] {
            schema = schema.min(hist.schema);
            if hist.uses_custom_buckets() != custom {
                incompatible(notes);
                return None;
            }
        }
    }
    let mut increase = last.copy_to_schema(schema);
    let note = |combined: Result<model::Combined, IncompatibleSchemas>, op, notes: &mut Annotations| match combined {
        Ok(combined) => {
            if combined.bounds_reconciled {
                notes.custom_buckets_reconciled(op, call.pos);
            }
            Some(())
        }
        Err(IncompatibleSchemas) => {
            notes.mixed_exponential_custom(metric, call.pos);
            None
        }
    };
    note(increase.sub(base), HistogramOp::Sub, notes)?;
    if counter {
        let mut previous = base;
        for (i, current) in hists.iter().enumerate().skip(1) {
            if start_reset_at(starts, window.hist_times, i - 1) || current.detect_reset(previous) {
                note(increase.add(previous), HistogramOp::Add, notes)?;
            }
            previous = current;
        }
        if from_start && hists.len() > 1 {
            // the counter began at zero within the range, so its first value is an increase too
            note(increase.add(first), HistogramOp::Add, notes)?;
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.not_gauge(metric, call.pos);
    }
    increase.counter_reset_hint = CounterResetHint::Gauge;
    increase.compact(0);
    Some(increase)
}

pub(super) fn irate(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    last_two(call, window, metric, notes, true)
}

pub(super) fn idelta(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    last_two(call, window, metric, notes, false)
}

/// One of the last two samples of a window.
#[derive(Clone, Copy)]
struct Sample<'a> {
    time: Timestamp,
    start: Timestamp,
    float: f64,
    hist: Option<&'a Hist>,
}

fn last_two(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations, is_rate: bool) -> Output {
    if window.len() < 2 {
        return Output::None;
    }
    let start_at = |starts: Option<&[Timestamp]>, i: usize| starts.map_or(0, |s| s[i]);
    let floats = (window.floats.len().saturating_sub(2)..window.floats.len()).map(|i| Sample {
        time: window.times[i],
        start: start_at(window.starts, i),
        float: window.floats[i],
        hist: None,
    });
    let hists = (window.hists.len().saturating_sub(2)..window.hists.len()).map(|i| Sample {
        time: window.hist_times[i],
        start: start_at(window.hist_starts, i),
        float: 0.0,
        hist: Some(&window.hists[i]),
    });
    let mut samples: Vec<Sample<'_>> = floats.chain(hists).collect();
    samples.sort_by_key(|s| s.time);
    let [.., previous, last] = samples.as_slice() else { return Output::None };
    let interval = last.time - previous.time;
    if interval == 0 {
        return Output::None;
    }
    let seconds = interval as f64 / 1000.0;
    let start_reset = is_rate && is_start_reset((previous.start, previous.time), (last.start, last.time));
    match (previous.hist, last.hist) {
        (None, None) => {
            let reset = is_rate && (last.float < previous.float || start_reset);
            let value = if reset { last.float } else { last.float - previous.float };
            Output::Float(if is_rate { value / seconds } else { value })
        }
        (Some(before), Some(now)) => {
            let gauge = |h: &Hist| h.counter_reset_hint == CounterResetHint::Gauge;
            if is_rate && (gauge(before) || gauge(now)) {
                notes.not_counter(metric, call.pos);
            }
            let gauges = gauge(before) && gauge(now);
            if !is_rate && !gauges {
                notes.not_gauge(metric, call.pos);
            }
            let mut value = FloatHistogram::clone(now);
            if !is_rate || !(start_reset || now.detect_reset(before)) {
                match value.sub(before) {
                    Ok(combined) if combined.bounds_reconciled => {
                        notes.custom_buckets_reconciled(HistogramOp::Sub, call.pos);
                    }
                    Ok(_) => {}
                    Err(IncompatibleSchemas) => {
                        notes.mixed_exponential_custom(metric, call.pos);
                        return Output::None;
                    }
                }
            }
            value.counter_reset_hint = CounterResetHint::Gauge;
            value.compact(0);
            if is_rate {
                value.div(seconds);
            }
            Output::Histogram(Arc::new(value))
        }
        _ => {
            notes.mixed_floats_histograms(metric, call.pos);
            Output::None
        }
    }
}

/// Notes that a metric does not look like a counter.
pub(super) fn note_non_counter(call: &RangeCall<'_>, labels: &Labels, notes: &mut Annotations) {
    let metric = labels.metric_name();
    if metric.is_empty() {
        return;
    }
    if call.features.type_and_unit_labels {
        let kind = labels.value("__type__");
        if kind != "counter" && kind != "histogram" {
            notes.possible_non_counter_type(metric, kind, call.pos);
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| metric.ends_with(suffix)) {
        notes.possible_non_counter(metric, call.pos);
    }
}
