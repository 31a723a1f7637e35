//! Aggregations into dense arrays, one entry per step, keyed by label groups.

use std::collections::HashMap;
use std::sync::Arc;

use model::{FloatHistogram, IncompatibleSchemas, Labels, METRIC_NAME, MatchOp, Matcher, kahan_inc};

use super::filter::Filter;
use super::frame::{Cell, Frame, Hist, Row, is_absent, is_metadata_label};
use super::over_time::{HistogramMean, HistogramNotes, Mean};
use super::pace::{Pace, SORT_WORK};
use super::range_functions::keeps_name;
use super::{Evaluated, Evaluator, invariant, quantile};
use crate::annotations::{Annotations, HistogramOp};
use crate::ast::{Aggregate, AggregateOp, Call, Expr};
use crate::memory::Footprint;
use crate::plan::Extent;
use crate::storage::KeptLabels;
use crate::{PosRange, QueryError, ValueType};

/// Which labels make up a group.
pub(super) struct Grouping<'a> {
    labels: &'a [String],
    without: bool,
}

impl<'a> Grouping<'a> {
    pub(super) fn of(aggregate: &'a Aggregate) -> Self {
        Self { labels: &aggregate.grouping, without: aggregate.without }
    }

    pub(super) fn key(&self, labels: &Labels) -> Labels {
        let keeps = |name: &str| match self.without {
            true => !is_metadata_label(name) && !self.labels.iter().any(|l| l == name),
            false => self.labels.iter().any(|l| l == name),
        };
        if labels.iter().all(|(name, _)| keeps(name)) { labels.clone() } else { labels.filter(keeps) }
    }

    /// Names for what a storage need only tell of series, if their metric names are needed too.
    fn names(&self) -> Vec<String> {
        let names = self.labels.iter().filter(|name| !(self.without && is_metadata_label(name))).cloned();
        names.chain((!self.without).then(|| METRIC_NAME.to_owned())).collect()
    }
}

