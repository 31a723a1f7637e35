//! An answer does not depend on where its samples lie, nor on how many threads look for it.

use std::sync::Arc;

use model::{Labels, MatchOp};
use promql::storage::{Progress, SelectRequest, Storage, StorageError, Wanted};
use promql::{Engine, EngineOptions, Features, QueryOptions};
use tsdb::{Db, Options};

use super::Store;

const MINUTE: i64 = 60_000;

/// How samples come into the store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Laid {
    /// All series of a time in one commit: groups.
    Together,
    /// Each sample in a commit of its own: every group has one series.
    Apart,
}

/// 200 series for `minutes`, twice a minute, some with a beginning and an end of their own, as a counter that is reset.
fn fill(db: &Db, laid: Laid, minutes: std::ops::Range<i64>) {
    let series: Vec<(i64, Labels)> = (0..200)
        .map(|n| {
            let labels = [("__name__", "m_total".into()), ("a", format!("{}", n % 7)), ("n", format!("{n:03}"))];
            (n, Labels::from_pairs::<_, String>(labels))
        })
        .collect();
    for half in minutes.start * 2..minutes.end * 2 {
        let time = half * MINUTE / 2;
        let live = series.iter().filter(|(n, _)| (half + n) % 31 != 0 && (n % 10 != 0 || half > *n));
        let samples = live.map(|(n, labels)| (labels, ((half * (n % 13 + 1)) % 700) as f64 * 0.37));
        let mut appender = db.appender();
        for (labels, value) in samples {
            let series = appender.series(labels).unwrap();
            if laid == Laid::Together {
                appender.append(series, time, value).unwrap();
            } else {
                let mut alone = db.appender();
                let series = alone.series(labels).unwrap();
                alone.append(series, time, value).unwrap();
                alone.commit().unwrap();
            }
        }
        appender.commit().unwrap();
    }
}

fn store(folder: &std::path::Path, laid: Laid, blocks: bool) -> Store {
    let db = Db::open(folder, Options { background: false, ..Options::default() }).unwrap();
    fill(&db, laid, 0..200);
    if blocks {
        db.maintain().unwrap();
        assert!(!db.blocks().is_empty());
    } else {
        assert!(db.blocks().is_empty());
    }
    Store::new(Arc::new(db))
}

#[test]
fn answers_do_not_depend_on_where_samples_lie() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [head, alone, blocks] =
        [(&folders[0], Laid::Together, false), (&folders[1], Laid::Apart, false), (&folders[2], Laid::Together, true)]
            .map(|(folder, laid, blocks)| store(folder.path(), laid, blocks));
    let answer = |store: &Store, threads: usize, query: &str| {
        let options = EngineOptions { threads, features: Features::all(), ..EngineOptions::default() };
        let range = (10 * MINUTE, 190 * MINUTE, 40_000);
        let result = Engine::new(options).range(store, query, range, &QueryOptions::default());
        let result = result.unwrap_or_else(|e| panic!("{query}: {e}"));
        // as text, for signs of zero and bits of numbers
        format!("{:?} {:?} {:?} {:?}", result.value, result.warnings, result.infos, result.stats.samples_read)
    };
    for query in [
        "m_total",
        "rate(m_total[5m])",
        "sum by (a) (rate(m_total[3m]))",
        "avg(m_total) + stddev(m_total)",
        "topk(3, m_total)",
        "quantile_over_time(0.9, m_total[7m])",
        "max_over_time(sum by (a) (increase(m_total[2m]))[10m:1m])",
        "m_total / on (n) group_left () (m_total offset 3m)",
        "count_values(\"v\", m_total)",
        "{n=~\"0.*|1[0-4].\"} unless on (n) m_total > 100",
        "count by (a) (m_total)",
        "sum(rate(m_total[3m]))",
        "sum without (n) (m_total)",
        "max by (n) (m_total)",
        "count by (__name__, a) ({n=~\".+\"})",
        "sum by (missing) (max_over_time(m_total[3m]))",
    ] {
        let expected = answer(&head, 1, query);
        for (store, place) in [(&head, "the head"), (&alone, "groups of one"), (&blocks, "blocks")] {
            for threads in [1, 4] {
                assert!(answer(store, threads, query) == expected, "{query} from {place} with {threads} threads");
            }
        }
    }
}

/// So many series that the head keeps their order; the first query finds half of them.
#[test]
fn many_series_are_in_order_wherever_they_lie() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [head, blocks] = [(&folders[0], false), (&folders[1], true)].map(|(folder, blocks)| {
        let db = Db::open(folder.path(), Options { background: false, ..Options::default() }).unwrap();
        let fill = |series: std::ops::Range<i64>, time: i64| {
            let mut appender = db.appender();
            for n in series {
                let pairs = [("__name__", format!("m{}", n % 3)), ("n", (n * 7919 % 10_007).to_string())];
                let zone = (n % 5 != 0).then(|| ("zone", format!("z{}", n % 4)));
                let labels = Labels::from_pairs::<_, String>(pairs.into_iter().chain(zone));
                let series = appender.series(&labels).unwrap();
                appender.append(series, time, 1.0 / (n + 1) as f64).unwrap();
            }
            appender.commit().unwrap();
        };
        fill(0..6000, 0);
        // from now on the order of these is known
        assert_eq!(db.select(&[], 0, MINUTE).unwrap().len(), 6000);
        (0..10_000).step_by(2500).for_each(|from| fill(from..from + 2500, MINUTE));
        if blocks {
            fill(0..1, 400 * MINUTE);
            db.maintain().unwrap();
            assert!(!db.blocks().is_empty());
        }
        Store::new(Arc::new(db))
    });
    for query in
        ["{n=~\".+\"}", "sum({n!=\"\"})", "sum by (zone) ({n!=\"\"})", "avg without (n) ({n!=\"\"})", "m1{zone=\"z1\"}"]
    {
        let answer = |store: &Store, threads: usize| {
            let engine = Engine::new(EngineOptions { threads, ..EngineOptions::default() });
            let result = engine.instant(store, query, MINUTE, &QueryOptions::default());
            format!("{:?}", result.unwrap_or_else(|e| panic!("{query}: {e}")).value)
        };
        let expected = answer(&head, 1);
        assert!(expected.len() > 20, "{query}: {expected}");
        for (store, threads) in [(&head, 1), (&head, 3), (&blocks, 1), (&blocks, 3)] {
            assert!(answer(store, threads) == expected, "{query} with {threads} threads");
        }
    }
}

