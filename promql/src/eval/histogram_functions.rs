//! `histogram_quantile` and its kin.

use model::FloatHistogram;

use super::Evaluator;
use super::classic::Histograms;
use super::frame::{Cell, Frame, Row};
use super::pace::SORT_WORK;
use super::quantile::{classic_fraction, native_fraction, of_classic, of_native};
use crate::annotations::{Annotations, Monotonicity};
use crate::ast::{Call, Expr};

use crate::{PosRange, QueryError};

impl Evaluator<'_> {
    /// `histogram_count`, `histogram_sum`, `histogram_avg`, `histogram_stddev`, `histogram_stdvar`.
    pub(super) fn histogram_function(&self, call: &Call) -> Result<Frame, QueryError> {
        let compute: fn(&FloatHistogram) -> f64 = match call.function.name {
            "histogram_count" => |h| h.count,
            "histogram_sum" => |h| h.sum,
            "histogram_avg" => |h| h.sum / h.count,
            "histogram_stddev" => |h| variance(h).sqrt(),
            _ => variance,
        };
        let frame = self.vector(&call.args[0])?;
        let mut out = self.query.frame();
        for row in frame.rows {
            self.query.check()?;
            if row.histograms.is_empty() {
                continue;
            }
            let mut values = Row::new(row.labels, row.drop_name, self.steps.count);
            for (step, histogram) in row.histograms.iter().enumerate() {
                if let Some(histogram) = histogram {
                    values.set_float(step, compute(histogram));
                }
            }
            self.drop_name(&mut values);
            out.push(values)?;
        }
        Ok(out)
    }

    pub(super) fn histogram_quantile(&self, call: &Call) -> Result<Frame, QueryError> {
        let quantiles = self.scalar(&call.args[0])?;
        let frame = self.vector(&call.args[1])?;
        self.quantiles(frame, &call.args[1], &[(quantiles, call.args[0].pos())], None)
    }

    pub(super) fn histogram_quantiles(&self, call: &Call) -> Result<Frame, QueryError> {
        let label = String::from_utf8_lossy(&self.string(&call.args[1])?).into_owned();
        let frame = self.vector(&call.args[0])?;
        let mut quantiles = Vec::new();
        for arg in &call.args[2..] {
            quantiles.push((self.scalar(arg)?, arg.pos()));
        }
        self.quantiles(frame, &call.args[0], &quantiles, Some(&label))
    }

    /// One or several quantiles of all histograms; of several, each gets a label.
    fn quantiles(
        &self,
        frame: Frame,
        arg: &Expr,
        quantiles: &[(Vec<f64>, PosRange)],
        label: Option<&str>,
    ) -> Result<Frame, QueryError> {
        let mut notes = Annotations::default();
        let pos = arg.unparen().pos();
        let found = self.histograms(frame, pos)?;
        let mut out = Output::new(self, label);
        let mut pace = self.query.pace();
        for step in 0..self.steps.count {
            pace.done(SORT_WORK * found.frame.rows.len())?;
            let void = found.conflicts(step, &mut notes);
            for (values, q_pos) in quantiles {
                let q = values[step];
                if q.is_nan() || !(0.0..=1.0).contains(&q) {
                    notes.invalid_quantile(q, *q_pos);
                }
                for (at, row) in found.frame.rows.iter().enumerate() {
                    if let Cell::Histogram(histogram) = row.cell(step)
                        && !found.is_void(at, &void)
                    {
                        let value = of_native(q, histogram, row.metric_name(), pos, &mut notes);
                        out.put((false, at), &row.labels, row.drop_name, q, step, value)?;
                    }
                }
                for (at, classic) in found.classics.iter().enumerate() {
                    let mut buckets = found.buckets(at, step);
                    if buckets.is_empty() || void.contains(&at) {
                        continue;
                    }
                    let (value, forced) = of_classic(q, &mut buckets);
                    if let Some(forced) = forced {
                        let time = self.steps.time(step);
                        let found = Monotonicity {
                            min_bucket: forced.min_bucket,
                            max_bucket: forced.max_bucket,
                            max_diff: forced.max_diff,
                            samples: 1,
                            min_time: time,
                            max_time: time,
                        };
                        let delayed = self.query.features.delayed_name_removal;
                        let metric = if delayed { classic.labels.metric_name() } else { "" };
                        notes.forced_monotonicity(metric, found, pos);
                    }
                    out.put((true, at), &classic.labels, classic.drop_name, q, step, value)?;
                }
            }
        }
        self.query.merge_annotations(notes);
        Ok(out.finish())
    }

    pub(super) fn histogram_fraction(&self, call: &Call) -> Result<Frame, QueryError> {
        let (lower, upper) = (self.scalar(&call.args[0])?, self.scalar(&call.args[1])?);
        let arg = &call.args[2];
        let mut notes = Annotations::default();
        let pos = arg.unparen().pos();
        let found: Histograms = self.histograms(self.vector(arg)?, pos)?;
        let mut out = Output::new(self, None);
        let mut pace = self.query.pace();
        for step in 0..self.steps.count {
            pace.done(SORT_WORK * found.frame.rows.len())?;
            let void = found.conflicts(step, &mut notes);
            for (at, row) in found.frame.rows.iter().enumerate() {
                if let Cell::Histogram(histogram) = row.cell(step)
                    && !found.is_void(at, &void)
                {
                    let metric = row.metric_name();
                    let value = native_fraction(lower[step], upper[step], histogram, metric, pos, &mut notes);
                    out.put((false, at), &row.labels, row.drop_name, 0.0, step, value)?;
                }
            }
            for (at, classic) in found.classics.iter().enumerate() {
                let mut buckets = found.buckets(at, step);
                if !buckets.is_empty() && !void.contains(&at) {
                    let value = classic_fraction(lower[step], upper[step], &mut buckets);
                    out.put((true, at), &classic.labels, classic.drop_name, 0.0, step, value)?;
                }
            }
        }
        self.query.merge_annotations(notes);
        Ok(out.finish())
    }
}

