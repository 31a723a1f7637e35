//! How long things take, for summaries of the server's own page.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use common::metrics::{Quantile, SummaryValue};
use parking_lot::Mutex;

/// How long things took: count, sum, and quantiles of the last ten minutes.
#[derive(Debug, Default)]
pub(crate) struct Durations(Mutex<Observed>);

#[derive(Debug, Default)]
struct Observed {
    count: u64,
    sum: f64,
    recent: VecDeque<(Instant, f64)>,
}

/// Quantiles are of so many seconds, as upstream's are.
const MAX_AGE: Duration = Duration::from_secs(600);
/// And of no more observations than this.
const MAX_RECENT: usize = 500;

impl Durations {
    /// Adds one.
    pub(crate) fn observe(&self, took: Duration) {
        let mut observed = self.0.lock();
        observed.count += 1;
        observed.sum += took.as_secs_f64();
        if observed.recent.len() == MAX_RECENT {
            observed.recent.pop_front();
        }
        observed.recent.push_back((Instant::now(), took.as_secs_f64()));
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count
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
        SummaryValue { quantiles: quantiles.collect(), count: observed.count, sum: observed.sum, created: None }
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
        let values: Vec<f64> = summary.quantiles.iter().map(|q| q.value).collect();
        assert_eq!(values, [0.75, 0.95, 0.995]);
    }
}
