//! Functions over the samples of a range: the `_over_time` family, `resets`, `changes`, regressions.

use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram, IncompatibleSchemas, Timestamp, kahan_inc};

use super::extended::first_index;
use super::frame::Hist;
use super::quantile;
use super::range_functions::{Output, RangeCall, Window};
use super::rate::is_start_reset;
use crate::annotations::{Annotations, HistogramOp};
use crate::ast::Extended;

/// The floats of a window; notes that histograms beside them are ignored. `None` without floats.
fn only_floats<'a>(
    call: &RangeCall<'_>,
    window: &Window<'a>,
    metric: &str,
    notes: &mut Annotations,
) -> Option<&'a [f64]> {
    if window.floats.is_empty() {
        return None;
    }
    if !window.hists.is_empty() {
        notes.histogram_ignored_in_mixed_range(metric, call.pos);
    }
    Some(window.floats)
}

pub(super) fn sum(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    if window.is_mixed() {
        notes.mixed_floats_histograms(metric, call.pos);
        return Output::None;
    }
    if window.floats.is_empty() {
        return combine_histograms(call, window.hists, metric, notes, sum_histograms);
    }
    let (mut sum, mut lost) = (0.0, 0.0);
    for value in window.floats {
        (sum, lost) = kahan_inc(*value, sum, lost);
    }
    Output::Float(if sum.is_infinite() { sum } else { sum + lost })
}

pub(super) fn avg(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    if window.is_mixed() {
        notes.mixed_floats_histograms(metric, call.pos);
        return Output::None;
    }
    if window.floats.is_empty() {
        return combine_histograms(call, window.hists, metric, notes, avg_histograms);
    }
    let mut mean = Mean::new(window.floats[0]);
    for value in &window.floats[1..] {
        mean.add(*value);
    }
    Output::Float(mean.value())
}

/// A mean by a compensated sum, and incrementally once the sum would overflow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mean {
    sum: f64,
    lost: f64,
    mean: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub(super) fn new(first: f64) -> Self {
        Self { sum: first, lost: 0.0, mean: 0.0, count: 1.0, incremental: false }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let count = self.count;
        if !self.incremental {
            let (sum, lost) = kahan_inc(value, self.sum, self.lost);
            if !sum.is_infinite() {
                (self.sum, self.lost) = (sum, lost);
                return;
            }
            self.incremental = true;
            self.mean = self.sum / (count - 1.0);
            self.lost /= count - 1.0;
        }
        let q = (count - 1.0) / count;
        (self.mean, self.lost) = kahan_inc(value / count, q * self.mean, q * self.lost);
    }

    pub(super) fn value(&self) -> f64 {
        if self.incremental { self.mean + self.lost } else { self.sum / self.count + self.lost / self.count }
    }
}

/// What came up while histograms were combined.
#[derive(Default)]
pub(super) struct HistogramNotes {
    reset_seen: bool,
    not_reset_seen: bool,
    reconciled: bool,
}

