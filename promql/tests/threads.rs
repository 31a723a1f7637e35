//! Answers do not depend on how many threads work on them.

use model::Labels;
use promql::result::QueryStats;
use promql::testing::MemoryStorage;
use promql::{Engine, EngineOptions, Features, QueryOptions, QueryResult};

/// 700 series of a counter with resets, gaps and stale ends, some with a name that no counter has.
fn storage() -> MemoryStorage {
    let mut storage = MemoryStorage::new();
    for n in 0..700i64 {
        let name = if n % 3 == 0 { "requests" } else { "requests_total" };
        let labels = Labels::from_pairs([
            ("__name__", name.to_owned()),
            ("instance", format!("i{}", n % 7)),
            ("n", format!("{n:04}")),
        ]);
        for i in 0..120i64 {
            if (i + n) % 41 == 0 {
                continue;
            }
            let value = match (i + n) % 97 {
                0 => model::STALE_NAN,
                _ => ((i * (n % 13 + 1)) % 500) as f64 * 0.37,
            };
            storage.add_float(&labels, i * 15_000, value, 0);
        }
    }
    storage
}

#[test]
fn answers_do_not_depend_on_the_number_of_threads() {
    let storage = storage();
    let answers = |threads: usize, query: &str| {
        let options = EngineOptions { threads, features: Features::all(), ..EngineOptions::default() };
        let engine = Engine::new(options);
        let options = QueryOptions { per_step_stats: true, ..QueryOptions::default() };
        let range = engine.range(&storage, query, (300_000, 1_700_000, 20_000), &options);
        let instant = engine.instant(&storage, query, 1_000_000, &options);
        // memory is the one thing that does: each thread takes its own
        let shown = [range, instant].map(|answer| {
            answer.map(|QueryResult { value, warnings, infos, stats, plan: _, held: _ }| {
                (value, warnings, infos, QueryStats { peak_bytes: 0, ..stats })
            })
        });
        format!("{shown:?}")
    };
    for query in [
        "{__name__=~\"requests.*\"}",
        "sum by (instance) (rate({__name__=~\"requests.*\"}[2m]))",
        "avg(requests_total)",
        "stddev by (instance) (requests)",
        "topk(3, increase(requests[5m]))",
        "quantile_over_time(scalar(requests{n=\"0003\"}), requests_total[3m])",
        "timestamp(requests)",
        "max_over_time(sum by (instance) (rate(requests_total[1m]))[5m:30s])",
        "requests_total[1m]",
        "sum(requests_total) + on () group_right sum by (instance) (requests_total smoothed)",
        "histogram_quantile(0.9, rate({__name__=~\"requests.*\"}[2m]))",
    ] {
        let one = answers(1, query);
        assert!(!one.contains("Err(Parse"), "{query}: {one}");
        for threads in [2, 5] {
            assert!(answers(threads, query) == one, "{query} with {threads} threads");
        }
    }
}
