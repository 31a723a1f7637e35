//! Buckets with their bounds, in order.

use std::fmt;

use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span, exponential_bound};
use crate::format_float;

/// One bucket of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to it.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to it.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
    /// Number of the bucket in its schema; 0 for the zero bucket.
    pub index: i32,
}

impl fmt::Display for Bucket {
    /// `(0.5,1]:3`, brackets showing which bounds are included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        out.push(if self.lower_inclusive { '[' } else { '(' });
        format_float(self.lower, &mut out);
        out.push(',');
        format_float(self.upper, &mut out);
        out.push(if self.upper_inclusive { ']' } else { ')' });
        out.push(':');
        format_float(self.count, &mut out);
        f.write_str(&out)
    }
}

/// The upper bound of bucket `index` under a schema.
fn bound(index: i32, schema: i32, custom_values: &[f64]) -> f64 {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Ok(at) => custom_values.get(at).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

impl FloatHistogram {
    /// Whether the bucket bounds are listed in `custom_values`.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// The finite upper bounds of custom buckets.
    pub fn custom_bounds(&self) -> &[f64] {
        self.custom_values.as_deref().unwrap_or(&[])
    }

    /// The zero bucket.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// Positive (or custom) buckets, bounds rising, empty ones between included.
    pub fn positive_buckets_iter(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let (schema, custom) = (self.schema, self.custom_bounds());
        indexed(&self.positive_spans, &self.positive_buckets).map(move |(index, count)| {
            let lower = bound(index.saturating_sub(1), schema, custom);
            Bucket {
                lower,
                upper: bound(index, schema, custom),
                lower_inclusive: schema == CUSTOM_BUCKETS_SCHEMA && lower == f64::NEG_INFINITY,
                upper_inclusive: true,
                count,
                index,
            }
        })
    }

    /// Negative buckets, from those next to zero outwards.
    pub fn negative_buckets_iter(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let schema = self.schema;
        indexed(&self.negative_spans, &self.negative_buckets).map(move |(index, count)| Bucket {
            lower: -exponential_bound(index, schema),
            upper: -exponential_bound(index.saturating_sub(1), schema),
            lower_inclusive: true,
            upper_inclusive: false,
            count,
            index,
        })
    }

    /// All buckets with rising bounds: negative ones, the zero bucket if it has observations, positive ones. Buckets that
    /// reach into the zero bucket end at it.
    pub fn all_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let zero = self.zero_threshold;
        let custom = self.uses_custom_buckets();
        let negative = self.negative_buckets_iter().rev().map(move |mut bucket| {
            if bucket.upper > -zero && bucket.lower < -zero {
                bucket.upper = -zero;
            }
            bucket
        });
        let positive = self.positive_buckets_iter().map(move |mut bucket| {
            if !custom && bucket.lower < zero && bucket.upper > zero {
                bucket.lower = zero;
            }
            bucket
        });
        negative.chain((self.zero_count > 0.0).then(|| self.zero_bucket())).chain(positive)
    }
}

/// Bucket indexes and counts.
pub(super) fn indexed<'a, V: Copy>(
    spans: &'a [Span],
    counts: &'a [V],
) -> impl DoubleEndedIterator<Item = (i32, V)> + 'a {
    let mut start = 0i32;
    let mut ranges = Vec::with_capacity(spans.len());
    for span in spans {
        start = start.saturating_add(span.offset);
        let end = start.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        ranges.push(start..end);
        start = end;
    }
    // the number of counts bounds the iteration even when spans claim more
    let indexes: Vec<i32> = ranges.into_iter().flatten().take(counts.len()).collect();
    indexes.into_iter().zip(counts.iter().copied())
}

/// Spans and counts of buckets given in rising order of their indexes.
pub(super) fn to_spans(buckets: impl IntoIterator<Item = (i32, f64)>) -> (Vec<Span>, Vec<f64>) {
    let (mut spans, mut counts): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0i32;
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            None => spans.push(Span { offset: index, length: 1 }),
            Some(_) => spans.push(Span { offset: index.saturating_sub(next), length: 1 }),
        }
        next = index.saturating_add(1);
        counts.push(count);
    }
    (spans, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers_of_the_base() {
        for (index, schema, bound) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (1, -1, 4.0),
            (4, 2, 2.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
        ] {
            assert_eq!(exponential_bound(index, schema), bound, "{index} {schema}");
        }
        assert!((exponential_bound(1, 1) - 2f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn spans_and_indexes_convert_both_ways() {
        let buckets = [(-3, 1.0), (-2, 2.0), (5, 3.0), (6, 0.0)];
        let (spans, counts) = to_spans(buckets);
        assert_eq!(spans, [Span { offset: -3, length: 2 }, Span { offset: 6, length: 2 }]);
        assert_eq!(indexed(&spans, &counts).collect::<Vec<_>>(), buckets);
    }
}