/// The same holds for names and values of labels, in the head and in blocks.
#[test]
fn a_search_for_labels_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { background: false, ..Options::default() };
    let db = Db::open(folder.path(), options).unwrap();
    for time in [0, 100 * MINUTE, 200 * MINUTE] {
        let mut appender = db.appender();
        for n in 0..30_000 {
            let n = ("n", format!("a value that takes some memory {}", n * 7919 % 30_000));
            let series = appender.series(&Labels::from_pairs([("__name__", "m".to_owned()), n])).unwrap();
            appender.append(series, time, 1.0).unwrap();
        }
        appender.commit().unwrap();
    }
    db.maintain().unwrap();
    assert!(!db.blocks().is_empty());
    let store = Store::new(Arc::new(db));
    let all = (i64::MIN, i64::MAX);
    let (metric, some) = (model::Matcher::equal("__name__", "m"), model::Matcher::new(MatchOp::Regex, "n", ".*1.*"));
    let some = [some.unwrap()];
    type Ask<'a> = &'a dyn Fn(promql::storage::Watch<'_>) -> Result<tsdb::Answer, StorageError>;
    let asks: [(Ask<'_>, usize); 4] = [
        (&|watch| store.label_values("n", &[], all.0, all.1, watch), 30_000),
        (&|watch| store.label_values("n", &some, all.0, all.1, watch), 16_000),
        (&|watch| store.label_values("n", std::slice::from_ref(&metric), all.0, all.1, watch), 30_000),
        (&|watch| store.label_names(&some, all.0, all.1, watch), 2),
    ];
    for (at, (ask, least)) in asks.into_iter().enumerate() {
        let (looks, bytes) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let count = |progress: Progress| {
            looks.set(looks.get() + 1);
            bytes.set(progress.bytes);
            true
        };
        let found = ask(promql::storage::Watch(Some(&count))).unwrap();
        assert!(found.values.len() >= least && found.warnings.is_empty(), "{at}: {}", found.values.len());
        assert!(bytes.get() >= found.values.text_bytes(), "{at}: {} bytes", bytes.get());
        assert!(looks.get() >= 5, "{at}: {} looks", looks.get());
        for stop in 0..looks.get() {
            let left = std::cell::Cell::new(stop);
            let watch = |_: Progress| {
                left.set(left.get() - 1);
                left.get() >= 0
            };
            assert!(ask(promql::storage::Watch(Some(&watch))).is_err(), "{at}: stopped after {stop} looks");
            assert_eq!(left.get(), -1, "{at}: nobody is asked again");
        }
        assert_eq!(ask(promql::storage::Watch::default()).unwrap(), found);
    }
}

/// While series are looked for, a query notices that nobody waits for it any more, and that it finds more than it may.
#[test]
fn a_search_for_many_series_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(folder.path(), Options { background: false, ..Options::default() }).unwrap();
    let mut appender = db.appender();
    for n in 0..30_000 {
        let series =
            appender.series(&Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())])).unwrap();
        appender.append(series, 0, 1.0).unwrap();
    }
    appender.commit().unwrap();
    let store = Store::new(Arc::new(db));
    let matchers = [model::Matcher::equal("__name__", "m")];
    // it is asked often, and each time can be the last
    let looks = std::cell::Cell::new(0);
    let count = |_: Progress| {
        looks.set(looks.get() + 1);
        true
    };
    let select = |watch: &dyn Fn(Progress) -> bool| {
        let request = SelectRequest::new(&matchers, (0, MINUTE), Wanted::Samples);
        let found = store.select(&SelectRequest { watch: promql::storage::Watch(Some(watch)), ..request });
        found.map(|selection| selection.len())
    };
    assert_eq!(select(&count).unwrap(), 30_000);
    assert!(looks.get() > 10, "{} looks while series are put into order", looks.get());
    // when their order is known there is less to do
    looks.set(0);
    assert_eq!(select(&count).unwrap(), 30_000);
    for stop in 0..looks.get() {
        let left = std::cell::Cell::new(stop);
        let watch = |_: Progress| {
            left.set(left.get() - 1);
            left.get() >= 0
        };
        assert!(select(&watch).is_err(), "stopped after {stop} looks");
        assert_eq!(left.get(), -1, "nobody is asked again");
    }
    assert!(looks.get() >= 2);
    assert_eq!(select(&|_| true).unwrap(), 30_000);

    let refused = |options: EngineOptions| {
        let query = Engine::new(options).instant(&store, "count(m)", 0, &QueryOptions::default());
        query.map(|_| ()).unwrap_err()
    };
    let too_many = refused(EngineOptions { max_series: 29_999, ..EngineOptions::default() });
    assert!(matches!(too_many, promql::QueryError::TooManySeries { found: 30_000, .. }), "{too_many}");
    let too_much = refused(EngineOptions { max_memory: 1_000_000, ..EngineOptions::default() });
    assert!(matches!(too_much, promql::QueryError::TooMuchMemory { .. }), "{too_much}");
}