impl Evaluator<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate) -> Result<Evaluated, QueryError> {
        let mark = self.query.mark();
        let frame = match aggregate.op {
            AggregateOp::CountValues => {
                let value = Evaluated::Vector(self.count_values(aggregate)?);
                self.count_steps(mark, &value)?;
                return Ok(value);
            }
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                self.aggregate_k(aggregate)?
            }
            _ => self.aggregate_groups(aggregate)?,
        };
        self.count_result(mark, &frame)?;
        Ok(Evaluated::Vector(frame))
    }

    /// Calls `each` for the rows of a vector, without holding all of them at once where they come from storage one by one. Labels that
    /// are not `kept` and are no metric name may be missing.
    pub(super) fn for_each_row(
        &self,
        expr: &Expr,
        kept: KeptLabels<'_>,
        each: &mut dyn FnMut(&Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let inner = expr.unparen();
        if self.steps.count == 1 || !invariant::is_step_invariant(inner) {
            if self.streams(inner)? {
                return self.stream_rows(inner, expr.pos(), kept, &mut |row| each(row));
            }
            if let Some(filter) = Filter::of(inner)
                && self.filter_rows(&filter, kept, each)?
            {
                return Ok(());
            }
        }
        for row in &self.vector(expr)?.rows {
            self.query.check()?;
            each(row)?;
        }
        Ok(())
    }

    /// Whether the rows of an expression come from storage one by one.
    pub(super) fn streams(&self, expr: &Expr) -> Result<bool, QueryError> {
        match expr {
            Expr::Vector(_) => Ok(true),
            Expr::Call(call) => Ok(call.function.arg_types.contains(&ValueType::Matrix)
                && call.function.name != "absent_over_time"
                && self.stay_different(call)?),
            _ => Ok(false),
        }
    }

    /// Calls `each` for the rows of an expression that come from storage one by one.
    pub(super) fn stream_rows(
        &self,
        expr: &Expr,
        pos: PosRange,
        kept: KeptLabels<'_>,
        each: &mut dyn FnMut(&mut Row) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut pass_on = |row: &mut Row| {
            // one that is not kept
            self.query.note_given(row);
            each(row)
        };
        self.query.begin_node(expr);
        match expr {
            Expr::Vector(selector) => self.select_rows(selector, pos, kept, &mut pass_on)?,
            Expr::Call(call) => self.range_call_rows(call, kept, &mut pass_on)?,
            _ => {}
        }
        self.query.end_node(Extent::default);
        Ok(())
    }

    /// Whether series are as different after a function over range vectors as before. Otherwise it must be found out first which have
    /// become equal.
    fn stay_different(&self, call: &Call) -> Result<bool, QueryError> {
        if self.query.features.delayed_name_removal || keeps_name(call.function.name) {
            return Ok(true);
        }
        let args = || call.args.iter().map(Expr::unparen);
        let matrix = args().find_map(|arg| if let Expr::Matrix(matrix) = arg { Some((arg, matrix)) } else { None });
        let Some((arg, matrix)) = matrix else { return Ok(false) };
        // of one metric only the name goes, and what else tells of a metric
        let is_name = |m: &Matcher| *m.name == *METRIC_NAME && m.op() == MatchOp::Equal && !m.value.is_empty();
        if !matrix.selector.matchers.iter().any(is_name) {
            return Ok(false);
        }
        let (first, last) = self.range_source(arg)?.shape.span(self.steps);
        Ok(!["__type__", "__unit__"].iter().any(|name| self.query.storage.may_have_label(name, first, last)))
    }

    fn aggregate_groups(&self, aggregate: &Aggregate) -> Result<Frame, QueryError> {
        let mut notes = Annotations::default();
        let quantiles = match (&aggregate.param, aggregate.op) {
            (Some(param), AggregateOp::Quantile) => {
                let values = self.scalar(param)?;
                note_invalid_quantiles(&values, param.unparen().pos(), &mut notes);
                Some(values)
            }
            _ => None,
        };
        let grouping = Grouping::of(aggregate);
        let mut groups: Vec<Group> = Vec::new();
        let mut held = self.query.memory.charge();
        let mut by_key: HashMap<Labels, usize> = HashMap::new();
        let pos = aggregate.expr.pos();
        let steps = self.steps.count;
        let names = grouping.names();
        let kept = if grouping.without { KeptLabels::Without(&names) } else { KeptLabels::Only(&names) };
        let mut last: Option<(Labels, usize)> = None;
        self.for_each_row(&aggregate.expr, kept, &mut |row| {
            let known = last.as_ref().filter(|(labels, _)| *labels == row.labels).map(|(_, at)| *at);
            let key = if known.is_none() { grouping.key(&row.labels) } else { Labels::empty() };
            let at = match known.or_else(|| by_key.get(&key).copied()) {
                Some(at) => at,
                None => {
                    held.add(Group::bytes(aggregate.op, &key, steps))?;
                    groups.push(Group::new(aggregate.op, key.clone(), steps));
                    by_key.insert(key, groups.len() - 1);
                    groups.len() - 1
                }
            };
            if known.is_none() {
                last = Some((row.labels.clone(), at));
            }
            held.add(Group::bytes_for(aggregate.op, row))?;
            groups[at].add(row, aggregate.op, pos, &mut notes);
            Ok(())
        })?;
        let mut frame = self.query.frame();
        let mut pace = self.query.pace();
        for group in groups {
            let row = group.finish(aggregate.op, quantiles.as_deref(), pos, &mut notes, &mut pace)?;
            if !row.is_empty() {
                frame.push(row)?;
            }
        }
        self.query.merge_annotations(notes);
        Ok(frame)
    }
}

fn note_invalid_quantiles(values: &[f64], pos: PosRange, notes: &mut Annotations) {
    if values.iter().any(|q| q.is_nan()) {
        notes.invalid_quantile(f64::NAN, pos);
    }
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    if max > 1.0 {
        notes.invalid_quantile(max, pos);
    }
    if min < 0.0 {
        notes.invalid_quantile(min, pos);
    }
}

/// What a group has gathered at a step, beside the numbers.
#[derive(Clone, Copy, Default)]
struct Seen {
    float: bool,
    histogram: bool,
    incompatible: bool,
}

/// Histograms of a group at a step.
enum HistAcc {
    Sum(Box<(FloatHistogram, Option<FloatHistogram>)>),
    Mean(Box<HistogramMean>),
}

