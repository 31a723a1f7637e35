//! Cutting off the observations above or below a value.

use super::FloatHistogram;
use super::buckets::{Bucket, to_spans};

/// Which observations stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those up to the value (`</`).
    Below,
    /// Those above it (`>/`).
    Above,
}

/// How values spread within a bucket.
#[derive(Clone, Copy, PartialEq)]
enum Spread {
    Linear,
    Exponential,
}

impl FloatHistogram {
    /// Keeps the observations on one side of `value`. Observations of a bucket that `value` lies in are taken to be spread
    /// evenly, by their logarithm in exponential buckets. If anything is cut off, count and sum are estimated anew from the
    /// buckets that stay.
    pub fn trim(&mut self, value: f64, keep: Keep) {
        let custom = self.uses_custom_buckets();
        let spread = if custom { Spread::Linear } else { Spread::Exponential };
        let mut trimmed = Trimmed::default();
        let negative: Vec<(i32, f64)> = self
            .negative_buckets_iter()
            .map(|bucket| (bucket.index, trimmed.take(bucket, spread, value, keep)))
            .collect();
        let zero = if custom { 0.0 } else { trimmed.take(self.effective_zero_bucket(), Spread::Linear, value, keep) };
        let positive: Vec<(i32, f64)> = self
            .positive_buckets_iter()
            .map(|bucket| (bucket.index, trimmed.take(bucket, spread, value, keep)))
            .collect();
        if !trimmed.changed {
            return;
        }
        (self.negative_spans, self.negative_buckets) = to_spans(negative);
        (self.positive_spans, self.positive_buckets) = to_spans(positive);
        self.zero_count = zero;
        self.count = trimmed.count;
        self.sum = trimmed.sum;
        self.compact(0);
    }

    /// The zero bucket; without buckets on one side it ends at zero there.
    fn effective_zero_bucket(&self) -> Bucket {
        let mut zero = self.zero_bucket();
        match (self.negative_buckets.is_empty(), self.positive_buckets.is_empty()) {
            (true, false) => zero.lower = 0.0,
            (false, true) => zero.upper = 0.0,
            _ => {}
        }
        zero
    }
}

#[derive(Default)]
struct Trimmed {
    changed: bool,
    count: f64,
    sum: f64,
}

impl Trimmed {
    /// What stays of a bucket.
    fn take(&mut self, bucket: Bucket, spread: Spread, value: f64, keep: Keep) -> f64 {
        let (whole, none) = match keep {
            Keep::Below => (bucket.upper <= value, bucket.lower >= value),
            Keep::Above => (bucket.lower >= value, bucket.upper <= value),
        };
        let (count, middle) = if whole {
            (bucket.count, middle(bucket.lower, bucket.upper, spread))
        } else if none {
            (0.0, 0.0)
        } else {
            split(bucket, spread, value, keep)
        };
        if count != bucket.count {
            self.changed = true;
        }
        if count != 0.0 {
            self.count += count;
            self.sum += count * middle;
        }
        count
    }
}

/// The value that stands for all observations between two bounds.
fn middle(lower: f64, upper: f64, spread: Spread) -> f64 {
    match (lower == f64::NEG_INFINITY, upper == f64::INFINITY) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if spread == Spread::Linear => f64::midpoint(lower, upper),
        (false, false) => (lower * upper).sqrt() * upper.signum(),
    }
}

/// Count and middle of the part of a bucket on the kept side of `value`, which lies in the bucket.
fn split(bucket: Bucket, spread: Spread, value: f64, keep: Keep) -> (f64, f64) {
    let Bucket { mut lower, upper, count, .. } = bucket;
    if lower == f64::NEG_INFINITY {
        if upper <= 0.0 {
            // nothing is known of how far down it reaches
            return if keep == Keep::Below { (count, value) } else { (0.0, 0.0) };
        }
        if value < 0.0 || upper == f64::INFINITY {
            return (0.0, 0.0);
        }
        // a first bucket with a positive bound is taken to start at zero
        lower = 0.0;
        if value == 0.0 {
            return if keep == Keep::Above { (count, middle(lower, upper, spread)) } else { (0.0, 0.0) };
        }
    }
    if upper == f64::INFINITY {
        return if keep == Keep::Above { (count, value) } else { (0.0, 0.0) };
    }
    let below = match spread {
        Spread::Linear => (value - lower) / (upper - lower),
        Spread::Exponential if upper <= 0.0 => {
            1.0 - ((-value).log2() - (-upper).log2()) / ((-lower).log2() - (-upper).log2())
        }
        Spread::Exponential => (value.log2() - lower.log2()) / (upper.log2() - lower.log2()),
    };
    match keep {
        Keep::Below => (count * below, middle(lower, value, spread)),
        Keep::Above => (count * (1.0 - below), middle(value, upper, spread)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CUSTOM_BUCKETS_SCHEMA, Span};

    fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            custom_values: Some(bounds.into()),
            count: buckets.iter().sum(),
            sum: 1000.0,
            positive_spans: vec![Span { offset: 0, length: buckets.len() as u32 }],
            positive_buckets: buckets.to_vec(),
            ..FloatHistogram::default()
        }
    }

    fn check(mut histogram: FloatHistogram, keep: Keep, value: f64, count: f64, sum: f64) {
        histogram.trim(value, keep);
        assert!((histogram.count - count).abs() < 1e-9, "{keep:?} {value}: count {}", histogram.count);
        assert!((histogram.sum - sum).abs() < 1e-9, "{keep:?} {value}: sum {}", histogram.sum);
    }

    #[test]
    fn custom_buckets_split_evenly() {
        let h = || custom(&[5.0, 10.0], &[2.0, 4.0, 6.0]);
        check(h(), Keep::Below, f64::INFINITY, 12.0, 1000.0);
        check(h(), Keep::Below, 10.0, 6.0, 5.0 + 30.0);
        check(h(), Keep::Below, 7.5, 4.0, 5.0 + 12.5);
        check(h(), Keep::Above, 7.5, 8.0, 17.5 + 60.0);
        check(h(), Keep::Above, 20.0, 6.0, 120.0);
        check(h(), Keep::Below, 20.0, 6.0, 35.0);
    }

    #[test]
    fn zero_bucket_ends_at_zero_without_negative_buckets() {
        let h = FloatHistogram {
            count: 12.0,
            zero_count: 2.0,
            zero_threshold: 0.5,
            positive_spans: vec![Span { offset: 0, length: 1 }],
            positive_buckets: vec![10.0],
            ..FloatHistogram::default()
        };
        check(h.clone(), Keep::Below, 0.1, 0.4, 0.02);
        check(h, Keep::Above, 0.1, 11.6, 10.0 * 0.5f64.sqrt() + 1.6 * 0.3);
    }
}
