//! An answer does not depend on where its samples lie, nor on how many threads look for it.

use std::sync::Arc;

use model::Labels;
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
    ] {
        let expected = answer(&head, 1, query);
        for (store, place) in [(&head, "the head"), (&alone, "groups of one"), (&blocks, "blocks")] {
            for threads in [1, 4] {
                assert!(answer(store, threads, query) == expected, "{query} from {place} with {threads} threads");
            }
        }
    }
}
