//! Fewer and wider buckets: lower schemas, custom bounds in common, wider zero buckets.

use std::sync::Arc;

use super::buckets::{indexed, to_spans};
use super::{FloatHistogram, Span};

/// Buckets by index, rising.
pub(super) type Indexed = Vec<(i32, f64)>;

impl FloatHistogram {
    /// A copy in a lower resolution. `schema` must not be above the histogram's; a histogram with custom buckets is only copied.
    #[must_use]
    pub fn copy_to_schema(&self, schema: i32) -> Self {
        let mut copy = self.clone();
        copy.reduce_resolution(schema);
        copy
    }

    /// Lowers the resolution to `schema`. Nothing happens if it is not lower, or with custom buckets.
    pub fn reduce_resolution(&mut self, schema: i32) {
        if self.uses_custom_buckets() || schema >= self.schema {
            return;
        }
        let shift = self.schema - schema;
        for (spans, counts) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let merged = merge_to_lower(indexed(spans, counts), shift);
            (*spans, *counts) = to_spans(merged);
        }
        self.schema = schema;
    }

    /// Widens the zero bucket to at least `threshold` and moves the buckets inside into it, so that the threshold lies on a
    /// bucket bound or in an empty bucket.
    pub(super) fn widen_zero_bucket(&mut self, threshold: f64) {
        let (count, threshold) = self.zero_count_for_threshold(threshold);
        self.zero_count = count;
        self.zero_threshold = threshold;
        let covered = |upper: f64| upper <= threshold;
        for (spans, counts, schema) in [
            (&mut self.positive_spans, &mut self.positive_buckets, self.schema),
            (&mut self.negative_spans, &mut self.negative_buckets, self.schema),
        ] {
            let kept: Indexed = indexed(spans, counts)
                .filter(|(index, _)| !covered(super::exponential_bound(*index, schema)))
                .collect();
            (*spans, *counts) = to_spans(kept);
        }
    }

    /// The count a zero bucket of at least `threshold` would have, and its real threshold.
    fn zero_count_for_threshold(&self, threshold: f64) -> (f64, f64) {
        let mut wanted = threshold;
        'again: loop {
            let mut count = self.zero_count;
            for bucket in self.positive_buckets_iter() {
                if bucket.lower >= wanted {
                    break;
                }
                count += bucket.count;
                if bucket.upper > wanted {
                    // the threshold lies within a bucket: if that is populated, the threshold moves to its end
                    if bucket.count != 0.0 {
                        wanted = bucket.upper;
                    }
                    break;
                }
            }
            for bucket in self.negative_buckets_iter() {
                if bucket.upper <= -wanted {
                    break;
                }
                count += bucket.count;
                if bucket.lower < -wanted {
                    if bucket.count != 0.0 {
                        wanted = -bucket.lower;
                        continue 'again;
                    }
                    break;
                }
            }
            return (count, wanted);
        }
    }
}

/// Joins each `2^shift` buckets to one.
fn merge_to_lower(buckets: impl Iterator<Item = (i32, f64)>, shift: i32) -> Indexed {
    let mut merged: Indexed = Vec::new();
    for (index, count) in buckets {
        // bucket `i` ends at base^i, so those from (t-1)*2^shift+1 to t*2^shift make up bucket t
        let target = i32::try_from(((i64::from(index) - 1) >> shift.min(62)) + 1).unwrap_or(index);
        match merged.last_mut() {
            Some((last, sum)) if *last == target => *sum += count,
            _ => merged.push((target, count)),
        }
    }
    merged
}

/// The bounds that two lists of custom bounds have in common.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let (mut i, mut j) = (0, 0);
    let mut common = Vec::new();
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            common.push(a[i]);
            i += 1;
            j += 1;
        } else if a[i] < b[j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    common.into()
}

/// Custom buckets under `bounds` sorted into those under `common`, a part of them.
pub(super) fn to_common_bounds(spans: &[Span], counts: &[f64], bounds: &[f64], common: &[f64]) -> Indexed {
    let mut merged: Indexed = Vec::new();
    let mut target = 0;
    for (index, count) in indexed(spans, counts) {
        let upper = usize::try_from(index).ok().and_then(|at| bounds.get(at)).copied().unwrap_or(f64::INFINITY);
        while target < common.len() && common[target] < upper {
            target += 1;
        }
        match merged.last_mut() {
            Some((last, sum)) if *last == target as i32 => *sum += count,
            _ => merged.push((target as i32, count)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_schemas_join_buckets() {
        let histogram = FloatHistogram {
            schema: 1,
            positive_spans: vec![Span { offset: -1, length: 5 }],
            positive_buckets: vec![1.0, 2.0, 3.0, 4.0, 5.0],
            ..FloatHistogram::default()
        };
        let lower = histogram.copy_to_schema(0);
        assert_eq!((lower.schema, lower.positive_spans.as_slice()), (0, &[Span { offset: 0, length: 3 }][..]));
        assert_eq!(lower.positive_buckets, [3.0, 7.0, 5.0]);
    }

    #[test]
    fn custom_bounds_meet_in_what_they_share() {
        assert_eq!(&*common_bounds(&[1.0, 2.0, 3.0, 5.0], &[2.0, 4.0, 5.0]), [2.0, 5.0]);
        let spans = [Span { offset: 0, length: 5 }];
        let merged = to_common_bounds(&spans, &[1.0, 2.0, 3.0, 4.0, 5.0], &[1.0, 2.0, 3.0, 5.0], &[2.0, 5.0]);
        assert_eq!(merged, [(0, 3.0), (1, 7.0), (2, 5.0)]);
    }
}