#[derive(Default)]
struct HistGroup {
    acc: Option<HistAcc>,
    notes: HistogramNotes,
    reconciled: bool,
}

/// The numbers of a group, an entry per step.
enum Numbers {
    /// Sums, and what rounding has lost of each.
    Sum(Vec<f64>, Vec<f64>),
    Mean(Vec<Mean>),
    /// The one extreme value.
    Value(Vec<f64>),
    Count(Vec<f64>),
    /// Count, mean and sum of squares.
    Spread(Vec<(f64, f64, f64)>),
    All(Vec<Vec<f64>>),
}

struct Group {
    row: Row,
    seen: Vec<Seen>,
    /// There was a float at every step.
    all_seen: bool,
    numbers: Numbers,
    hists: Vec<HistGroup>,
}

impl Group {
    /// Memory of a group without a sample.
    fn bytes(op: AggregateOp, labels: &Labels, steps: usize) -> usize {
        let number = match op {
            AggregateOp::Sum => size_of::<(f64, f64)>(),
            AggregateOp::Avg => size_of::<Mean>(),
            AggregateOp::Stddev | AggregateOp::Stdvar => size_of::<(f64, f64, f64)>(),
            AggregateOp::Quantile => size_of::<Vec<f64>>(),
            _ => size_of::<f64>(),
        };
        size_of::<Self>() + 2 * labels.bytes() + steps * (size_of::<f64>() + size_of::<Seen>() + number)
    }

    /// Memory that a group may take for one row more.
    fn bytes_for(op: AggregateOp, row: &Row) -> usize {
        match op {
            // a list that grows is twice as long as need be
            AggregateOp::Quantile => 2 * size_of::<f64>() * row.floats.len(),
            AggregateOp::Sum | AggregateOp::Avg => row.histograms.len() * size_of::<HistGroup>(),
            _ => 0,
        }
    }

    fn new(op: AggregateOp, labels: Labels, steps: usize) -> Self {
        let numbers = match op {
            // to which anything can be added without changing it
            AggregateOp::Sum => Numbers::Sum(vec![-0.0; steps], vec![0.0; steps]),
            AggregateOp::Avg => Numbers::Mean(vec![Mean::new(0.0); steps]),
            AggregateOp::Min | AggregateOp::Max => Numbers::Value(vec![0.0; steps]),
            AggregateOp::Stddev | AggregateOp::Stdvar => Numbers::Spread(vec![(0.0, 0.0, 0.0); steps]),
            AggregateOp::Quantile => Numbers::All(vec![Vec::new(); steps]),
            _ => Numbers::Count(vec![0.0; steps]),
        };
        let seen = vec![Seen::default(); steps];
        Self { row: Row::new(labels, false, steps), seen, all_seen: false, numbers, hists: Vec::new() }
    }

    fn add(&mut self, row: &Row, op: AggregateOp, pos: PosRange, notes: &mut Annotations) {
        self.row.drop_name |= row.drop_name;
        if row.histograms.is_empty() && self.add_floats(&row.floats) {
            return;
        }
        for step in 0..row.floats.len() {
            match row.cell(step) {
                Cell::Empty => {}
                Cell::Float(value) => self.add_float(step, value, op),
                Cell::Histogram(histogram) => self.add_histogram(step, histogram, op, row, pos, notes),
            }
        }
    }

    /// The commonest cases, each in a loop of its own; `false` if it is none of them.
    fn add_floats(&mut self, floats: &[f64]) -> bool {
        match &mut self.numbers {
            Numbers::Count(counts) => {
                for (count, value) in counts.iter_mut().zip(floats) {
                    *count += f64::from(u8::from(!is_absent(*value)));
                }
            }
            Numbers::Sum(sums, lost) => {
                for ((sum, lost), value) in sums.iter_mut().zip(lost).zip(floats) {
                    // which leaves any sum as it is
                    let value = if is_absent(*value) { -0.0 } else { *value };
                    (*sum, *lost) = kahan_inc(value, *sum, *lost);
                }
            }
            Numbers::Mean(means) => {
                for ((mean, seen), value) in means.iter_mut().zip(&mut self.seen).zip(floats) {
                    if is_absent(*value) {
                        continue;
                    }
                    if std::mem::replace(&mut seen.float, true) {
                        mean.add(*value);
                    } else {
                        *mean = Mean::new(*value);
                    }
                }
                return true;
            }
            _ => return false,
        }
        if !self.all_seen {
            self.all_seen = true;
            for (seen, value) in self.seen.iter_mut().zip(floats) {
                seen.float |= !is_absent(*value);
                self.all_seen &= seen.float;
            }
        }
        true
    }

