//! What ends a query early, what it counts, and the settings of single queries.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::Labels;
use promql::result::SampleValue;
use promql::storage::{KeptLabels, Samples, SelectRequest, Selection, Storage, StorageError};
use promql::testing::MemoryStorage;
use promql::{CancelToken, Engine, EngineOptions, Features, QueryError, QueryOptions, Value};

/// 10 series with a sample every 10 s for 1000 s.
fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for n in 0..10 {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())]);
        for i in 0..=100 {
            storage.add_float(&labels, i * 10_000, i as f64, 0);
        }
    }
    storage
}

fn engine(change: impl FnOnce(&mut EngineOptions)) -> Engine {
    let mut options = EngineOptions::default();
    change(&mut options);
    Engine::new(options)
}

#[test]
fn too_many_samples() {
    let run = |max_samples: usize, query: &str| {
        engine(|o| o.max_samples = max_samples).range(
            &storage(),
            query,
            (0, 1_000_000, 10_000),
            &QueryOptions::default(),
        )
    };
    let error = run(100, "m").unwrap_err();
    assert!(matches!(error, QueryError::TooManySamples), "{error}");
    assert_eq!(error.to_string(), "query processing would load too many samples into memory in query execution");
    assert!(run(1009, "m").is_err(), "1010 samples");
    assert!(run(1010, "m").is_ok());
    assert!(run(2000, "m").is_ok());
    assert!(matches!(run(1000, "rate(m[10m])"), Err(QueryError::TooManySamples)));
    assert!(matches!(run(100, "vector(1) + vector(2)"), Err(QueryError::TooManySamples)));
}

#[test]
fn canceled_and_timed_out() {
    let cancel = CancelToken::default();
    cancel.cancel();
    let options = QueryOptions { cancel, ..QueryOptions::default() };
    let error = engine(|_| ()).instant(&storage(), "sum(m)", 0, &options).unwrap_err();
    assert!(matches!(error, QueryError::Canceled), "{error}");
    let options = QueryOptions { timeout: Some(Duration::ZERO), ..QueryOptions::default() };
    let error = engine(|_| ()).instant(&storage(), "sum(m)", 0, &options).unwrap_err();
    assert!(matches!(error, QueryError::Timeout), "{error}");
    let error = engine(|o| o.timeout = Some(Duration::ZERO));
    assert!(matches!(error.instant(&storage(), "sum(m)", 0, &QueryOptions::default()), Err(QueryError::Timeout)));
}

#[test]
fn what_is_long_ends_early_if_only_short_is_wanted() {
    let options = QueryOptions { only_if_short: Some(Duration::from_secs(100)), ..QueryOptions::default() };
    let engine = engine(|_| ());
    let range = |end: i64| engine.range(&storage(), "sum(m)", (0, end, 10), &options);
    assert!(range(1000).is_ok());
    // worth several threads
    assert!(matches!(range(1_000_000), Err(QueryError::Timeout)));
    let options = QueryOptions { only_if_short: Some(Duration::ZERO), ..QueryOptions::default() };
    assert!(matches!(engine.instant(&storage(), "sum(m)", 0, &options), Err(QueryError::Timeout)));
}

#[test]
fn lookback_is_left_open() {
    let at = |timestamp: i64, lookback: Option<i64>| {
        let options = QueryOptions { lookback, ..QueryOptions::default() };
        let result = engine(|o| o.lookback = 60_000).instant(&storage(), "m{n=\"0\"}", timestamp, &options).unwrap();
        let Value::Vector(samples) = result.value else { panic!("no vector") };
        samples.first().map(|s| s.value.clone())
    };
    assert_eq!(at(1_000_000, None), Some(SampleValue::Float(100.0)));
    assert_eq!(at(1_059_999, None), Some(SampleValue::Float(100.0)));
    assert_eq!(at(1_060_000, None), None, "exactly as old as the lookback");
    assert_eq!(at(1_060_000, Some(60_001)), Some(SampleValue::Float(100.0)));
    assert_eq!(at(1_005_000, Some(5_000)), None);
}

