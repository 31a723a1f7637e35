//! Counter reset hints as a storage that keeps histograms in chunks tells them: a chunk holds no reset, so all but its first
//! sample are known to follow none.

use model::{CounterResetHint, FloatHistogram};

/// Sets the hints of the histograms of a series in order; `None` stands for a float in between.
pub(super) fn stored_hints(samples: Vec<Option<FloatHistogram>>) -> Vec<Option<FloatHistogram>> {
    // the sample before, with the hint that it came with
    let mut previous: Option<FloatHistogram> = None;
    samples
        .into_iter()
        .map(|sample| {
            let Some(mut histogram) = sample else {
                previous = None;
                return None;
            };
            let hint = match &previous {
                _ if histogram.counter_reset_hint == CounterResetHint::Gauge => CounterResetHint::Gauge,
                _ if histogram.counter_reset_hint == CounterResetHint::Reset => CounterResetHint::Reset,
                None => CounterResetHint::Unknown,
                Some(previous) => follows(previous, &histogram),
            };
            previous = Some(histogram.clone());
            histogram.counter_reset_hint = hint;
            Some(histogram)
        })
        .collect()
}

/// The hint of a counter histogram behind another histogram.
fn follows(previous: &FloatHistogram, next: &FloatHistogram) -> CounterResetHint {
    if previous.counter_reset_hint == CounterResetHint::Gauge || previous.is_stale() {
        return CounterResetHint::Unknown;
    }
    if next.is_stale() {
        return CounterResetHint::NotReset;
    }
    if next.schema != previous.schema || next.zero_threshold != previous.zero_threshold {
        // another layout needs a chunk of its own, as does a reset, and the first of a chunk says nothing
        return CounterResetHint::Unknown;
    }
    let mut counter = next.clone();
    counter.counter_reset_hint = CounterResetHint::Unknown;
    if counter.detect_reset(previous) { CounterResetHint::Unknown } else { CounterResetHint::NotReset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_a_chunk_is_unknown() {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let sample =
            |count: f64, hint| Some(FloatHistogram { count, counter_reset_hint: hint, ..FloatHistogram::default() });
        let samples = vec![
            sample(1.0, Unknown),
            sample(2.0, Unknown),
            sample(1.0, Unknown),
            sample(5.0, Reset),
            None,
            sample(6.0, Unknown),
            sample(7.0, Gauge),
            sample(8.0, Unknown),
        ];
        let hints: Vec<_> = stored_hints(samples).into_iter().flatten().map(|h| h.counter_reset_hint).collect();
        assert_eq!(hints, [Unknown, NotReset, Unknown, Reset, Unknown, Gauge, Unknown]);
    }
}
