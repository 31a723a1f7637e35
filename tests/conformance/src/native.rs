use std::sync::Arc;

use harness::{NativeHistogram, Series};
use model::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, STALE_NAN, Span};

use crate::data::{Builder, STEPS, time};
use crate::random::Random;

/// Observations in buckets by index, from which histograms are made.
#[derive(Clone, Default)]
struct Counts {
    schema: i32,
    first: i32,
    positive: Vec<u64>,
    negative: Vec<u64>,
    zero: u64,
    sum: f64,
    bounds: Option<Arc<[f64]>>,
}

impl Counts {
    fn observe(&mut self, random: &mut Random, times: usize) {
        for _ in 0..times {
            let at = random.below(self.positive.len());
            match random.below(10) {
                0 if self.bounds.is_none() => self.zero += 1,
                1 | 2 if !self.negative.is_empty() => {
                    let at = random.below(self.negative.len());
                    self.negative[at] += 1;
                    self.sum -= 2f64.powi(at as i32);
                }
                _ => {
                    self.positive[at] += 1;
                    self.sum += (at as f64 + 0.5) * 0.25;
                }
            }
        }
    }

    /// Buckets without observations are left out, so that spans have gaps.
    fn side(&self, counts: &[u64]) -> (Vec<Span>, Vec<i64>) {
        let first = if self.bounds.is_some() { 0 } else { self.first };
        let (mut spans, mut deltas): (Vec<Span>, Vec<i64>) = (Vec::new(), Vec::new());
        let (mut last, mut next) = (0, 0);
        for (at, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            let index = first + at as i32;
            match spans.last_mut() {
                Some(span) if index == next => span.length += 1,
                _ => spans.push(Span { offset: index - next, length: 1 }),
            }
            deltas.push(*count as i64 - last);
            (last, next) = (*count as i64, index + 1);
        }
        (spans, deltas)
    }

    fn histogram(&self, hint: CounterResetHint) -> Histogram {
        let (positive_spans, positive_buckets) = self.side(&self.positive);
        let (negative_spans, negative_buckets) = self.side(&self.negative);
        let custom = self.bounds.is_some();
        Histogram {
            counter_reset_hint: hint,
            schema: if custom { CUSTOM_BUCKETS_SCHEMA } else { self.schema },
            zero_threshold: if custom { 0.0 } else { 0.001 },
            zero_count: self.zero,
            count: self.zero + self.positive.iter().sum::<u64>() + self.negative.iter().sum::<u64>(),
            sum: self.sum,
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.bounds.clone(),
        }
    }

    fn clear(&mut self) {
        self.positive.fill(0);
        self.negative.fill(0);
        (self.zero, self.sum) = (0, 0.0);
    }
}

fn float(histogram: &Histogram) -> NativeHistogram {
    NativeHistogram::Float(histogram.to_float())
}

fn stale() -> NativeHistogram {
    NativeHistogram::Integer(Histogram { sum: STALE_NAN, ..Histogram::default() })
}

