//! Adding, subtracting and scaling histograms.

use super::buckets::{indexed, to_spans};
use super::resolution::{Indexed, common_bounds, to_common_bounds};
use super::{CounterResetHint, FloatHistogram};

/// Histograms with exponential and with custom buckets cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleSchemas;

/// What came up while histograms were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One was known to follow a counter reset and the other not to.
    pub counter_reset_collision: bool,
    /// Custom bounds differed and were reduced to those in common.
    pub bounds_reconciled: bool,
}

/// One step of a compensated (Neumaier) sum: the new sum and the new compensation.
#[inline]
pub fn kahan_inc(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + value;
    // chosen and not branched to, so that loops over whole columns take several at a time; and the difference from the larger one
    // cannot overflow
    let (larger, smaller) = if sum.abs() >= value.abs() { (sum, value) } else { (value, sum) };
    let lost = (larger - total) + smaller;
    (total, if total.is_infinite() { 0.0 } else { compensation + lost })
}

impl FloatHistogram {
    /// Adds `other`. Resolution, zero bucket and custom bounds become those that both can be expressed in.
    ///
    /// # Errors
    /// When one has exponential and the other custom buckets.
    pub fn add(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        let collision = self.combine_hints(other);
        let (other, bounds_reconciled) = self.reconcile(other)?;
        self.zero_count += other.zero_count;
        self.count += other.count;
        self.sum += other.sum;
        self.combine_buckets(&other, |a, b| a + b);
        Ok(Combined { counter_reset_collision: collision, bounds_reconciled })
    }

    /// Subtracts `other`; see [`FloatHistogram::add`].
    ///
    /// # Errors
    /// When one has exponential and the other custom buckets.
    pub fn sub(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        let collision = self.combine_hints(other);
        let (other, bounds_reconciled) = self.reconcile(other)?;
        self.zero_count -= other.zero_count;
        self.count -= other.count;
        self.sum -= other.sum;
        self.combine_buckets(&other, |a, b| a - b);
        Ok(Combined { counter_reset_collision: collision, bounds_reconciled })
    }

    /// Adds `other` with compensation: `compensation`, `None` at first, gathers what rounding loses in each part.
    ///
    /// # Errors
    /// When one has exponential and the other custom buckets.
    pub fn kahan_add(
        &mut self,
        other: &Self,
        compensation: &mut Option<Self>,
    ) -> Result<Combined, IncompatibleSchemas> {
        let collision = self.combine_hints(other);
        let mut lost = compensation.take().unwrap_or_else(|| Self {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            custom_values: self.custom_values.clone(),
            ..Self::default()
        });
        let (other, mut bounds_reconciled) = self.reconcile(other)?;
        // the compensation follows the layout of the sum
        let (adapted, again) = self.reconcile(&lost)?;
        bounds_reconciled |= again;
        lost = adapted.into_owned();
        (self.zero_count, lost.zero_count) = kahan_inc(other.zero_count, self.zero_count, lost.zero_count);
        (self.count, lost.count) = kahan_inc(other.count, self.count, lost.count);
        (self.sum, lost.sum) = kahan_inc(other.sum, self.sum, lost.sum);
        let mut spans = (std::mem::take(&mut self.positive_spans), std::mem::take(&mut self.negative_spans));
        for (sum_spans, sum, add_spans, add, lost_spans, lost) in [
            (
                &mut spans.0,
                &mut self.positive_buckets,
                &other.positive_spans,
                &other.positive_buckets,
                &mut lost.positive_spans,
                &mut lost.positive_buckets,
            ),
            (
                &mut spans.1,
                &mut self.negative_buckets,
                &other.negative_spans,
                &other.negative_buckets,
                &mut lost.negative_spans,
                &mut lost.negative_buckets,
            ),
        ] {
            let with_addend = merge(indexed(sum_spans, sum), indexed(add_spans, add), |a, b| (a, b));
            let all = merge(with_addend.into_iter(), indexed(lost_spans, lost), |pair: (f64, f64), c| (pair, c));
            let mut new_sum: Indexed = Vec::with_capacity(all.len());
            let mut new_lost: Indexed = Vec::with_capacity(all.len());
            for (index, ((a, b), c)) in all {
                let (a, c) = kahan_inc(b, a, c);
                new_sum.push((index, a));
                new_lost.push((index, c));
            }
            (*sum_spans, *sum) = to_spans(new_sum);
            (*lost_spans, *lost) = to_spans(new_lost);
        }
        (self.positive_spans, self.negative_spans) = spans;
        *compensation = Some(lost);
        Ok(Combined { counter_reset_collision: collision, bounds_reconciled })
    }