    #[inline]
    fn add_float(&mut self, step: usize, value: f64, op: AggregateOp) {
        let seen = &mut self.seen[step];
        let first = !seen.float;
        seen.float = true;
        match &mut self.numbers {
            Numbers::Sum(sums, lost) => (sums[step], lost[step]) = kahan_inc(value, sums[step], lost[step]),
            Numbers::Mean(means) => {
                if first {
                    means[step] = Mean::new(value);
                } else {
                    means[step].add(value);
                }
            }
            Numbers::Value(values) => {
                let best = &mut values[step];
                let better = if op == AggregateOp::Min { *best > value } else { *best < value };
                if first || better || best.is_nan() {
                    *best = value;
                }
            }
            Numbers::Count(counts) => counts[step] += 1.0,
            Numbers::Spread(spreads) => {
                let (count, mean, squares) = &mut spreads[step];
                *count += 1.0;
                if first {
                    *mean = value;
                    *squares = if value.is_finite() { 0.0 } else { f64::NAN };
                } else {
                    let delta = value - *mean;
                    *mean += delta / *count;
                    *squares += delta * (value - *mean);
                }
            }
            Numbers::All(values) => values[step].push(value),
        }
    }

    fn add_histogram(
        &mut self,
        step: usize,
        histogram: &Hist,
        op: AggregateOp,
        row: &Row,
        pos: PosRange,
        notes: &mut Annotations,
    ) {
        match op {
            AggregateOp::Count | AggregateOp::Group => {
                if let Numbers::Count(counts) = &mut self.numbers {
                    counts[step] += 1.0;
                }
                self.seen[step].float = true;
            }
            AggregateOp::Sum | AggregateOp::Avg => {
                self.seen[step].histogram = true;
                if self.seen[step].incompatible {
                    return;
                }
                if self.hists.is_empty() {
                    self.hists.resize_with(self.seen.len(), HistGroup::default);
                }
                let group = &mut self.hists[step];
                group.notes.see(histogram);
                if group.add(histogram, op).is_err() {
                    self.seen[step].incompatible = true;
                    notes.mixed_exponential_custom(row.metric_name(), pos);
                }
            }
            _ => notes.histogram_ignored_in_aggregation(op.as_str(), pos),
        }
    }

    fn finish(
        mut self,
        op: AggregateOp,
        quantiles: Option<&[f64]>,
        pos: PosRange,
        notes: &mut Annotations,
        pace: &mut Pace<'_>,
    ) -> Result<Row, QueryError> {
        let mut hists = std::mem::take(&mut self.hists).into_iter();
        for step in 0..self.seen.len() {
            let hist = hists.next();
            let seen = self.seen[step];
            pace.done(1)?;
            if seen.float && seen.histogram {
                notes.mixed_floats_histograms_in_aggregation(pos);
                continue;
            }
            if seen.incompatible {
                continue;
            }
            if seen.histogram {
                if let Some(hist) = hist
                    && let Some(value) = hist.finish(pos, notes)?
                {
                    self.row.set_histogram(step, Arc::new(value));
                }
                continue;
            }
            if !seen.float {
                continue;
            }
            let value = match &mut self.numbers {
                Numbers::Sum(sums, lost) => sums[step] + lost[step],
                Numbers::Mean(means) => means[step].value(),
                Numbers::Value(values) => values[step],
                Numbers::Count(_) if op == AggregateOp::Group => 1.0,
                Numbers::Count(counts) => counts[step],
                Numbers::Spread(spreads) => {
                    let (count, _, squares) = spreads[step];
                    if op == AggregateOp::Stdvar { squares / count } else { (squares / count).sqrt() }
                }
                Numbers::All(values) => {
                    pace.done(SORT_WORK * values[step].len())?;
                    let q = quantiles.and_then(|q| q.get(step)).copied().unwrap_or(f64::NAN);
                    quantile::of_values(q, &mut values[step])
                }
            };
            self.row.set_float(step, value);
        }
        Ok(self.row)
    }
}

