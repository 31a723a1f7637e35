//! Ranges that take too much memory at once are evaluated in slices, with the same answer to the byte.

use std::sync::Arc;

use model::Labels;
use promql::result::Value;
use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, Features, MemoryPool, QueryError, QueryOptions, QueryResult};

/// 600 series of a counter with gaps, stale ends and births, two of which the label `twin` tells apart; and some histograms' buckets.
fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for n in 0..600i64 {
        let labels = Labels::from_pairs([
            ("__name__", if n % 5 == 0 { "m_bucket" } else { "m_total" }.to_owned()),
            ("instance", format!("i{}", n % 7)),
            ("le", ["0.1", "1", "10", "+Inf"][(n / 5 % 4) as usize].to_owned()),
            ("n", format!("{:03}", (n * 7919) % 600)),
        ]);
        let (born, died) = (n % 90, 400 - n % 130);
        for i in (born..died).filter(|i| (i + n) % 37 != 0) {
            let value = match (i + n) % 83 {
                0 => model::STALE_NAN,
                _ => ((i * (n % 13 + 1)) % 700) as f64 * 0.37,
            };
            storage.add_float(&labels, i * 15_000, value, 0);
        }
    }
    storage
}

fn run(storage: &MemoryStorage, query: &str, max_memory: usize) -> Result<QueryResult, QueryError> {
    let features = Features { delayed_name_removal: false, ..Features::all() };
    let memory = Arc::new(MemoryPool::default());
    let engine = Engine::new(EngineOptions { max_memory, memory, features, threads: 1, ..EngineOptions::default() });
    engine.range(storage, query, (0, 6_000_000, 10_000), &QueryOptions::default())
}

fn shown(result: &QueryResult) -> String {
    format!("{:?} {:?} {:?}", result.value, result.warnings, result.infos)
}

#[test]
fn slices_give_the_same_answer() {
    let storage = storage();
    for query in [
        "sum by (instance) (rate(m_total[5m]) * 2)",
        "sum by (instance) (abs(m_total - 3))",
        "topk(3, rate(m_total[5m]))",
        "bottomk by (instance) (1, -m_total)",
        "quantile by (le) (0.9, ceil(m_total))",
        "quantile by (le) (1.5, ceil(m_total))",
        "count_values(\"v\", round(m_total / 50)) > 3",
        "count(m_total > on (n) group_left () (m_total / 2)) by (instance)",
        "histogram_quantile(0.9, sum by (le, instance) (rate(m_bucket[5m]) + 0))",
        "max_over_time(sum by (instance) (rate(m_total[1m]) + 0)[10m:30s])",
        "avg(m_total + 1) / scalar(count(m_total + 1))",
        "absent((m_total > 100) * 2)",
        "count(m_total unless on (n) (m_total > 50)) by (le)",
        "limitk(5, -m_total)",
        "limit_ratio(0.1, -m_total)",
        "count by (__name__) (-{__name__=~\"m_.*\"})",
        "sum(-m_total @ end()) + count(-m_total)",
        "count(label_replace(m_total, \"x\", \"$1\", \"n\", \".(.).\")) by (x)",
    ] {
        let whole = run(&storage, query, usize::MAX).unwrap();
        // the result is two thirds of what that takes
        let tenths = if query.starts_with("topk") { 9 } else { 6 };
        let limit = usize::try_from(whole.stats.peak_bytes).unwrap() * tenths / 10;
        let sliced = run(&storage, query, limit).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert!(usize::try_from(sliced.stats.peak_bytes).unwrap() <= limit, "{query}");
        assert!(!matches!(&whole.value, Value::Matrix(matrix) if matrix.is_empty()), "{query}");
        assert!(shown(&whole) == shown(&sliced), "{query}:\n{}\n{}", shown(&whole), shown(&sliced));
    }
}

/// The order in which numbers are added would depend on the slices.
#[test]
fn what_would_change_is_refused() {
    let storage = storage();
    for query in [
        "sum(sum by (n) (m_total))",
        "sum(m_total * on (n) m_total)",
        "avg(label_replace(m_total, \"x\", \"y\", \"\", \"\"))",
        "topk(time() / 1000, m_total)",
        "sum(-{__name__=~\"m_.*\"})",
    ] {
        let whole = run(&storage, query, usize::MAX).unwrap();
        let limit = usize::try_from(whole.stats.peak_bytes).unwrap() * 6 / 10;
        assert!(matches!(run(&storage, query, limit), Err(QueryError::TooMuchMemory { .. })), "{query}");
    }
}

/// What the slices come to must fit.
#[test]
fn a_result_that_is_too_large_is_refused() {
    let storage = storage();
    let whole = run(&storage, "m_total", usize::MAX).unwrap();
    let limit = usize::try_from(whole.stats.peak_bytes).unwrap() / 2;
    assert!(matches!(run(&storage, "m_total", limit), Err(QueryError::TooMuchMemory { .. })));
}