impl HistogramNotes {
    pub(super) fn see(&mut self, histogram: &FloatHistogram) {
        match histogram.counter_reset_hint {
            CounterResetHint::Reset => self.reset_seen = true,
            CounterResetHint::NotReset => self.not_reset_seen = true,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
    }

    fn combined(&mut self, combined: model::Combined) {
        self.reconciled |= combined.bounds_reconciled;
    }

    pub(super) fn collision(&self) -> bool {
        self.reset_seen && self.not_reset_seen
    }
}

type Combine = fn(&[Hist], &mut HistogramNotes) -> Result<FloatHistogram, IncompatibleSchemas>;

fn combine_histograms(
    call: &RangeCall<'_>,
    hists: &[Hist],
    metric: &str,
    notes: &mut Annotations,
    combine: Combine,
) -> Output {
    let mut seen = HistogramNotes::default();
    let result = combine(hists, &mut seen);
    if result.is_err() {
        notes.mixed_exponential_custom(metric, call.pos);
        return Output::None;
    }
    if seen.collision() {
        notes.counter_reset_collision(HistogramOp::Aggregate, call.pos);
    }
    if seen.reconciled {
        notes.custom_buckets_reconciled(HistogramOp::Aggregate, call.pos);
    }
    result.map_or(Output::None, |h| Output::Histogram(Arc::new(h)))
}

fn sum_histograms(hists: &[Hist], notes: &mut HistogramNotes) -> Result<FloatHistogram, IncompatibleSchemas> {
    let mut sum = FloatHistogram::clone(&hists[0]);
    notes.see(&sum);
    let mut lost = None;
    for hist in &hists[1..] {
        notes.see(hist);
        notes.combined(sum.kahan_add(hist, &mut lost)?);
    }
    if let Some(mut lost) = lost {
        lost.counter_reset_hint = sum.counter_reset_hint;
        sum.add(&lost)?;
    }
    Ok(sum)
}

fn avg_histograms(hists: &[Hist], notes: &mut HistogramNotes) -> Result<FloatHistogram, IncompatibleSchemas> {
    let mut mean = HistogramMean::new(&hists[0]);
    notes.see(&hists[0]);
    for hist in &hists[1..] {
        notes.see(hist);
        notes.combined(mean.add(hist)?);
    }
    mean.value()
}

/// A mean of histograms by a compensated sum, and incrementally once a part of the sum would overflow.
pub(super) struct HistogramMean {
    sum: FloatHistogram,
    lost: Option<FloatHistogram>,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    pub(super) fn new(first: &FloatHistogram) -> Self {
        Self { sum: first.clone(), lost: None, count: 1.0, incremental: false }
    }

    pub(super) fn add(&mut self, hist: &FloatHistogram) -> Result<model::Combined, IncompatibleSchemas> {
        self.count += 1.0;
        let count = self.count;
        if !self.incremental {
            let (mut sum, mut lost) = (self.sum.clone(), self.lost.clone());
            let combined = sum.kahan_add(hist, &mut lost)?;
            if !sum.has_overflow() {
                (self.sum, self.lost) = (sum, lost);
                return Ok(combined);
            }
            self.incremental = true;
            self.sum.div(count - 1.0);
            if let Some(lost) = &mut self.lost {
                lost.div(count - 1.0);
            }
        }
        let q = (count - 1.0) / count;
        if let Some(lost) = &mut self.lost {
            lost.mul(q);
        }
        let mut part = hist.clone();
        part.div(count);
        self.sum.mul(q).kahan_add(&part, &mut self.lost)
    }

