//! What a query takes of memory is counted: as much as it takes, and until it lets go of it.

#![allow(unsafe_code, reason = "only an allocator can tell what is really taken")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use model::Labels;
use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, Features, MemoryPool, QueryError, QueryOptions, QueryResult};

/// The system's allocator, and how many bytes it has given away.
struct Counted;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(taken, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// One test at a time, as they share the allocator.
static ALONE: Mutex<()> = Mutex::new(());

/// 2,000 series of a counter, every 15 s for an hour, and as many histogram buckets.
fn storage() -> &'static MemoryStorage {
    static STORAGE: LazyLock<MemoryStorage> = LazyLock::new(counters);
    &STORAGE
}

fn counters() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for n in 0..2000i64 {
        let labels = [
            ("__name__", "m_total".to_owned()),
            ("instance", format!("instance-{:03}", n / 20)),
            ("le", format!("{}", n % 20)),
            ("n", format!("{n:04}")),
        ];
        for i in 0..=240i64 {
            storage.add_float(&Labels::from_pairs(labels.clone()), i * 15_000, (i * (n % 17 + 1)) as f64 * 0.5, 0);
        }
    }
    // made when first read
    let _ = Engine::default().instant(&storage, "m_total", 0, &QueryOptions::default());
    storage
}

const HEAVY: [&str; 22] = [
    "m_total",
    "rate(m_total[5m])",
    "m_total * 2 + 1",
    "m_total + on (n) m_total",
    "m_total or on (n) rate(m_total[1m])",
    "m_total and on (n) m_total",
    "sum without (n) (rate(m_total[5m]))",
    "avg by (n) (m_total)",
    "quantile by (instance) (0.5, m_total)",
    "count_values(\"v\", m_total)",
    "min by (n) (m_total > 100)",
    "topk(500, m_total)",
    "label_replace(m_total, \"x\", \"$1$1$1$1\", \"instance\", \"(.*)\")",
    "label_join(m_total, \"x\", \"-\", \"instance\", \"instance\", \"n\", \"n\")",
    "histogram_quantile(0.9, m_total)",
    "m_total @ 600",
    "sort(m_total)",
    "max_over_time(rate(m_total[1m])[10m:15s])",
    "absent(m_total)",
    "abs(-m_total)",
    "timestamp(m_total)",
    "sum(m_total) by (n) / on (n) group_left (le) m_total",
];

fn engine(max_memory: usize, pool: &Arc<MemoryPool>) -> Engine {
    let features = Features::all();
    Engine::new(EngineOptions {
        max_memory,
        memory: Arc::clone(pool),
        threads: 2,
        features,
        ..EngineOptions::default()
    })
}

fn range(engine: &Engine, storage: &MemoryStorage, query: &str) -> Result<QueryResult, QueryError> {
    engine.range(storage, query, (0, 3_600_000, 15_000), &QueryOptions::default())
}

#[test]
fn as_much_is_counted_as_is_taken() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let storage = storage();
    let pool = Arc::new(MemoryPool::default());
    let engine = engine(usize::MAX, &pool);
    for query in HEAVY {
        let before = TAKEN.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = range(&engine, storage, query).unwrap_or_else(|e| panic!("{query}: {e}"));
        let peak = PEAK.load(Ordering::Relaxed) - before;
        let left = TAKEN.load(Ordering::Relaxed).saturating_sub(before);
        let counted = result.stats.peak_bytes as usize;
        println!("{query}: {peak} bytes at the peak, {counted} counted; {left} left, {} counted", pool.held());
        assert!(counted + (1 << 20) > peak, "{query}: {peak} taken, {counted} counted");
        assert!(counted < peak * 4 + (1 << 20), "{query}: {peak} taken, {counted} counted");
        assert!(pool.held() + (1 << 20) > left, "{query}: {left} left, {} counted", pool.held());
        drop(result);
        assert_eq!(pool.held(), 0, "{query}");
    }
}

