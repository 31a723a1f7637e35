//! Bounds of native histograms: how fine their buckets are, and how many.

use common::metrics::NativeHistogram;
use model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram};

use crate::config::ScrapeLimits;

/// The coarsest and the finest schema with exponential buckets.
const MIN_SCHEMA: i32 = -4;
const MAX_SCHEMA: i32 = 8;

/// The finest schema whose buckets grow by `factor` at least (`native_histogram_min_bucket_factor`).
fn finest_schema(factor: f64) -> i32 {
    if factor <= 1.0 {
        return MAX_SCHEMA;
    }
    // each bucket of schema n is 2^(2^-n) times as wide as the one before
    let schema = (-factor.log2().log2()).floor();
    schema.clamp(f64::from(MIN_SCHEMA), f64::from(MAX_SCHEMA)) as i32
}

/// The histogram with buckets merged as far as the limits ask; `None` if it has too many however coarse they are, or if they are
/// custom buckets, which cannot be merged.
pub(super) fn fit(histogram: NativeHistogram, limits: &ScrapeLimits) -> Option<NativeHistogram> {
    let limit = match limits.native_histogram_buckets {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let (schema, buckets) = match &histogram {
        NativeHistogram::Integer(h) => (h.schema, h.positive_buckets.len() + h.negative_buckets.len()),
        NativeHistogram::Float(h) => (h.schema, count(h)),
    };
    if schema == CUSTOM_BUCKETS_SCHEMA {
        return (buckets <= limit).then_some(histogram);
    }
    let finest = finest_schema(limits.native_histogram_min_bucket_factor);
    if schema <= finest && buckets <= limit {
        return Some(histogram);
    }
    let mut coarser = match &histogram {
        NativeHistogram::Integer(h) => h.to_float(),
        NativeHistogram::Float(h) => h.clone(),
    };
    if schema > finest {
        coarser.reduce_resolution(finest);
    }
    while count(&coarser) > limit {
        if coarser.schema <= MIN_SCHEMA {
            return None;
        }
        coarser.reduce_resolution(coarser.schema - 1);
    }
    Some(match histogram {
        NativeHistogram::Integer(_) => NativeHistogram::Integer(coarser.to_integer()),
        NativeHistogram::Float(_) => NativeHistogram::Float(coarser),
    })
}

fn count(histogram: &FloatHistogram) -> usize {
    histogram.positive_buckets.len() + histogram.negative_buckets.len()
}

#[cfg(test)]
mod tests {
    use model::{Histogram, Span};

    use super::*;

    fn check(schema: i32, limit: u64, factor: f64, expected: Option<(i32, &[i64])>) {
        let histogram = Histogram {
            schema,
            count: 10,
            sum: 1.0,
            positive_spans: vec![Span { offset: 1, length: 4 }],
            positive_buckets: vec![1, 1, 1, 1],
            custom_values: (schema == CUSTOM_BUCKETS_SCHEMA).then(|| [1.0, 2.0, 3.0, 4.0, 5.0].into()),
            ..Histogram::default()
        };
        let limits = ScrapeLimits {
            native_histogram_buckets: limit,
            native_histogram_min_bucket_factor: factor,
            ..ScrapeLimits::default()
        };
        let Some(NativeHistogram::Integer(found)) = fit(NativeHistogram::Integer(histogram), &limits) else {
            assert_eq!(expected, None, "{schema} {limit} {factor}");
            return;
        };
        assert_eq!(Some((found.schema, &found.positive_buckets[..])), expected, "{schema} {limit} {factor}");
        assert_eq!(found.count, 10);
    }

    #[test]
    fn buckets_are_merged_until_they_fit() {
        check(3, 0, 0.0, Some((3, &[1, 1, 1, 1])));
        check(3, 4, 1.0, Some((3, &[1, 1, 1, 1])));
        // buckets 1 to 4 of 1, 2, 3 and 4 observations
        check(3, 2, 0.0, Some((2, &[3, 4])));
        check(3, 1, 0.0, Some((1, &[10])));
        check(-4, 2, 0.0, None);
        check(CUSTOM_BUCKETS_SCHEMA, 4, 5.0, Some((CUSTOM_BUCKETS_SCHEMA, &[1, 1, 1, 1])));
        check(CUSTOM_BUCKETS_SCHEMA, 3, 0.0, None);
    }

    #[test]
    fn buckets_grow_by_the_factor_asked_for() {
        check(3, 0, 1.1, Some((2, &[3, 4])));
        check(3, 0, 1.09, Some((3, &[1, 1, 1, 1])));
        for (factor, schema) in [(0.0, 8), (1.0, 8), (1.003, 7), (2.0, 0), (4.0, -1), (65536.0, -4), (1e12, -4)] {
            assert_eq!(finest_schema(factor), schema, "{factor}");
        }
    }
}
