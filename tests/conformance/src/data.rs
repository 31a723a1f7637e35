//! The samples that both servers get: seeded, 90 minutes at 15 s.

use harness::Series;
use model::STALE_NAN;

use crate::native;
use crate::random::Random;

/// What the samples of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Floats.
    Floats,
    /// Native histograms.
    Histograms,
    /// Both, in different series or in one.
    Mixture,
}

/// A metric of the data set, as the generator of expressions knows it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// Labels beside the name.
    pub labels: &'static [&'static str],
    /// What its samples are.
    pub kind: Kind,
}

/// Time of the first sample in milliseconds.
pub const FIRST: i64 = 1_700_000_000_000;
/// Milliseconds between samples.
pub const INTERVAL: i64 = 15_000;
/// Samples of a series without gaps.
pub const STEPS: i64 = 360;

/// Instances with their jobs: every series is of one of these.
pub const TARGETS: [(&str, &str); 5] = [("api", "i1"), ("api", "i2"), ("api", "i3"), ("web", "i4"), ("web", "i5")];

const BASE: &[&str] = &["instance", "job"];
const fn metric(name: &'static str, labels: &'static [&'static str], kind: Kind) -> Metric {
    Metric { name, labels, kind }
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric("requests_total", &["code", "instance", "job"], Kind::Floats),
    metric("cpu_seconds_total", BASE, Kind::Floats),
    metric("temperature", BASE, Kind::Floats),
    metric("capacity", BASE, Kind::Floats),
    metric("flaky", BASE, Kind::Floats),
    metric("wild", BASE, Kind::Floats),
    metric("ends", BASE, Kind::Floats),
    metric("build_info", &["instance", "job", "version"], Kind::Floats),
    metric("target_info", &["instance", "job", "region"], Kind::Floats),
    metric("latency_seconds_bucket", &["instance", "job", "le"], Kind::Floats),
    metric("latency_seconds_sum", BASE, Kind::Floats),
    metric("latency_seconds_count", BASE, Kind::Floats),
    metric("odd_bucket", &["instance", "job", "le"], Kind::Floats),
    metric("duration_seconds", BASE, Kind::Histograms),
    metric("sizes_bytes", BASE, Kind::Histograms),
    metric("balance", BASE, Kind::Histograms),
    metric("custom_seconds", BASE, Kind::Histograms),
    metric("moving_seconds", BASE, Kind::Histograms),
    metric("gappy_seconds", BASE, Kind::Histograms),
    metric("mixed", BASE, Kind::Mixture),
    metric("switching", BASE, Kind::Mixture),
];

/// The time of a step in milliseconds.
pub fn time(step: i64) -> i64 {
    FIRST + step * INTERVAL
}

/// Builds series one by one.
pub(crate) struct Builder {
    pub(crate) random: Random,
    all: Vec<Series>,
}

impl Builder {
    pub(crate) fn labels(name: &str, target: (&str, &str), more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut labels = vec![("__name__", name), ("job", target.0), ("instance", target.1)];
        labels.extend(more);
        labels.sort_unstable();
        labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    fn floats(&mut self, labels: Vec<(String, String)>, mut at: impl FnMut(&mut Random, i64) -> Option<f64>) {
        let samples =
            (0..STEPS).filter_map(|step| at(&mut self.random, step).map(|value| (time(step), value))).collect();
        self.all.push(Series { labels, samples, ..Series::default() });
    }

    pub(crate) fn push(&mut self, series: Series) {
        self.all.push(series);
    }
}

/// The data set of a seed; series sorted by labels.
pub fn generate(seed: u64) -> Vec<Series> {
    let mut builder = Builder { random: Random::new(seed ^ 0xda7a), all: Vec::new() };
    for (at, target) in TARGETS.into_iter().enumerate() {
        counters(&mut builder, target);
        gauges(&mut builder, at, target);
        classic_histograms(&mut builder, at, target);
        native::push(&mut builder, at, target);
    }
    builder.all.sort_by(|a, b| a.labels.cmp(&b.labels));
    builder.all
}

fn counters(b: &mut Builder, target: (&str, &str)) {
    for code in ["200", "404", "500"] {
        let labels = Builder::labels("requests_total", target, &[("code", code)]);
        let (scale, mut value) = (b.random.below(50) + 1, 0usize);
        b.floats(labels, |random, _| {
            value = if random.chance(1) { 0 } else { value + random.below(scale) };
            Some(value as f64)
        });
    }
    let mut value = 0.0;
    b.floats(Builder::labels("cpu_seconds_total", target, &[]), |random, _| {
        value = if random.below(150) == 0 { random.unit() } else { value + random.unit() * 15.0 };
        Some(value)
    });
}

fn gauges(b: &mut Builder, at: usize, target: (&str, &str)) {
    let base = b.random.unit() * 40.0 - 10.0;
    b.floats(Builder::labels("temperature", target, &[]), |random, step| {
        let value = base + (step as f64 / 30.0).sin() * 8.0 + random.unit();
        Some((value * 10.0).round() / 10.0)
    });
    b.floats(Builder::labels("capacity", target, &[]), |_, _| Some(64.0 * (at as f64 + 1.0)));
    b.floats(Builder::labels("flaky", target, &[]), |random, step| match random.below(10) {
        0..3 => None,
        3 if random.chance(30) => Some(STALE_NAN),
        _ if step % 90 < 25 => None,
        _ => Some(random.below(7) as f64 - 2.0),
    });
    b.floats(Builder::labels("wild", target, &[]), |random, _| {
        const VALUES: [f64; 10] =
            [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -0.0, 0.0, 1e300, -1e300, 2.5e-308, 1.5, 3e17];
        Some(*random.pick(&VALUES))
    });
    let end = 100 + at as i64 * 60;
    b.floats(Builder::labels("ends", target, &[]), |_, step| match step.cmp(&end) {
        std::cmp::Ordering::Less => Some(step as f64),
        std::cmp::Ordering::Equal => Some(STALE_NAN),
        std::cmp::Ordering::Greater => None,
    });
    let versions = [("1.9", "1.10"), ("2.0", "2.0"), ("1.9", "2.0"), ("1.10", "1.10"), ("2.0", "1.9")][at];
    b.floats(Builder::labels("build_info", target, &[("version", versions.0)]), |_, _| Some(1.0));
    let region = if at.is_multiple_of(2) { "north" } else { "south" };
    b.floats(Builder::labels("target_info", target, &[("region", region)]), |_, _| Some(1.0));
}

fn classic_histograms(b: &mut Builder, at: usize, target: (&str, &str)) {
    const BOUNDS: [&str; 6] = ["0.05", "0.1", "0.5", "1", "5", "+Inf"];
    let mut counts = [0u64; 6];
    let mut buckets: Vec<Vec<(i64, f64)>> = vec![Vec::new(); 6];
    let (mut sums, mut total) = (Vec::new(), 0.0);
    for step in 0..STEPS {
        if b.random.below(200) == 0 {
            (counts, total) = ([0; 6], 0.0);
        }
        for _ in 0..b.random.below(12) {
            let bucket = b.random.below(6);
            counts[bucket..].iter_mut().for_each(|c| *c += 1);
            total += [0.02, 0.07, 0.3, 0.7, 2.0, 9.0][bucket];
        }
        for (bucket, count) in buckets.iter_mut().zip(counts) {
            bucket.push((time(step), count as f64));
        }
        sums.push((time(step), total));
    }
    let count = buckets[5].clone();
    for (le, samples) in BOUNDS.iter().zip(buckets) {
        let labels = Builder::labels("latency_seconds_bucket", target, &[("le", le)]);
        b.push(Series { labels, samples, ..Series::default() });
    }
    for (name, samples) in [("latency_seconds_sum", sums), ("latency_seconds_count", count)] {
        b.push(Series { labels: Builder::labels(name, target, &[]), samples, ..Series::default() });
    }
    // what exporters should not do: falling buckets, bounds that are none, no infinite one
    let bounds: &[&str] =
        [&["1", "2", "+Inf"][..], &["1", "many", "+Inf"], &["-1", "0", "1"], &["+Inf"], &["1", "1.0", "+Inf"]][at];
    for le in bounds {
        let labels = Builder::labels("odd_bucket", target, &[("le", le)]);
        b.floats(labels, |random, step| Some((step * 3) as f64 + random.below(20) as f64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_same_for_a_seed_and_covers_every_metric() {
        let (a, b) = (generate(1), generate(1));
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
        for metric in METRICS {
            let series: Vec<_> =
                a.iter().filter(|s| s.labels.contains(&("__name__".into(), metric.name.into()))).collect();
            let floats = series.iter().any(|s| !s.samples.is_empty());
            let histograms = series.iter().any(|s| !s.histograms.is_empty());
            let expected = (metric.kind != Kind::Histograms, metric.kind != Kind::Floats);
            assert_eq!((floats, histograms), expected, "{}", metric.name);
            for labels in series.iter().map(|s| &s.labels) {
                let names: Vec<_> = labels.iter().map(|l| l.0.as_str()).filter(|n| *n != "__name__").collect();
                assert_eq!(names, metric.labels, "{}", metric.name);
            }
        }
        assert!(a.is_sorted_by(|a, b| a.labels < b.labels));
    }
}