/// The native histograms of one target.
pub(crate) fn push(b: &mut Builder, at: usize, target: (&str, &str)) {
    let mut add = |name: &str, make: &mut dyn FnMut(&mut Random, i64) -> Option<NativeHistogram>| {
        let histograms = (0..STEPS).filter_map(|step| make(&mut b.random, step).map(|h| (time(step), h))).collect();
        b.push(Series { labels: Builder::labels(name, target, &[]), histograms, ..Series::default() });
    };
    let none = CounterResetHint::Unknown;
    // integer counters of several schemas; one changes its schema in the middle
    let schema = [0, 1, 3, 0, -1][at];
    let mut counts = Counts { schema, first: -3, positive: vec![0; 8], ..Counts::default() };
    add("duration_seconds", &mut |random, step| {
        if random.below(120) == 0 {
            counts.clear();
        }
        if at == 1 && step == STEPS / 2 {
            counts.clear();
            counts.schema = 2;
        }
        let times = random.below(6);
        counts.observe(random, times);
        Some(NativeHistogram::Integer(counts.histogram(none)))
    });
    // float counters
    let mut counts = Counts { schema: [0, 0, 2, 1, 0][at], positive: vec![0; 6], ..Counts::default() };
    add("sizes_bytes", &mut |random, _| {
        if random.below(150) == 0 {
            counts.clear();
        }
        let times = random.below(9);
        counts.observe(random, times);
        Some(float(&counts.histogram(none)))
    });
    // gauges with both signs
    add("balance", &mut |random, _| {
        let mut counts = Counts { schema: [0, 1, 0, 2, 0][at], first: -1, ..Counts::default() };
        // One observation at least on each side: Prometheus' chunks give a histogram the empty buckets of its neighbours, and
        // the zero bucket is read differently when there are buckets on both sides.
        (counts.positive, counts.negative) = (vec![1, 0, 0, 0], vec![1, 0, 0, 0]);
        let times = random.below(20);
        counts.observe(random, times);
        let histogram = counts.histogram(CounterResetHint::Gauge);
        Some(if at.is_multiple_of(2) { NativeHistogram::Integer(histogram) } else { float(&histogram) })
    });
    // custom buckets: the same bounds everywhere, and bounds that differ between targets and change
    let bounds = |changed: bool| -> Arc<[f64]> {
        if changed { Arc::from([0.1, 0.5, 2.0, 5.0]) } else { Arc::from([0.1, 0.5, 1.0, 5.0]) }
    };
    for (name, moving) in [("custom_seconds", false), ("moving_seconds", true)] {
        let mut counts = Counts { positive: vec![0; 5], bounds: Some(bounds(moving && at == 2)), ..Counts::default() };
        add(name, &mut |random, step| {
            if random.below(150) == 0 {
                counts.clear();
            }
            if moving && at == 4 && step == 200 {
                counts.clear();
                counts.bounds = Some(bounds(true));
            }
            let times = random.below(6);
            counts.observe(random, times);
            let histogram = counts.histogram(none);
            Some(if at == 3 { float(&histogram) } else { NativeHistogram::Integer(histogram) })
        });
    }
    // gaps, staleness, sums that are no numbers
    let mut counts = Counts { positive: vec![0; 5], first: 2, ..Counts::default() };
    add("gappy_seconds", &mut |random, step| {
        let times = random.below(4);
        counts.observe(random, times);
        let mut histogram = counts.histogram(none);
        match random.below(20) {
            0..5 => return None,
            5 => return Some(stale()),
            6 if at == 3 => histogram.sum = f64::NAN,
            6 if at == 4 => histogram.sum = f64::INFINITY,
            _ if step % 100 < 24 => return None,
            _ => {}
        }
        Some(NativeHistogram::Integer(histogram))
    });
    mixtures(b, at, target);
}

fn mixtures(b: &mut Builder, at: usize, target: (&str, &str)) {
    // some series floats, some histograms
    let mut mixed = Series { labels: Builder::labels("mixed", target, &[]), ..Series::default() };
    // one series that is now this and now that
    let mut switching = Series { labels: Builder::labels("switching", target, &[]), ..Series::default() };
    let mut counts = Counts { positive: vec![0; 4], ..Counts::default() };
    let mut total = 0.0;
    for step in 0..STEPS {
        total += b.random.below(5) as f64;
        let times = b.random.below(5);
        counts.observe(&mut b.random, times);
        let histogram = NativeHistogram::Integer(counts.histogram(CounterResetHint::Unknown));
        if at.is_multiple_of(2) {
            mixed.samples.push((time(step), total));
        } else {
            mixed.histograms.push((time(step), histogram.clone()));
        }
        if (step / 17 + at as i64) % 3 == 0 {
            switching.histograms.push((time(step), histogram));
        } else {
            switching.samples.push((time(step), total));
        }
    }
    b.push(mixed);
    b.push(switching);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::generate;

    #[test]
    fn histograms_are_valid() {
        let mut schemas = std::collections::BTreeSet::new();
        for (_, histogram) in generate(3).iter().flat_map(|s| &s.histograms) {
            match histogram {
                NativeHistogram::Integer(h) if h.is_stale() => {}
                NativeHistogram::Integer(h) => {
                    h.validate().unwrap();
                    schemas.insert(h.schema);
                }
                NativeHistogram::Float(h) => h.validate().unwrap(),
            }
        }
        assert!(schemas.len() >= 5 && schemas.contains(&CUSTOM_BUCKETS_SCHEMA), "{schemas:?}");
    }
}