    /// Multiplies all counts and the sum. A negative factor makes it a gauge.
    pub fn mul(&mut self, factor: f64) -> &mut Self {
        self.scale(factor < 0.0, |v| v * factor)
    }

    /// Divides all counts and the sum. Division by zero leaves no buckets, as none could be told from the others.
    pub fn div(&mut self, divisor: f64) -> &mut Self {
        self.scale(divisor < 0.0, |v| v / divisor);
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
        self
    }

    fn scale(&mut self, negates: bool, scale: impl Fn(f64) -> f64) -> &mut Self {
        self.zero_count = scale(self.zero_count);
        self.count = scale(self.count);
        self.sum = scale(self.sum);
        for count in self.positive_buckets.iter_mut().chain(&mut self.negative_buckets) {
            *count = scale(*count);
        }
        if negates {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    /// Whether a count or the sum has become infinite.
    pub fn has_overflow(&self) -> bool {
        [self.zero_count, self.count, self.sum]
            .iter()
            .chain(&self.positive_buckets)
            .chain(&self.negative_buckets)
            .any(|v| v.is_infinite())
    }

    /// The hint of a combination; tells whether the two contradict each other.
    fn combine_hints(&mut self, other: &Self) -> bool {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let (hint, collision) = match (self.counter_reset_hint, other.counter_reset_hint) {
            (a, b) if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            (Reset, NotReset) | (NotReset, Reset) => (Unknown, true),
            (a, _) => (a, false),
        };
        self.counter_reset_hint = hint;
        collision
    }

    /// Brings both to one layout; gives `other` in it and whether custom bounds had to be reduced.
    fn reconcile<'o>(&mut self, other: &'o Self) -> Result<(std::borrow::Cow<'o, Self>, bool), IncompatibleSchemas> {
        use std::borrow::Cow;
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        if self.uses_custom_buckets() {
            if self.custom_bounds() == other.custom_bounds() {
                return Ok((Cow::Borrowed(other), false));
            }
            let common = common_bounds(self.custom_bounds(), other.custom_bounds());
            let mut adapted = other.clone();
            for histogram in [&mut *self, &mut adapted] {
                let merged = to_common_bounds(
                    &histogram.positive_spans,
                    &histogram.positive_buckets,
                    histogram.custom_bounds(),
                    &common,
                );
                (histogram.positive_spans, histogram.positive_buckets) = to_spans(merged);
                histogram.custom_values = Some(common.clone());
            }
            return Ok((Cow::Owned(adapted), true));
        }
        let mut other = Cow::Borrowed(other);
        if self.zero_threshold != other.zero_threshold {
            let adapted = other.to_mut();
            while self.zero_threshold != adapted.zero_threshold {
                if self.zero_threshold < adapted.zero_threshold {
                    self.widen_zero_bucket(adapted.zero_threshold);
                } else {
                    adapted.widen_zero_bucket(self.zero_threshold);
                }
            }
        }
        if other.schema > self.schema {
            other.to_mut().reduce_resolution(self.schema);
        } else {
            self.reduce_resolution(other.schema);
        }
        Ok((other, false))
    }

    /// Combines the buckets of two histograms of one layout.
    fn combine_buckets(&mut self, other: &Self, combine: impl Fn(f64, f64) -> f64) {
        for (spans, counts, other_spans, other_counts) in [
            (&mut self.positive_spans, &mut self.positive_buckets, &other.positive_spans, &other.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets, &other.negative_spans, &other.negative_buckets),
        ] {
            if spans == other_spans && counts.len() == other_counts.len() {
                for (count, other) in counts.iter_mut().zip(other_counts) {
                    *count = combine(*count, *other);
                }
            } else if !other_counts.is_empty() {
                let merged = merge(indexed(spans, counts), indexed(other_spans, other_counts), &combine);
                (*spans, *counts) = to_spans(merged);
            }
        }
    }
}

/// Merges two lists of buckets in rising order; what misses on one side is zero.
fn merge<A: Copy + Default, B: Copy + Default, C>(
    a: impl Iterator<Item = (i32, A)>,
    b: impl Iterator<Item = (i32, B)>,
    combine: impl Fn(A, B) -> C,
) -> Vec<(i32, C)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut merged = Vec::new();
    loop {
        let index = match (a.peek(), b.peek()) {
            (Some((i, _)), Some((j, _))) => *i.min(j),
            (Some((i, _)), None) => *i,
            (None, Some((j, _))) => *j,
            (None, None) => return merged,
        };
        let left = a.next_if(|(i, _)| *i == index).map(|(_, v)| v).unwrap_or_default();
        let right = b.next_if(|(j, _)| *j == index).map(|(_, v)| v).unwrap_or_default();
        merged.push((index, combine(left, right)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    fn histogram(schema: i32, offset: i32, buckets: &[f64]) -> FloatHistogram {
        let count = buckets.iter().sum();
        FloatHistogram {
            schema,
            count,
            sum: count,
            positive_spans: vec![Span { offset, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn addition_meets_at_the_lower_resolution() {
        let mut sum = histogram(1, 1, &[1.0, 2.0]);
        sum.add(&histogram(0, 1, &[4.0, 8.0])).unwrap();
        assert_eq!((sum.schema, sum.count), (0, 15.0));
        assert_eq!(sum.positive_buckets, [7.0, 8.0]);
    }

    #[test]
    fn zero_buckets_swallow_what_lies_in_them() {
        let mut sum = histogram(0, -2, &[1.0, 2.0, 4.0]);
        let other = FloatHistogram { zero_threshold: 0.5, zero_count: 8.0, count: 8.0, ..FloatHistogram::default() };
        sum.add(&other).unwrap();
        assert_eq!((sum.zero_threshold, sum.zero_count), (0.5, 11.0));
        assert_eq!((sum.positive_buckets.as_slice(), sum.positive_spans[0].offset), (&[4.0][..], 0));
    }

    #[test]
    fn contradicting_hints_are_told() {
        let mut a = FloatHistogram { counter_reset_hint: CounterResetHint::Reset, ..histogram(0, 0, &[1.0]) };
        let b = FloatHistogram { counter_reset_hint: CounterResetHint::NotReset, ..histogram(0, 0, &[1.0]) };
        assert!(a.sub(&b).unwrap().counter_reset_collision);
        assert_eq!(a.counter_reset_hint, CounterResetHint::Unknown);
    }

    #[test]
    fn custom_and_exponential_buckets_do_not_mix() {
        let custom = FloatHistogram {
            schema: crate::CUSTOM_BUCKETS_SCHEMA,
            custom_values: Some([1.0].into()),
            ..FloatHistogram::default()
        };
        assert_eq!(histogram(0, 0, &[1.0]).add(&custom), Err(IncompatibleSchemas));
    }

    #[test]
    fn compensated_sums_keep_small_parts() {
        let mut sum = histogram(0, 0, &[1.0]);
        let mut lost = None;
        for value in [1e100, 1.0, -1e100] {
            sum.kahan_add(&histogram(0, 0, &[value]), &mut lost).unwrap();
        }
        sum.add(&lost.unwrap()).unwrap();
        assert_eq!((sum.count, sum.positive_buckets.as_slice()), (2.0, &[2.0][..]));
    }
}
