use std::sync::Arc;

use model::{CounterResetHint, Labels, Timestamp};

use super::frame::{Hist, is_absent};
use super::range_functions::{RangeSeries, RangeSource};
use super::{Evaluator, Frame, Steps, extended};
use crate::QueryError;
use crate::ast::{Expr, Extended, Subquery};
use crate::memory::{Charge, Footprint};
use crate::result::{MatrixSeries, Points};
use crate::storage::{Column, Samples};

/// The value of what a subquery asks for.
pub(super) struct SubqueryValue {
    frame: Frame,
    steps: Steps,
    /// Samples it holds.
    samples: usize,
    /// Counts what its steps take.
    _held: Charge,
    /// Samples that were queryable for it.
    pub(super) queryable: u64,
}

impl Evaluator<'_> {
    /// Evaluates what a subquery asks for at all steps that any window needs.
    pub(super) fn subquery_value(
        &self,
        subquery: &Subquery,
        source: &RangeSource,
    ) -> Result<SubqueryValue, QueryError> {
        let step = match subquery.step_expr.as_deref() {
            None if subquery.step == 0 => self.query.default_subquery_step,
            expr => self.range_millis(subquery.step, expr)?,
        };
        if step <= 0 {
            return Err(QueryError::execution("subquery step must be greater than zero"));
        }
        let (first, last) = source.shape.span(self.steps);
        // steps are multiples of the step, so that they do not depend on when the query runs
        let start = first.div_euclid(step) * step;
        let start = if start < first { start + step } else { start };
        if start > last {
            let steps = Steps { start, interval: step, count: 0 };
            let (frame, held) = (self.query.frame(), self.query.charge_for_steps(0)?);
            return Ok(SubqueryValue { frame, steps, samples: 0, _held: held, queryable: 0 });
        }
        let count = usize::try_from((last - start) / step + 1).unwrap_or(usize::MAX);
        self.query.check_steps(count)?;
        let held = self.query.charge_for_steps(count)?;
        let steps = Steps { start, interval: step, count };
        let inner = Evaluator { query: self.query, steps };
        let mark = self.query.mark();
        let (frame, queryable) = self.query.within_subquery(|| inner.vector(&subquery.expr))?;
        let samples = self.query.keep_operands(mark);
        Ok(SubqueryValue { frame, steps, samples, _held: held, queryable })
    }

    /// Hands the value of a subquery on as series.
    pub(super) fn subquery_series(
        &self,
        value: SubqueryValue,
        each: &mut dyn FnMut(RangeSeries) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.hand_on(value.frame, value.steps, each)?;
        self.query.release(value.samples);
        Ok(())
    }

    fn hand_on(
        &self,
        frame: Frame,
        steps: Steps,
        each: &mut dyn FnMut(RangeSeries) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let all: Arc<[Timestamp]> = steps.times().collect();
        for row in frame.rows {
            self.query.check()?;
            let floats = if row.floats.iter().all(|v| !is_absent(*v)) {
                Column { timestamps: all.clone(), values: row.floats, start_timestamps: None }
            } else {
                let present = || row.floats.iter().zip(all.iter()).filter(|(v, _)| !is_absent(**v));
                Column {
                    timestamps: present().map(|(_, t)| *t).collect(),
                    values: present().map(|(v, _)| *v).collect(),
                    start_timestamps: None,
                }
            };
            let present = || row.histograms.iter().zip(all.iter()).filter_map(|(h, t)| Some((h.as_ref()?, *t)));
            let histograms = Column {
                timestamps: present().map(|(_, t)| t).collect(),
                values: present().map(|(h, _)| without_hint(h)).collect(),
                start_timestamps: None,
            };
            let samples = Samples { floats, histograms };
            each(RangeSeries { labels: row.labels, drop_name: row.drop_name, samples })?;
        }
        Ok(())
    }

    /// A range vector as the result of the whole query.
    pub(super) fn raw_matrix(&self, expr: &Expr) -> Result<(Vec<MatrixSeries>, Charge), QueryError> {
        let source = self.range_source(expr)?;
        let range = source.shape.range_at(self.steps.start);
        let mut matrix: Vec<MatrixSeries> = Vec::new();
        let mut held = self.query.memory.charge();
        let subquery = self.subquery_of(expr, &source)?;
        let queryable = subquery.as_ref().map(|value| value.queryable);
        self.range_series(expr, &source, subquery, &mut |series| {
            let Samples { floats, histograms } = &series.samples;
            let (floats, histograms) = match source.extended {
                None => (cut(floats, range), cut(histograms, range)),
                Some(extended) => {
                    let smoothed = extended == Extended::Smoothed;
                    let (times, values) = extended::extend_floats(&floats.timestamps, &floats.values, range, smoothed);
                    let floats = Points { timestamps: times.into(), values };
                    let (times, values) =
                        extended::extend_histograms(&histograms.timestamps, &histograms.values, range, smoothed);
                    (floats, Points { timestamps: times.into(), values })
                }
            };
            let samples =
                floats.len() + histograms.values.iter().map(|h| super::frame::histogram_size(h)).sum::<usize>();
            if samples == 0 {
                return Ok(());
            }
            if queryable.is_none() {
                self.query.count(self.steps.start, samples as u64, samples as u64);
                self.query.hold(samples)?;
            }
            let labels = if series.drop_name { super::without_metadata(&series.labels) } else { series.labels };
            let series = MatrixSeries { labels, floats, histograms };
            held.add(series.bytes())?;
            matrix.push(series);
            Ok(())
        })?;
        self.query.count(self.steps.start, queryable.unwrap_or(0), 0);
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        if matrix.windows(2).any(|pair: &[MatrixSeries]| labels_equal(&pair[0].labels, &pair[1].labels)) {
            return Err(super::frame::same_labelset());
        }
        Ok((matrix, held))
    }
}

fn labels_equal(a: &Labels, b: &Labels) -> bool {
    a == b
}

/// Between the steps of a subquery lie samples it does not see, so what a histogram knew about the sample before it is void.
fn without_hint(hist: &Hist) -> Hist {
    match hist.counter_reset_hint {
        CounterResetHint::Unknown | CounterResetHint::Gauge => hist.clone(),
        CounterResetHint::Reset | CounterResetHint::NotReset => {
            let mut copy = model::FloatHistogram::clone(hist);
            copy.counter_reset_hint = CounterResetHint::Unknown;
            Arc::new(copy)
        }
    }
}

/// The part of a column in `(start, end]`.
fn cut<V: Clone>(column: &Column<V>, (start, end): (Timestamp, Timestamp)) -> Points<V> {
    let from = column.timestamps.partition_point(|t| *t <= start);
    let to = column.timestamps.partition_point(|t| *t <= end);
    let timestamps =
        if (from, to) == (0, column.len()) { column.timestamps.clone() } else { column.timestamps[from..to].into() };
    Points { timestamps, values: column.values[from..to].to_vec() }
}
