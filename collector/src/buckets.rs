//! Observations in buckets, for classic histograms of the server's own page.

use common::metrics::{ClassicBucket, HistogramValue};

/// How many observations were up to which bound.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    bounds: &'static [f64],
    /// Not cumulative; what is above all bounds is in none.
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Buckets {
    /// None yet. The bounds rise.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    /// Adds one.
    pub(crate) fn observe(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        if let Some(bucket) = self.bounds.iter().position(|bound| value <= *bound) {
            self.counts[bucket] += 1;
        }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    /// All of them.
    pub(crate) fn value(&self) -> HistogramValue {
        let mut cumulative_count = 0;
        let buckets = self.bounds.iter().zip(&self.counts).map(|(upper_bound, count)| {
            cumulative_count += count;
            ClassicBucket { upper_bound: *upper_bound, cumulative_count, exemplar: None }
        });
        HistogramValue { buckets: buckets.collect(), count: self.count, sum: self.sum, ..HistogramValue::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_buckets() {
        let mut buckets = Buckets::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 3.0] {
            buckets.observe(value);
        }
        let value = buckets.value();
        let counts: Vec<(f64, u64)> = value.buckets.iter().map(|b| (b.upper_bound, b.cumulative_count)).collect();
        assert_eq!((counts, value.count, value.sum), (vec![(1.0, 2), (2.0, 3)], 4, 6.0));
    }
}