#[test]
fn statistics() {
    let engine = engine(|o| o.features = Features { per_step_stats: true, ..Features::default() });
    let options = QueryOptions { per_step_stats: true, ..QueryOptions::default() };
    let stats = engine.range(&storage(), "sum(m)", (0, 20_000, 10_000), &options).unwrap().stats;
    assert_eq!(stats.total_queryable_samples, 30);
    assert_eq!(stats.queryable_per_step, Some(vec![(0, 10), (10_000, 10), (20_000, 10)]));
    let stats = engine.instant(&storage(), "rate(m{n=\"1\"}[1m])", 600_000, &options).unwrap().stats;
    assert_eq!(stats.total_queryable_samples, 6);
    assert!(stats.peak_samples >= 6);
    let plain = engine.range(&storage(), "sum(m)", (0, 20_000, 10_000), &QueryOptions::default()).unwrap().stats;
    assert_eq!(plain.queryable_per_step, None);
}

/// The most samples held at once, as Prometheus counts them: operands, what is gathered of them for a step, the result so far.
#[test]
fn peak_samples() {
    let peak = |query: &str, range: Option<(i64, i64, i64)>| {
        let (engine, storage, options) = (engine(|_| ()), storage(), QueryOptions::default());
        let result = match range {
            None => engine.instant(&storage, query, 600_000, &options),
            Some(range) => engine.range(&storage, query, range, &options),
        };
        result.unwrap().stats.peak_samples
    };
    for (query, expected) in [
        ("1", 1),
        ("1 + 1", 5),
        ("m", 10),
        ("-m", 10),
        ("sum(m)", 10),
        ("quantile(0.5, m)", 11),
        ("abs(m)", 30),
        ("abs(sum(m))", 10),
        ("m + 1", 32),
        ("m and m", 50),
        ("m unless m", 40),
        ("label_replace(m, \"a\", \"\", \"\", \"\")", 10),
        ("round(m, 5)", 32),
        ("timestamp(m)", 20),
        ("vector(1)", 3),
        ("time()", 1),
        ("count_values(\"v\", m)", 21),
        // one window at a time beside the results
        ("rate(m[1m])", 16),
        ("predict_linear(m[1m], 5)", 17),
        ("m[1m]", 60),
        ("m[1m:30s]", 20),
        ("max_over_time(m[1m:30s])", 32),
    ] {
        assert_eq!(peak(query, None), expected, "{query}");
    }
    let three_steps = Some((600_000, 620_000, 10_000));
    // aggregated series by series, and counted as if all were there first
    let quantile = "quantile_over_time(0.5, m[1m]) > 0";
    for filter in ["m > 60", "m > 61", "60 == (m)", "rate(m[1m]) > 0", quantile, "(m) > bool 60"] {
        for range in [None, three_steps] {
            assert_eq!(peak(&format!("sum({filter})"), range), peak(filter, range), "{filter}");
        }
    }
    for (query, expected) in [
        ("1", 3),
        ("m", 30),
        ("sum(m)", 30),
        ("abs(m)", 70),
        ("timestamp(m)", 40),
        ("rate(m[1m])", 36),
        ("m @ 600", 30),
        ("m @ 600 + 1", 32),
    ] {
        assert_eq!(peak(query, three_steps), expected, "{query}");
    }
}

/// What overlapping windows see again is loaded again, but read once. What a subquery asks for is read and not loaded.
#[test]
fn samples_loaded_and_read() {
    let counts = |query: &str| {
        let result =
            engine(|_| ()).range(&storage(), query, (600_000, 620_000, 10_000), &QueryOptions::default()).unwrap();
        (result.stats.total_queryable_samples, result.stats.samples_read)
    };
    assert_eq!(counts("m"), (30, 30));
    assert_eq!(counts("m @ 600"), (30, 10));
    assert_eq!(counts("rate(m[1m])"), (180, 80));
    assert_eq!(counts("rate(m[1m] @ 600)"), (180, 60));
    assert_eq!(counts("max_over_time(m[1m:20s])"), (90, 40 + 40));
}

#[test]
fn refused_ranges() {
    let run = |query: &str, range| engine(|_| ()).range(&storage(), query, range, &QueryOptions::default());
    for (query, range) in
        [("m[5m]", (0, 10, 1)), ("\"text\"", (0, 10, 1)), ("m", (0, 10, 0)), ("m", (0, 10, -1)), ("m", (10, 0, 1))]
    {
        assert!(matches!(run(query, range), Err(QueryError::BadData(_))), "{query} {range:?}");
    }
    assert!(matches!(run("m", (0, i64::MAX, 1)), Err(QueryError::TooManySamples)));
}