    pub(super) fn value(mut self) -> Result<FloatHistogram, IncompatibleSchemas> {
        if !self.incremental {
            self.sum.div(self.count);
        }
        if let Some(mut lost) = self.lost {
            if !self.incremental {
                lost.div(self.count);
            }
            lost.counter_reset_hint = self.sum.counter_reset_hint;
            self.sum.add(&lost)?;
        }
        Ok(self.sum)
    }
}

/// The value and time that `better` prefers.
fn extreme(window: &Window<'_>, better: impl Fn(f64, f64) -> bool) -> (f64, Timestamp) {
    let (mut best, mut time) = (window.floats[0], window.times[0]);
    for (value, at) in window.floats.iter().zip(window.times) {
        if better(*value, best) || best.is_nan() {
            (best, time) = (*value, *at);
        }
    }
    (best, time)
}

pub(super) fn min(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    only_floats(call, window, metric, notes).map_or(Output::None, |_| Output::Float(extreme(window, |a, b| a < b).0))
}

pub(super) fn max(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    only_floats(call, window, metric, notes).map_or(Output::None, |_| Output::Float(extreme(window, |a, b| a > b).0))
}

fn seconds(time: Timestamp) -> Output {
    Output::Float(time as f64 / 1000.0)
}

pub(super) fn time_of_min(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    only_floats(call, window, metric, notes).map_or(Output::None, |_| seconds(extreme(window, |a, b| a <= b).1))
}

pub(super) fn time_of_max(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    only_floats(call, window, metric, notes).map_or(Output::None, |_| seconds(extreme(window, |a, b| a >= b).1))
}

pub(super) fn time_of_first(_: &RangeCall<'_>, window: &Window<'_>, _: &str, _: &mut Annotations) -> Output {
    window.times.first().into_iter().chain(window.hist_times.first()).min().map_or(Output::None, |t| seconds(*t))
}

pub(super) fn time_of_last(_: &RangeCall<'_>, window: &Window<'_>, _: &str, _: &mut Annotations) -> Output {
    window.times.last().into_iter().chain(window.hist_times.last()).max().map_or(Output::None, |t| seconds(*t))
}

pub(super) fn first(_: &RangeCall<'_>, window: &Window<'_>, _: &str, _: &mut Annotations) -> Output {
    match (window.floats.first(), window.hists.first()) {
        (Some(float), Some(_)) if window.times[0] < window.hist_times[0] => Output::Float(*float),
        (_, Some(hist)) => Output::Histogram(hist.clone()),
        (Some(float), None) => Output::Float(*float),
        (None, None) => Output::None,
    }
}

pub(super) fn last(_: &RangeCall<'_>, window: &Window<'_>, _: &str, _: &mut Annotations) -> Output {
    match (window.floats.last(), window.hists.last()) {
        (Some(float), Some(_)) if window.hist_times.last() < window.times.last() => Output::Float(*float),
        (_, Some(hist)) => Output::Histogram(hist.clone()),
        (Some(float), None) => Output::Float(*float),
        (None, None) => Output::None,
    }
}

fn variance(floats: &[f64]) -> f64 {
    let (mut count, mut mean, mut mean_lost, mut aux, mut aux_lost) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in floats {
        count += 1.0;
        let delta = value - (mean + mean_lost);
        (mean, mean_lost) = kahan_inc(delta / count, mean, mean_lost);
        (aux, aux_lost) = kahan_inc(delta * (value - (mean + mean_lost)), aux, aux_lost);
    }
    (aux + aux_lost) / count
}

pub(super) fn stdvar(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    only_floats(call, window, metric, notes).map_or(Output::None, |floats| Output::Float(variance(floats)))
}

pub(super) fn stddev(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    only_floats(call, window, metric, notes).map_or(Output::None, |floats| Output::Float(variance(floats).sqrt()))
}

pub(super) fn mad(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    let Some(floats) = only_floats(call, window, metric, notes) else { return Output::None };
    if floats.iter().any(|v| v.is_nan()) {
        return Output::Float(f64::NAN);
    }
    let median = quantile::of_values(0.5, &mut floats.to_vec());
    let mut deviations: Vec<f64> = floats.iter().map(|v| (v - median).abs()).collect();
    Output::Float(quantile::of_values(0.5, &mut deviations))
}

pub(super) fn quantile(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    if window.floats.is_empty() {
        return Output::None;
    }
    let q = call.param(0, window.step);
    if q.is_nan() || !(0.0..=1.0).contains(&q) {
        notes.invalid_quantile(q, call.first_pos);
    }
    if !window.hists.is_empty() {
        notes.histogram_ignored_in_mixed_range(metric, call.first_pos);
    }
    Output::Float(quantile::of_values(q, &mut window.floats.to_vec()))
}

/// Slope and value at `at` of the straight line closest to the samples.
fn regression(times: &[Timestamp], floats: &[f64], at: Timestamp) -> (f64, f64) {
    let mut sums = [(0.0, 0.0); 4];
    let first = floats[0];
    for (time, y) in times.iter().zip(floats) {
        let x = (time - at) as f64 / 1e3;
        for (sum, value) in sums.iter_mut().zip([x, *y, x * y, x * x]) {
            *sum = kahan_inc(value, sum.0, sum.1);
        }
    }
    if floats.iter().skip(1).all(|y| *y == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = floats.len() as f64;
    let [x, y, xy, xx] = sums.map(|(sum, lost)| sum + lost);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Notes ignored histograms beside a single float, which is too little for a regression.
fn enough_floats(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> bool {
    if !window.floats.is_empty() && !window.hists.is_empty() {
        notes.histogram_ignored_in_mixed_range(metric, call.first_pos);
    }
    window.floats.len() >= 2
}

pub(super) fn deriv(call: &RangeCall<'_>, window: &Window<'_>, metric: &str, notes: &mut Annotations) -> Output {
    if !enough_floats(call, window, metric, notes) {
        return Output::None;
    }
    Output::Float(regression(window.times, window.floats, window.times[0]).0)
}

pub(super) fn predict_linear(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    notes: &mut Annotations,
) -> Output {
    if !enough_floats(call, window, metric, notes) {
        return Output::None;
    }
    let (slope, intercept) = regression(window.times, window.floats, window.at);
    Output::Float(slope * call.param(0, window.step) + intercept)
}

pub(super) fn double_exponential_smoothing(
    call: &RangeCall<'_>,
    window: &Window<'_>,
    metric: &str,
    notes: &mut Annotations,
) -> Output {
    if !enough_floats(call, window, metric, notes) {
        return Output::None;
    }
    let (smoothing, trend) = (call.param(0, window.step), call.param(1, window.step));
    let floats = window.floats;
    let (mut before, mut smoothed) = (0.0, floats[0]);
    let mut slope = floats[1] - floats[0];
    for (i, value) in floats.iter().enumerate().skip(1) {
        let scaled = smoothing * value;
        if i > 1 {
            slope = trend * (smoothed - before) + (1.0 - trend) * slope;
        }
        let carried = (1.0 - smoothing) * (smoothed + slope);
        (before, smoothed) = (smoothed, scaled + carried);
    }
    Output::Float(smoothed)
}

/// One sample of floats and histograms in the order of time.
#[derive(Clone, Copy)]
struct Mixed<'a> {
    time: Timestamp,
    start: Timestamp,
    float: f64,
    hist: Option<&'a Hist>,
}

/// Counts the pairs of neighbouring samples that `counts` tells. With `anchored`, the last sample before the range is the first.
fn count_pairs(call: &RangeCall<'_>, window: &Window<'_>, counts: impl Fn(Mixed<'_>, Mixed<'_>) -> bool) -> Output {
    let start_at = |starts: Option<&[Timestamp]>, i: usize| starts.map_or(0, |s| s[i]);
    let float = |i: usize| Mixed {
        time: window.times[i],
        start: start_at(window.starts, i),
        float: window.floats[i],
        hist: None,
    };
    let hist = |i: usize| Mixed {
        time: window.hist_times[i],
        start: start_at(window.hist_starts, i),
        float: 0.0,
        hist: Some(&window.hists[i]),
    };
    let range_start = window.range.0;
    let anchor = if call.extended == Some(Extended::Anchored) {
        let last = window.times.last().max(window.hist_times.last());
        if last.is_none_or(|t| *t <= range_start) {
            return Output::None;
        }
        let before =
            |times: &[Timestamp]| times.get(first_index(times, range_start)).copied().filter(|t| *t <= range_start);
        before(window.times).max(before(window.hist_times)).unwrap_or(range_start)
    } else {
        Timestamp::MIN
    };
    let mut i = window.times.partition_point(|t| *t < anchor);
    let mut j = window.hist_times.partition_point(|t| *t < anchor);
    let mut count = 0u64;
    let mut previous: Option<Mixed<'_>> = None;
    while i < window.times.len() || j < window.hist_times.len() {
        let take_float =
            j >= window.hist_times.len() || (i < window.times.len() && window.times[i] < window.hist_times[j]);
        let current = if take_float { float(i) } else { hist(j) };
        if take_float {
            i += 1;
        } else {
            j += 1;
        }
        if let Some(previous) = previous {
            count += u64::from(counts(previous, current));
        }
        previous = Some(current);
    }
    Output::Float(count as f64)
}

pub(super) fn resets(call: &RangeCall<'_>, window: &Window<'_>, _: &str, _: &mut Annotations) -> Output {
    count_pairs(call, window, |previous, current| {
        is_start_reset((previous.start, previous.time), (current.start, current.time))
            || match (previous.hist, current.hist) {
                (None, None) => current.float < previous.float,
                (Some(before), Some(now)) => now.detect_reset(before),
                _ => true,
            }
    })
}

pub(super) fn changes(call: &RangeCall<'_>, window: &Window<'_>, _: &str, _: &mut Annotations) -> Output {
    count_pairs(call, window, |previous, current| match (previous.hist, current.hist) {
        (None, None) => current.float != previous.float && !(current.float.is_nan() && previous.float.is_nan()),
        (Some(before), Some(now)) => !now.same_contents(before),
        _ => true,
    })
}