#[test]
fn a_query_ends_where_its_memory_does() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let storage = storage();
    let pool = Arc::new(MemoryPool::default());
    let limit = 600_000;
    let mut refused = 0;
    for query in HEAVY {
        let before = TAKEN.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = range(&engine(limit, &pool), storage, query);
        let peak = PEAK.load(Ordering::Relaxed) - before;
        assert!(peak < limit + (1 << 20), "{query}: {peak} bytes at the peak");
        if let Err(error) = result {
            assert!(matches!(error, QueryError::TooMuchMemory { .. }), "{query}: {error}");
            assert!(
                error.to_string().contains("585 KiB") && error.to_string().contains("--query.max-memory"),
                "{error}"
            );
            refused += 1;
        }
        assert_eq!(pool.held(), 0, "{query}");
    }
    assert!(refused > 12, "{refused}");
}

/// What a comparison leaves of a vector is not held whole to be aggregated.
#[test]
fn a_filter_is_aggregated_series_by_series() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let engine = engine(usize::MAX, &Arc::default());
    let peak = |query: &str| range(&engine, storage(), query).unwrap().stats.peak_bytes;
    for filter in ["m_total > 100", "100 < m_total", "rate(m_total[5m]) > 0"] {
        let (alone, counted) = (peak(filter), peak(&format!("count({filter})")));
        assert!(counted < alone / 2, "{filter}: {alone} bytes, counted in {counted}");
    }
    // asked for twice, it is
    assert!(peak("count(m_total > 100) + sum(m_total > 100)") > peak("count(m_total > 100)") * 2);
}

/// Labels, values and steps that grow without many series behind them.
#[test]
fn what_grows_out_of_little_is_refused_before_it_is_there() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut storage = MemoryStorage::new();
    storage.add_float(&Labels::from_pairs([("__name__", "m"), ("a", "0123456789")]), 0, 1.0, 0);
    let mut doubled = "m".to_owned();
    for _ in 0..40 {
        doubled = format!("label_replace({doubled}, \"a\", \"$1$1\", \"a\", \"(.*)\")");
    }
    let mut joined = "m".to_owned();
    for _ in 0..20 {
        joined = format!("label_join({joined}, \"a\", \"\", \"a\", \"a\", \"a\", \"a\")");
    }
    let limit = 4 << 20;
    let pool = Arc::new(MemoryPool::default());
    for query in [doubled.as_str(), &joined, "sum_over_time(vector(1)[1d:1ms])", "vector(1)[1d:1ms]", "m[1y:1s]"] {
        let before = TAKEN.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let error = engine(limit, &pool).instant(&storage, query, 0, &QueryOptions::default()).unwrap_err();
        let peak = PEAK.load(Ordering::Relaxed) - before;
        assert!(matches!(error, QueryError::TooMuchMemory { .. } | QueryError::TooManySamples), "{query}: {error}");
        assert!(peak < limit + (2 << 20), "{query}: {peak} bytes at the peak");
        assert_eq!(pool.held(), 0, "{query}");
    }
}

#[test]
fn results_are_counted_until_they_are_dropped() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let storage = storage();
    let pool = Arc::new(MemoryPool::new(24 << 20));
    let engine = engine(usize::MAX, &pool);
    let mut results = Vec::new();
    let error = loop {
        match range(&engine, storage, "m_total") {
            Ok(result) => results.push(result),
            Err(error) => break error,
        }
        assert!(results.len() < 10, "{} bytes held", pool.held());
    };
    assert!(matches!(error, QueryError::MemoryTaken { .. }), "{error}");
    assert!(error.to_string().contains("24 MiB") && error.to_string().contains("try again"), "{error}");
    assert!(!results.is_empty() && pool.held() > results.len() * (3 << 20), "{} bytes held", pool.held());
    let copy = results[0].clone();
    results.clear();
    assert!(pool.held() > 3 << 20, "a copy keeps it");
    drop(copy);
    assert_eq!(pool.held(), 0);
    assert!(range(&engine, storage, "m_total").is_ok());
}

#[test]
fn series_of_all_selectors_count() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let storage = storage();
    let run = |max_series: usize, query: &str| {
        let engine = Engine::new(EngineOptions { max_series, ..EngineOptions::default() });
        engine.instant(storage, query, 600_000, &QueryOptions::default())
    };
    assert!(run(2000, "count(m_total)").is_ok());
    let error = run(1999, "count(m_total)").unwrap_err();
    assert!(matches!(error, QueryError::TooManySeries { found: 2000, limit: 1999 }), "{error}");
    assert!(error.to_string().contains("--query.max-series"), "{error}");
    assert!(matches!(run(3999, "m_total + m_total offset 1ms"), Err(QueryError::TooManySeries { found: 4000, .. })));
}