/// Times at the ends of the number range neither panic nor wrap.
#[test]
fn extreme_times() {
    for timestamp in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
        for query in
            ["m", "rate(m[5m])", "m offset 1y", "m offset -1y", "max_over_time(m[1h:1m])", "timestamp(m)", "m @ 1e15"]
        {
            let _ = engine(|_| ()).instant(&storage(), query, timestamp, &QueryOptions::default());
        }
    }
}

/// The highest expressions the parser lets through are evaluated and dropped on a small stack.
#[test]
fn high_expressions_fit_the_stack() {
    let run = || {
        let sum = "m".to_owned() + &" + m".repeat(900);
        let nested = "(".repeat(100) + "m" + &")".repeat(100);
        let calls = "abs(".repeat(100) + "m" + &")".repeat(100);
        for query in [sum, nested, calls] {
            let result = engine(|_| ()).instant(&storage(), &query, 1_000_000, &QueryOptions::default());
            assert!(matches!(result.map(|r| r.value), Ok(Value::Vector(v)) if v.len() == 10), "{query}");
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

/// Counts and fails selections.
struct Broken(AtomicUsize);

impl Storage for Broken {
    fn select<'a>(&'a self, _: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(StorageError("disk on fire".to_owned()))
    }
}

#[test]
fn storage_errors_are_told() {
    let broken = Broken(AtomicUsize::new(0));
    let error = engine(|_| ()).instant(&broken, "sum(m)", 0, &QueryOptions::default()).unwrap_err();
    assert!(matches!(error, QueryError::Storage(_)), "{error}");
    assert!(error.to_string().contains("disk on fire"), "{error}");
    assert_eq!(broken.0.load(Ordering::Relaxed), 1);
    assert!(engine(|_| ()).instant(&broken, "1 + 1", 0, &QueryOptions::default()).is_ok());
}

/// Cancels a query in the middle, and counts what is asked of it afterwards.
struct Canceling {
    inner: MemoryStorage,
    cancel: CancelToken,
    /// Reads left before the query is canceled.
    left: AtomicUsize,
    late: AtomicUsize,
}

struct CancelingSelection<'a> {
    storage: &'a Canceling,
    inner: Box<dyn Selection + 'a>,
}

impl Canceling {
    fn note(&self) {
        if self.cancel.is_canceled() {
            self.late.fetch_add(1, Ordering::Relaxed);
        } else if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
    }
}

impl Storage for Canceling {
    fn select<'a>(&'a self, request: &SelectRequest<'_>) -> Result<Box<dyn Selection + 'a>, StorageError> {
        self.note();
        Ok(Box::new(CancelingSelection { storage: self, inner: self.inner.select(request)? }))
    }
}

impl Selection for CancelingSelection<'_> {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn labels(&self, range: std::ops::Range<usize>, kept: KeptLabels<'_>) -> Vec<Labels> {
        self.inner.labels(range, kept)
    }

    fn read(&self, range: std::ops::Range<usize>, mint: i64, maxt: i64) -> Result<Vec<Samples>, StorageError> {
        self.storage.note();
        self.inner.read(range, mint, maxt)
    }

    fn read_each(
        &self,
        range: std::ops::Range<usize>,
        mint: i64,
        maxt: i64,
        each: &mut dyn FnMut(Samples) -> bool,
    ) -> Result<(), StorageError> {
        self.storage.note();
        self.inner.read_each(range, mint, maxt, each)
    }
}

/// Whether it is selecting or reading: each thread ends what it has begun, and begins nothing more.
#[test]
fn little_is_done_after_a_query_is_canceled() {
    for threads in [1, 3] {
        for reads in [1, 2, 3, 7, 20] {
            let mut inner = MemoryStorage::new();
            for n in 0..2000 {
                let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())]);
                inner.add_float(&labels, 500_000, 1.0, 0);
            }
            let cancel = CancelToken::default();
            let storage =
                Canceling { inner, cancel: cancel.clone(), left: AtomicUsize::new(reads), late: AtomicUsize::new(0) };
            let options = QueryOptions { cancel, ..QueryOptions::default() };
            let query = "sum(rate(m[10h])) + count(m) + sum(max_over_time(m[5h]) or m)";
            let error = engine(|o| o.threads = threads).instant(&storage, query, 600_000, &options).unwrap_err();
            assert!(matches!(error, QueryError::Canceled), "{error}");
            let late = storage.late.load(Ordering::Relaxed);
            assert!(late < threads, "{late} reads after the end, {threads} threads");
        }
    }
}
