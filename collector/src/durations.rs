//! How long things take, for summaries of the server's own page.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use common::metrics::{HistogramValue, Quantile, SummaryValue};
use parking_lot::Mutex;

use crate::buckets::Buckets;

/// How long things took: count, sum, quantiles of the last ten minutes, and how many took up to some times.
#[derive(Debug, Default)]
pub(crate) struct Durations(Mutex<Observed>);

#[derive(Debug)]
struct Observed {
    all: Buckets,
    recent: VecDeque<(Instant, f64)>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { all: Buckets::new(&BOUNDS), recent: VecDeque::new() }
    }
}

/// Bounds of buckets in seconds, as upstream has them for such histograms.
const BOUNDS: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

/// Quantiles are of so many seconds, as upstream's are.
const MAX_AGE: Duration = Duration::from_secs(600);
/// And of no more observations than this.
const MAX_RECENT: usize = 500;

impl Durations {
    /// Adds one.
    pub(crate) fn observe(&self, took: Duration) {
        let mut observed = self.0.lock();
        observed.all.observe(took.as_secs_f64());
        if observed.recent.len() == MAX_RECENT {
            observed.recent.pop_front();
        }
        observed.recent.push_back((Instant::now(), took.as_secs_f64()));
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().all.count()
    }

    /// All of them in buckets.
    pub(crate) fn histogram(&self) -> HistogramValue {
        self.0.lock().all.value()
    }

    /// Count and sum of all, and quantiles of the recent ones.
    pub(crate) fn summary(&self, quantiles: &[f64]) -> SummaryValue {
        let observed = self.0.lock();
        let recent = observed.recent.iter().filter(|(at, _)| at.elapsed() < MAX_AGE);
        let mut sorted: Vec<f64> = recent.map(|(_, seconds)| *seconds).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
        };
        let quantiles = quantiles.iter().map(|quantile| Quantile { quantile: *quantile, value: at(*quantile) });
        SummaryValue {
            quantiles: quantiles.collect(),
            count: observed.all.count(),
            sum: observed.all.sum(),
            created: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_observed() {
        let durations = Durations::default();
        assert!(durations.summary(&[0.5, 0.9, 0.99]).quantiles[0].value.is_nan());
        for millis in 1..=1000 {
            durations.observe(Duration::from_millis(millis));
        }
        let summary = durations.summary(&[0.5, 0.9, 0.99]);
        assert_eq!((summary.count, summary.sum.round()), (1000, 501.0));
        let histogram = durations.histogram();
        assert_eq!((histogram.count, histogram.sum), (summary.count, summary.sum));
        let counts: Vec<u64> = histogram.buckets.iter().map(|b| b.cumulative_count).collect();
        assert_eq!(counts, [10, 100, 1000, 1000]);
        durations.observe(Duration::from_secs(11));
        assert_eq!(durations.histogram().buckets[3].cumulative_count, 1000);
        let values: Vec<f64> = summary.quantiles.iter().map(|q| q.value).collect();
        assert_eq!(values, [0.75, 0.95, 0.995]);
    }
}
