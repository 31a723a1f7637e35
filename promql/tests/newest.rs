//! A storage may tell what is newest at the times of an instant vector instead of all samples: nobody can tell but by the time.

use std::ops::Range;
use std::sync::Arc;

use model::{CounterResetHint, FloatHistogram, Labels, STALE_NAN, Timestamp};
use promql::storage::{KeptLabels, Lent, NewestAt, Samples, SelectRequest, Selection, Storage, StorageError};
use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, QueryOptions};

/// Tells of every other series what is newest.
struct Newest(MemoryStorage);

struct NewestSelection<'a>(Box<dyn Selection + 'a>);

impl Storage for Newest {
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        Ok(Box::new(NewestSelection(self.0.select(request)?)))
    }
}

impl Selection for NewestSelection<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, range: Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        self.0.labels(range, kept)
    }

    fn read(&self, range: Range<usize>, mint: Timestamp, maxt: Timestamp) -> Result<Vec<Samples>, StorageError> {
        self.0.read(range, mint, maxt)
    }

    fn newest_at(
        &self,
        range: Range<usize>,
        at: NewestAt,
        each: &mut dyn FnMut(Lent<'_, Arc<FloatHistogram>>) -> bool,
    ) -> Result<(), StorageError> {
        let (mint, maxt) = at.span();
        for series in range {
            let Samples { floats, histograms } = self.read(series..series + 1, mint, maxt)?.remove(0);
            let newest = |time: Timestamp| {
                let last = floats.timestamps.partition_point(|t| *t <= time).checked_sub(1);
                let last = last.filter(|last| floats.timestamps[*last] > time - at.range);
                last.map_or(STALE_NAN, |last| floats.values[last])
            };
            let newest: Vec<f64> = (0..at.count).map(|step| newest(at.time(step))).collect();
            let histograms = (!histograms.is_empty()).then_some(histograms);
            let go_on = match histograms {
                None if series % 2 == 0 => each(Lent::Newest(&newest)),
                histograms => each(Lent::Samples((&floats).into(), histograms)),
            };
            if !go_on {
                break;
            }
        }
        Ok(())
    }
}

/// 60 series with gaps, staleness markers and histograms.
fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    let histogram = |count: f64| FloatHistogram {
        count,
        sum: count,
        zero_count: count,
        counter_reset_hint: CounterResetHint::Unknown,
        ..FloatHistogram::default()
    };
    for n in 0..60i64 {
        let labels =
            Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string()), ("a", (n % 3).to_string())]);
        for i in (0..200i64).filter(|i| (i + n) % 50 > n % 20) {
            let time = i * 10_000 + n % 4;
            match (i * n) % 23 {
                7 => storage.add_float(&labels, time, STALE_NAN, 0),
                9..12 if n % 10 == 3 => storage.add_histogram(&labels, time, histogram(i as f64), 0),
                value => storage.add_float(&labels, time, value as f64, 0),
            }
        }
    }
    storage
}

#[test]
fn what_is_newest_stands_for_all_samples() {
    let (plain, newest) = (storage(), Newest(storage()));
    for query in [
        "m",
        "m offset 33s",
        "m offset -33s",
        "m @ 700",
        "m @ end() offset 1m",
        "count(m)",
        "count(m > 3)",
        "sum by (a) (m)",
        "avg by (a) (m{n=~\".*[1-7]\"})",
        "topk(3, m)",
        "absent(m{n=\"20\"})",
        "histogram_count(m)",
        "max_over_time(sum(m)[2m:20s])",
        "timestamp(m)",
    ] {
        for threads in [1, 3] {
            let engine = Engine::new(EngineOptions { threads, lookback: 45_000, ..EngineOptions::default() });
            let answers = [&plain as &dyn Storage, &newest].map(|storage| {
                let range = engine.range(storage, query, (300_000, 1_500_000, 20_000), &QueryOptions::default());
                let instant = engine.instant(storage, query, 777_000, &QueryOptions::default());
                let text = |result: Result<promql::QueryResult, promql::QueryError>| {
                    let result = result.unwrap_or_else(|error| panic!("{query}: {error}"));
                    let stats = &result.stats;
                    let counts = (stats.total_queryable_samples, stats.samples_read, stats.peak_samples);
                    format!("{:?} {counts:?} {:?} {:?}", result.value, result.warnings, result.infos)
                };
                [text(range), text(instant)]
            });
            assert_eq!(answers[0], answers[1], "{query}");
        }
    }
}