/// Rows of results, by histogram and quantile.
struct Output<'e> {
    evaluator: &'e Evaluator<'e>,
    label: Option<&'e str>,
    rows: Frame,
    index: std::collections::HashMap<((bool, usize), u64), usize>,
}

impl<'e> Output<'e> {
    fn new(evaluator: &'e Evaluator<'e>, label: Option<&'e str>) -> Self {
        Self { evaluator, label, rows: evaluator.query.frame(), index: std::collections::HashMap::new() }
    }

    fn put(
        &mut self,
        source: (bool, usize),
        labels: &model::Labels,
        drop_name: bool,
        q: f64,
        step: usize,
        value: f64,
    ) -> Result<(), QueryError> {
        let q_key = if self.label.is_some() { q.to_bits() } else { 0 };
        let at = match self.index.get(&(source, q_key)) {
            Some(at) => *at,
            None => {
                let labels = match self.label {
                    Some(label) => labels.to_builder().set(label, &open_metrics_float(q)).build(),
                    None => labels.clone(),
                };
                let mut row = Row::new(labels, drop_name, self.evaluator.steps.count);
                self.evaluator.drop_name(&mut row);
                self.rows.push(row)?;
                self.index.insert((source, q_key), self.rows.rows.len() - 1);
                self.rows.rows.len() - 1
            }
        };
        let row = &mut self.rows.rows[at];
        if row.has(step) {
            return Err(super::frame::same_labelset());
        }
        row.set_float(step, value);
        Ok(())
    }

    fn finish(self) -> Frame {
        self.rows
    }
}

/// A float as OpenMetrics writes label values: whole numbers with `.0`.
fn open_metrics_float(value: f64) -> String {
    let text = crate::go_text::format_general(value);
    if !value.is_finite() || text.contains(['.', 'e']) { text } else { text + ".0" }
}

/// The variance of a histogram's observations, each taken to lie in the middle of its bucket.
fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let (mut sum, mut lost) = (0.0, 0.0);
    for bucket in histogram.all_buckets().filter(|b| b.count != 0.0) {
        let middle = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let root = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -root } else { root }
        };
        let delta = middle - mean;
        (sum, lost) = model::kahan_inc(bucket.count * delta * delta, sum, lost);
    }
    (sum + lost) / histogram.count
}