impl HistGroup {
    fn add(&mut self, histogram: &Hist, op: AggregateOp) -> Result<(), IncompatibleSchemas> {
        let combined = match &mut self.acc {
            None if op == AggregateOp::Sum => {
                self.acc = Some(HistAcc::Sum(Box::new((FloatHistogram::clone(histogram), None))));
                return Ok(());
            }
            None => {
                self.acc = Some(HistAcc::Mean(Box::new(HistogramMean::new(histogram))));
                return Ok(());
            }
            Some(HistAcc::Sum(parts)) => parts.0.kahan_add(histogram, &mut parts.1)?,
            Some(HistAcc::Mean(mean)) => mean.add(histogram)?,
        };
        self.reconciled |= combined.bounds_reconciled;
        Ok(())
    }

    fn finish(self, pos: PosRange, notes: &mut Annotations) -> Result<Option<FloatHistogram>, QueryError> {
        if self.notes.collision() {
            notes.counter_reset_collision(HistogramOp::Aggregate, pos);
        }
        if self.reconciled {
            notes.custom_buckets_reconciled(HistogramOp::Aggregate, pos);
        }
        let broken = |_: IncompatibleSchemas| QueryError::execution("histograms of one sum do not fit together");
        let mut value = match self.acc {
            None => return Ok(None),
            Some(HistAcc::Mean(mean)) => mean.value().map_err(broken)?,
            Some(HistAcc::Sum(parts)) => {
                let (mut sum, lost) = *parts;
                if let Some(mut lost) = lost {
                    lost.counter_reset_hint = sum.counter_reset_hint;
                    sum.add(&lost).map_err(broken)?;
                }
                sum
            }
        };
        value.compact(0);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn float() -> impl Strategy<Value = f64> {
        let special = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN, 5e-324, 1e16, 0.1];
        let huge = prop_oneof![f64::MIN..-1e307, 1e307..f64::MAX];
        prop_oneof![any::<f64>(), -1e9..1e9f64, huge, prop::sample::select(special.to_vec())]
    }

    /// What the values come to one after the other.
    fn one_by_one(op: AggregateOp, values: &[f64]) -> f64 {
        let Some((first, rest)) = values.split_first() else { return 0.0 };
        match op {
            AggregateOp::Sum => {
                let (sum, lost) = rest.iter().fold((*first, 0.0), |(sum, lost), value| kahan_inc(*value, sum, lost));
                sum + lost
            }
            AggregateOp::Avg => {
                let mut mean = Mean::new(*first);
                rest.iter().for_each(|value| mean.add(*value));
                mean.value()
            }
            _ => values.len() as f64,
        }
    }

    proptest! {
        #[test]
        fn rows_come_to_what_their_values_come_to(
            rows in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.8, float()), 5), 0..20),
        ) {
            for op in [AggregateOp::Sum, AggregateOp::Avg, AggregateOp::Count] {
                let (pos, mut notes) = (PosRange::default(), Annotations::default());
                let mut group = Group::new(op, Labels::empty(), 5);
                for values in &rows {
                    let mut row = Row::new(Labels::empty(), false, 5);
                    values.iter().enumerate().for_each(|(step, value)| value.iter().for_each(|v| row.set_float(step, *v)));
                    group.add(&row, op, pos, &mut notes);
                }
                let seen: Vec<bool> = group.seen.iter().map(|seen| seen.float).collect();
                for step in 0..5 {
                    let values: Vec<f64> = rows.iter().filter_map(|row| row[step]).collect();
                    prop_assert_eq!(seen[step], !values.is_empty());
                    let number = match &group.numbers {
                        _ if values.is_empty() => continue,
                        Numbers::Sum(sums, lost) => sums[step] + lost[step],
                        Numbers::Mean(means) => means[step].value(),
                        Numbers::Count(counts) => counts[step],
                        _ => f64::NAN,
                    };
                    let expected = one_by_one(op, &values);
                    let same = number.to_bits() == expected.to_bits() || number.is_nan() && expected.is_nan();
                    prop_assert!(same, "{op:?} of {values:?}: {number:e}, not {expected:e}");
                }
            }
        }
    }
}
