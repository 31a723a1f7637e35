//! Native histograms and what can be computed with them.

mod arithmetic;
mod bounds;
mod buckets;
mod compact;
mod display;
mod equality;
mod reset;
mod resolution;
mod trim;
mod validate;

use std::sync::Arc;

pub use arithmetic::{Combined, IncompatibleSchemas, kahan_inc};
pub use bounds::exponential_bound;
pub use buckets::Bucket;
pub use trim::Keep;
pub use validate::HistogramError;

/// The schema number of native histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// What is known about a counter reset between a histogram and the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CounterResetHint {
    /// Nothing: readers have to compare.
    #[default]
    Unknown,
    /// A reset happened.
    Reset,
    /// No reset happened.
    NotReset,
    /// A gauge histogram, where resets mean nothing.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the end of the span before it, or the index of the first bucket in the first span.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// A native histogram as the storage and exposition formats carry it: integer counts, buckets as deltas.
///
/// Bucket boundaries are `base^i` with `base = 2^(2^-schema)`, or `custom_values` for [`CUSTOM_BUCKETS_SCHEMA`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Whether this is known to follow a counter reset.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution, -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of the observations. A stale marker here marks the whole sample as one.
    pub sum: f64,
    /// Runs of positive buckets.
    pub positive_spans: Vec<Span>,
    /// Runs of negative buckets.
    pub negative_spans: Vec<Span>,
    /// The first positive bucket's count, then each one's difference to the one before.
    pub positive_buckets: Vec<i64>,
    /// The same for negative buckets.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds of custom buckets, without the infinite one; empty for other schemas.
    pub custom_values: Option<Arc<[f64]>>,
}

/// A native histogram with float counts, absolute in each bucket: the form PromQL computes with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// Whether this is known to follow a counter reset.
    pub counter_reset_hint: CounterResetHint,
    /// Resolution, -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of the observations. A stale marker here marks the whole sample as one.
    pub sum: f64,
    /// Runs of positive buckets.
    pub positive_spans: Vec<Span>,
    /// Runs of negative buckets.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets.
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, without the infinite one; `None` for other schemas.
    pub custom_values: Option<Arc<[f64]>>,
}

impl Histogram {
    /// The same histogram with absolute float counts.
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: absolute(&self.positive_buckets),
            negative_buckets: absolute(&self.negative_buckets),
            custom_values: self.custom_values.clone(),
        }
    }

    /// Whether the sample is a staleness marker.
    pub fn is_stale(&self) -> bool {
        crate::is_stale(self.sum)
    }
}

impl FloatHistogram {
    /// The same histogram with integer counts: whole counts below 2^53 stay what they are, others are cut to integers.
    pub fn to_integer(&self) -> Histogram {
        Histogram {
            counter_reset_hint: self.counter_reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as u64,
            count: self.count as u64,
            sum: self.sum,
            positive_spans: self.positive_spans.clone(),
            negative_spans: self.negative_spans.clone(),
            positive_buckets: deltas(&self.positive_buckets),
            negative_buckets: deltas(&self.negative_buckets),
            custom_values: self.custom_values.clone(),
        }
    }

    /// A staleness marker.
    pub fn stale() -> Self {
        Self { sum: crate::STALE_NAN, ..Self::default() }
    }

    /// Whether the sample is a staleness marker.
    pub fn is_stale(&self) -> bool {
        crate::is_stale(self.sum)
    }
}

fn deltas(counts: &[f64]) -> Vec<i64> {
    let mut before = 0;
    let delta = |count: &f64| (*count as i64).wrapping_sub(std::mem::replace(&mut before, *count as i64));
    counts.iter().map(delta).collect()
}

fn absolute(deltas: &[i64]) -> Vec<f64> {
    deltas
        .iter()
        .scan(0i64, |count, delta| {
            *count = count.wrapping_add(*delta);
            Some(*count as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_become_absolute_counts() {
        let histogram = Histogram { positive_buckets: vec![3, -1, 4], count: 11, ..Histogram::default() };
        assert_eq!(histogram.to_float().positive_buckets, [3.0, 2.0, 6.0]);
        assert!(FloatHistogram::stale().is_stale());
    }
}
